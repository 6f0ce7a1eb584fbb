"""How is pydantic2-settings-vault used? Settings whose fields name a path and a key; by AppRole."""

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

from harness import FIRST, PATH, ROLE_ID, SECRET_ID, URL, Peer, run
from pydantic import Field, SecretStr, create_model
from pydantic2_settings_vault import VaultClientConfig, VaultConfigSettingsSource
from pydantic_settings import BaseSettings

os.environ |= {"VAULT_URL": URL, "VAULT_ROLE_ID": ROLE_ID, "VAULT_SECRET_ID": SECRET_ID}
settings: Any = None


class FromVault(BaseSettings):
    """All that is the same in all settings."""

    @classmethod
    def settings_customise_sources(cls, settings_cls: type[BaseSettings], **sources: Any) -> Any:
        """Ask Vault last, as its quick start does, with its settings for production."""
        del sources["file_secret_settings"]
        config = VaultClientConfig.for_production()
        return (*sources.values(), VaultConfigSettingsSource(settings_cls, client_config=config))


@cache
def declared(path: str, names: tuple[str, ...]) -> type[BaseSettings]:
    """Return settings with these fields."""
    where = {name: {"vault_secret_path": f"secret/{path}", "vault_secret_key": name} for name in names}
    fields: Any = {name: (SecretStr, Field(json_schema_extra=extra)) for name, extra in where.items()}
    return create_model("Declared", __base__=FromVault, **fields)


def start(fields: Sequence[str]) -> dict[str, str | None]:
    """Make the settings once, as a module does at its import."""
    global settings  # noqa: PLW0603 - as in its quick start
    settings = declared(PATH, tuple(fields))()
    return {name: getattr(settings, name).get_secret_value() for name in fields}


def fresh(path: str) -> str | None:
    """Make the settings again."""
    found: Any = declared(path, (FIRST,))()
    value: str = found.field_0.get_secret_value()
    return value


def held() -> str | None:
    """Use the settings."""
    value: str = settings.field_0.get_secret_value()
    return value


run(Peer(start, fresh, held))
