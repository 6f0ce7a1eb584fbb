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


class Backend(Protocol):
    """A place that holds secrets. All calls block: the event loop meets them through a worker thread."""

    def read(self, path: str) -> Secret:
        """Read the latest version of one secret; raise a `VaultError` that says why not."""
        ...
