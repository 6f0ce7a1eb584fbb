"""Several Vaults beside each other: one that is down, or hangs, neither delays nor breaks the others."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.support import DEADLINE, READ_POLICY, SECRETS, Service, Vault, environment, unique, until

POLICY = """
path "secret/data/{path}/keys/*" {{ capabilities = ["create", "read", "update", "delete"] }}
path "secret/metadata/{path}/keys/*" {{ capabilities = ["create", "read", "update", "delete", "list"] }}
"""
POLICY += READ_POLICY


@pytest.fixture
def path(vault: Vault) -> str:
    """Return the path of a complete secret of this test's own."""
    vault.write(path := unique("main"), SECRETS)
    return path


def admits(service: Service, key: str) -> bool:
    """Tell whether the service takes this API key."""
    return service.post("/caller", headers={"X-API-Key": key}).status_code == 200


def test_further_vaults_that_hang_delay_nothing(vault: Vault, path: str, tmp_path: Path) -> None:
    """Neither the start, the main Vault's rotations and token, a refresh on demand, nor the end; and ready says it.

    Each of the eight would hang for ten minutes: whatever waited for one of them would miss the deadline.
    """
    proxy = FaultyProxy(vault.url, lambda *_: Fault(hang=True))
    role = environment(vault.app_role(path, policy=POLICY, token_ttl="3s"))
    with proxy.running() as url:
        hanging = {**role, "VAULT_URL": url}
        further = {
            name.replace("VAULT_", f"VAULTS__HANGING{n}__"): value
            for n in range(8)
            for name, value in hanging.items()
            if name != "VAULT_SECRET_PATH"
        }
        variables = {**role, **further, "VAULT_REFRESH_INTERVAL": "0.5", "VAULT_ACCESS_MODE": "read_and_write"}
        variables |= {f"VAULTS__HANGING{n}__TIMEOUT": f"{600 + n}" for n in range(8)}  # equal ones share a session
        variables["VAULT_WRITE_PREFIX"] = f"{path}/keys"
        variables |= {f"SECRET_EXTRA{n}": f"{{vault://hanging{n}/a/b}}" for n in range(8)}
        with Service(tmp_path, variables) as service:
            ready = service.get("/health/ready").json()
            assert ready["status"] == "ready", "nothing that is declared is missing"
            assert ready["warnings"] == [f"hanging{n}: has not answered yet" for n in range(8)]
            for key in ("canary-rotation-1", "canary-rotation-2", "canary-rotation-3"):
                vault.write(path, {**SECRETS, "api_key": key})
                until(lambda key=key: admits(service, key), "the rotation")  # type: ignore[misc]
            until(lambda: any(event["event"] == "token_renewed" for event in service.events), "the renewal")
            # extra: api_keys
            issued = service.post("/api-keys", headers={"X-API-Key": key}, json={"name": "alice"})
            assert admits(service, issued.json()["key"])
            # /extra
            vault.write(path, SECRETS)
            answer = service.post("/status/refresh").json()
            assert admits(service, SECRETS["api_key"])
            assert set(answer["faults"]) == {f"hanging{n}" for n in range(8)}
            assert "no answer within 5 s" in answer["faults"]["hanging0"]
            assert len(proxy.requests) == 8, "each was asked once, however often a refresh was wanted"
            service.stop()
        assert any(event["event"] == "token_revoked" for event in service.events)
    assert "canary" not in service.output


def test_what_a_further_vault_has_not_brought_yet_is_missing(vault: Vault, path: str, tmp_path: Path) -> None:
    """Not ready, with the declared secret and the Vault that has not answered; `VAULT_FAIL_FAST` waits for it."""
    vault.write(other := unique("partner"), {"key": "canary-of-the-partner"})
    vault.write(path, {name: value for name, value in SECRETS.items() if name != "api_key"})
    asked, answering = threading.Event(), threading.Event()

    def wait(*_: str) -> None:
        asked.set()
        answering.wait(DEADLINE)

    def answer_when_asked() -> None:
        asked.wait(DEADLINE)
        answering.set()

    proxy = FaultyProxy(vault.url, wait)
    with proxy.running() as url:
        variables = {
            **environment(vault.app_role(path)),
            "VAULTS__PARTNER__URL": url,
            "VAULTS__PARTNER__TOKEN": vault.root_token,
            "VAULTS__PARTNER__TIMEOUT": "60",
            "SECRET_API_KEY": f"{{vault://partner/{other}/key}}",
        }
        with Service(tmp_path, variables) as service:
            until(asked.is_set, "the partner to be asked")
            unready = service.get("/health/ready")
            assert unready.status_code == 503
            assert unready.json()["detail"].startswith("partner: has not answered yet | ")
            assert "api_key: missing" in unready.json()["detail"]
            answering.set()
            until(lambda: service.get("/health/ready").json() == {"status": "ready"}, "the partner's secret")
        asked.clear()
        answering.clear()
        with ThreadPoolExecutor(1) as thread:
            thread.submit(answer_when_asked)
            with Service(tmp_path, {**variables, "VAULT_FAIL_FAST": "true"}) as service:
                assert answering.is_set(), "the start has waited"
                assert service.get("/health/ready").json() == {"status": "ready"}
