"""The service as a process: how it starts, what it says when it cannot, and how it heals and stops."""

import signal
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import hvac.exceptions
import pytest

from infrastructure import processes
from infrastructure.dev_vault import start_embedded
from tests.declared import fingerprint_of
from tests.support import DEADLINE, SECRETS, Service, Vault, environment, free_port, unique, until


@pytest.fixture
def seeded(vault: Vault) -> dict[str, Any]:
    """Return settings that log in with AppRole and read a complete secret."""
    path = unique("app")
    vault.write(path, SECRETS)
    return vault.app_role(path)


def refused_start(directory: Path, variables: dict[str, str]) -> str:
    """Start the service, expect it to end by itself with a failure, and return what it wrote."""
    service = Service(directory, variables)
    try:
        assert service.process.wait(DEADLINE) != 0
    finally:
        service.stop()
    return service.output.replace('\\"', '"')  # as a person reads it, not as JSON


def test_a_secret_backed_answer_from_a_real_vault(vault: Vault, seeded: dict[str, Any], tmp_path: Path) -> None:
    """One login, one read, and the token revoked at the end."""
    with vault.audited() as calls, Service(tmp_path, environment(seeded)) as service:
        assert service.get("/health/ready").json() == {"status": "ready"}
        assert service.post("/caller", headers={"X-API-Key": SECRETS["api_key"]}).status_code == 200
        assert service.get("/fingerprint").json() == fingerprint_of(SECRETS["jwt_secret"])
        assert service.stop() == -signal.SIGTERM
        events = [event["event"] for event in service.events]
    assert calls == [
        ("update", "auth/approle/login"),
        ("read", f"secret/data/{seeded['secret_path']}"),
        ("update", "auth/token/revoke-self"),
    ]
    assert {"token_obtained", "vault_secrets_loaded", "request_finished", "token_revoked"} <= set(events)
    assert "canary" not in service.output
    assert "***" not in service.output, "there was nothing to mask"


def test_it_starts_without_vault_and_heals_when_vault_is_there(tmp_path: Path) -> None:
    """503 where a secret is needed, 200 for the rest; the secrets arrive by themselves."""
    port = free_port()
    variables = {"VAULT_ENABLED": "true", "VAULT_URL": f"http://127.0.0.1:{port}", "VAULT_TOKEN": "root-for-this-test"}
    with Service(tmp_path, {**variables, "VAULT_SECRET_PATH": "late"}) as service:
        unready = service.get("/health/ready")
        assert unready.status_code == 503
        assert "Connection refused" in unready.json()["detail"]
        needing = service.post("/caller", headers={"X-API-Key": "x"})
        assert needing.status_code == 503
        assert needing.headers["content-type"] == "application/problem+json"
        assert int(needing.headers["retry-after"]) > 0
        assert service.get("/health/live").status_code == 200

        server = start_embedded(port, tmp_path / "vault", "root-for-this-test")
        try:
            Vault(server.url, "root-for-this-test").write("late", SECRETS)
            until(lambda: service.get("/health/ready").status_code == 200, "the secrets to arrive")
            assert service.post("/caller", headers={"X-API-Key": SECRETS["api_key"]}).status_code == 200
        finally:
            server.stop()


def test_what_is_missing_in_vault_is_taken_in_when_it_is_added(vault: Vault, tmp_path: Path) -> None:
    """The rest is served meanwhile."""
    path = unique("incomplete")
    vault.write(path, {**SECRETS, "jwt_secret": "too short"})
    with Service(tmp_path, environment(vault.app_role(path))) as service:
        assert "jwt_secret" in service.get("/health/ready").json()["detail"]
        assert service.post("/caller", headers={"X-API-Key": "wrong"}).status_code == 401
        assert service.post("/caller", headers={"X-API-Key": SECRETS["api_key"]}).status_code == 200
        assert service.get("/fingerprint").status_code == 503
        vault.write(path, SECRETS)
        assert service.post("/status/refresh").json()["faults"] == {}
        assert service.get("/health/ready").status_code == 200
        assert service.get("/fingerprint").status_code == 200


FAILURES = {
    "unreachable": ({"url": "http://127.0.0.1:9"}, "no connection (Connection refused)", "Check VAULT_URL"),
    "login refused": (
        {"secret_id": "wrong"},
        "Vault refuses the login: the role id or the secret id is wrong",
        "auth method approle",
    ),
    "path missing": ({"auth_method": "token", "secret_path": "nowhere"}, "no secret at this path", "vault kv put"),
    "permission denied": ({"secret_path": "nowhere"}, "permission denied", 'path "secret/data/nowhere"'),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_fail_fast_ends_the_start_with_one_message(
    vault: Vault, seeded: dict[str, Any], tmp_path: Path, failure: str
) -> None:
    """Cause and remedy in one line, no traceback, no value."""
    change, cause, remedy = FAILURES[failure]
    settings = {**seeded, "token": vault.root_token, "fail_fast": "true", **change}
    output = refused_start(tmp_path, environment(settings))
    assert cause in output
    assert remedy in output
    assert "Traceback" not in output
    assert "canary" not in output


def test_fail_fast_lists_all_missing_secrets(vault: Vault, tmp_path: Path) -> None:
    """One start tells everything that has to be added."""
    path = unique("incomplete")
    vault.write(path, {"api_key": "key with blanks"})
    output = refused_start(tmp_path, environment({**vault.app_role(path), "fail_fast": "true"}))
    assert all(f"{name}: " in output for name in SECRETS)
    assert "key with blanks" not in output


def test_fail_fast_recognises_a_sealed_vault(tmp_path: Path) -> None:
    """And says how to fix it."""
    server = start_embedded(free_port(), tmp_path / "vault", "root-for-this-test")
    try:
        Vault(server.url, "root-for-this-test").client.sys.seal()
        variables = {"VAULT_ENABLED": "true", "VAULT_URL": server.url, "VAULT_FAIL_FAST": "true"}
        output = refused_start(tmp_path, {**variables, "VAULT_TOKEN": "root-for-this-test"})
    finally:
        server.stop()
    assert "Vault is sealed" in output
    assert "vault operator unseal" in output


def test_wrong_settings_end_the_start_with_one_message(tmp_path: Path) -> None:
    """All of them, before anything else happens."""
    variables = {"VAULT_ENABLED": "true", "VAULT_AUTH_METHOD": "approle", "LOG_LEVEL": "canary", "VAULT_URL": "canary"}
    output = refused_start(tmp_path, variables)
    assert output.startswith("3 settings are invalid:")
    assert all(f"\n  {name}: " in output for name in ("LOG_LEVEL", "VAULT_URL", "VAULT_ROLE_ID"))
    assert "Traceback" not in output
    assert "canary" not in output


def test_a_black_hole_holds_the_start_up_no_longer_than_the_time_out(tmp_path: Path) -> None:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        settings = {"enabled": "true", "url": url, "token": "x", "timeout": "0.5"}
        with Service(tmp_path, environment(settings)) as service:
            assert "no answer within VAULT_TIMEOUT" in service.get("/health/ready").json()["detail"]


class _Html(BaseHTTPRequestHandler):
    """Answers every request with a page that repeats the request's headers, as a debugging proxy may do."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(f"<html>{self.headers}</html>".encode())

    do_POST = do_GET  # noqa: N815 - the name that the library calls

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def html_server() -> Iterator[str]:
    """Return the address of a server that is no Vault."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Html)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("method", ["token", "approle"])
def test_something_that_is_not_vault_is_recognised(html_server: str, tmp_path: Path, method: str) -> None:
    """And what it answers, which may repeat the token, is not repeated by us."""
    settings = {"enabled": "true", "auth_method": method, "url": html_server, "token": "canary", "role_id": "canary"}
    output = refused_start(tmp_path, environment({**settings, "fail_fast": "true"}))
    assert "the answer is not Vault's" in output
    assert "Check that VAULT_URL is Vault's address" in output
    assert "canary" not in output


def test_https_against_a_plain_port_is_recognised(vault: Vault, tmp_path: Path) -> None:
    """The handshake fails, and the message says so."""
    settings = {"enabled": "true", "url": vault.url.replace("http:", "https:"), "token": "x", "fail_fast": "true"}
    output = refused_start(tmp_path, environment(settings))
    assert "the TLS handshake failed" in output


def test_the_token_is_gone_after_the_service_was_stopped(vault: Vault, seeded: dict[str, Any], tmp_path: Path) -> None:
    """Nothing is left behind on the server."""
    before = set(vault.client.list("auth/token/accessors")["data"]["keys"])
    with Service(tmp_path, environment(seeded)) as service:
        during = set(vault.client.list("auth/token/accessors")["data"]["keys"])
        service.stop()
    (accessor,) = during - before
    with pytest.raises(hvac.exceptions.VaultError):
        vault.client.auth.token.lookup_accessor(accessor)


def test_a_service_that_is_not_up_in_time_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else would stop it: it would ask the Vault of the next tests."""
    monkeypatch.setattr(processes, "DEADLINE", 0.0)
    service = Service(tmp_path, {})
    with pytest.raises(TimeoutError, match="the service to answer"), service:
        pass
    assert service.process.returncode == -signal.SIGKILL
