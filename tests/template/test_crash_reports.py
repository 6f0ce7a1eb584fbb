"""What docs/crash-reports.md shows sends errors, and no secret."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from infrastructure.processes import surroundings
from tests.pages import add_to, blocks
from tests.support import READ_POLICY, ROOT, SECRETS, Vault, environment, unique

PAGE = "docs/crash-reports.md"
WRITE_POLICY = 'path "secret/data/{path}" {{ capabilities = ["read", "update"] }}\n'


def reported(vault: Vault, directory: Path, *arguments: str) -> str:
    """Return all that a service has sent which crashed again and again."""
    shutil.copytree(ROOT / "app", directory / "app", ignore=shutil.ignore_patterns("__pycache__"))
    assert add_to(directory, PAGE) == len(blocks(PAGE, "python")) == 1
    vault.write(path := unique("crashing"), SECRETS)
    variables = environment(vault.app_role(path, policy=READ_POLICY.split("\n", 2)[2] + WRITE_POLICY))
    done = subprocess.run(
        [sys.executable, "-m", "tests.template.crashing", *arguments],
        cwd=directory,
        env={**surroundings(variables, directory), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(sent: str) -> set[str]:
    """Return the secrets that it shows, as they are or as JSON and URLs write them."""
    values = {*SECRETS.values(), *(f'{text}-"rotated"' for text in SECRETS.values()), "a-password-of-the-caller"}
    return {text for text in values for form in (text, quote(text, safe=""), json.dumps(text)[1:-1]) if form in sent}


def test_a_report_has_the_error_and_no_secret(vault: Vault, tmp_path: Path) -> None:
    """Neither those of now nor those of before a rotation, wherever a handler, a caller or a log line puts them."""
    sent = reported(vault, tmp_path)
    assert shown(sent) == set()
    assert "no connection to postgresql://app:***@" in sent or "no connection to ***" in sent
    for told in ("RuntimeError", "ConnectionError", "in crash", "'***' is of no use", "lost ***", "trying with ***"):
        assert told.replace("in crash", '"crash"') in sent, told
    assert sent.count('"type":"event"') == 4
    assert "formerly ***" in sent
    assert '"type":"transaction"' in sent


def test_without_the_masks_it_would_show_them(vault: Vault, tmp_path: Path) -> None:
    """Or the test above could not fail."""
    assert len(shown(reported(vault, tmp_path, "unmasked"))) >= 4
