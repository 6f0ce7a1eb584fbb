"""A service whose lifespan nobody runs says so, instead of waiting for ever."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.config import Settings
from infrastructure.processes import LIMITS
from tests.declared import create_app
from tests.support import ROOT, SECRETS, Vault, environment, free_port, unique, until

SAID = "its lifespan has not run, so no secret was read, nothing is refreshed, and VAULT_FAIL_FAST has no effect"
KEY = {"X-API-Key": SECRETS["api_key"]}


@pytest.fixture
def settings(vault: Vault) -> dict[str, Any]:
    """Return good settings of a service that should not start without its secrets."""
    vault.write(path := unique("app"), SECRETS)
    return {**vault.app_role(path), "fail_fast": "true"}


def service(settings: dict[str, Any]) -> FastAPI:
    """Return the service."""
    return create_app(Settings.model_validate({"vault": settings}))


def test_a_mounted_service_says_that_its_lifespan_has_not_run(
    settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """In readiness, to each caller, to who wants a refresh, and once in the log."""
    parent = FastAPI()
    parent.mount("/api", service(settings))
    with TestClient(parent) as client:
        for method, path in (
            ("GET", "/health/ready"),
            ("POST", "/caller"),
            ("GET", "/fingerprint"),
            ("POST", "/status/refresh"),
        ):
            answer = client.request(method, f"/api{path}", headers=KEY)
            assert answer.status_code == 503, path
            assert SAID in answer.json()["detail"]
            assert "has not answered yet" not in answer.text
        assert client.get("/api/health/live").status_code == 200
    assert capsys.readouterr().err.count('"lifespan_not_run"') == 1


def test_a_mounted_service_whose_lifespan_is_run_is_ready(settings: dict[str, Any]) -> None:
    """As docs/operate.md shows."""
    api = service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with api.router.lifespan_context(api):
            yield

    parent = FastAPI(lifespan=lifespan)
    parent.mount("/api", api)
    with TestClient(parent) as client:
        assert client.get("/api/health/ready").json() == {"status": "ready"}
        assert client.post("/api/caller", headers=KEY).json() == "api-key"


def test_a_client_without_with_says_so(settings: dict[str, Any]) -> None:
    """The slip of a test: starlette's client runs the lifespan in a `with` only."""
    answer = TestClient(service(settings)).get("/health/ready")
    assert SAID in answer.json()["detail"]
    assert "with TestClient(app)" in answer.json()["detail"]


def test_without_a_source_nothing_is_waited_for() -> None:
    """What is built from secrets is not there, all the same."""
    literals = {name: f"{value}" for name, value in SECRETS.items()}
    app = create_app(Settings.model_validate({"secrets": literals}))
    app.state.rotating.clear()
    assert TestClient(app).get("/health/ready").status_code == 200


def test_uvicorn_that_runs_no_lifespan_is_told(settings: dict[str, Any], tmp_path: Path) -> None:
    """`--lifespan off`: the service cannot refuse to start, but says why it does nothing."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.service:app", "--port", str(port), "--lifespan", "off", *LIMITS]
    variables = {**os.environ, **environment(settings), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=variables, stderr=subprocess.DEVNULL)
    try:

        def answer() -> str:
            try:
                return httpx2.get(f"http://127.0.0.1:{port}/health/ready").text
            except httpx2.TransportError:
                return ""

        assert SAID in until(answer, "the service to answer")
    finally:
        process.terminate()
        process.wait()
