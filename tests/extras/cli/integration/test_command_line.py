"""`python -m app`: what a person or a script gets to see, and with which exit code."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hvac
import hvac.exceptions
import pytest

from app.config import Settings
from infrastructure.processes import surroundings
from infrastructure.seed import SECRET_PATH
from tests.command_line import main
from tests.support import Vault, enable_kv, environment, unique, until


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


def test_a_version_that_will_be_deleted_is_there_until_then(run: Run, vault: Vault) -> None:
    """`delete_version_after` says when; it is read, deleted and brought back like any other."""
    path = unique("cli")
    vault.client.secrets.kv.v2.update_metadata(path, delete_version_after="1h")
    run("put", path, "a=first")
    assert "there until 20" in (shown := run("versions", path).out)
    assert "deleted" not in shown
    assert run("get", f"{{vault://vault/{path}/a}}").out == "first\n"
    assert run("list").out.splitlines().count(path) == 1
    assert run("delete", path).code == 0
    assert "deleted 20" in run("versions", path).out
    assert run("undelete", path, "--version", "1").code == 0
    assert "deleted" not in run("versions", path).out
    assert run("get", f"{{vault://vault/{path}/a}}").out == "first\n"
    vault.client.secrets.kv.v2.update_metadata(path, delete_version_after="1s")
    run("put", path, "a=second")
    until(lambda: "2 " in (out := run("versions", path).out) and "deleted 20" in out, "the version to be deleted")
    assert run("get", f"{{vault://vault/{path}/a}}").code == 4


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


def test_what_would_be_stored_as_something_else_is_refused(run: Run) -> None:
    """Standard input twice, bytes that are no text, a closed standard input; and no key steers the terminal."""
    path = unique("cli")
    twice = run("put", path, "a=-", "b=-", stdin=b"typed")
    assert (twice.code, twice.out) == (2, "")
    assert "only one value can come from standard input" in twice.err
    raw = run("put", path, "a=\udcff")
    assert (raw.code, "argument 3 is not UTF-8" in raw.err) == (2, True)
    escape = run("put", path, "\x1b[31ma=1", "\x1b[31ma=2")
    assert (escape.code, "\\x1b[31ma is given twice" in escape.err, "\x1b[31m" in escape.err) == (2, True, False)
    assert run("list", path) == (0, "", "")
    assert run("get", f"{{vault://vault/{path}/}}").code == 4


def test_an_optional_reference_that_leads_nowhere_is_missing(run: Run) -> None:
    """Who asks for a value gets it, or an error: never `null`. A default is a value."""
    path = unique("cli")
    run("put", path, "a=1")
    for ref in (f"{{vault://vault/{path}/b?optional=true}}", f"{{vault://vault/{path}-x/b?optional=true}}"):
        missing = run("get", ref)
        assert (missing.code, missing.out) == (4, "")
    assert run("get", f"{{vault://vault/{path}/a?optional=true}}").out == "1\n"
    assert run("get", f"{{vault://vault/{path}/b?default=x}}").out == "x\n"


def test_an_impossible_path_is_named(run: Run) -> None:
    """Several commands may run in one script."""
    for arguments in (("put", "a/../b", "a=1"), ("delete", "a/../b"), ("list", "a/../b"), ("versions", "a/../b")):
        refused = run(*arguments)
        assert (refused.code, "a/../b: must not contain" in refused.err) == (2, True)


def test_what_is_not_there_cannot_be_deleted_or_brought_back(run: Run, vault: Vault) -> None:
    """Vault itself says nothing then; a script that took the wrong path would not notice."""
    path = unique("cli")
    assert run("delete", path).code == 4
    assert run("undelete", path, "--version", "1").code == 4
    run("put", path, "a=1")
    assert run("undelete", path, "--version", "7").code == 4
    assert json.loads(run("delete", path, "--json").out) == {"path": path}
    again = run("delete", path)
    assert (again.code, "version 1, the latest one, is deleted already" in again.err) == (4, True)
    answer = run("undelete", path, "--version", "1", "--json")
    assert json.loads(answer.out) == {"path": path, "versions": [1]}
    assert run("undelete", path, "--version", "1").code == 0, "it is there, as was wanted"
    vault.client.secrets.kv.v2.destroy_secret_versions(path, [1])
    assert "version 1 is destroyed" in run("undelete", path, "--version", "1").err


def test_a_version_that_is_to_be_deleted_later_can_be_deleted_now(run: Run, vault: Vault) -> None:
    """Its metadata have a time of deletion too, which is to come."""
    path = unique("cli")
    vault.client.secrets.kv.v2.update_metadata(path, delete_version_after="1h")
    run("put", path, "a=1")
    assert run("delete", path).code == 0
    assert run("get", f"{{vault://vault/{path}/a}}").code == 4


def test_who_may_delete_but_not_look_deletes(run: Run, vault: Vault) -> None:
    """What cannot be known stands in nobody's way."""
    path = unique("cli")
    vault.write(path, {"a": "1"})
    rules = f'path "secret/data/{path}" {{ capabilities = ["delete"] }}'
    rules += 'path "auth/token/lookup-self" { capabilities = ["read"] }'
    vault.client.sys.create_or_update_policy(path, rules)
    token = vault.client.auth.token.create(policies=[path], no_default_policy=True)["auth"]["client_token"]
    assert run("delete", path, VAULT_TOKEN=token).code == 0
    assert run("get", f"{{vault://vault/{path}/a}}", VAULT_TOKEN=vault.root_token).code == 4


def test_deleting_in_version_1_looks_first_too(run: Run, vault: Vault) -> None:
    """By reading, since there are no metadata."""
    mount = enable_kv(vault.client, unique("kv1"), "1")
    variables = {"VAULT_MOUNT_POINT": mount, "VAULT_KV_VERSION": "1"}
    assert run("delete", "a", **variables).code == 4
    run("put", "a", "b=1")
    assert run("delete", "a").code == 0
    assert run("get", "{vault://vault/a/b}").code == 4


def test_the_policy_needs_no_credentials(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what somebody needs who is about to make them; all else must be right."""
    monkeypatch.delenv("VAULT_TOKEN")
    for method in ("token", "approle", "cert", "kubernetes", "jwt"):
        partner = {"VAULTS__PARTNER__URL": "http://x", "VAULTS__PARTNER__AUTH_METHOD": method}
        printed = run("policy", VAULT_AUTH_METHOD=method, **partner)
        assert (printed.code, printed.err) == (0, "")
        assert f'path "secret/data/{SECRET_PATH}"' in printed.out
    assert json.loads(run("policy", "--json").out) == {"vault": "vault", "policy": printed.out}
    wrong = run("policy", VAULT_TIMEOUT="soon")
    assert (wrong.code, wrong.out, "VAULT_TIMEOUT" in wrong.err) == (3, "", True)


class OddNames:
    """Stands in for what changes secrets, where a folder has names that no Vault would have."""

    def list(self, path: str) -> list[str]:
        """Answer the same for each path."""
        return ["plain", f"red\x1b[31m{path}", "a\u202eb"]


def test_odd_names_do_not_steer_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A double at our own protocol: a real Vault has no such names today."""
    monkeypatch.setattr("app.extras.cli.commands._folders", lambda *_: OddNames())
    assert run("list").out.splitlines() == ["plain", "red\\x1b[31m", "a\\u202eb"]


def test_a_namespace_counts(run: Run, vault: Vault) -> None:
    """What is put is there and nowhere else."""
    name, path = unique("space"), unique("cli")
    try:
        vault.client.sys.create_namespace(name)
    except hvac.exceptions.VaultError:
        pytest.skip("this server has no namespaces")
    inside = hvac.Client(url=vault.url, token=vault.root_token, namespace=name)
    enable_kv(inside, "secret")
    assert run("put", path, "a=canary", VAULT_NAMESPACE=name).code == 0
    assert run("get", f"{{vault://vault/{path}/a}}").out == "canary\n"
    assert inside.secrets.kv.v2.read_secret_version(path, raise_on_deleted_version=True)["data"]["data"] == {
        "a": "canary"
    }
    inside.adapter.close()
    with pytest.raises(hvac.exceptions.InvalidPath):
        vault.client.secrets.kv.v2.read_secret_version(path, raise_on_deleted_version=True)
    assert f"of the namespace {name}" in run("policy").out


def process(vault: Vault, directory: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell's command line; `$APP` is `python -m app`, with every right."""
    variables = {"url": vault.url, "token": vault.root_token, "access_mode": "read_and_write", "enabled": True}
    return subprocess.run(
        ["/bin/sh", "-c", command],
        env={
            "APP": f"{sys.executable} -m app",
            "PYTHON": sys.executable,
            **surroundings(environment(variables)),
        },
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_bug_shows_no_values(vault: Vault, tmp_path: Path) -> None:
    """A traceback, for whoever fixes it, without local variables."""
    bug = "import sys, tests.command_line as m, app.extras.cli.commands as c; c._folders = lambda *_: 1 / 0; "
    bug += "sys.argv = ['app', 'put', 'x', 'a=' + 'can' + 'ary']"
    done = process(vault, tmp_path, f'$PYTHON -c "{bug}; m.main()"')
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "canary" not in done.stderr


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("$APP put x a=- <&-", 2, "standard input is closed"),
        ("$APP put x a=@/dev/zero", 2, "a: is larger than 32 MiB"),
        ("$APP put x a=- </dev/zero", 2, "a: is larger than 32 MiB"),
        ("$APP list >/dev/full", 1, "standard output: No space left on device"),
        ("$APP policy >/dev/full", 1, "standard output: No space left on device"),
        ("$APP list | true", 0, ""),
    ],
)
def test_a_standard_stream_that_fails_is_an_error(
    vault: Vault, tmp_path: Path, command: str, code: int, said: str
) -> None:
    """Not a traceback, and not a success."""
    if "/dev/full" in command and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    vault.write(unique("cli"), {"a": "1"})
    done = process(vault, tmp_path, command)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_it_runs_as_a_process(vault: Vault, tmp_path: Path) -> None:
    """With `python -m app`, and gives its token back."""
    raw = vault.app_role(unique("cli"))
    with vault.audited() as calls:
        done = subprocess.run(
            [sys.executable, "-m", "app", "get", f"{{vault://vault/{raw['secret_path']}/a?default=x}}"],
            env=surroundings(environment(raw)),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")
    assert calls[-1] == ("update", "auth/token/revoke-self")
