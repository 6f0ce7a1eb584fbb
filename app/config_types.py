"""What may an address, a path, a list of paths be? The types of single settings."""

import ipaddress
import unicodedata
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

LONGEST_PATH = 2048  # characters; Vault's own limits depend on its storage, and are silent


def _address(url: str) -> str:
    """Accept `http(s)://host[:port][/prefix]`; a prefix is what a reverse proxy in front of the server may add."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises on a port that is not a number
    except ValueError:
        raise ValueError("is not a URL; write https://vault.example.com:8200") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must start with http:// or https:// and name a host, like https://vault.example.com:8200")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not carry credentials: use one of the auth methods")
    if parts.query or parts.fragment:
        raise ValueError("must not have a query or a fragment")
    try:
        parts.hostname.encode("idna")
    except UnicodeError:
        raise ValueError("names a host that cannot exist") from None
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Tell whether this is an address of the machine itself: 127.0.0.0/8, ::1 or localhost."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _vault_address(url: str) -> str:
    if {"v1", "ui"} & set(urlsplit(url).path.split("/")):
        raise ValueError("must be the address alone: leave out /v1 and /ui")
    return url


def vault_path(text: str) -> str:
    """Accept a path below the mount point; surrounding slashes are dropped, as Vault's own tools do."""
    path = "/".join(segment for segment in text.strip().split("/") if segment)
    refuse_bad_path(path)
    return path


def refuse_bad_path(path: str) -> None:
    """Raise `ValueError` for a path that no secret can have, or that would lead out of the mount point."""
    if not path:
        raise ValueError("is empty")
    if len(path) > LONGEST_PATH:
        raise ValueError(f"is longer than {LONGEST_PATH} characters")
    if {".", ".."} & set(path.split("/")):
        raise ValueError("must not contain the segments . or ..")
    if has_invisible(path):
        raise ValueError("must not contain control characters or invisible ones")


def has_invisible(text: str) -> bool:
    """Tell whether a text has control, bidi or zero-width characters, or the like; Vault has no such paths either."""
    return any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for character in text)


def _split(text: object) -> object:
    return tuple(text.split(",")) if isinstance(text, str) else text


ServerAddress = Annotated[str, AfterValidator(_address)]
Address = Annotated[ServerAddress, AfterValidator(_vault_address)]
VaultPath = Annotated[str, AfterValidator(vault_path)]
Paths = Annotated[tuple[VaultPath, ...], BeforeValidator(_split)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
UpperCase = BeforeValidator(lambda text: text.upper() if isinstance(text, str) else text)
LowerCase = BeforeValidator(lambda text: text.lower() if isinstance(text, str) else text)
