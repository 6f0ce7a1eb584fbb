"""What does a backend answer?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Secret:
    """What stands at one path: the values, and which version of them this is."""

    path: str
    data: Mapping[str, Any] = field(repr=False)
    version: int | None = None  # None where the backend keeps no versions
    created_at: float | None = None  # when this version was written, in seconds since 1970
    explicit: bool = False  # asked for by name, with `SECRET_<NAME>`: counts more than what was merely found


class Backend(Protocol):
    """A place that holds secrets. All calls block: the event loop meets them through a worker thread."""

    def read(self, path: str, version: int | None = None) -> Secret:
        """Read one secret, by default its latest version; raise a `VaultError` that says why not."""
        ...
