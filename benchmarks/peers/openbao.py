"""How is openbao-pydantic-settings-adapter used? Settings from two fixed paths below one; by AppRole."""

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

from harness import FIRST, PATH, ROLE_ID, SECRET_ID, URL, Peer, run
from openbao_settings import OpenBaoSettingsSource
from pydantic import SecretStr, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

os.environ |= {"BAO_ADDR": URL, "BAO_APPROLE_ROLE_ID": ROLE_ID, "BAO_APPROLE_SECRET_ID": SECRET_ID}
os.environ |= {"BAO_SECRET_PATH": PATH, "BAO_MOUNT_POINT": "secret"}
settings: Any = None


class FromVault(BaseSettings):
    """All that is the same in all settings."""

    model_config = SettingsConfigDict(extra="ignore")

    @classmethod
    def settings_customise_sources(cls, settings_cls: type[BaseSettings], **sources: Any) -> Any:
        """Ask OpenBao before the environment, as its quick start does."""
        sources.pop("file_secret_settings")
        return (sources.pop("init_settings"), OpenBaoSettingsSource(settings_cls), *sources.values())


@cache
def declared(names: tuple[str, ...]) -> type[BaseSettings]:
    """Return settings with these fields."""
    fields: Any = dict.fromkeys(names, (SecretStr, ...))
    return create_model("Declared", __base__=FromVault, **fields)


def start(fields: Sequence[str]) -> dict[str, str | None]:
    """Make the settings once, as a module does at its import."""
    global settings  # noqa: PLW0603 - as in its quick start
    settings = declared(tuple(fields))()
    return {name: getattr(settings, name).get_secret_value() for name in fields}


def fresh(path: str) -> str | None:
    """Make the settings again."""
    os.environ["BAO_SECRET_PATH"] = path
    found: Any = declared((FIRST,))()
    value: str = found.field_0.get_secret_value()
    return value


def held() -> str | None:
    """Use the settings."""
    value: str = settings.field_0.get_secret_value()
    return value


run(Peer(start, fresh, held))
