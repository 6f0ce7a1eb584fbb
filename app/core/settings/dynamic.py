"""What is a dynamic secret? A path at which Vault issues credentials, such as `database/creds/shop`.

With what is to be sent, where something is: `pki/issue/shop?common_name=shop.internal&ttl=24h`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import parse_qsl

from pydantic import BeforeValidator

from app.core.settings.problems import raise_faults
from app.core.settings.types import has_invisible, vault_path

SCHEME = "dynamic://"  # in references, before the name
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FORM = "write a path and what to send, as in pki/issue/shop?common_name=shop.internal&ttl=24h"


@dataclass(frozen=True, slots=True)
class DynamicSecret:
    """One `VAULT_DYNAMIC__<NAME>`: what it is called here, where Vault issues it, and with which parameters."""

    name: str
    path: str  # of Vault's API, its mount point included
    parameters: tuple[tuple[str, str], ...] = ()  # are sent with POST; without any it is a GET

    @property
    def address(self) -> str:
        """What references to it have before their field."""
        return f"{SCHEME}{self.name}"

    @property
    def has_lease(self) -> bool:
        """Whether there may be a lease to renew and to revoke, as far as the path tells."""
        return "/static-creds/" not in f"/{self.path}/"


def parse_dynamic(name: str, text: str) -> DynamicSecret:
    """Parse `<path>[?parameter=value&…]`; raise `ValueError` that says what is wrong with it."""
    if not _NAME.fullmatch(name):
        raise ValueError("its name must consist of letters, digits and _, and begin with a letter")
    bare, has_parameters, query = text.strip().partition("?")
    path = vault_path(bare.removeprefix("/").removeprefix("v1/"))
    if any(character in path for character in "#{}"):
        raise ValueError(f"has one of # {{ }} in its path: {_FORM}")
    if not has_parameters:
        return DynamicSecret(name, path)
    try:
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        raise ValueError(f"has parameters that are not understood: {_FORM}") from None
    if twice := sorted({key for key, _ in given if [other for other, _ in given].count(key) > 1}):
        raise ValueError(f"gives {', '.join(twice)} twice")
    if any(not key or has_invisible(key + value) for key, value in given):
        raise ValueError(f"has a parameter without a name, or with control characters: {_FORM}")
    return DynamicSecret(name, path, tuple(given))


def _parsed(value: Any) -> Any:
    """Take what the variables say, by name; report what is wrong with each."""
    if not isinstance(value, Mapping):
        return value
    found: list[DynamicSecret] = []
    faults: dict[tuple[str, ...], str] = {}
    for name, text in value.items():
        try:
            found.append(parse_dynamic(name, text))
        except ValueError as error:
            faults[name,] = str(error)
    raise_faults(faults)
    return tuple(found)


DynamicSecrets = Annotated[tuple[DynamicSecret, ...], BeforeValidator(_parsed)]
