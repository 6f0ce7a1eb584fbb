"""`.env` says what is written in it: nothing is expanded, and what cannot be understood is named by its line."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.config import get_settings
from app.core.errors import BadSettings
from app.core.settings.dotenv import read_dotenv
from infrastructure.processes import LIMITS
from tests.support import DEADLINE, ROOT

# what a line sets, by how it is written
VALUES = {
    "plain": "plain",
    "'pa${x}ss'": "pa${x}ss",
    '"pa${x}ss"': "pa${x}ss",
    "pa${x}ss": "pa${x}ss",
    "${HOME}": "${HOME}",
    "$HOME": "$HOME",
    "${x:-default}": "${x:-default}",
    "pa$$w": "pa$$w",
    "'$(whoami)`id`'": "$(whoami)`id`",
    "pa#ss": "pa#ss",
    "pass # a comment": "pass",
    "'pass # no comment'": "pass # no comment",
    '"pass" # a comment': "pass",
    r"'a\nb'": r"a\nb",
    r'"a\nb"': "a\nb",
    r"a\nb": r"a\nb",
    r"'it\'s'": "it's",
    "it's": "it's",
    '{"a": "b"}': '{"a": "b"}',
    "'two\nlines'": "two\nlines",
}
DROPPED = {
    "a quote that is not closed": ("SECRET_A='canary", 1, "a quote is not closed"),
    "a double quote": ('SECRET_A="canary', 1, "a quote is not closed"),
    "a quote that ends in another line": ("# x\n\nSECRET_A='canary\nSECRET_B='b'", 3, "a quote is not closed"),
    "a quote that swallows a line": ("SECRET_A='canary\n#\nSECRET_B='", 1, "takes in SECRET_B of line 3"),
    "a quote that swallows a short name": ("SECRET_A='canary\nPORT=9123\nB_C='", 1, "takes in PORT of line 2"),
    "something behind a quote": ("SECRET_A='can'ary", 1, "something follows it"),
    "no =": ("X=1\nSECRET_A", 2, "there is no ="),
    "no = but a value": ("SECRET_A canary", 1, "it is not understood"),
    "a colon": ("\n \nSECRET_A: canary", 3, "it is not understood"),
    "export without a value": ("export SECRET_A", 1, "there is no ="),
    "set": ("set SECRET_A=canary", 1, "it is not understood"),
    "a list": ("- SECRET_A=canary", 1, "it is not understood"),
    "PowerShell": ("$env:SECRET_A=canary", 1, "the name of a variable"),
    "a name in quotes": ('"SECRET_A"=canary', 1, "the name of a variable"),
    "no name": ("=canary", 1, "it is not understood"),
    "an invisible mark": ("X=1\r\n\ufeffSECRET_A=canary", 2, "the name of a variable"),
}


def write(directory: Path, text: str) -> None:
    """Write the file as an editor would."""
    (directory / ".env").write_text(text, encoding="utf-8", newline="")


@pytest.mark.parametrize("written", VALUES)
def test_a_value_is_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    """Nothing is expanded, as nothing is in the environment; quotes and # mean what docs/settings.md says."""
    monkeypatch.setenv("x", "expanded")
    write(tmp_path, f"X=expanded\nSECRET_A={written}\nSECRET_B=next\n")
    secrets = get_settings().secrets
    assert secrets["a"].get_secret_value() == VALUES[written]
    assert secrets["b"].get_secret_value() == "next"


@pytest.mark.parametrize("line", ["export SECRET_A=x", "SECRET_A = x", "  SECRET_A=x", "'SECRET_A'=x", "secret_a=x"])
def test_forms_of_a_line_that_count(tmp_path: Path, line: str) -> None:
    """What a shell would take, and blanks around the name."""
    write(tmp_path, f"{line}\n")
    assert get_settings().secrets["a"].get_secret_value() == "x"


@pytest.mark.parametrize("case", DROPPED)
def test_a_line_that_would_be_dropped_is_named(tmp_path: Path, case: str) -> None:
    """With its number, and without what is in it."""
    text, line, cause = DROPPED[case]
    write(tmp_path, f"{text}\n")
    with pytest.raises(BadSettings) as caught:
        get_settings()
    assert f".env: line {line}: " in str(caught.value)
    assert cause in str(caught.value)
    assert "canary" not in str(caught.value)


def test_all_such_lines_are_named_at_once(tmp_path: Path) -> None:
    """Nobody likes to fix one after the other."""
    write(tmp_path, "SECRET_A\nPORT=1\nSECRET_B: x\n")
    with pytest.raises(BadSettings, match="2 settings are invalid") as caught:
        get_settings()
    assert [problem.split(": ")[1] for problem in caught.value.problems] == ["line 1", "line 3"]


def test_a_pem_in_quotes_is_one_value(tmp_path: Path) -> None:
    """Its last line may end with =, and is no variable."""
    pem = "-----BEGIN CERTIFICATE-----\nMIIB\nAAAA=\n-----END CERTIFICATE-----"
    write(tmp_path, f'SECRET_PEM="{pem}"\n')
    assert get_settings().secrets["pem"].get_secret_value() == pem


def test_a_variable_that_is_set_twice_is_known(tmp_path: Path) -> None:
    """The last one counts, in capitals or not."""
    write(tmp_path, "PORT=1\n\nLOG_LEVEL=DEBUG\nport=2\n")
    assert read_dotenv().twice == {"port": [1, 4]}
    assert get_settings().port == 2


def fifo(file: Path) -> None:
    """Make a pipe that nobody writes into."""
    os.mkfifo(file)


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "it is a directory": Path.mkdir,
    "it is not a file": fifo,
    "it is a link to a file that is not there": lambda file: file.symlink_to("nowhere"),
    "Too many levels of symbolic links": lambda file: file.symlink_to(file.name),
    "line 2 is not UTF-8": lambda file: file.write_bytes(b"# mine\nSECRET_A=\xe4"),
    "line 1 is not UTF-8": lambda file: file.write_bytes("PORT=1\n".encode("utf-16")),
    "it is larger than": lambda file: file.write_bytes(b"#" * 2_000_000),
}


@pytest.mark.parametrize("reason", UNREADABLE)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, reason: str) -> None:
    """With the reason; a pipe would never begin."""
    UNREADABLE[reason](tmp_path / ".env")
    with pytest.raises(BadSettings) as caught:
        get_settings()
    (problem,) = caught.value.problems
    assert problem.startswith(f".env: cannot be read: {reason}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """Root may read everything, so the test becomes nobody."""
    write(tmp_path, "PORT=1\n")
    (tmp_path / ".env").chmod(0)
    tmp_path.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(BadSettings) as caught:
            get_settings()
    finally:
        os.seteuid(0)
    assert caught.value.problems == [".env: cannot be read: Permission denied"]


@pytest.mark.parametrize("how", ["nothing", "/dev/null"])
def test_no_file_is_fine(tmp_path: Path, how: str) -> None:
    """Also where a container hides it."""
    if how == "/dev/null":
        (tmp_path / ".env").symlink_to("/dev/null")
    assert get_settings().port == 8000


def test_a_wrong_variable_is_no_fault_of_pytest(tmp_path: Path) -> None:
    """A test that imports the service gets the message; the other ones are collected."""
    (tmp_path / "test_it.py").write_text("import tests.service\n\ndef test_it(): ...\n")
    (tmp_path / "test_other.py").write_text("def test_other(): ...\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:randomly", "--continue-on-collection-errors", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "VAULT_TIMEOUT": "nonsense"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert "1 setting is invalid" in done.stdout
    assert "VAULT_TIMEOUT: Input should be a valid number" in done.stdout
    assert "INTERNALERROR" not in done.stdout + done.stderr
    assert "1 passed, 1 error" in done.stdout


@pytest.mark.parametrize(
    ("program", "code"),
    [
        (["uvicorn", "tests.service:app", *LIMITS], 1),
        (["tests.command_line", "serve"], 1),
        (["tests.command_line", "exec", "--", "true"], 3),
        (["tests.command_line", "doctor"], 1),  # extra: doctor, cli
        (["tests.command_line", "list"], 3),  # extra: cli
    ],
    ids=lambda each: " ".join(each[:2]) if isinstance(each, list) else "",
)
def test_every_program_says_so_without_a_traceback(tmp_path: Path, program: list[str], code: int) -> None:
    """The service, the command line and the doctor: none blames another part."""
    (tmp_path / ".env").mkdir()
    command = [sys.executable, "-m", *program]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == code
    assert ".env" in said
    assert "cannot be read: it is a directory" in said
    assert "Traceback" not in said
