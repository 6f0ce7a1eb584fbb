"""The policy that `python -m app policy` prints: enough for all that the service does, and for nothing else."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hvac.exceptions
import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.core.errors import BlueprintError, LostRace, PermissionDenied
from app.core.vault.policy import vault_policy
from app.core.vault.token_life import TokenKeeper
from app.vault import (
    close_sessions,
    delete_secret,
    destroy,
    get_session,
    list_secrets,
    patch_secret,
    read_secret,
    secret_metadata,
    undelete,
    write_secret,
)
from infrastructure.seed import SECRET_PATH
from tests.declared import create_app
from tests.support import ROOT, SECRETS, Vault, enable_kv, environment, load_all, unique


def with_exactly_its_policy(vault: Vault, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Put the settings into the environment, with an AppRole that has the policy for them and nothing else."""
    raw = vault.app_role("", policy="# to be replaced\n", token_ttl="10s")
    for name, value in {**environment(raw), **variables}.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    names: list[str] = vault.client.auth.approle.list_roles()["data"]["keys"]
    role = next(each for each in names if _role_id(vault, each) == raw["role_id"])
    vault.client.sys.create_or_update_policy(role, vault_policy(settings))
    return settings


def _role_id(vault: Vault, role: str) -> str:
    role_id: str = vault.client.auth.approle.read_role_id(role)["data"]["role_id"]
    return role_id


@pytest.mark.parametrize("kv_version", ["2", "auto"])
def test_the_happy_path_runs_with_exactly_the_policy(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, kv_version: str
) -> None:
    """Start, references, rotation, writing, API keys, renewal, shutdown: nothing is denied."""
    path, other, odd = unique("policy"), unique("policy"), unique("an odd + näme")
    vault.write(path, SECRETS)
    vault.write(other, {**SECRETS, "region": "eu"})
    vault.write(odd, {"a": "b"})
    variables = {
        "VAULT_SECRET_PATH": f"{path},{other}",
        "VAULT_ACCESS_MODE": "read_and_write",
        "VAULT_WRITE_PREFIX": f"{path}/keys",
        "VAULT_KV_VERSION": kv_version,
        "VAULT_FAIL_FAST": "true",
        "SECRET_ODD": "{vault://vault/" + odd.replace(" ", "%20") + "/a}",
        "LOG_FORMAT": "json",
    }
    settings = with_exactly_its_policy(vault, variables, monkeypatch)
    since = vault.audit_log.stat().st_size if vault.audit_log else 0
    with (
        vault.audited() as calls,
        TestClient(create_app(settings), headers={"X-API-Key": SECRETS["api_key"]}) as client,
    ):
        assert client.get("/health/ready").json() == {"status": "ready"}
        state: Any = client.app
        assert state.state.vault_secrets["odd"] == "b"
        vault.write(other, {**SECRETS, "region": "us"})
        assert client.post("/status/refresh").json()["faults"] == {}
        assert state.state.vault_secrets["region"] == "us"

        # extra: api_keys
        key = client.post("/api-keys", json={"name": "alice"}).json()["key"]
        assert client.post("/caller", headers={"X-API-Key": key}).status_code == 200
        assert client.post("/api-keys/alice/rotate", json={"grace_period": 5}).status_code == 200
        assert len(client.get("/api-keys").json()["keys"]) == 1
        assert client.delete("/api-keys/alice").status_code == 204
        # /extra

        written = f"{path}/keys/written"
        assert write_secret(written, {"a": 1}, cas=0) == 1
        assert patch_secret(written, {"b": 2}) == 2
        assert read_secret(written) == {"a": 1, "b": 2}
        assert secret_metadata(written)["current_version"] == 2
        assert list_secrets(f"{path}/keys") == ["written"]
        delete_secret(written)
        undelete(written, [2])
        destroy(written, [1])

        session = get_session(settings.vault)
        login = session.current()
        assert login is not None
        session.renew(login)
        assert not login.is_dead()
        TokenKeeper(lambda: session).tick()
    assert denied(vault, since) == []
    assert ("update", "auth/token/revoke-self") in calls
    assert {"patch", "list", "delete", "create", "read"} <= {operation for operation, _ in calls}


def denied(vault: Vault, since: int) -> list[str]:
    """Return what the audit log says was denied since it had this size."""
    assert vault.audit_log is not None
    with vault.audit_log.open() as lines:
        lines.seek(since)
        entries = [json.loads(line) for line in lines]
    assert entries
    return [
        f"{entry['request']['operation']} {entry['request']['path']}"
        for entry in entries
        if "permission denied" in entry.get("error", "")
    ]


def test_nothing_else_is_allowed(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to change what is only read, not to look beside it, not to list, not to administer."""
    path = unique("policy")
    vault.write(path, SECRETS)
    vault.write(f"{path}-beside", SECRETS)
    variables = {"VAULT_SECRET_PATH": path, "VAULT_ACCESS_MODE": "read_and_write", "VAULT_WRITE_PREFIX": f"{path}/keys"}
    settings = with_exactly_its_policy(vault, variables, monkeypatch)
    client = get_session(settings.vault).client()
    for method, url in (
        ("post", f"secret/data/{path}"),
        ("delete", f"secret/metadata/{path}"),
        ("get", f"secret/data/{path}-beside"),
        ("get", f"secret/metadata/{path}"),
        ("list", "secret/metadata/"),
        ("post", f"secret/data/{path}/keys"),
        ("get", f"sys/policy/{unique('x')}"),
        ("get", "sys/mounts"),
        ("get", "auth/token/accessors"),
        ("post", "auth/token/create"),
    ):
        with pytest.raises(hvac.exceptions.Forbidden):
            client.adapter.request(method, f"/v1/{url}", json={"data": {}} if method == "post" else None)
    close_sessions()


@pytest.mark.parametrize(("configured", "mounted"), [("1", "1"), ("auto", "1"), ("auto", "2"), ("2", "2")])
def test_the_policy_is_enough_for_each_version_of_the_engine(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, configured: str, mounted: str
) -> None:
    """Whether the version is said or found out; and for the one that is said, nothing of the other is granted."""
    mount_point = enable_kv(vault.client, unique("kv"), mounted)
    kv = vault.client.secrets.kv.v1 if mounted == "1" else vault.client.secrets.kv.v2
    kv.create_or_update_secret("app", {"a": 1}, mount_point=mount_point)
    variables = {
        "VAULT_MOUNT_POINT": mount_point,
        "VAULT_SECRET_PATH": "app",
        "VAULT_KV_VERSION": configured,
        "VAULT_ACCESS_MODE": "read_and_write",
        "VAULT_WRITE_PREFIX": "keys",
    }
    settings = with_exactly_its_policy(vault, variables, monkeypatch)
    assert dict(load_all()) == {"a": 1}
    write_secret("keys/x", {"b": 2})
    write_secret("keys/x", {"b": 3})
    assert list_secrets("keys") == ["x"]
    assert read_secret("keys/x") == {"b": 3}
    delete_secret("keys/x")
    granted = {path.removeprefix(f"{mount_point}/") for path in granted_paths(settings) if mount_point in path}
    of_version = {
        "1": {"app", "keys/*"},
        "2": {"data/app", "data/keys/*", "metadata/keys/*", "undelete/keys/*", "destroy/keys/*"},
    }
    assert granted == (of_version["1"] | of_version["2"] if configured == "auto" else of_version[configured])


def granted_paths(settings: Settings) -> list[str]:
    """Return the paths that the printed policy names."""
    return re.findall(r'^path "(.*)"', vault_policy(settings), re.MULTILINE)


@pytest.mark.parametrize("kv_version", ["1", "2", "auto"])
def test_who_only_writes_may_not_read(vault: Vault, monkeypatch: pytest.MonkeyPatch, kv_version: str) -> None:
    """Not what it would be told to read, nor what it has written."""
    mounted = kv_version.replace("auto", "2")
    mount_point = enable_kv(vault.client, unique("kv"), mounted)
    variables = {
        "VAULT_MOUNT_POINT": mount_point,
        "VAULT_SECRET_PATH": "app",
        "SECRET_A": "{vault://vault/referred/a}",
        "VAULT_KV_VERSION": kv_version,
        "VAULT_ACCESS_MODE": "write_only",
        "VAULT_WRITE_PREFIX": "keys",
    }
    settings = with_exactly_its_policy(vault, variables, monkeypatch)
    write_secret("keys/x", {"a": 1})
    write_secret("keys/x", {"a": 2})
    if mounted == "2":
        with pytest.raises(LostRace, match="version 1 is not the current one any more, 2 is"):
            write_secret("keys/x", {"a": 3}, cas=1)
    client = get_session(settings.vault).client()
    for path in ("keys/x", "app", "referred"):
        for url in (f"{mount_point}/{path}", f"{mount_point}/data/{path}"):
            with pytest.raises(hvac.exceptions.Forbidden):
                client.adapter.get(f"/v1/{url}")
    for url in (f"{mount_point}/keys", f"{mount_point}/metadata/keys"):
        with pytest.raises(hvac.exceptions.Forbidden):
            client.adapter.list(f"/v1/{url}")
    delete_secret("keys/x")


@pytest.fixture
def parent(vault: Vault) -> Iterator[Vault]:
    """Return the server as seen from a new namespace that has AppRole, and a KV engine in its child `child`."""
    if vault.audit_log is None:
        pytest.skip("HashiCorp's image has no namespaces")
    name, inside = unique("parent"), Vault(vault.url, vault.root_token, vault.audit_log)
    with ExitStack() as stack:

        def enter(namespace: str) -> None:
            inside.client = hvac.Client(url=vault.url, token=vault.root_token, namespace=namespace)
            stack.callback(inside.client.adapter.close)

        inside.client.adapter.close()
        vault.client.adapter.post(f"/v1/sys/namespaces/{name}", json={})
        enter(name)
        inside.client.adapter.post("/v1/sys/namespaces/child", json={})
        enter(f"{name}/child")
        enable_kv(inside.client, "secret")
        inside.write("app", SECRETS)
        enter(name)
        inside.client.sys.enable_auth_method("approle")
        yield inside


def test_the_policy_belongs_where_the_login_is(parent: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role of a namespace reads in one below it: the policy counts from the role's."""
    name = parent.client.adapter.namespace
    variables = {
        "VAULT_NAMESPACE": f"{name}/child",
        "VAULT_LOGIN_NAMESPACE": str(name),
        "VAULT_SECRET_PATH": "app",
        "VAULT_ACCESS_MODE": "read_and_write",
        "VAULT_WRITE_PREFIX": "keys",
    }
    since = parent.audit_log.stat().st_size if parent.audit_log else 0
    settings = with_exactly_its_policy(parent, variables, monkeypatch)
    assert vault_policy(settings).startswith(
        f"# What the service may do in the Vault vault: a policy of the namespace {name}.\n"
    )
    assert dict(load_all()) == SECRETS
    assert write_secret("keys/x", {"a": 1}) == 1
    session = get_session(settings.vault)
    login = session.current()
    assert login is not None
    session.renew(login)
    assert not login.is_dead()
    with pytest.raises(PermissionDenied, match="lacks the capability read"):
        read_secret("elsewhere")
    close_sessions()
    assert set(denied(parent, since)) == {"read secret/data/elsewhere"}


@pytest.mark.parametrize(
    ("login", "namespace", "below"), [("root", "a/b", "a/b/"), ("a", "a/b/c", "b/c/"), ("a", "a", ""), (None, "a", "")]
)
def test_paths_count_from_the_namespace_of_the_login(login: str | None, namespace: str, below: str) -> None:
    """The root namespace has a name, too."""
    raw = {"enabled": True, "token": "t", "secret_path": "x", "namespace": namespace, "login_namespace": login}
    assert f"{below}secret/data/x" in granted_paths(Settings.model_validate({"vault": raw}))


@pytest.mark.parametrize(("login", "namespace"), [("a/b", "a"), ("a", "ab"), ("a", "b"), ("a", None), ("a", "root")])
def test_a_login_beside_the_secrets_is_refused(login: str, namespace: str | None) -> None:
    """No policy could allow it."""
    raw = {"enabled": True, "token": "t", "namespace": namespace, "login_namespace": login}
    with pytest.raises(BlueprintError, match=r"a token of the namespace a(/b)? can do nothing in"):
        vault_policy(Settings.model_validate({"vault": raw}))


@pytest.mark.parametrize("setting", ["secret_path", "write_prefix", "mount_point"])
@pytest.mark.parametrize("name", ["all*", "a/+/b", "+", "{{identity.entity.id}}", "${x}"])
def test_a_path_that_would_mean_more_is_refused(name: str, setting: str) -> None:
    """In a policy `*` at the end and `+` as a segment are patterns."""
    raw = {"enabled": True, "token": "t", "access_mode": "read_and_write", setting: name}
    settings = Settings.model_validate({"vault": raw})
    with pytest.raises(BlueprintError, match="would mean more"):
        vault_policy(settings)


def test_the_policy_of_the_repository_is_the_printed_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For the settings of `.env.example`, which are what the dev Vault is seeded for."""
    monkeypatch.delenv("VAULT_TOKEN")
    (tmp_path / ".env").write_text((ROOT / ".env.example").read_text())
    assert os.listdir(tmp_path) == [".env"]  # noqa: PTH208
    stored = (ROOT / f"infrastructure/policies/{SECRET_PATH}.hcl").read_text()
    assert vault_policy(Settings()) == stored
