"""What does a backend answer, and what may people know of the way to it?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.unpicklable import Unpicklable


@dataclass(frozen=True, slots=True)
class Secret(Unpicklable):
    """What stands at one path: the values, and which version of them this is."""

    path: str
    data: Mapping[str, Any] = field(repr=False)
    version: int | None = None  # None where the backend keeps no versions
    created_at: float | None = None  # when this version was written, in seconds since 1970
    explicit: bool = False  # asked for by name, with `SECRET_<NAME>`: counts more than what was merely found


@dataclass(frozen=True, slots=True)
class TokenLife:
    """How long the token in force will live; holds nothing of the token itself."""

    ttl: float | None  # seconds that it had when it was obtained or renewed; 0: no end; None: nobody has said
    left: float | None  # seconds from now; 0: expired or rejected; None where it has no end, or nobody has said
    renewable: bool = False


@dataclass(frozen=True, slots=True)
class Connection:
    """How a backend is reached, and with which token; shown to people."""

    address: str
    method: str  # of authentication
    token: TokenLife | None = None  # None: not logged in


class Backend(Protocol):
    """A place that holds secrets. All calls block: the event loop meets them through a worker thread."""

    def read(self, path: str, version: int | None = None) -> Secret:
        """Read one secret, by default its latest version; raise a `VaultError` that says why not."""
        ...
