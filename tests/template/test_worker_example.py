"""What docs/workers.md shows works as written, in a copy of the project: the worker sees a rotation, ends in order."""

import hmac
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from infrastructure.processes import surroundings
from tests.pages import add_to, blocks
from tests.support import DEADLINE, ROOT, SECRETS, Vault, environment, unique, until
from tests.template.clone import as_shipped

PAGE = "docs/workers.md"


def heartbeat(key: str) -> str:
    """Return what the worker says with this key."""
    return hmac.new(key.encode(), b"heartbeat", "sha256").hexdigest()


@as_shipped
def test_the_worker_sees_a_rotation_and_gives_its_token_back(vault: Vault, tmp_path: Path) -> None:
    """Without a restart; SIGTERM ends it."""
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    assert add_to(tmp_path, PAGE) == len(blocks(PAGE, "python")) == 1
    checks = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--config", ROOT / "pyproject.toml", "app/worker.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checks.returncode == 0, checks.stdout
    vault.write(path := unique("worker"), SECRETS)
    variables = environment({**vault.app_role(path), "refresh_interval": "0.5"})
    output = tmp_path / "output"
    with vault.audited() as calls, output.open("wb") as said:
        worker = subprocess.Popen(
            [sys.executable, "-m", "app.worker"],
            cwd=tmp_path,
            env=surroundings(variables, tmp_path),
            stdout=said,
            stderr=said,
        )
        try:
            until(lambda: heartbeat(SECRETS["jwt_secret"]) in output.read_text(), "the first heartbeat")
            vault.write(path, {**SECRETS, "jwt_secret": "another-" * 5})
            until(lambda: heartbeat("another-" * 5) in output.read_text(), "one with the new key")
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(DEADLINE) == 0, output.read_text()
        finally:
            worker.kill()
            worker.wait()
    assert Counter(called for _, called in calls)["auth/token/revoke-self"] == 1
    assert not [value for value in SECRETS.values() if value in output.read_text()]
