"""Rotation in a running service, against a real server: no restart, no failed request, no lost login."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.declared import fingerprint_of
from tests.support import SECRETS, Service, Vault, environment, unique, until

QUICK = {"refresh_interval": "0.5", "max_staleness": "3"}


def secrets(n: int) -> dict[str, str]:
    """Return a complete set of secrets that belong together."""
    return {**SECRETS, "api_key": f"canary-api-key-{n}", "jwt_secret": f"canary-jwt-secret-{n}-0123456789-0123456789"}


class Caller:
    """Sends requests through handlers that use secrets, without pause, and counts what fails."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._done = threading.Event()
        self.count = 0
        self.failed: list[tuple[int, str]] = []
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Call until the block ends."""
        self._thread.start()
        try:
            yield
        finally:
            self._done.set()
            self._thread.join()

    def _run(self) -> None:
        while not self._done.is_set():
            answer = self._service.get("/fingerprint")
            self.count += 1
            if answer.status_code != 200:
                self.failed.append((answer.status_code, answer.text))


@pytest.fixture
def path(vault: Vault) -> str:
    """Return the path of a complete secret of this test's own."""
    vault.write(path := unique("rotating"), secrets(1))
    return path


def accepts(service: Service, key: str) -> bool:
    """Tell whether the service takes this API key."""
    return service.post("/caller", headers={"X-API-Key": key}).status_code == 200


def warnings(service: Service) -> str:
    """Return what a ready service warns of."""
    answer = service.get("/health/ready")
    assert answer.status_code == 200, answer.text
    return " ".join(answer.json().get("warnings", []))


def test_a_rotation_reaches_the_service_under_load(vault: Vault, path: str, tmp_path: Path) -> None:
    """New keys count, objects are rebuilt, no request fails, and the log says what changed."""
    with Service(tmp_path, environment({**vault.app_role(path), **QUICK})) as service:
        caller = Caller(service)
        with caller.calling():
            for n in (2, 3, 4):
                vault.write(path, secrets(n))
                until(lambda n=n: accepts(service, secrets(n)["api_key"]), "the new key to count")  # type: ignore[misc]
                assert not accepts(service, secrets(n - 1)["api_key"])
                until(lambda n=n: caller.count > 35 * (n - 1), "the load")  # type: ignore[misc]
            built = fingerprint_of(secrets(4)["jwt_secret"])
            until(lambda: service.get("/fingerprint").json() == built, "the object to follow")
            until(lambda: caller.count > 100, "enough requests")
        assert not caller.failed
        rotated = [event for event in service.events if event["event"] == "vault_secrets_rotated"]
    assert [(event["old"], event["new"]) for event in rotated] == [(1, 2), (2, 3), (3, 4)]
    assert all(event["keys"] == ["api_key", "jwt_secret"] for event in rotated)
    assert "canary" not in service.output


def test_one_request_a_path_and_round(vault: Vault, path: str, tmp_path: Path) -> None:
    """Reading the metadata first would save nothing."""
    variables = environment({**vault.app_role(path), "refresh_interval": "0.2"})

    def rounds(service: Service) -> int:
        return sum(event["event"] == "vault_secrets_unchanged" for event in service.events)

    with vault.audited() as calls, Service(tmp_path, {**variables, "LOG_LEVEL": "DEBUG"}) as service:
        until(lambda: rounds(service) >= 5, "a few rounds")
        service.stop()
    reads = [where for _, where in calls if where == f"secret/data/{path}"]
    assert 1 + rounds(service) <= len(reads) <= 2 + rounds(service), "the last round may have been cut short"
    assert len(calls) == len(reads) + 2


BROKEN: dict[str, tuple[Any, str]] = {
    "a key is gone": ({"api_key": "canary-api-key-2"}, "jwt_secret: missing"),
    "a value is malformed": ({**secrets(2), "jwt_secret": "canary"}, "jwt_secret: String should have at least 32"),
    "a value has the wrong type": ({**secrets(2), "api_key": 12345}, "api_key: Input should be a valid string"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rotation_is_refused_and_heals(vault: Vault, path: str, tmp_path: Path, case: str) -> None:
    """The last good secrets stay in force, ready says what was refused, and the next good version is taken in."""
    values, reason = BROKEN[case]
    with Service(tmp_path, environment({**vault.app_role(path), **QUICK})) as service:
        vault.write(path, values)
        until(lambda: reason in warnings(service), "the refusal to show")
        assert accepts(service, secrets(1)["api_key"])
        assert any(event["event"] == "vault_secrets_refused" for event in service.events)
        vault.write(path, secrets(3))
        until(lambda: accepts(service, secrets(3)["api_key"]), "the fixed secrets")
        until(lambda: not warnings(service), "the warning to go")
    assert "canary" not in service.output


def test_a_deleted_or_forbidden_path_is_refused_and_heals(vault: Vault, path: str, tmp_path: Path) -> None:
    """Deleted, undeleted; policy removed, restored."""
    settings = vault.app_role(path)
    policy = next(
        name
        for name in vault.client.sys.list_acl_policies()["data"]["keys"]
        if name.startswith("role-") and path in vault.client.sys.read_acl_policy(name)["data"]["policy"]
    )
    rules = vault.client.sys.read_acl_policy(policy)["data"]["policy"]
    with Service(tmp_path, environment({**settings, "refresh_interval": "0.5"})) as service:
        vault.client.secrets.kv.v2.delete_latest_version_of_secret(path)
        until(lambda: "version 1 was deleted" in warnings(service), "the deletion to show")
        assert accepts(service, secrets(1)["api_key"])
        vault.client.secrets.kv.v2.undelete_secret_versions(path, [1])
        until(lambda: not warnings(service), "the undeletion to show")
        vault.client.sys.create_or_update_policy(policy, rules.replace('["read"]', '["deny"]', 1))
        until(lambda: "permission denied" in warnings(service), "the denial to show")
        assert accepts(service, secrets(1)["api_key"])
        vault.client.sys.create_or_update_policy(policy, rules)
        until(lambda: not warnings(service), "the restored policy to show")


def test_stale_is_bounded(vault: Vault, path: str, tmp_path: Path) -> None:
    """Past the bound the service is not ready, though it goes on serving; fresh again, it is ready again."""
    settings = vault.app_role(path)
    with Service(tmp_path, environment({**settings, "refresh_interval": "0.5", "max_staleness": "1.5"})) as service:
        vault.client.secrets.kv.v2.delete_latest_version_of_secret(path)
        until(lambda: service.get("/health/ready").status_code == 503, "the bound to pass")
        assert "longer than VAULT_MAX_STALENESS" in service.get("/health/ready").json()["detail"]
        assert accepts(service, secrets(1)["api_key"])
        vault.client.secrets.kv.v2.undelete_secret_versions(path, [1])
        until(lambda: service.get("/health/ready").status_code == 200, "the secrets to be fresh again")


def test_many_requests_for_a_refresh_become_few_rounds(vault: Vault, path: str, tmp_path: Path) -> None:
    """One is under way, and one more is to come for all who asked meanwhile: Vault that hangs piles nothing up."""
    proxy = FaultyProxy(vault.url)
    with proxy.running() as url:
        settings = {**vault.app_role(path), "url": url, "timeout": "1"}
        with Service(tmp_path, environment(settings)) as service:
            proxy.fault = lambda *_: Fault(hang=True)
            start = time.monotonic()
            with ThreadPoolExecutor(20) as pool:
                answers = list(pool.map(lambda _: service.post("/status/refresh"), range(20)))
            assert time.monotonic() - start < 8
            assert all("no answer within" in answer.json()["faults"]["vault"] for answer in answers)


def test_a_refresh_can_be_asked_for(vault: Vault, path: str, tmp_path: Path) -> None:
    """It says what changed and what went wrong; outside development it wants the API key."""
    settings = environment(vault.app_role(path))
    with Service(tmp_path, settings) as service:
        first = service.post("/status/refresh").json()
        assert (first["changed"], first["faults"]) == ([], {})
        assert 0 <= first["ages"]["vault"] < 5
        vault.write(path, secrets(2))
        change = {"path": path, "old": 1, "new": 2, "keys": ["api_key", "jwt_secret"]}
        assert service.post("/status/refresh").json()["changed"] == [change]
        # extra: status
        shown = service.get("/status.json").json()
        rotated = {secret["name"]: secret["rotated_at"] is not None for secret in shown["secrets"]}
        assert rotated == {"api_key": True, "database_url": False, "jwt_secret": True}
        token = shown["sources"][0]["connection"]["token"]
        assert 1190 < token["left"] <= token["ttl"] == 1200
        # /extra
        assert accepts(service, secrets(2)["api_key"])
        vault.client.secrets.kv.v2.delete_latest_version_of_secret(path)
        refused = service.post("/status/refresh").json()
        assert "version 2 was deleted" in refused["faults"]["vault"]
        assert refused["ages"]["vault"] > 0, "the last round did not confirm anything"
    vault.write(path, secrets(3))
    with Service(tmp_path, {**settings, "ENVIRONMENT": "production", "ALLOW_INSECURE": "http"}) as service:
        assert service.post("/status/refresh").status_code == 401
        assert service.post("/status/refresh", headers={"X-API-Key": secrets(3)["api_key"]}).status_code == 200
