"""What docs/command-line.md shows works as written in a fresh clone."""

from pathlib import Path

from infrastructure.dev_vault import EmbeddedVault
from infrastructure.seed import POLICIES, SECRET_PATH
from tests.pages import blocks, run, script
from tests.support import ROOT

POLICY = POLICIES.relative_to(ROOT) / f"{SECRET_PATH}.hcl"


def test_the_commands_work(dev_vault: EmbeddedVault, tmp_path: Path) -> None:
    """All of them, one after the other; and the policy that they print is the one that is in force."""
    (block,) = blocks("docs/command-line.md", "console")
    written = run(dev_vault, "/bin/sh", "-c", script(block))
    assert "/tls: version 2\n" in written
    assert (tmp_path / POLICY).read_text() == (ROOT / POLICY).read_text()
