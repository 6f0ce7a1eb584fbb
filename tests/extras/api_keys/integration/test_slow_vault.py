"""Issuing keys while Vault sends a byte at a time: each request ends, and is in the way of none that comes later."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support import SECRETS, Service, Vault, environment, unique
from tests.trickling import Trickle

MANY = 45  # more than there are threads for plain handlers


def test_keys_can_be_issued_again_once_vault_is_quick_again(vault: Vault, tmp_path: Path) -> None:
    """However many requests met it while it was slow; those are told that it did not answer."""
    path = unique("app")
    vault.write(path, SECRETS)
    trickle = Trickle(vault.url, "head", lambda _, where: "/keys" in where)
    with trickle.running() as url:
        settings = {"enabled": "true", "url": url, "token": vault.root_token, "secret_path": path, "timeout": "1"}
        settings |= {"access_mode": "read_and_write", "write_prefix": f"{path}/keys"}
        with Service(tmp_path, environment(settings)) as service:
            headers = {"X-API-Key": SECRETS["api_key"]}

            def issue(number: int) -> int:
                body = {"name": f"key-{number}"}
                return service.post("/api-keys", json=body, headers=headers).status_code

            with ThreadPoolExecutor(MANY) as pool:
                assert set(pool.map(issue, range(MANY))) == {503}
            trickle.is_on = False
            assert issue(MANY) == 201
