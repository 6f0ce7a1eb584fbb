"""A real Conjur in Docker: its compose file, and what is done before and after the containers run."""

import base64
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from infrastructure import dev_conjur
from infrastructure.compose import ComposeError
from infrastructure.dev_state import STATE
from tests.extras.conjur.standin import StandIn


class Engine:
    """In place of Docker: "starts" a stand-in, and knows what was asked of it."""

    def __init__(self) -> None:
        self.standin = StandIn()
        self.standin.stop()
        self.port = urlsplit(self.standin.url).port or 0
        self.accounts: list[str] = []
        self.calls: list[list[str]] = []
        self.keys: set[str] = set()

    def compose(self, _: Path, *arguments: str, **environment: str) -> str:
        """Do what Compose would do."""
        self.calls.append(list(arguments))
        self.keys.add(environment["CONJUR_DATA_KEY"])
        match arguments:
            case "up", "-d":
                self.standin.start()
            case "down", "-v":
                self.standin.stop()
            case *_, "account", "create", account:
                self.accounts.append(account)
            case *_, "retrieve-key", _:
                return f"loading configuration\n{self.standin.admin_api_key}\n"
        return ""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Return an engine that answers."""
    engine = Engine()
    monkeypatch.setattr(dev_conjur, "compose", engine.compose)
    monkeypatch.setattr(dev_conjur, "docker_answers", lambda: True)
    yield engine
    engine.standin.stop()


def composed() -> dict[str, Any]:
    """Return the services of the compose file."""
    services: dict[str, Any] = yaml.safe_load(dev_conjur.COMPOSE_FILE.read_text())["services"]
    return services


def test_the_images_are_pinned_and_only_this_machine_gets_in() -> None:
    """To a version; Conjur's is the one that was recorded. The data key stands in no file of the project."""
    services = composed()
    images = {name: service["image"].split(":-")[1].rstrip("}") for name, service in services.items()}
    assert images["conjur"] == "cyberark/conjur:1.22.3"
    assert all(image.split(":")[1][0].isdigit() for image in images.values())
    assert [port for service in services.values() for port in service.get("ports", [])] == [
        "127.0.0.1:${CONJUR_PORT:-8280}:80"
    ]
    assert services["conjur"]["environment"]["CONJUR_DATA_KEY"] is None


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="Compose 1 is not installed")
def test_compose_understands_the_file() -> None:
    """The older of the two, which understands less."""
    command = ["docker-compose", "-f", str(dev_conjur.COMPOSE_FILE), "config"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert yaml.safe_load(found.stdout)["services"].keys() == composed().keys()


def test_up_writes_down_the_key_and_says_how_to_go_on(engine: Engine) -> None:
    """The account is there, both keys are for the owner's eyes only, and a second `up` starts nothing."""
    said = dev_conjur.up(engine.port)
    assert engine.accounts == ["default"]
    assert dev_conjur.API_KEY_FILE.read_text() == engine.standin.admin_api_key
    for file in (dev_conjur.API_KEY_FILE, dev_conjur.DATA_KEY_FILE):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (key,) = engine.keys
    assert len(base64.b64decode(key, validate=True)) == 32
    assert f"CONJUR_TEST_URL={engine.standin.url}" in said
    assert engine.standin.admin_api_key not in said
    before = len(engine.calls)
    assert dev_conjur.up(engine.port).startswith("dev Conjur: running already")
    assert len(engine.calls) == before


def test_down_leaves_nothing(engine: Engine) -> None:
    """The next one gets another data key, since its database is new."""
    dev_conjur.up(engine.port)
    assert dev_conjur.down() == "dev Conjur: containers removed"
    assert not list(STATE.iterdir())
    assert dev_conjur.down() == "dev Conjur: not running"
    dev_conjur.up(engine.port)
    assert len(engine.keys - {""}) == 2


def test_a_failed_start_is_cleared_away(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `down`, or by the next `up`."""

    def broken(_: Path, *arguments: str, **__: str) -> str:
        engine.calls.append(list(arguments))
        raise ComposeError("Docker Compose failed: no such image")

    with monkeypatch.context() as patch:
        patch.setattr(dev_conjur, "compose", broken)
        with pytest.raises(ComposeError):
            dev_conjur.up(engine.port)
    dev_conjur.up(engine.port)
    assert [call[0] for call in engine.calls[:3]] == ["up", "down", "up"]


def test_a_server_that_does_not_come_up_is_reported(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With where to look."""
    monkeypatch.setattr(dev_conjur, "START_DEADLINE", 0.0)
    monkeypatch.setattr(engine.standin, "start", lambda: None)
    with pytest.raises(dev_conjur.DevConjurError, match=r"no Conjur answers at .* logs"):
        dev_conjur.up(engine.port)


def test_somebody_elses_server_is_left_alone(engine: Engine) -> None:
    """Its port is taken."""
    engine.standin.start()
    with pytest.raises(dev_conjur.DevConjurError, match=f"port {engine.port} is taken"):
        dev_conjur.up(engine.port)
    assert not engine.calls


def test_without_docker_it_says_so(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that the tests do without."""
    monkeypatch.setattr(dev_conjur, "docker_answers", lambda: False)
    with pytest.raises(dev_conjur.DevConjurError, match="the tests do without"):
        dev_conjur.up(engine.port)
    assert not STATE.exists()
