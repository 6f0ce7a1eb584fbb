"""The Vault side against a real server: logging in, reading, and saying what is wrong."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hvac
import pytest

from app.config import Settings
from app.core.errors import (
    BackendError,
    BadSettings,
    KeyMissing,
    LoginRefused,
    PathMissing,
    PermissionDenied,
    VersionDeleted,
)
from app.core.settings.vault import VaultSettings
from app.core.transport import single_flight
from app.vault import close_sessions, get_session, get_vault_client, read_paths, read_secret
from tests.support import ROOT, SECRETS, Vault, environment, load_all, unique


@pytest.fixture
def path(vault: Vault) -> str:
    """Return the path of a secret of this test's own."""
    path = unique("app")
    vault.write(path, SECRETS)
    return path


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """Return a function that sets the `VAULT_…` variables."""

    def set_variables(settings: dict[str, Any]) -> None:
        for name, value in environment(settings).items():
            monkeypatch.setenv(name, value)
        Settings.settings_clear_cache()

    return set_variables


Configure = Callable[[dict[str, Any]], None]


def test_the_tutorials_functions_work_with_approle(vault: Vault, path: str, configure: Configure) -> None:
    """No arguments: everything comes from the environment."""
    configure(vault.app_role(path))
    client = get_vault_client()
    assert isinstance(client, hvac.Client)
    assert client.is_authenticated()
    assert load_all() == SECRETS
    assert read_secret() == SECRETS
    assert read_secret(key="api_key") == SECRETS["api_key"]
    assert read_secret(path, "api_key") == SECRETS["api_key"]


def test_the_tutorials_functions_work_with_a_token(vault: Vault, path: str, configure: Configure) -> None:
    """A root token too; and without `VAULT_ENABLED`, which is about loading at the start."""
    configure({"url": vault.url, "token": vault.root_token, "secret_path": path})
    assert get_vault_client().is_authenticated()
    assert read_secret(key="api_key") == SECRETS["api_key"]
    assert load_all() == {}


def test_the_token_may_come_from_a_file(vault: Vault, path: str, configure: Configure, tmp_path: Path) -> None:
    """White space around it does not matter; the junk token in the environment is not used."""
    sink = tmp_path / "sink"
    sink.write_text(f"\n {vault.root_token}\n")
    configure({"url": vault.url, "token_file": sink, "secret_path": path})
    assert read_secret(key="api_key") == SECRETS["api_key"]


def test_loading_costs_one_login_and_one_read_a_path(vault: Vault, path: str, configure: Configure) -> None:
    """No lookup-self, nothing else; and the second load reuses the token."""
    configure(vault.app_role(path))
    with vault.audited() as calls:
        load_all()
        load_all()
        get_vault_client()
        close_sessions()
    read = ("read", f"secret/data/{path}")
    assert calls == [("update", "auth/approle/login"), read, read, ("update", "auth/token/revoke-self")]


def test_a_token_that_was_handed_in_is_never_revoked(vault: Vault, path: str, configure: Configure) -> None:
    """It belongs to somebody else."""
    configure({"enabled": "true", "url": vault.url, "token": vault.root_token, "secret_path": path})
    with vault.audited() as calls:
        assert load_all() == SECRETS
        close_sessions()
    assert calls == [("read", f"secret/data/{path}")]
    assert vault.client.is_authenticated()


def test_threads_that_start_together_share_one_login(vault: Vault, path: str, configure: Configure) -> None:
    """64 threads, one login."""
    configure(vault.app_role(path))
    barrier = threading.Barrier(64)

    def read(_: int) -> Any:
        barrier.wait()
        return read_secret(key="api_key")

    with vault.audited() as calls, ThreadPoolExecutor(64) as pool:
        assert set(pool.map(read, range(64))) == {SECRETS["api_key"]}
    assert [operation for operation, where in calls if where == "auth/approle/login"] == ["update"]
    assert len(calls) == 65


def test_a_failed_login_is_shared_too_and_not_repeated_at_once(
    vault: Vault, path: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong credentials in 64 threads, again and again, reach Vault once."""
    monkeypatch.setattr(single_flight, "LOGIN_PAUSE", 3600.0)  # a busy machine takes longer than the five seconds
    configure({**vault.app_role(path), "secret_id": "wrong"})
    barrier = threading.Barrier(64)

    def read(_: int) -> None:
        barrier.wait()
        for _again in range(10):
            with pytest.raises(
                LoginRefused, match="auth method approle at auth/approle: Vault refuses the login: the role id"
            ):
                read_secret()

    with vault.audited() as calls, ThreadPoolExecutor(64) as pool:
        list(pool.map(read, range(64)))
    assert calls == [("update", "auth/approle/login")]


def test_several_paths_are_merged_in_order(vault: Vault, configure: Configure) -> None:
    """Later ones win."""
    first, second = unique("first"), unique("second")
    vault.write(first, {"a": "1", "b": "1"})
    vault.write(second, {"b": "2", "c": "2"})
    configure({"enabled": "true", "url": vault.url, "token": vault.root_token, "secret_path": f"{first},{second}"})
    with vault.audited() as calls:
        assert load_all() == {"a": "1", "b": "2", "c": "2"}
    assert sorted(calls) == sorted(("read", f"secret/data/{each}") for each in (first, second))


def test_a_local_override_wins(vault: Vault, path: str, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SECRET_API_KEY` replaces one entry, `SECRET_MORE` adds one."""
    monkeypatch.setenv("SECRET_API_KEY", "local-key")
    monkeypatch.setenv("SECRET_MORE", "more")
    configure(vault.app_role(path))
    assert load_all() == {**SECRETS, "api_key": "local-key", "more": "more"}


def test_a_missing_key_is_a_key_error_that_names_key_and_path(vault: Vault, path: str, configure: Configure) -> None:
    """And the keys that are there, but no value."""
    configure(vault.app_role(path))
    with pytest.raises(KeyError) as caught:
        read_secret(key="apikey")
    assert isinstance(caught.value, KeyMissing)
    assert f"secret/{path}" in str(caught.value)
    assert "'apikey'" in str(caught.value)
    assert "api_key, database_url" in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="no keys"),
        pytest.param({f"key{n}": n for n in range(990)}, id="many keys"),  # OpenBao stores at most 1,000 strings
        pytest.param({"n": 42, "f": 1.5, "t": True, "none": None, "deep": {"a": [1, {"b": None}]}}, id="all of JSON"),
        pytest.param({"blob": "x" * 1_000_000}, id="1 MB"),
        pytest.param({"schlüssel": "wért ☃ \u202e", "": "empty key"}, id="unicode"),
    ],
)
def test_a_secret_may_hold_whatever_json_can(vault: Vault, configure: Configure, values: dict[str, Any]) -> None:
    """Values come as they were written."""
    path = unique("odd")
    vault.write(path, values)
    configure({"enabled": "true", "url": vault.url, "token": vault.root_token, "secret_path": path})
    assert load_all() == values


@pytest.mark.parametrize("name", ["with space", "ünïcode", "a%2Fb", "a?x#y", "a+b", "a&b=c", "deep/er/path"])
def test_a_path_may_have_any_characters(vault: Vault, configure: Configure, name: str) -> None:
    """It is percent-encoded once, whatever is in it."""
    path = f"{unique('odd')}/{name}"
    vault.write(path, {"a": "1"})
    configure({"url": vault.url, "token": vault.root_token, "secret_path": path})
    assert read_secret(key="a") == "1"


def refused(settings: dict[str, Any]) -> BackendError:
    """Return the error that reading with these settings gives."""
    checked = VaultSettings.model_validate(settings)
    with pytest.raises(BackendError) as caught:
        read_paths(checked, checked.secret_path)
    assert "canary" not in str(caught.value)
    return caught.value


def test_a_forbidden_path_is_not_a_missing_one(vault: Vault, path: str) -> None:
    """The error has the line that the policy lacks."""
    vault.write(other := unique("other"), {"a": "1"})
    error = refused({**vault.app_role(path), "secret_path": other})
    assert isinstance(error, PermissionDenied)
    assert f'path "secret/data/{other}" {{ capabilities = ["read"] }}' in str(error)


def test_a_thousand_reads_of_a_forbidden_path_cause_no_login(vault: Vault, path: str) -> None:
    """The token is good: a new one would not help."""
    settings = VaultSettings.model_validate({**vault.app_role(path), "secret_path": unique("other")})
    with vault.audited() as calls:
        for _ in range(1000):
            with pytest.raises(PermissionDenied):
                read_paths(settings, settings.secret_path)
    assert [where for _, where in calls if "login" in where] == ["auth/approle/login"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("missing", "vault kv put -mount=secret"),
        ("data/missing", "Leave out data/"),
        ("metadata/missing", "Leave out metadata/"),
        ("secret/missing", "leave out secret/"),
        ("secret/data/missing", "leave out secret/data/"),
        ("v1/secret/data/missing", "leave out v1/secret/data/"),
    ],
)
def test_a_missing_path_has_a_hint(vault: Vault, path: str, hint: str) -> None:
    """The usual slips are recognised."""
    error = refused({"url": vault.url, "token": vault.root_token, "secret_path": path})
    assert isinstance(error, PathMissing)
    assert f"secret/{path}" in str(error)
    assert hint in str(error)


def test_a_deleted_and_a_destroyed_version_are_told_apart(vault: Vault, path: str) -> None:
    """One can be undeleted, the other not."""
    settings = {"url": vault.url, "token": vault.root_token, "secret_path": path}
    vault.client.secrets.kv.v2.delete_latest_version_of_secret(path)
    deleted = refused(settings)
    assert isinstance(deleted, VersionDeleted)
    assert f"vault kv undelete -mount=secret -versions=1 {path}" in str(deleted)
    vault.client.secrets.kv.v2.destroy_secret_versions(path, [1])
    assert "destroyed" in str(refused(settings))
    vault.write(path, SECRETS)
    vault.client.secrets.kv.v2.destroy_secret_versions(path, [2])  # without deleting it first
    destroyed = refused(settings)
    assert isinstance(destroyed, VersionDeleted)
    assert "version 2 was destroyed" in str(destroyed)


def test_wrong_credentials_are_refused_with_method_and_mount(vault: Vault, path: str) -> None:
    """Whichever half is wrong: Vault does not tell, and neither do we."""
    good = vault.app_role(path)
    for wrong in ({"role_id": "wrong"}, {"secret_id": "wrong"}, {"secret_id": None}):
        error = refused({**good, **wrong})
        assert isinstance(error, LoginRefused)
        assert "auth method approle at auth/approle" in str(error)


def test_a_wrong_auth_mount_is_named(vault: Vault, path: str) -> None:
    """Nothing is mounted there."""
    error = refused({**vault.app_role(path), "auth_mount_point": "nowhere"})
    assert isinstance(error, LoginRefused)
    assert "auth/nowhere" in str(error)


def test_a_wrong_token_is_refused(vault: Vault, path: str, configure: Configure) -> None:
    """At the first use, and by `get_vault_client` at once."""
    settings = {"url": vault.url, "token": "wrong-canary", "secret_path": path}
    assert isinstance(refused(settings), LoginRefused)
    configure(settings)
    with pytest.raises(LoginRefused, match="does not accept the token"):
        get_vault_client()


def test_a_credential_file_that_cannot_be_used_is_named(vault: Vault, tmp_path: Path) -> None:
    """Missing, empty, not text: each says which variable points to it."""
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text(" \n")
    binary.write_bytes(b"\xff\xfe\x00")
    for file in (tmp_path / "missing", tmp_path, empty, binary):
        error = refused({"url": vault.url, "token_file": file})
        assert isinstance(error, LoginRefused)
        assert f"VAULT_TOKEN_FILE={file}" in str(error)


@pytest.mark.parametrize("path", ["../../sys/mounts", "../data/app", "x/../app", "", "..", "a\nb"])
def test_a_path_cannot_leave_the_mount_point(vault: Vault, configure: Configure, path: str) -> None:
    """Nothing is sent."""
    configure({"url": vault.url, "token": vault.root_token})
    with vault.audited() as calls, pytest.raises(ValueError, match=r"must not contain|is empty"):
        read_secret(path)
    assert calls == []


def test_a_new_token_in_the_file_counts_for_the_client_too(
    vault: Vault, path: str, configure: Configure, tmp_path: Path
) -> None:
    """A Vault Agent may replace it at any time."""
    sink = tmp_path / "sink"
    tokens = [vault.client.auth.token.create(policies=["root"], ttl="1h")["auth"]["client_token"] for _ in range(2)]
    sink.write_text(tokens[0])
    configure({"url": vault.url, "token_file": sink, "secret_path": path})
    assert get_vault_client().token == tokens[0]
    vault.client.auth.token.revoke(tokens[0])
    sink.write_text(tokens[1])
    assert get_vault_client().token == tokens[1]


@pytest.mark.parametrize("text", ["hvs.☃", "two\nlines", "tab\there"])
def test_what_cannot_be_a_credential_is_recognised(vault: Vault, tmp_path: Path, text: str) -> None:
    """Before it is sent, and without repeating it."""
    (tmp_path / "file").write_text(text)
    for settings in ({"token": text}, {"token_file": tmp_path / "file"}):
        assert "not one line of ASCII text" in str(refused({"url": vault.url, **settings}))


def test_a_script_prints_only_what_it_asked_for(vault: Vault, path: str, tmp_path: Path) -> None:
    """No log lines on its output."""
    script = f"from app.vault import read_secret; print(read_secret({path!r}, 'api_key'))"
    variables = {**os.environ, **environment(vault.app_role(path)), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=variables, capture_output=True, check=True)
    assert ran.stdout.decode() == SECRETS["api_key"] + "\n"
    assert ran.stderr == b""


def test_a_revoked_token_is_replaced_by_one_login(vault: Vault, path: str, configure: Configure) -> None:
    """The read that finds out succeeds all the same."""
    configure(vault.app_role(path))
    session = get_session(Settings().vault)
    assert read_secret(key="api_key")
    vault.client.auth.token.revoke(session.client().token)
    with vault.audited() as calls:
        assert read_secret(key="api_key") == SECRETS["api_key"]
    assert [where for _, where in calls].count("auth/approle/login") == 1


def test_without_credentials_there_is_no_client(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """The junk token in the environment is not taken for AppRole."""
    monkeypatch.delenv("VAULT_TOKEN")
    configure({"auth_method": "approle"})
    with pytest.raises(BadSettings, match="VAULT_ROLE_ID"):
        get_vault_client()
    assert json.dumps(load_all().origins) == "{}"
