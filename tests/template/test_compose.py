"""The compose file: what its containers do, done by the same commands in the same environments, without an engine."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac
import hvac.exceptions
import pytest
import requests
import yaml

from app.config import Settings
from infrastructure.dev_postgres import EmbeddedPostgres
from infrastructure.dev_vault import ROOT_TOKEN, EmbeddedVault, start_embedded
from infrastructure.seed import SECRET_PATH
from tests.postgres import running_postgres
from tests.support import DEADLINE, ROOT, free_port, until

COMPOSE = yaml.safe_load((ROOT / "compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PLAIN = {"app", "migrate", "seed", "vault", "postgres"}
ONCE = {"seed", "migrate"}
WITHOUT_PROGRAMS = {"collector"}  # its image has none that could ask


def value(text: str) -> str:
    """Return what Compose makes of a text where none of its variables is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@dataclass
class World:
    """Where the names of the compose file lead here."""

    vault: EmbeddedVault
    postgres: EmbeddedPostgres
    credentials: Path

    def here(self, text: str) -> str:
        """Replace the names of the containers, and the folder that they share."""
        text = value(text).replace("http://vault:8200", self.vault.url)
        text = text.replace("@postgres:5432", f"@127.0.0.1:{self.postgres.port}")
        return text.replace("/run/credentials", str(self.credentials))

    def environment(self, service: str) -> dict[str, str]:
        """Return what the process of a container has in its environment, and nothing of ours."""
        own = {name: self.here(text) for name, text in SERVICES[service]["environment"].items()}
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(self.credentials), **own}

    def run(self, service: str, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Do what a container does that ends by itself."""
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=self.environment(service) | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE * 2,
        )

    @property
    def api_key(self) -> str:
        """Return what was seeded."""
        kv = hvac.Client(url=self.vault.url, token=ROOT_TOKEN).secrets.kv.v2
        key: str = kv.read_secret_version(SECRET_PATH, raise_on_deleted_version=True)["data"]["data"]["api_key"]
        return key

    def seed(self) -> subprocess.CompletedProcess[str]:
        """Do what the service `seed` does."""
        _, module = SERVICES["seed"]["entrypoint"][1:]
        where = ["--vault", self.vault.url, "--postgres", f"127.0.0.1:{self.postgres.port}"]
        return self.run(
            "seed", module, *where, "--directory", str(self.credentials), POSTGRES_PASSWORD=self.postgres.password
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Start a PostgreSQL, and the Vault that the file starts, with the token that it gives it."""
    (tmp_path / "credentials").mkdir()
    token = SERVICES["vault"]["environment"]["VAULT_DEV_ROOT_TOKEN_ID"]
    with running_postgres(tmp_path / "postgres") as postgres:
        vault = start_embedded(free_port(), tmp_path, token)
        try:
            yield World(vault, postgres, tmp_path / "credentials")
        finally:
            vault.stop()


@pytest.mark.server
def test_the_service_answers_with_what_the_file_says(world: World) -> None:
    """It logs in with a wrapped secret id and uses the tables that the migration has made; `up` can be repeated."""
    for _ in range(2):
        seeded = world.seed()
        assert seeded.returncode == 0, seeded.stderr
        assert "each good for one login" in seeded.stdout
    run, dashes, alembic, *arguments = SERVICES["migrate"]["command"]
    migrated = world.run("migrate", "app", run, dashes, str(Path(sys.executable).with_name(alembic)), *arguments)
    assert migrated.returncode == 0, migrated.stderr
    port = free_port()
    with (world.credentials / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--host", "127.0.0.1"],
            cwd=ROOT,
            env=world.environment("app") | {"PORT": str(port)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: _status(f"{url}/health/ready") == 200, "the service to be ready")
        with requests.Session() as http:
            http.headers["X-API-Key"] = world.api_key
            assert http.post(f"{url}/notes", json={"text": "from a container"}, timeout=10).status_code == 201
            assert http.get(f"{url}/notes", timeout=10).json()[-1]["text"] == "from a container"
            assert http.get(f"{url}/database", timeout=10).json()["session_user"].startswith("v-")
        # Prometheus asks for it by the name of the container
        assert requests.get(f"{url}/metrics", headers={"Host": "app:8000"}, timeout=10).ok  # extra: metrics
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE)
    assert '"token_revoked"' in (world.credentials / "log").read_text()
    wrapped = (world.credentials / "app/secret-id").read_text()
    with pytest.raises(hvac.exceptions.InvalidRequest):  # it was good for one login
        hvac.Client(url=world.vault.url, token=wrapped).sys.unwrap()


@pytest.mark.server
def test_the_credentials_are_for_their_container_alone(world: World) -> None:
    """Whoever else reads the folder gets nothing, and no file holds a secret id."""
    assert world.seed().returncode == 0
    files = sorted(file for file in world.credentials.rglob("*") if file.is_file())
    assert [str(file.relative_to(world.credentials)) for file in files] == [
        "app/role-id",
        "app/secret-id",
        "migrate/role-id",
        "migrate/secret-id",
    ]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert {file.parent.stat().st_mode & 0o777 for file in files} == {0o700}
    if os.geteuid() == 0:
        user = re.search(r"^USER (\d+):", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        assert user is not None
        assert {file.stat().st_uid for file in files} == {int(user[1])}
    client = hvac.Client(url=world.vault.url, token=ROOT_TOKEN)
    for folder in ("app", "migrate"):
        wrapped = (world.credentials / folder / "secret-id").read_text()
        told = client.write_data("sys/wrapping/lookup", data={"token": wrapped})
        assert told["data"]["creation_path"].endswith("/secret-id")


def test_a_plain_up_starts_the_service_its_vault_and_its_database() -> None:
    """All else is looked at by whoever wants to observe."""
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == PLAIN
    assert {profile for service in SERVICES.values() for profile in service.get("profiles", ())} == {"observe"}


def test_nothing_is_reached_from_another_machine() -> None:
    """Neither a port nor an address without a host."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+", port) for port in ports), ports


def test_each_waits_for_what_it_needs() -> None:
    """Whatever stays is asked about its health, and whatever is waited for says when it is there."""
    for name, service in SERVICES.items():
        assert name in ONCE | WITHOUT_PROGRAMS or "healthcheck" in service, name
        for needed, how in service.get("depends_on", {}).items():
            ends = needed in ONCE
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy")
    assert list(SERVICES["app"]["depends_on"]) == ["migrate"]
    assert list(SERVICES["migrate"]["depends_on"]) == ["seed"]
    assert set(SERVICES["seed"]["depends_on"]) == {"vault", "postgres"}


def test_what_runs_of_ours_may_do_nothing_else() -> None:
    """As in production: read-only, without capabilities; only who hands out files may give them away."""
    for name in ("app", "migrate", "seed"):
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert [name for name in PLAIN if "cap_add" in SERVICES[name] and name != "vault"] == ["seed"]


def test_every_file_that_is_mounted_is_there() -> None:
    """And every volume is declared."""
    for service in SERVICES.values():
        for source in (mount.partition(":")[0] for mount in service.get("volumes", ())):
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], source


def test_every_variable_of_the_service_is_a_setting() -> None:
    """A misspelt one would be told at its start, by a line that nobody reads."""
    groups = ("VAULT_", "SECRET_", "OTEL_", "FASTAPI_OTEL_")
    for name in ("app", "migrate"):
        others = {each for each in SERVICES[name]["environment"] if not each.startswith(groups)}
        assert others <= {field.upper() for field in Settings.model_fields}


def _status(url: str) -> int:
    try:
        return requests.get(url, timeout=5).status_code
    except requests.RequestException:
        return 0
