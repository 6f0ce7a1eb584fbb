"""Both versions of the KV engine, at any mount point, and what is said when the wrong one is assumed."""

from typing import Any

import pytest

from app.backends.vault_kv import VaultKV
from app.config import Settings, VaultSettings
from app.errors import PathMissing, PermissionDenied, VaultError, WrongKVVersion
from app.references import parse_reference
from app.vault import get_session, load_vault_secrets, read_paths, read_reference
from tests.support import SECRETS, Vault, unique


@pytest.fixture(params=["1", "2"])
def mounted(request: pytest.FixtureRequest, vault: Vault) -> tuple[str, str]:
    """Mount a KV engine at a nested mount point, with one secret `app/x`; return the version and where it is."""
    mount_point = f"{unique('team')}/kv with space"
    vault.client.sys.enable_secrets_engine("kv", path=mount_point, options={"version": request.param})
    if request.param == "1":
        vault.client.secrets.kv.v1.create_or_update_secret("app/x", SECRETS, mount_point=mount_point)
    else:
        vault.client.secrets.kv.v2.create_or_update_secret("app/x", SECRETS, mount_point=mount_point)
    return request.param, mount_point


def settings_of(vault: Vault, mount_point: str, version: str, **more: Any) -> VaultSettings:
    """Return settings with the root token."""
    fixed = {"enabled": True, "url": vault.url, "token": vault.root_token, "secret_path": "app/x"}
    return VaultSettings.model_validate({**fixed, "mount_point": mount_point, "kv_version": version, **more})


def read(settings: VaultSettings) -> Any:
    """Read the one configured secret."""
    (secret,) = read_paths(settings, settings.secret_path)
    return secret


def test_the_configured_version_costs_no_extra_call(vault: Vault, mounted: tuple[str, str]) -> None:
    """One read is one request; version 1 has no version numbers."""
    version, mount_point = mounted
    with vault.audited() as calls:
        secret = read(settings_of(vault, mount_point, version))
    assert secret.data == SECRETS
    assert secret.version == (1 if version == "2" else None)
    assert len(calls) == 1


def test_auto_finds_out_once(vault: Vault, mounted: tuple[str, str]) -> None:
    """One more request for the first read, none for the second."""
    _, mount_point = mounted
    settings = settings_of(vault, mount_point, "auto")
    with vault.audited() as calls:
        assert read(settings).data == read(settings).data == SECRETS
    assert [where for _, where in calls].count(f"sys/internal/ui/mounts/{mount_point}") == 1
    assert len(calls) == 3


def test_auto_without_the_right_to_look_says_what_to_set(vault: Vault) -> None:
    """The version can be set instead."""
    raw = {**vault.app_role("x"), "mount_point": unique("nowhere"), "kv_version": "auto"}
    with pytest.raises(PermissionDenied, match="set VAULT_KV_VERSION to 1 or 2"):
        read(VaultSettings.model_validate(raw))


def test_the_wrong_version_is_recognised(vault: Vault, mounted: tuple[str, str]) -> None:
    """And the right one named, whether the path exists or not."""
    version, mount_point = mounted
    wrong = {"1": "2", "2": "1"}[version]
    for path in ("app/x", "app/missing"):
        with pytest.raises(WrongKVVersion, match=f"Set VAULT_KV_VERSION={version}"):
            read(settings_of(vault, mount_point, wrong, secret_path=path))


def test_a_missing_path_is_missing_in_both_versions(vault: Vault, mounted: tuple[str, str]) -> None:
    """With the mount point in the message, and a hint where it stands in the path too."""
    version, mount_point = mounted
    with pytest.raises(PathMissing, match=f"{mount_point}/app/missing: there is no secret"):
        read(settings_of(vault, mount_point, version, secret_path="app/missing"))
    with pytest.raises(PathMissing, match=f"leave out {mount_point}/"):
        read(settings_of(vault, mount_point, version, secret_path=f"{mount_point}/app/x"))


@pytest.mark.parametrize("configured", ["1", "auto"])
def test_version_1_has_no_former_versions(vault: Vault, configured: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So none may be asked for: the value of today must not pass for it, nor a default."""
    vault.client.sys.enable_secrets_engine("kv", path=(mount_point := unique("kv")), options={"version": "1"})
    vault.client.secrets.kv.v1.create_or_update_secret("x", {"a": "now"}, mount_point=mount_point)
    settings = settings_of(vault, mount_point, configured, secret_path="x")
    monkeypatch.setenv("SECRET_A", "{vault://vault/x/a?default=d#1}")
    for reading in (
        lambda: VaultKV(get_session(settings)).read("x", 1),
        lambda: load_vault_secrets(Settings(vault=settings)),
        lambda: read_reference(parse_reference("{vault://vault/x/a#1}"), Settings(vault=settings)),
    ):
        with pytest.raises(WrongKVVersion, match="KV version 1 keeps no versions, so there is no version 1"):
            reading()
    assert read(settings).data == {"a": "now"}


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_mount_point_where_nothing_is_mounted_is_named(vault: Vault, version: str) -> None:
    """With the variable."""
    with pytest.raises(VaultError, match=r"nothing is mounted there.*VAULT_MOUNT_POINT"):
        read(settings_of(vault, unique("nowhere"), version))


@pytest.mark.parametrize("version", ["1", "2", "auto"])
def test_another_engine_is_not_taken_for_kv(vault: Vault, version: str) -> None:
    """It is named."""
    vault.client.sys.enable_secrets_engine("transit", path=(mount_point := unique("transit")))
    with pytest.raises(WrongKVVersion, match="a transit engine is mounted there"):
        read(settings_of(vault, mount_point, version))


@pytest.mark.parametrize("name", ["with space", "ünïcode", "a%2Fb", "a?x#y", "a+b", "a;b,c"])
def test_version_1_takes_any_path_too(vault: Vault, name: str) -> None:
    """It is percent-encoded once, whatever is in it."""
    mount_point = unique("kv")
    vault.client.sys.enable_secrets_engine("kv", path=mount_point, options={"version": "1"})
    vault.client.secrets.kv.v1.create_or_update_secret(name, {"a": 1}, mount_point=mount_point)
    settings = settings_of(vault, mount_point, "1").model_copy(update={"secret_path": (name,)})
    assert read(settings).data == {"a": 1}


def test_the_missing_capability_is_named(vault: Vault) -> None:
    """And what the token has instead."""
    policy = 'path "secret/data/{path}" {{ capabilities = ["list", "create"] }}'
    policy += 'path "sys/capabilities-self" {{ capabilities = ["update"] }}'
    path = unique("app")
    with pytest.raises(PermissionDenied, match=r"lacks the capability read \(it has: create, list\)"):
        read(VaultSettings.model_validate(vault.app_role(path, policy=policy)))
