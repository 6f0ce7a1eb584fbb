"""`python -m app get` of what Vault would issue: only when that is asked for, and not longer than the command."""

import subprocess
import sys
from pathlib import Path

import pytest

from infrastructure.processes import surroundings
from tests.issuing import Issuer
from tests.support import environment, until


def get(issuing: Issuer, role: str, directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    login = issuing.login(role)
    variables = environment({name: value for name, value in login.items() if name not in {"dynamic", "secret_path"}})
    return subprocess.run(
        [sys.executable, "-m", "tests.command_line", "get", *words],
        cwd=directory,
        env=surroundings({**variables, "VAULT_DYNAMIC__DB": f"database/creds/{role}"}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("reference", ["{dynamic://db/username}", "dynamic://db/username"])
def test_it_says_what_it_would_do(issuing: Issuer, tmp_path: Path, reference: str) -> None:
    """And does nothing."""
    role = issuing.role()
    done = get(issuing, role, tmp_path, reference)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"would have Vault issue database/creds/{role}. With --issue it does" in " ".join(done.stderr.split())
    assert not issuing.users(role)


def test_with_issue_it_prints_the_value(issuing: Issuer, tmp_path: Path) -> None:
    """Which ends with the command."""
    role = issuing.role()
    done = get(issuing, role, tmp_path, "{dynamic://db/username}", "--issue")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("v-")
    until(lambda: not issuing.users(role), "the user to be dropped")


def test_a_field_that_is_not_issued_is_named(issuing: Issuer, tmp_path: Path) -> None:
    """With those that are."""
    done = get(issuing, issuing.role(), tmp_path, "dynamic://db/user", "--issue")
    assert done.returncode == 4  # as for what is missing
    assert "there is no key 'user'; the keys: password, username" in " ".join(done.stderr.split())
