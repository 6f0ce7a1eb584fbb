"""What a run of the tests says, what it takes for a failure, and what it leaves behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import DEADLINE
from tests.template.clone import Clone

SKIPPING = """
import pytest


@pytest.fixture
def vault():
    pytest.skip("it does not start here")


def test_something(vault):
    pass
"""


def run(clone: Clone, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run some tests of the clone."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=clone.directory,
        env=clone.environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * DEADLINE,
    )


@pytest.mark.parametrize(("ci", "told"), [("true", "1 error"), ("", "1 skipped")], ids=["CI", "elsewhere"])
def test_a_server_that_is_skipped_is_a_failure_in_ci(clone: Clone, ci: str, told: str) -> None:
    """Where nobody reads the output, green would mean nothing."""
    (clone.directory / "tests/test_skipping.py").write_text(SKIPPING)
    said = run(clone, "tests/test_skipping.py", CI=ci).stdout
    assert told in said, said
    assert ("a skip of `vault` is a failure where CI is set: it does not start here" in said) == bool(ci)


@pytest.mark.parametrize("answers", [True, False], ids=["Docker answers", "Docker does not answer"])
def test_what_needs_a_container_is_collected_where_docker_answers(
    clone: Clone, tmp_path: Path, *, answers: bool
) -> None:
    """Elsewhere one line says that it was not."""
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\nexit {0 if answers else 1}\n")
    docker.chmod(0o755)
    search = f"{tmp_path}:{clone.environment()['PATH']}"
    said = run(clone, "--collect-only", "tests/core/integration/test_backends.py", PATH=search).stdout
    assert "[vault, embedded]" in said
    assert ("[vault, docker]" in said) == answers
    assert said.count("no Docker engine answers") == int(not answers)


def test_green_output_fits_a_screen_and_nothing_stays_behind(clone: Clone) -> None:
    """In several processes, as `make test` runs them; the folder of a test that failed stays."""
    options = ["--numprocesses", "2", "tests/core/store/test_secret_store.py"]
    green = run(clone, *options)
    assert green.returncode == 0, green.stdout
    assert len(green.stdout.splitlines()) < 10
    assert list(clone.temporary.iterdir()) == []
    (clone.directory / "tests/test_failing.py").write_text("def test_it(tmp_path):\n    raise OSError\n")
    assert run(clone, "tests/test_failing.py").returncode != 0
    assert list(clone.temporary.glob("pytest-of-*/pytest-*/test_it0"))
