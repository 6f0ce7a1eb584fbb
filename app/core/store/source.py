"""What is a source of secrets, what does it bring, and what may people know of the way to it?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.core.not_serializable import NotSerializable
from app.core.settings.references import Reference

SecretRef = tuple[str, int | None]  # a path and a version, None being the latest


@dataclass(frozen=True, slots=True)
class Secret(NotSerializable):
    """What stands at one path: the values, and which version of them this is."""

    path: str
    data: Mapping[str, Any] = field(repr=False)
    version: int | None = None  # None where the source keeps no versions
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
    """How a source is reached, and with which token; shown to people."""

    address: str
    method: str  # of authentication
    token: TokenLife | None = None  # None: not logged in
    leases: Mapping[str, TokenLife] = field(default_factory=dict)  # of credentials that it issued, by their name


class Folders(Protocol):
    """How the command line changes what a source holds: folders and secrets, as in Vault. Every call blocks."""

    def write(self, path: str, data: Mapping[str, Any], cas: int | None = None) -> int | None:
        """Write a whole secret; return its version, where there are any. `cas`: only if that is the current one."""
        ...

    def patch(self, path: str, changes: Mapping[str, Any]) -> int | None:
        """Change some keys of a secret and keep the others; None removes a key. Return the version."""
        ...

    def delete(self, path: str) -> None:
        """Delete a secret; raise `PathMissing` where there is none."""
        ...

    def undelete(self, path: str, versions: Sequence[int]) -> None:
        """Bring deleted versions back; raise `PathMissing` for one that is not there."""
        ...

    def list(self, path: str = "") -> Sequence[str]:
        """Return the names below a path, folders with a closing slash."""
        ...

    def metadata(self, path: str) -> Mapping[str, Any]:
        """Return what is known of a secret beside its values: its `versions`."""
        ...


class Source(Protocol):
    """One place that secrets come from: a Vault, or Conjur. It owns its session, so its login and its token."""

    name: str  # in references
    awaited: bool  # whether the start waits for its first round also without `VAULT_FAIL_FAST`
    interval: float  # seconds between two rounds; 0: none after the first good one
    max_staleness: float  # seconds after which what is held no longer counts; 0: never

    def load(self) -> tuple[Secret, ...]:
        """Read all that the settings want of it; blocks. Raises one `BackendError`, which lists several."""
        ...

    def resolve(self, reference: Reference, *, may_issue: bool = True) -> tuple[Any, int | None]:
        """Read what one reference stands for; return the value and its version; blocks. Raises a `BackendError`.

        Unless it `may_issue`, what would have to be issued for it is an error: `WouldIssue`.
        """
        ...

    def connection(self) -> Connection:
        """Say how it is reached and how long the token in force will live; looks at memory only."""
        ...

    def how_to_set(self, entry: str, path: str | None) -> str:
        """Tell people how to write the value of an entry that was found at `path`; None: it is nowhere."""
        ...

    def periodic(self) -> Mapping[str, Callable[[], float]]:
        """Return what keeps it usable, by name: ticks that block, and return in how many seconds they are due again."""
        ...

    def call_when_due(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, from any thread, when what was loaded is good no longer, so that it is loaded again.

        Without it, nobody loads again: what was issued is kept as long as it can be.
        """
        ...

    def swapped(self, is_drained: Callable[[], bool]) -> None:
        """Take in that what was loaded last is in force; `is_drained` tells when nothing uses what was before."""
        ...

    def refused(self, entries: Mapping[str, str]) -> None:
        """Take in that somebody was turned away with these entries (by name: their path): load them anew."""
        ...


def read_source(source: Source) -> tuple[Secret, ...]:
    """Read all that the settings want of a source."""
    return source.load()
