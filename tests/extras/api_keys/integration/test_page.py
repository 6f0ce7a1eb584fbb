"""What docs/api-keys.md shows works as written in a fresh clone."""

import shutil
from pathlib import Path

import pytest

from infrastructure.dev_vault import EmbeddedVault
from tests.pages import blocks, run, script, variables
from tests.support import Service


def test_the_commands_work(dev_vault: EmbeddedVault, tmp_path: Path) -> None:
    """A key is issued, listed, rotated and revoked."""
    if not shutil.which("curl"):
        pytest.skip("there is no curl here")
    (block,) = blocks("docs/api-keys.md", "console")
    with Service(tmp_path, variables(dev_vault)) as service:
        text = script(block).replace("localhost:8000", service.url).replace("curl ", "curl -fsS ")
        written = run(dev_vault, "/bin/sh", "-c", text)
    assert '"name":"alice"' in written
