"""Who may talk to the service? The types of the settings that say so."""

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from app.core.settings.types import server_address

LONGEST_NAME = 255  # characters; DNS has none that is longer
EVERY = "*"
OF_TESTS = {"testserver", "test"}  # what test clients call the service; no names of the public DNS
SET_ENVIRONMENT = (
    "ENVIRONMENT is not set, so this is development: who reaches this address needs no key to see details. "
    "Set ENVIRONMENT=production, or =development if that is meant."
)

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+?)\.?(?::[0-9]{0,5})?")
_PATTERN = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")


def host_name(text: str) -> str | None:
    """Return the name or the address in a `Host` header: without the port, in lower case; None if it is none."""
    found = _HOST.fullmatch(text.lower()) if len(text) <= LONGEST_NAME else None
    if found is None or not found[1].startswith("["):
        return found[1] if found else None
    try:
        return f"[{ipaddress.IPv6Address(found[1][1:-1])}]"
    except ValueError:
        return None


def is_address(name: str) -> bool:
    """Tell whether a host is an IP address, which no DNS server can point elsewhere."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def is_this_machine(name: str) -> bool:
    """Tell whether a host can only be the machine itself."""
    if name == "localhost" or name in OF_TESTS or name.endswith(".localhost"):
        return True
    return is_address(name) and ipaddress.ip_address(name.strip("[]")).is_loopback


def matches(name: str, pattern: str) -> bool:
    """Tell whether a host is meant: `*.example.com` means every name below, as with starlette's own middleware."""
    return pattern in (EVERY, name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))


def origin(text: str) -> str:
    """Return `scheme://host[:port]` as browsers send it in `Origin`: in lower case, without the scheme's own port."""
    address = server_address(text)
    scheme, _, host = address.partition("://")
    if "/" in host or "*" in host:
        raise ValueError("must be an origin, without path or wildcard: https://app.example.com, or * for all")
    return f"{scheme}://{without_own_port(scheme, host)}"


def without_own_port(scheme: str, host: str) -> str:
    """Return the host without the port that everybody assumes."""
    return host.removesuffix({"http": ":80", "https": ":443"}.get(scheme, ":"))


def _split(text: object) -> object:
    return tuple(each.strip() for each in text.split(",") if each.strip()) if isinstance(text, str) else text


def _pattern(text: str) -> str:
    name = text.lower().removesuffix(".")
    name = f"[{name}]" if ":" in name and is_address(name) else name
    if not _PATTERN.fullmatch(name):
        raise PydanticCustomError("host", "must be a name without port or path, like api.example.com or *.example.com")
    return host_name(name) or name


def _origin(text: str) -> str:
    return text if text == EVERY else origin(text)


Hosts = Annotated[tuple[Annotated[str, AfterValidator(_pattern)], ...], BeforeValidator(_split)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_split)]
