"""What a script gets of `app.vault`: secrets as they are declared, or an error."""

import pytest

from app.config import get_settings
from app.core.errors import SecretsIncomplete, VaultUnreachable
from app.vault import load_vault_secrets
from infrastructure.seed import fresh_secrets
from tests.support import Vault, environment, unique


def test_a_script_loads_all_secrets_as_they_are_declared(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one source, as the service does."""
    vault.write(path := unique("app"), {**fresh_secrets(), "more": 1})
    for name, value in environment(vault.app_role(path) | {"secret_path": path}).items():
        monkeypatch.setenv(name, value)
    loaded = load_vault_secrets()
    assert {**loaded, **fresh_secrets()}.keys() == loaded.keys()
    assert loaded["more"] == 1


def test_a_script_hears_of_what_is_not_as_declared(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """And of a Vault that does not answer."""
    vault.write(path := unique("app"), {"unknown": 1})
    for name, value in environment(vault.app_role(path) | {"secret_path": path}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SecretsIncomplete, match="missing"):
        load_vault_secrets()
    monkeypatch.setenv("VAULT_URL", "http://127.0.0.1:1")
    type(get_settings()).settings_clear_cache()
    with pytest.raises(VaultUnreachable):
        load_vault_secrets()
