"""`python -m app`: what a person or a script gets to see, and with which exit code."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.__main__ import main
from app.config import Settings
from tests.support import ROOT, Vault, environment, unique


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(vault: Vault, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, with the root token and every right."""
    variables = {"url": vault.url, "token": vault.root_token, "access_mode": "read_and_write", "enabled": True}
    for name, value in environment(variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, stdin: bytes = b"", **more: str) -> Outcome:
        for name, value in more.items():
            monkeypatch.setenv(name, value)
        Settings.settings_clear_cache()
        monkeypatch.setattr(sys, "argv", ["app", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Outcome(code or 0, *capfd.readouterr())

    return run


def test_what_is_put_is_what_is_got(run: Run, tmp_path: Path) -> None:
    """From the command line, a file or standard input; exactly, and on standard output alone."""
    path = unique("cli")
    (tmp_path / "key.pem").write_bytes("-----BEGIN ü-----\r\n".encode())
    put = run("put", path, "a=1=2", "b=@key.pem", "c=-", "constructor=x", "__proto__=y", stdin=b" typed\n")
    assert put == (0, f"{path}: version 1\n", "")
    for key, value in {"a": "1=2", "b": "-----BEGIN ü-----\r\n", "c": " typed\n", "constructor": "x"}.items():
        assert run("get", f"{{vault://vault/{path}/{key}}}") == (0, f"{value}\n", "")
    assert run("get", f"vault://vault/{path}/__proto__").out == "y\n"  # without the braces that a shell may eat
    assert json.loads(run("get", f"{{vault://vault/{path}/}}").out)["a"] == "1=2"


def test_a_patch_keeps_the_rest(run: Run) -> None:
    """And removes what it is told to."""
    path = unique("cli")
    run("put", path, "a=1", "b=2", "c=3")
    assert run("patch", path, "b=new", "--remove", "c").code == 0
    assert json.loads(run("get", f"{{vault://vault/{path}/}}").out) == {"a": "1", "b": "new"}
    assert run("patch", path).code == 2


def test_versions_come_and_go(run: Run) -> None:
    """Deleted, brought back, shown, and read by number."""
    path = unique("cli")
    run("put", path, "a=first")
    run("put", path, "a=second")
    assert run("get", f"{{vault://vault/{path}/a}}", "--version", "1").out == "first\n"
    assert run("delete", path) == (0, "", "")
    gone = run("get", f"{{vault://vault/{path}/a}}")
    assert gone.code == 4
    assert "vault kv undelete" in gone.err
    shown = run("versions", path)
    assert "deleted 20" in shown.out
    assert "there" in shown.out
    assert "second" not in shown.out
    assert run("undelete", path, "--version", "2").code == 0
    assert run("get", f"{{vault://vault/{path}/a}}").out == "second\n"
    assert run("undelete", path).code == 2


def test_names_are_listed(run: Run, vault: Vault) -> None:
    """One a line, folders with a slash."""
    folder = unique("folder")
    vault.write(f"{folder}/b", {"a": "1"})
    vault.write(f"{folder}/sub/a", {"a": "1"})
    vault.write(f"{folder}/ä b", {"a": "1"})
    assert run("list", folder).out.splitlines() == ["b", "sub/", "ä b"]
    assert json.loads(run("list", f"{folder}/", "--json").out) == ["b", "sub/", "ä b"]
    assert run("list", unique("nowhere")) == (0, "", "")


def test_what_would_steer_the_terminal_is_shown_instead(run: Run) -> None:
    """Here the mark that turns the direction of writing round."""
    refused = run("get", "{vault://vault/a\u202eb/c}")
    assert refused.code == 3
    assert "a\\u202eb" in refused.err
    assert "\u202e" not in refused.err


def test_machines_get_json(run: Run) -> None:
    """From every command that says something."""
    path = unique("cli")
    assert json.loads(run("put", path, "a=1", "--json").out) == {"path": path, "version": 1}
    assert json.loads(run("patch", path, "a=2", "--json").out) == {"path": path, "version": 2}
    got = json.loads(run("get", f"{{vault://vault/{path}/a}}", "--json").out)
    assert got == {"reference": f"{{vault://vault/{path}/a}}", "version": 2, "value": "2"}
    assert set(json.loads(run("versions", path, "--json").out)) == {"1", "2"}
    assert run("get", f"{{vault://vault/{path}/none?default=x}}", "--json").out.endswith('"value": "x"}\n')


CASES: dict[str, tuple[tuple[str, ...], dict[str, str], int, str]] = {
    "no such command": (("gett",), {}, 2, "No such command"),
    "a value without a key": (("put", "x", "=1"), {}, 2, "key=value"),
    "a key twice": (("put", "x", "a=1", "a=2"), {}, 2, "a is given twice"),
    "no such file": (("put", "x", "a=@none"), {}, 2, "cannot be read"),
    "a path out of the mount": (("put", "../../sys/x", "a=1"), {}, 2, "must not contain"),
    "a null byte": (("list", "a\x01b"), {}, 2, "control characters"),
    "no reference": (("get", "some/path"), {}, 3, "a reference starts with"),
    "an unknown option": (("get", "{vault://vault/x/y?token=z}"), {}, 3, "there is no option token"),
    "an unknown Vault": (("get", "{vault://other/x/y}"), {}, 3, "there is: vault"),
    "an unknown Vault to write": (("put", "x", "a=1", "--vault", "other"), {}, 3, "there is: vault"),
    "wrong settings": (("list",), {"VAULT_TIMEOUT": "soon"}, 3, "VAULT_TIMEOUT"),
    "no such path": (("get", "{vault://vault/none/y}"), {}, 4, "there is no secret at this path"),
    "refused by the mode": (("put", "x", "a=1"), {"VAULT_ACCESS_MODE": "read_only"}, 5, "VAULT_ACCESS_MODE"),
    "refused by Vault": (("list",), {"VAULT_TOKEN": "hvs.wrong"}, 5, "VAULT_TOKEN"),
    "out of reach": (("list",), {"VAULT_URL": "http://127.0.0.1:9"}, 7, "Connection refused"),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_go_to_standard_error_with_a_code(run: Run, case: str) -> None:
    """One error, what to do about it, nothing on standard output, and no traceback."""
    arguments, variables, code, said = CASES[case]
    outcome = run(*arguments, **variables)
    assert (outcome.code, outcome.out) == (code, "")
    assert said in " ".join(outcome.err.split())
    assert "Traceback" not in outcome.err


def test_a_lost_race_has_its_own_code(run: Run) -> None:
    """The current version is named."""
    path = unique("cli")
    assert run("put", path, "a=1", "--cas", "0").code == 0
    lost = run("put", path, "a=2", "--cas", "0")
    assert (lost.code, lost.out) == (6, "")
    assert "1 is" in lost.err


def test_a_key_that_is_not_there_is_missing(run: Run) -> None:
    """The keys that are there are named, their values are not."""
    path = unique("cli")
    run("put", path, "a=canary-value")
    missing = run("get", f"{{vault://vault/{path}/b}}")
    assert missing.code == 4
    assert "the keys: a" in missing.err
    assert "canary" not in missing.err


def test_a_value_that_is_no_text_is_refused(run: Run, tmp_path: Path) -> None:
    """Nothing is written."""
    path = unique("cli")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    refused = run("put", path, "a=@binary")
    assert (refused.code, "not UTF-8" in refused.err) == (2, True)
    assert run("get", f"{{vault://vault/{path}/a}}").code == 4


def test_a_further_vault_is_reached_by_its_name(run: Run, vault: Vault) -> None:
    """With its own settings."""
    path = unique("cli")
    more: dict[str, Any] = {"URL": vault.url, "TOKEN": vault.root_token, "ACCESS_MODE": "read_and_write"}
    variables = {f"VAULTS__PARTNER__{name}": value for name, value in more.items()}
    assert run("put", path, "a=1", "--vault", "partner", **variables).code == 0
    assert run("get", f"{{vault://partner/{path}/a}}").out == "1\n"
    assert 'path "auth/token/renew-self"' in run("policy", "--vault", "partner").out


def test_it_runs_as_a_process(vault: Vault, tmp_path: Path) -> None:
    """With `python -m app`, and gives its token back."""
    raw = vault.app_role(unique("cli"))
    with vault.audited() as calls:
        done = subprocess.run(
            [sys.executable, "-m", "app", "get", f"{{vault://vault/{raw['secret_path']}/a?default=x}}"],
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **environment(raw)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")
    assert calls[-1] == ("update", "auth/token/revoke-self")
