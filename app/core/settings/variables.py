"""Which variable sets what? Environment and `.env` are flat; `Settings` has a group for each source."""

import os
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource

from app.core.errors import BadSettings
from app.core.settings.dotenv import read_dotenv
from app.core.settings.secret_files import other_name
from app.core.settings.source import SourceSettings
from app.core.settings.tool_names import in_our_names, our_name
from app.core.settings.vault import VaultSettings

_AROUND = re.compile(r"\A[\s\ufeff\u200b]+|[\s\ufeff\u200b]+\Z")


def groups_of(kind: type[BaseSettings]) -> dict[str, type[SourceSettings]]:
    """Return the groups of settings that make a source, by its name."""
    defaults = {name: field.default for name, field in kind.model_fields.items()}
    return {name: type(default) for name, default in defaults.items() if isinstance(default, SourceSettings)}


def as_set(variable: str, value: str | None) -> str:
    """Return the value that counts. Blanks, line ends and byte-order marks around it are slips.

    A `SECRET_<NAME>` may have them.
    """
    text = value or ""
    return text if variable.lower().startswith("secret_") else _AROUND.sub("", text)


def other_names(kind: type[BaseSettings], variable: str) -> set[str]:
    """Return what else may set what this variable sets: `vault_token` for `vault_token_file`."""
    if variable.startswith("secret_"):
        return {other_name(variable)}
    groups: dict[str, type[SourceSettings]] = {f"{name}_": group for name, group in groups_of(kind).items()}
    groups[r"vaults__.+?__"] = VaultSettings
    for prefix, group in groups.items():
        match = re.fullmatch(rf"({prefix})(\w+)", variable)
        for alternatives in (*group.value_or_file.items(), *group.one_of):
            if match and match[2] in alternatives:
                return {f"{match[1]}{name}" for name in alternatives if name != match[2]}
    return set()


class _Variables:
    """Sorts the flat variables into the groups of `Settings`.

    `VAULT_URL` is `vault.url`, `SECRET_X` is `secrets.x`, `VAULTS__PARTNER__URL` is `vaults.partner.url`.
    """

    settings_cls: type[BaseSettings]
    env_vars: Mapping[str, str | None]

    def __call__(self) -> dict[str, Any]:
        read = {name: as_set(name, value) for name, value in self.env_vars.items()}
        given = {name: value for name, value in read.items() if value}
        ours = in_our_names(given, partial(other_names, self.settings_cls))
        variables = {name: value for name, value in ours.items() if value}
        return {
            **{name: variables[name] for name in self.settings_cls.model_fields if name in variables},
            **{name: _source(f"{name}_", variables) for name in groups_of(self.settings_cls)},
            "vaults": {
                name: _source(f"vaults__{name.replace('-', '_')}__", variables) for name in _named_vaults(variables)
            },
            "secrets": _group("secret_", variables),
        }


def _named_vaults(variables: Mapping[str, str]) -> list[str]:
    found = (re.fullmatch(r"vaults__(.+?)__\w+", name) for name in variables)
    return sorted({match[1].replace("_", "-") for match in found if match})


def _source(prefix: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the group of a source; what has two underscores in its name is in a group within that one."""
    group = _group(prefix, variables)
    inner = sorted({name.partition("__")[0] for name in group if "__" in name})
    flat: dict[str, Any] = {name: value for name, value in group.items() if "__" not in name}
    return {**flat, **{name: _group(f"{name}__", group) for name in inner}}


def _group(prefix: str, variables: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in variables.items() if name.startswith(prefix)}


class Environment(_Variables, EnvSettingsSource):
    """The environment of the process."""


class DotEnv(_Variables, EnvSettingsSource):
    """The `.env` file in the working directory, but for what the environment sets by another name."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        """Read it; raise `BadSettings` that names the file, the lines that are not understood, and the reason."""
        found = read_dotenv()
        if found.problems:
            raise BadSettings(found.problems)
        return found.values

    def __call__(self) -> dict[str, Any]:
        """Leave those out, and sort the rest."""
        given = {our_name(name.lower()) for name, value in os.environ.items() if as_set(name, value)}
        self.env_vars = {
            name: value
            for name, value in self.env_vars.items()
            if not given & other_names(self.settings_cls, our_name(name))
        }
        return super().__call__()
