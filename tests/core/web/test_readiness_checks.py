"""Readiness asks what the service leans on, briefly, and not more often than it has to."""

import asyncio
import time

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.config import Settings
from app.core.web import readiness_checks
from app.core.web.readiness_checks import ReadinessChecks
from tests.declared import create_app
from tests.support import SECRETS


class RefusedError(Exception):
    """As asyncpg has them."""

    sqlstate = "28P01"


class WrappedError(Exception):
    """As SQLAlchemy has them."""

    def __init__(self) -> None:
        super().__init__("canary")
        self.orig = RefusedError("canary")


async def fails() -> None:
    """Not work."""
    raise WrappedError


async def hangs() -> None:
    """Not answer."""
    await asyncio.sleep(60)


async def works() -> None:
    """Answer."""


def service(environment: str = "development") -> FastAPI:
    """Return a service that leans on something."""
    settings = {"secrets": SECRETS, "environment": environment}
    return create_app(Settings.model_validate(settings))


def test_what_does_not_work_makes_unready() -> None:
    """Whoever asks with HEAD is told, too; the reason holds no text of the error."""
    app = service()
    app.state.readiness_checks.update(database=fails, partner=works)
    with TestClient(app) as client:
        unready = client.get("/health/ready")
        assert (unready.status_code, client.head("/health/ready").status_code) == (503, 503)
        assert unready.json()["detail"] == "database: does not work (WrappedError, SQLSTATE 28P01)"
        assert unready.headers["retry-after"]
        assert client.get("/health/live").status_code == 200


def test_strangers_learn_only_what_it_is() -> None:
    """The administrator learns why."""
    app = service("production")
    app.state.readiness_checks["database"] = fails
    with TestClient(app) as client:
        told = client.get("/health/ready").json()["detail"]
        assert "database: does not work |" in told
        assert "SQLSTATE" not in told
        assert "SQLSTATE" in client.get("/health/ready", headers={"X-API-Key": SECRETS["api_key"]}).json()["detail"]


def test_what_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are asked side by side."""
    monkeypatch.setattr(readiness_checks, "LIMIT", 0.2)
    checks = ReadinessChecks()
    checks.update(one=hangs, two=hangs, three=works)
    begun = time.monotonic()
    assert asyncio.run(checks.failed()) == {"one": "TimeoutError", "two": "TimeoutError"}
    assert time.monotonic() - begun < 5


def test_what_hangs_up_slowly_is_not_waited_for_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver takes seconds to close a connection to who hangs; nobody is asked again before that is over."""
    monkeypatch.setattr(readiness_checks, "LIMIT", 0.1)
    monkeypatch.setattr(readiness_checks, "KEPT", 0.0)
    asked: list[str] = []

    async def probed() -> None:
        closed, checks = asyncio.Event(), ReadinessChecks()

        async def hangs_up_slowly() -> None:
            asked.append("database")
            try:
                await (hangs() if len(asked) == 1 else works())
            finally:
                await closed.wait()

        checks["database"] = hangs_up_slowly
        for _ in range(2):
            async with asyncio.timeout(5):
                assert await checks.failed() == {"database": "TimeoutError"}
        assert len(asked) == 1
        closed.set()
        await asyncio.sleep(0.05)
        assert await checks.failed() == {}
        assert len(asked) == 2

    asyncio.run(probed())


def test_who_stops_waiting_leaves_no_question_behind() -> None:
    """A probe that has hung up must not keep a connection busy."""

    async def probed() -> None:
        checks, cancelled = ReadinessChecks(), asyncio.Event()

        async def asked() -> None:
            try:
                await hangs()
            finally:
                cancelled.set()

        checks["database"] = asked
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await checks.failed()
        async with asyncio.timeout(5):
            await cancelled.wait()

    asyncio.run(probed())


def test_probes_do_not_hammer(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask at a time, and for a moment after that, one question is enough."""
    asked = []

    async def counted() -> None:
        asked.append(time.monotonic())
        await asyncio.sleep(0.05)

    async def many() -> None:
        checks = ReadinessChecks()
        checks["database"] = counted
        await asyncio.gather(*(checks.failed() for _ in range(20)))
        await checks.failed()
        assert len(asked) == 1
        monkeypatch.setattr(readiness_checks, "KEPT", 0.0)
        await checks.failed()
        assert len(asked) == 2

    asyncio.run(many())
