"""Paths in `VAULT_SECRET_PATH` that may be missing, and those that have the name of the environment in them."""

from typing import Any

import pytest

from app.config import Settings
from app.core.errors import MountMissing, PathMissing, PermissionDenied, SecretsIncomplete, WrongKVVersion
from app.core.store.secret_store import SecretStore
from app.core.vault.policy import vault_policy
from app.core.vault.source import VaultSource, vault_source
from app.vault import read_secret
from tests.declared import DeclaredForTests
from tests.support import SECRETS, Vault, enable_kv, unique

READS = 'path "secret/data/{path}*" {{ capabilities = ["read"] }}\n'


@pytest.fixture
def path(vault: Vault) -> str:
    """Return the path of the declared secrets."""
    vault.write(path := unique("app"), SECRETS)
    return path


def source_of(vault: Vault, path: str, paths: str, **more: Any) -> VaultSource:
    """Return a source that may read this path, and all that begin with it."""
    role = vault.app_role(path, policy=READS)
    settings = Settings.model_validate({"environment": "staging", "vault": {**role, "secret_path": paths, **more}})
    return vault_source(settings)


def test_a_path_that_may_be_missing_comes_and_goes(vault: Vault, path: str) -> None:
    """It counts from the round in which it is there to the one in which it is not, however it went."""
    source = source_of(vault, path, f"{path},{path}-more?")
    store = SecretStore(DeclaredForTests, ["vault"])
    kv = vault.client.secrets.kv.v2

    def held() -> object:
        store.publish("vault", source.load())
        return store.snapshot().get("region")

    assert held() is None
    for end in (kv.delete_latest_version_of_secret, kv.delete_metadata_and_all_versions):
        vault.write(f"{path}-more", {"region": "eu"})
        assert held() == "eu"
        end(f"{path}-more")
        assert held() is None
    assert store["api_key"] == SECRETS["api_key"]


def test_a_declared_secret_that_goes_with_an_optional_path_is_kept(vault: Vault, path: str) -> None:
    """It is a bad rotation like any other: what a handler needs does not vanish."""
    vault.write(f"{path}-more", {"api_key": "canary-of-the-optional-path"})
    vault.write(path, {name: text for name, text in SECRETS.items() if name != "api_key"})
    source = source_of(vault, path, f"{path},{path}-more?")
    store = SecretStore(DeclaredForTests, ["vault"])
    store.publish("vault", source.load())
    vault.client.secrets.kv.v2.delete_metadata_and_all_versions(f"{path}-more")
    with pytest.raises(SecretsIncomplete, match="api_key: missing"):
        store.publish("vault", source.load())
    assert store["api_key"] == "canary-of-the-optional-path"


def test_the_name_of_the_environment_is_filled_in(vault: Vault, path: str) -> None:
    """Later paths win, as always."""
    vault.write(f"{path}-staging", {"region": "of staging"})
    vault.write(f"{path}-production", {"region": "of production"})
    found = source_of(vault, path, f"{path}, {path}-{{environment}}?").load()
    assert [(each.path, each.data.get("region")) for each in found] == [
        (path, None),
        (f"{path}-staging", "of staging"),
    ]


@pytest.mark.parametrize(
    ("paths", "error"),
    [
        ("{path},{path}-gone", PathMissing),
        ("{path},{path}-gone?,{path}-gone", PathMissing),
        ("elsewhere?", PermissionDenied),
    ],
)
def test_only_what_may_be_missing_may_be_missing(vault: Vault, path: str, paths: str, error: type[Exception]) -> None:
    """Whatever else prevents a read is an error, also of an optional path."""
    source = source_of(vault, path, paths.format(path=path))
    with pytest.raises(error):
        source.load()


@pytest.mark.parametrize(("mount", "error"), [("nowhere", MountMissing), ("version 1", WrongKVVersion)])
def test_a_wrong_mount_point_is_an_error_for_an_optional_path(
    vault: Vault, path: str, mount: str, error: type[Exception]
) -> None:
    """Nothing would ever come in."""
    where = enable_kv(vault.client, unique("kv"), "1") if mount == "version 1" else mount
    own = {"enabled": True, "url": vault.url, "token": vault.root_token, "mount_point": where}
    settings = Settings.model_validate({"vault": {**own, "secret_path": f"{path}?"}})
    with pytest.raises(error):
        vault_source(settings).load()


def test_a_script_reads_what_is_there(vault: Vault, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`read_secret()` takes the same paths."""
    role = vault.app_role(path, policy=READS)
    for name, text in {**role, "secret_path": f"{path},{path}-more?"}.items():
        monkeypatch.setenv(f"VAULT_{name.upper()}", text)
    assert read_secret() == SECRETS


def test_the_policy_has_the_paths_as_they_are_in_vault() -> None:
    """Without the mark, and with the name of the environment."""
    path, own = "app", {"secret_path": "app,app-{environment}?"}
    policy = vault_policy(Settings.model_validate({"environment": "production", "vault": own}))
    assert f'path "secret/data/{path}" ' in policy
    assert f'path "secret/data/{path}-production" ' in policy
    assert "?" not in policy
