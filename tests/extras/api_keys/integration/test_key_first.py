"""Who has no key learns nothing of what a body must look like, and holds nothing up by keeping it back."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.core.web.dependencies import require_api_key
from tests.declared import create_app
from tests.support import DEADLINE, SECRETS, Service, Vault, environment, unique

BODIES = [b"{", b"\xff", b"[]", b'{"name": 5}', b'{"unknown": 1}']
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def settings(vault: Vault) -> dict[str, Any]:
    """Return those of a service that may issue keys."""
    vault.write(path := unique("first"), SECRETS)
    raw = {"enabled": True, "url": vault.url, "token": vault.root_token, "secret_path": path, "refresh_interval": 0}
    return raw | {"access_mode": "read_and_write", "write_prefix": f"{path}/keys"}


@pytest.fixture
def client(settings: dict[str, Any]) -> Iterator[TestClient]:
    """Call such a service."""
    with TestClient(create_app(Settings.model_validate({"vault": settings, "log_format": "json"}))) as client:
        yield client


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("path", ["/api-keys", "/api-keys/alice/rotate"])
def test_a_body_is_looked_at_after_the_key(client: TestClient, path: str, body: bytes) -> None:
    """Without one, and with a wrong one, which is counted."""
    for sent in ({}, {"X-API-Key": "wrong"}):
        assert client.post(path, content=body, headers={**JSON, **sent}).status_code == 401
    answer = client.post(path, content=body, headers={**JSON, "X-API-Key": SECRETS["api_key"]})
    assert answer.status_code in {400, 422}
    # extra: metrics
    assert 'refused_credentials_total{kind="api_key"} 1.0' in client.get("/metrics").text
    # /extra


def test_a_body_that_is_kept_back_is_not_waited_for(settings: dict[str, Any], tmp_path: Path) -> None:
    """The answer comes at once, long before the deadline for bodies."""
    with Service(tmp_path, environment(settings)) as service:
        host, port = service.url.removeprefix("http://").split(":")
        with closing(socket.create_connection((host, int(port)), timeout=DEADLINE)) as caller:
            head = f'POST /api-keys HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10000\r\n\r\n{{"n'
            caller.sendall(head.encode())
            assert caller.recv(64).startswith(b"HTTP/1.1 401")


def test_what_a_test_puts_in_place_of_the_key_counts(settings: dict[str, Any]) -> None:
    """As anywhere in FastAPI (`dependency_overrides`)."""
    app = create_app(Settings.model_validate({"vault": settings}))
    app.dependency_overrides[require_api_key] = lambda: None
    with TestClient(app) as client:
        assert client.post("/api-keys", json={"name": "alice"}).status_code == 201
