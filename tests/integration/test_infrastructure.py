"""The dev Vault, seeding and the Makefile, run as a newcomer runs them: in a fresh copy, on free ports."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests

from infrastructure.dev_vault import ROOT_TOKEN
from infrastructure.rename import project_files, rename
from infrastructure.seed import ROLE, SECRET_PATH
from tests.support import DEADLINE, ROOT, free_port, until


class Clone:
    """A copy of the project, as `git clone` gives it, that uses this test run's virtual environment."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory.with_name("home")
        self.home.mkdir()
        self.vault_port = free_port()
        for file in project_files(ROOT):
            target = directory / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)  # with its time, or make would install anew
        subprocess.run(["git", "init", "--quiet"], cwd=directory, check=True)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line for make."""
        variables = [f"VAULT_PORT={self.vault_port}", f"VENV={Path(sys.prefix)}", "VAULT_RUNTIME=embedded"]
        return ["make", "--no-print-directory", *variables, *arguments]

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the environment of somebody who uses another Vault elsewhere."""
        other = {"VAULT_ADDR": "https://vault.example.com", "VAULT_TOKEN": "junk"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        return {**kept, "HOME": str(self.home), **other, **variables}

    def make(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run make and return what it said."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.directory,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    @property
    def client(self) -> hvac.Client:
        """Return a root client of the dev Vault."""
        return hvac.Client(url=f"http://127.0.0.1:{self.vault_port}", token=ROOT_TOKEN)

    @property
    def secret(self) -> dict[str, Any]:
        """Return what was seeded."""
        kv = self.client.secrets.kv.v2
        values: dict[str, Any] = kv.read_secret_version(SECRET_PATH, raise_on_deleted_version=True)["data"]["data"]
        return values


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """Return a fresh copy; its dev Vault is stopped at the end."""
    if not (Path(sys.prefix) / ".installed").exists():
        pytest.fail("run the tests with `make test`: the Makefile's own tests need the environment that it made")
    clone = Clone(tmp_path / "clone")
    yield clone
    clone.make("vault-down")


def test_vault_up_and_seed_do_what_an_operator_does(clone: Clone) -> None:
    """KV 2, the secret, the policy, an AppRole that has nothing else, credentials that only the owner can read."""
    up = clone.make("vault-up")
    assert (up.returncode, up.stdout.count("\n")) == (0, 1), up.stderr
    seeded = clone.make("seed")
    assert seeded.returncode == 0, seeded.stderr
    assert set(clone.secret) == {"database_url", "api_key", "jwt_secret"}
    role = clone.client.auth.approle.read_role(ROLE)["data"]
    assert role["token_policies"] == [ROLE]
    assert role["token_no_default_policy"]
    assert 0 < role["token_ttl"] <= role["token_max_ttl"] <= 3600
    assert role["secret_id_ttl"] > 0
    for file in (".dev/role-id", ".dev/secret-id", ".env"):
        assert stat.S_IMODE((clone.directory / file).stat().st_mode) == 0o600
    assert (clone.directory / ".env").read_text() == (ROOT / ".env.example").read_text()
    assert (clone.directory / ".dev/vault-audit.log").stat().st_size > 0
    assert not list(clone.home.glob(".vault*"))
    tracked = subprocess.run(["git", "status", "--short"], cwd=clone.directory, capture_output=True, check=True).stdout
    assert b".dev" not in tracked
    assert b".env\n" not in tracked


def test_seeding_again_changes_nothing_unless_told_to(clone: Clone) -> None:
    """Values, other keys and the secret id stay; `RESET=1` renews the values."""
    clone.make("vault-up")
    clone.make("seed")
    changed = {**clone.secret, "api_key": "changed-by-hand", "own": "key"}
    clone.client.secrets.kv.v2.create_or_update_secret(SECRET_PATH, changed)
    before, secret_id = clone.secret, (clone.directory / ".dev/secret-id").read_text()
    (clone.directory / ".env").write_text("# mine\n")
    assert clone.make("vault-up").stdout.startswith("dev Vault: running already")
    assert clone.make("seed").returncode == 0
    assert clone.secret == before
    assert (clone.directory / ".dev/secret-id").read_text() == secret_id
    assert (clone.directory / ".env").read_text() == "# mine\n"

    assert clone.make("seed", "RESET=1").returncode == 0
    assert clone.secret["own"] == "key"
    assert all(clone.secret[name] != before[name] for name in ("api_key", "jwt_secret"))


def test_a_secret_id_that_no_longer_works_is_replaced(clone: Clone) -> None:
    """`make seed` mends a login that expired over the weekend."""
    clone.make("vault-up")
    clone.make("seed")
    file = clone.directory / ".dev/secret-id"
    clone.client.auth.approle.destroy_secret_id(ROLE, before := file.read_text())
    clone.make("seed")
    assert file.read_text() != before


def test_run_serves_the_app_and_ends_cleanly_on_ctrl_c(clone: Clone) -> None:
    """The first command of a newcomer; a second one reuses the Vault and its secrets."""
    for _ in range(2):
        port = free_port()
        process = subprocess.Popen(
            clone.command("run", f"PORT={port}"),
            cwd=clone.directory,
            env=clone.environment(LOG_FORMAT="json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            until(partial(_answers, f"http://127.0.0.1:{port}/health/ready"), "the app to be ready")
            answer = requests.post(
                f"http://127.0.0.1:{port}/token", headers={"X-API-Key": clone.secret["api_key"]}, timeout=DEADLINE
            )
            assert answer.status_code == 200
        finally:
            os.killpg(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=DEADLINE)
        for line in (f"http://127.0.0.1:{port}/docs", f":{clone.vault_port}/ui (token {ROOT_TOKEN})", "token_revoked"):
            assert line in output
        assert "Traceback" not in output
    assert "running already" in output
    assert clone.client.sys.is_initialized(), "the Vault outlives the app"
    assert clone.make("vault-down").stdout.startswith("dev Vault: stopped")
    assert clone.make("vault-down").stdout == "dev Vault: not running\n"


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).ok
    except requests.ConnectionError:
        return False


def one_line(finished: subprocess.CompletedProcess[str]) -> str:
    """Check that make failed with one line of ours, and return it."""
    assert finished.returncode != 0
    (line,) = [line for line in finished.stderr.splitlines() if not line.startswith("make: ***")]
    return line


def test_what_stands_in_the_way_is_one_line(clone: Clone) -> None:
    """A Vault that is not up, a port that is taken, a Docker engine that is missing."""
    assert "run `make vault-up` first" in one_line(clone.make("seed"))
    with socket.create_server(("127.0.0.1", clone.vault_port)):
        assert f"port {clone.vault_port} is taken" in one_line(clone.make("vault-up"))
    without_docker = clone.make("vault-up", "VAULT_RUNTIME=docker", DOCKER_HOST="tcp://127.0.0.1:9")
    assert "no Docker engine answers" in one_line(without_docker)
    assert "invalid choice" in clone.make("vault-up", "VAULT_RUNTIME=podman").stderr


def test_a_stale_state_file_does_not_kill_a_stranger(clone: Clone) -> None:
    """A process id may belong to somebody else by now."""
    (clone.directory / ".dev").mkdir()
    (clone.directory / ".dev/vault.json").write_text(json.dumps({"runtime": "embedded", "pid": os.getpid()}))
    assert clone.make("vault-down").stdout == "dev Vault: not running\n"
    (clone.directory / ".dev/vault.json").write_text("garbage")
    assert clone.make("vault-down").returncode == 0


def test_help_lists_every_target(clone: Clone) -> None:
    """With what it does."""
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = [line.split()[1:] for line in makefile.splitlines() if line.startswith(".PHONY")]
    listed = clone.make().stdout
    assert all(f"\n  {target} " in listed for target in phony)


def test_a_renamed_clone_carries_the_new_name_everywhere_and_works(clone: Clone) -> None:
    """Its unit tests pass, and a dev Vault is seeded at the new path."""
    subprocess.run(["git", "add", "-A"], cwd=clone.directory, check=True)
    assert rename("my-shop", clone.directory)
    for file in project_files(clone.directory):
        text = file.read_text(errors="replace")  # some are pictures
        assert "fastapi-vault-blueprint" not in text, file
        assert "python-production-blueprint" not in text, file
        assert "FastAPI Vault Blueprint" not in text, file
    checked = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit"],
        cwd=clone.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    assert clone.make("vault-up").returncode == 0
    seeded = clone.make("seed")
    assert "secret/my-shop written" in seeded.stdout, seeded.stderr


@pytest.mark.parametrize("name", ["", "My Shop", "-x", "x_y", "../x"])
def test_a_name_that_would_not_do_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything is changed."""
    with pytest.raises(ValueError, match="NAME must be"):
        rename(name, tmp_path)
