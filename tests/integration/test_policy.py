"""The policy that `python -m app policy` prints: enough for all that the service does, and for nothing else."""

import json
import os
from pathlib import Path
from typing import Any

import hvac.exceptions
import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.errors import BlueprintError
from app.main import create_app
from app.policy import vault_policy
from app.token_life import TokenKeeper
from app.vault import close_sessions, get_session, read_secret
from app.vault_writing import (
    delete_secret,
    destroy,
    list_secrets,
    patch_secret,
    secret_metadata,
    undelete,
    write_secret,
)
from tests.support import ROOT, SECRETS, Vault, environment, unique


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

        key = client.post("/api-keys", json={"name": "alice"}).json()["key"]
        assert client.post("/token", headers={"X-API-Key": key}).status_code == 200
        assert client.post("/api-keys/alice/rotate", json={"grace_period": 5}).status_code == 200
        assert len(client.get("/api-keys").json()["keys"]) == 1
        assert client.delete("/api-keys/alice").status_code == 204

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


@pytest.mark.parametrize("name", ["all*", "a/+/b", "+", "{{identity.entity.id}}", "${x}"])
def test_a_path_that_would_mean_more_is_refused(name: str) -> None:
    """In a policy `*` at the end and `+` as a segment are patterns."""
    settings = Settings.model_validate({"vault": {"enabled": True, "token": "t", "secret_path": name}})
    with pytest.raises(BlueprintError, match="would mean more"):
        vault_policy(settings)


def test_the_policy_of_the_repository_is_the_printed_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For the settings of `.env.example`, which are what the dev Vault is seeded for."""
    monkeypatch.delenv("VAULT_TOKEN")
    (tmp_path / ".env").write_text((ROOT / ".env.example").read_text())
    assert os.listdir(tmp_path) == [".env"]  # noqa: PTH208
    stored = (ROOT / "infrastructure/policies/python-production-blueprint.hcl").read_text()
    assert vault_policy(Settings()) == stored
