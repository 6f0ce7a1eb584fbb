"""What the tests about the repository itself may ask for."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import dev_vault
from tests.template.clone import Clone

__all__ = ["dev_vault"]


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """Return a fresh copy; its dev servers are stopped at the end, and their data removed."""
    if not (Path(sys.prefix) / ".installed").exists():
        pytest.fail("run the tests with `make test`: the Makefile's own tests need the environment that it made")
    clone = Clone(tmp_path / "clone")
    yield clone
    clone.make("vault-down")
    command = [sys.executable, "-m", "infrastructure.dev_database", "clean"]  # as root, data are elsewhere
    subprocess.run(command, cwd=clone.directory, capture_output=True, check=False)
