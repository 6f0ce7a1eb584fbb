"""What does a test run say, and what does it leave behind? A screen at most, and nothing, if all is well."""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from getpass import getuser
from itertools import cycle
from pathlib import Path

import pytest

from tests.servers import DOCKER

WITHOUT_CONTAINERS = {"alone", "not server and not slow"}  # what the Makefile asks for that never needs one
DOTS: Iterator[str] = cycle([".", *[""] * 39])


def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """Print one dot for forty tests that passed, where all are run: all dots would fill the screen."""
    runs_all = config.getoption("numprocesses", None) and config.get_verbosity() <= 0
    if runs_all and report.when == "call" and report.outcome == "passed":
        return "passed", next(DOTS), ""
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was not collected."""
    if not config.stash[DOCKER] and config.getoption("markexpr") not in WITHOUT_CONTAINERS:
        terminalreporter.write_line("no Docker engine answers: the tests ran without HashiCorp's and CyberArk's images")


def pytest_unconfigure() -> None:
    """Remove pytest's own folder, which is empty unless a test failed."""
    with suppress(OSError):
        Path(tempfile.gettempdir(), f"pytest-of-{getuser()}").rmdir()
