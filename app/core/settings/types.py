"""What may an address, a path, a list of paths be? The types of single settings."""

import ipaddress
import os
import re
import sys
import unicodedata
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

LONGEST_NAME = 253  # characters of a host name
LONGEST_PATH = 2048  # characters; Vault's own limits depend on its storage, and are silent
OPTIONAL = "?"  # behind a path that may be missing
ENVIRONMENT = "{environment}"  # in a path: the value of ENVIRONMENT
# in a path: that, or what templates of shells and of policies look like, for which the policy is refused
_WITH_BRACES = re.compile(r"\{environment\}|\$\{\w+\}|\{\{[^{}]+\}\}")
ROOT = "root"  # the name of the namespace that all others are in, which may also be written as /
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107  # bytes; the system's own limit, but for the closing zero


def server_address(text: str) -> str:
    """Accept `http(s)://host[:port][/prefix]`; a prefix is what a reverse proxy in front of the server may add.

    Scheme and host come back in lower case: a comparison, with `https://` say, need not think of it.
    """
    url = text.strip()
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"  # raises on a port that is not a number
    except ValueError:
        raise ValueError("is not a URL; write https://vault.example.com:8200") from None
    if any(character.isspace() for character in url) or has_invisible(url):  # urlsplit drops some of them
        raise ValueError("must not contain blanks or control characters")
    if url[:1] in {"'", '"'}:
        raise ValueError("has quotes around it: leave them out")
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
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def socket_path(address: str) -> str | None:
    """Return the path of the socket that `unix:///run/agent.sock` names; None where it is no such address.

    As in Vault's own tools the path stands there as it is, without percent-encoding.
    """
    scheme, _, rest = address.partition(":")
    return rest.removeprefix("//") if scheme.lower() == "unix" else None


def _socket_address(text: str) -> str:
    path = (socket_path(text) or "").rstrip("/")
    if not path.startswith("/"):
        raise ValueError("must have an absolute path behind unix://, as it is: unix:///run/vault/agent.sock")
    if has_invisible(path):
        raise ValueError("must not contain control characters or invisible ones")
    if path.endswith("/v1"):
        raise ValueError("must be the socket alone: leave out /v1")
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        raise ValueError(f"is longer than the {LONGEST_SOCKET} bytes that the path of a socket may have")
    return f"unix://{path}"


def is_loopback(url: str) -> bool:
    """Tell whether this is an address of the machine itself: a socket, 127.0.0.0/8, ::1 or localhost."""
    if socket_path(url):
        return True
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _vault_address(text: str) -> str:
    if socket_path(text.strip()) is not None:
        return _socket_address(text.strip())
    url = server_address(text)
    if {"v1", "ui"} & set(urlsplit(url).path.split("/")):
        raise ValueError("must be the address alone: leave out /v1 and /ui")
    return url


def vault_path(text: str) -> str:
    """Accept a path below the mount point; surrounding slashes are dropped, as Vault's own tools do."""
    path = "/".join(segment for segment in text.strip().split("/") if segment)
    refuse_bad_path(path)
    return path


def _named_path(text: str) -> str:
    """Accept a path that may end with the mark of an optional one, and may have the environment's name in it."""
    bare = text.strip()
    mark = OPTIONAL if bare.endswith(OPTIONAL) else ""
    path = vault_path(bare.removesuffix(OPTIONAL))
    if path.endswith(OPTIONAL):
        raise ValueError(f"must have one {OPTIONAL} at its end at most, which says that it may be missing")
    slips = f"${ENVIRONMENT}", f"{{{ENVIRONMENT}}}"
    if {"{", "}"} & set(_WITH_BRACES.sub("", path)) or any(slip in path for slip in slips):
        raise ValueError(f"has braces: only {ENVIRONMENT} is understood")
    return path + mark


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


def _namespace(text: str) -> str:
    return ROOT if not text.strip().strip("/") else vault_path(text)


def _one_segment(text: str) -> str:
    if text in {".", ".."} or "/" in text or has_invisible(text):
        raise ValueError("must be a name, without slashes or control characters")
    return text


def _server_name(text: str) -> str:
    labels = text.removesuffix(".").split(".")
    is_name = len(text) <= LONGEST_NAME and all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", label) for label in labels)
    if not (is_name or is_ip_address(text)):
        raise ValueError("must be a host name or an IP address alone, without scheme and port")
    return text


def is_ip_address(text: str) -> bool:
    """Tell whether this is an address itself, and no name that has one."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _split(text: object) -> object:
    return tuple(text.split(",")) if isinstance(text, str) else text


ServerAddress = Annotated[str, AfterValidator(server_address)]
Address = Annotated[str, AfterValidator(_vault_address)]
VaultPath = Annotated[str, AfterValidator(vault_path)]
Namespace = Annotated[str, AfterValidator(_namespace)]
Name = Annotated[str, AfterValidator(_one_segment)]
ServerName = Annotated[str, AfterValidator(_server_name)]
Paths = Annotated[tuple[Annotated[str, AfterValidator(_named_path)], ...], BeforeValidator(_split)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
UpperCase = BeforeValidator(lambda text: text.upper() if isinstance(text, str) else text)
LowerCase = BeforeValidator(lambda text: text.lower() if isinstance(text, str) else text)
