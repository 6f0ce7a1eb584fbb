"""A copy of the project, in which tests do what its new owner does."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests

from app import TITLE
from app.app_secrets import AppSecrets
from infrastructure.dev_vault import ROOT_TOKEN
from infrastructure.project import project_files
from infrastructure.seed import SECRET_PATH
from tests.support import DEADLINE, ROOT, SECRETS, free_port, until

TYPES = ".mypy_cache"
PATIENCE = 1800.0  # seconds; for whatever hangs: a busy machine takes its time

# what checks whole clones: two processes each, so that several at once would keep all others from their work
one_at_a_time = pytest.mark.xdist_group("whole clones")

# for tests of what the pages show of the samples
README_IS_OURS = (ROOT / "README.md").read_text().startswith(f"# {TITLE}\n")
about_our_readme = pytest.mark.skipif(not README_IS_OURS, reason="README.md is not the template's")
as_shipped = pytest.mark.skipif(
    set(AppSecrets.model_fields) != set(SECRETS), reason="the service declares other secrets: it is yours by now"
)


class Clone:
    """A copy of the project, as `git clone` gives it, that uses this test run's virtual environment."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory.with_name("home")
        self.home.mkdir()
        self.temporary = directory.with_name("temporary")  # runs of pytest that share one get in each other's way
        self.temporary.mkdir()
        self.vault_port, self.postgres_port = free_port(), free_port()
        for file in project_files(ROOT):
            target = directory / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)  # with its time, or make would install again
        if (ROOT / TYPES).is_dir():  # mypy then looks at what was changed, not at all
            shutil.copytree(ROOT / TYPES, directory / TYPES)
        subprocess.run(["git", "init", "--quiet"], cwd=directory, check=True)

    def commit(self) -> None:
        """Commit all that is there."""
        author = ["-c", "user.name=tests", "-c", "user.email=tests@example.com"]
        subprocess.run(["git", "add", "--all"], cwd=self.directory, check=True)
        subprocess.run(["git", *author, "commit", "--quiet", "--message", "x"], cwd=self.directory, check=True)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line for make."""
        ports = [f"VAULT_PORT={self.vault_port}", f"POSTGRES_PORT={self.postgres_port}"]
        variables = [*ports, f"VENV={Path(sys.prefix)}", "VAULT_RUNTIME=embedded"]
        return ["make", "--no-print-directory", *variables, *arguments]

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the environment of somebody who uses another Vault elsewhere."""
        other = {"VAULT_ADDR": "https://vault.example.com", "VAULT_TOKEN": "junk"}
        told = {"ARGS", "PORT", "VAULT_PORT", "POSTGRES_PORT"}  # what make was told that runs these tests
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name not in told}
        return {**kept, "HOME": str(self.home), "TMPDIR": str(self.temporary), **other, **variables}

    def make(self, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run make and return what it said."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.directory,
            env=self.environment(**variables),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def check(self) -> None:
        """Fail unless `make check` and the tests without servers are green."""
        has_fast = re.search("^test-fast:", (self.directory / "Makefile").read_text(), re.MULTILINE)
        for act in (
            partial(self.make, "check"),
            partial(self.make, "test-fast", "ARGS=--numprocesses 2") if has_fast else self.run_tests_without_servers,
        ):
            done = act()
            assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-10_000:]

    def run_tests_without_servers(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the tests of the template that need no server, and return what they said."""
        folders = ["tests/core", "tests/extras", "--ignore-glob=*/integration"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}  # of `app` here
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *folders],
            cwd=self.directory,
            env={**kept, "TMPDIR": str(self.temporary)},
            capture_output=True,
            text=True,
            check=False,
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

    @contextmanager
    def running(self, target: str = "run") -> Iterator["Run"]:
        """Type `make run`, wait for the service to be ready, and end it by Ctrl-C."""
        port = free_port()
        run = Run(f"http://127.0.0.1:{port}")
        process = subprocess.Popen(
            self.command(target, f"PORT={port}"),
            cwd=self.directory,
            env=self.environment(LOG_FORMAT="json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            ready = partial(_answers, f"{run.url}/health/ready")
            until(lambda: ready() or process.poll() is not None, "the app to be ready", PATIENCE)
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            yield run
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            run.output, _ = process.communicate(timeout=DEADLINE)


@dataclass
class Run:
    """One `make run`."""

    url: str
    output: str = ""  # all of it, when it is over


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).ok
    except requests.RequestException:
        return False
