"""What somebody without a key can learn from a service in production, and make it write: real servers answer."""

import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.config import Settings
from app.core.vault.sessions import get_session
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.declared import create_app
from tests.support import DEADLINE, SECRETS, Service, Vault, environment, unique, until

PRODUCTION = {"ENVIRONMENT": "production"}
KEY = {"X-API-Key": SECRETS["api_key"]}


@pytest.fixture
def path(vault: Vault) -> str:
    """Return the path of a complete secret of this test's own."""
    vault.write(path := unique("private"), SECRETS)
    return path


def test_readiness_tells_strangers_names_and_the_administrator_why(vault: Vault, path: str, tmp_path: Path) -> None:
    """A gap in the policy: the path and the remedy are not everybody's."""
    variables = environment({**vault.app_role(path), "secret_path": f"{path},other-private", "refresh_interval": "0"})
    variables |= PRODUCTION | {f"SECRET_{name.upper()}": value for name, value in SECRETS.items()}
    with Service(tmp_path, variables) as service:
        until(lambda: "other-private" in service.get("/health/ready", headers=KEY).text, "the fault")
        for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": ""}):
            answer = service.get("/health/ready", headers=headers)
            assert answer.json()["warnings"][0] == "vault: the last round failed"
            assert not re.search(r"private|polic|capabilit|127\.0\.0\.1", answer.text)
        assert "policy" in service.get("/health/ready", headers=KEY).text.lower()


def test_in_an_outage_strangers_learn_what_is_missing_by_name(vault: Vault, path: str, tmp_path: Path) -> None:
    """Neither the address nor the cause; both are in the log."""
    proxy = FaultyProxy(vault.url, fault=lambda *_: Fault(status=503))
    with proxy.running() as url:
        variables = environment({**vault.app_role(path), "url": url, "refresh_interval": "0"}) | PRODUCTION
        with Service(tmp_path, variables) as service:
            until(lambda: "last round failed" in service.get("/health/ready").text, "the fault")
            answer = service.get("/health/ready")
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
            for name in ("vault: the last round failed", "api_key: missing", "jwt_secret: missing"):
                assert name in answer.json()["detail"]
            assert urlsplit(url).netloc not in answer.text
            assert path not in answer.text
            assert service.get("/health/ready", headers=KEY).json() == answer.json(), "no key is held to compare with"
            assert urlsplit(url).netloc in service.output


@pytest.mark.parametrize("environment", ["development", "production"])
def test_a_handler_that_asks_vault_tells_strangers_no_path(
    vault: Vault, path: str, environment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log has what the answer leaves out; the administrator reads it in the answer, as in development."""
    secrets: dict[str, Any] = {**SECRETS}
    allowed = {"allow_insecure": "http"}
    settings = Settings.model_validate(
        {"vault": vault.app_role(path), "secrets": secrets, "environment": environment, "log_format": "json", **allowed}
    )
    app: FastAPI = create_app(settings)

    @app.get("/asks")
    def asks() -> None:
        from app.core.vault.kv import VaultKV  # noqa: PLC0415 - as a handler may

        VaultKV(get_session(settings.vault)).read("private-path")

    with TestClient(app) as client:
        stranger, ours = client.get("/asks"), client.get("/asks", headers=KEY)
    assert stranger.status_code == ours.status_code == 503
    assert "private-path" in ours.json()["detail"]
    assert ("private-path" in stranger.text) == (environment == "development")
    assert ("request_refused" in capsys.readouterr().err) == (environment == "production")


def sent(service: Service, request: bytes) -> bytes:
    """Send bytes, and return the beginning of the answer."""
    host, port = urlsplit(service.url).hostname, urlsplit(service.url).port
    with socket.create_connection((host, port), timeout=DEADLINE) as connection:
        connection.sendall(request)
        return connection.recv(100)


def test_what_strangers_can_make_it_log_is_bounded(tmp_path: Path) -> None:
    """A method, a path, headers, an id: whatever there is of it, a line stays a line."""
    much = b"A" * 50_000
    heads = [
        much + b" / HTTP/1.1\r\nHost: localhost",
        b"GET /" + much + b" HTTP/1.1\r\nHost: localhost",
        b"GET /?" + much + b" HTTP/1.1\r\nHost: localhost",
        b"GET / HTTP/1.1\r\nHost: " + much,
        b"POST /caller HTTP/1.1\r\nHost: localhost\r\nOrigin: http://" + much,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: " + much,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: " + much,
        b"POST /caller HTTP/1.1\r\nHost: localhost\r\nX-API-Key: " + much,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + much,
        b"GET /" + much + b" HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        much,
    ]
    own = {f"SECRET_{name.upper()}": value for name, value in SECRETS.items()}
    with Service(tmp_path, {**own, "LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG"}) as service:
        for head in heads:
            before = len(service.output)
            assert sent(service, head + b"\r\nConnection: close\r\n\r\n"), head[:50]
            until(lambda before=before: len(service.output) > before, "a line")  # type: ignore[misc]
        assert service.get("/health/live").ok
        longest = max(service.output.splitlines(), key=len)
    assert len(longest) < 20_000, longest[:300]
    finished = [event for event in service.events if event["event"] == "request_finished"]
    assert max(len(event["method"]) for event in finished) < 40
    assert max(len(event["path"]) for event in finished) < 2100


@pytest.mark.parametrize("refused", [b"Host: evil.example.com", b"Host: localhost\r\nOrigin: null"])
def test_who_is_refused_holds_no_connection_by_a_body_that_never_comes(tmp_path: Path, refused: bytes) -> None:
    """The bound for bodies counts for refusals, too."""
    head = b"POST /caller HTTP/1.1\r\n" + refused + b"\r\nContent-Length: 10000\r\n\r\nx"
    with Service(tmp_path, {}) as service:
        address = urlsplit(service.url)
        with socket.create_connection((address.hostname, address.port), timeout=DEADLINE) as connection:
            connection.sendall(head)
            answer = b""
            while piece := connection.recv(4096):
                answer += piece
    assert answer.split()[1] in {b"400", b"403"}
