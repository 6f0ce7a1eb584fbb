"""What docs/doctor.md quotes is what the doctor says."""

import re
import sys
from pathlib import Path

from infrastructure.dev_vault import EmbeddedVault
from tests.pages import blocks, run


def test_what_is_quoted_of_a_wrong_secret_id_is_what_is_said(dev_vault: EmbeddedVault, tmp_path: Path) -> None:
    """All but the address, the version of the server and the name of the role."""
    (excerpt,) = blocks("docs/doctor.md", "")
    (tmp_path / ".dev/secret-id").write_text("wrong")
    said = run(dev_vault, sys.executable, "-m", "tests.command_line", "doctor", code=1)
    said = said.replace(dev_vault.url.removeprefix("http://"), "127.0.0.1:8200")
    said = re.sub(r"version \S+,", "version 2.7.2,", said)
    assert excerpt in said


def test_a_fresh_clone_is_not_for_production_and_hears_why(dev_vault: EmbeddedVault) -> None:
    """In a terminal: the dev Vault's files, the API docs, no name; each with its remedy."""
    said = run(dev_vault, sys.executable, "-m", "tests.command_line", "doctor", "--production", code=1)
    faults = re.findall(r"^  fault +(\w+(?: \w+)?)  +.*\n +-> \S", said, re.MULTILINE)
    assert list(dict.fromkeys(faults)) == ["environment", "dev server", "API docs", "hosts"]
    assert re.search(r"^  reminder +limits ", said, re.MULTILINE)
