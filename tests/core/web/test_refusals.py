"""What a guess leaves behind: a count, and a line that says where it came from, but no flood of lines."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.requests import HTTPConnection

from app.config import Settings
from app.core.logs.logging_config import configure_logging
from app.core.web import refusals
from app.core.web.refusals import MOST_CLIENTS, Refusals
from tests.declared import create_app
from tests.support import SECRETS

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """Return what returns the log's lines on refusals, each once."""

    def read() -> list[dict[str, Any]]:
        said = map(json.loads, filter(None, capsys.readouterr().err.splitlines()))
        return [line for line in said if line["event"] == "credentials_refused"]

    return read


def service(**settings: Any) -> TestClient:
    """Return a service that is not on a developer's machine."""
    base = {"environment": "production", "secrets": SECRETS, "log_format": "json"}
    return TestClient(create_app(Settings.model_validate(base | settings)), client=("192.0.2.7", 50_000))


def caller(address: str) -> HTTPConnection:
    """Return a connection from there."""
    return HTTPConnection({"type": "http", "client": (address, 1)})


def test_wrong_keys_are_counted_and_logged_with_their_address(lines: Lines) -> None:
    """Wherever a key is looked at; what is missing or good does not count, and no key is in the log."""
    counted: list[str] = []
    with service() as client:
        app: Any = client.app
        app.state.refusals.subscribe(counted.append)
        for headers in ({}, {"X-API-Key": ""}, {"X-API-Key": SECRETS["api_key"]}):
            client.post("/caller", headers=headers)
            client.post("/status/refresh", headers=headers)
            client.get("/health/ready", headers=headers)
        assert not counted
        for method, path in (("POST", "/caller"), ("POST", "/status/refresh"), ("GET", "/health/ready")):
            client.request(method, path, headers={"X-API-Key": "canary-guess-of-a-key"})
        (line,) = lines()
    assert counted == ["api_key"] * 3
    assert (line["clients"], line["count"], line["level"]) == ({"192.0.2.7": 1}, 1, "warning")
    assert "canary" not in json.dumps(line)


# extra: status
def test_a_wrong_password_for_the_status_page_counts(lines: Lines) -> None:
    """A browser asks for it."""
    with service(status_page=True) as client:
        assert client.get("/status", auth=("me", "canary-guess")).status_code == 401
        assert client.get("/status", auth=("me", SECRETS["api_key"])).status_code == 200
        assert client.get("/status").status_code == 401
        assert [line["count"] for line in lines()] == [1]


# /extra
def test_a_flood_is_a_line_in_a_period(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    """The first one at once, the others together: from where, and how many, also when nobody sends any more."""
    configure_logging("INFO", "json")
    monkeypatch.setattr(refusals, "PERIOD", 0.3)

    async def body() -> None:
        counter = Refusals()
        for n in range(1000):
            counter.record(caller(f"192.0.2.{n % 250}"), "api_key")
        (first,) = lines()
        assert (first["clients"], first["count"]) == ({"192.0.2.0": 1}, 1)
        said: list[dict[str, Any]] = []
        while not said:
            await asyncio.sleep(0.05)
            said = lines()
        assert [line["count"] for line in said] == [999]
        assert len(said[0]["clients"]) == MOST_CLIENTS + 1
        assert said[0]["clients"]["others"] > 900
        counter.record(caller("a" * 5000), "token")
        while not said[1:]:
            await asyncio.sleep(0.05)
            said += lines()
        assert len(json.dumps(said[1]["clients"])) < 100

    asyncio.run(asyncio.wait_for(body(), 30))


def test_it_works_in_a_loop_after_another(lines: Lines) -> None:
    """A service may be started again in the same process."""
    configure_logging("INFO", "json")
    counter = Refusals()

    async def body() -> None:
        counter.record(caller("192.0.2.7"), "api_key")

    for _ in range(2):
        asyncio.run(body())
        assert [line["count"] for line in lines()] == [1]
