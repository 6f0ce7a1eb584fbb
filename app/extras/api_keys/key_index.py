"""Which keys count? What this process holds of them: by SHA-256 hash, never a key itself."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from app.core import forks
from app.core.store.secret_store import Change
from app.extras.api_keys.key_records import KeyRecord, digest_of

REQUEST = 24  # characters of a tag that say which request it was; the others say what it asked for


class KeyIndex:
    """The keys that count, in memory. Safe for threads: readers see one whole state or the next."""

    def __init__(self) -> None:
        self.problems: Mapping[str, str] = MappingProxyType({"index": "not loaded yet"})
        self._lock = forks.Lock()
        self._ticket = 0  # counts loads and changes, in the order in which they began
        self._loaded = 0  # the ticket of what was published
        self._changed: dict[str, tuple[int, tuple[KeyRecord, ...]]] = {}  # by us, perhaps not yet in what was loaded
        self._by_name: dict[str, tuple[KeyRecord, ...]] = {}
        self._by_digest: dict[bytes, KeyRecord] = {}

    def find(self, key: str, now: float) -> KeyRecord | None:
        """Return whose key this is, if it counts. What is looked up is a hash: how long it takes tells nothing."""
        record = self._by_digest.get(digest_of(key))
        return record if record is not None and record.counts_at(now) else None

    def of(self, name: str) -> tuple[KeyRecord, ...]:
        """Return what is known of a name, the present key first."""
        return self._by_name.get(name, ())

    def made_for(self, tag: str) -> KeyRecord | None:
        """Return the key that was made for the request with this tag, whatever it asked for."""
        found = (each for records in self._by_name.values() for each in records if each.tag[:REQUEST] == tag[:REQUEST])
        return next(found, None) if tag else None

    def present(self) -> list[KeyRecord]:
        """Return the present key of each name, by name."""
        return [records[0] for _, records in sorted(self._by_name.items())]

    def describe(self) -> dict[str, Any]:
        """Return what the log says when the index was loaded first."""
        return {"keys": len(self._by_name)}

    def start(self) -> int:
        """Return a ticket for `publish`; to be taken before loading."""
        with self._lock:
            self._ticket += 1
            return self._ticket

    def change(self, name: str, records: Iterable[KeyRecord]) -> None:
        """Take in what this process has just changed."""
        with self._lock:
            self._ticket += 1
            self._changed[name] = (self._ticket, tuple(records))
            self._rebuild({**self._by_name, name: tuple(records)})

    def publish(self, _source: str, loaded: tuple[int, Iterable[KeyRecord]]) -> tuple[Change, ...]:
        """Take in all keys, with the ticket that was taken before they were loaded.

        What this process has changed since then stays, and so does what was loaded later than this.
        """
        ticket, records = loaded
        by_name: dict[str, list[KeyRecord]] = {}
        for record in records:
            by_name.setdefault(record.name, []).append(record)
        with self._lock:
            if ticket > self._loaded:
                self._loaded, self.problems = ticket, MappingProxyType({})
                self._changed = {name: made for name, made in self._changed.items() if made[0] > ticket}
                self._rebuild({**by_name, **{name: made[1] for name, made in self._changed.items()}})
        return ()

    def _rebuild(self, by_name: Mapping[str, Iterable[KeyRecord]]) -> None:
        ordered = {name: tuple(sorted(records, key=_latest_first)) for name, records in by_name.items()}
        by_digest: dict[bytes, KeyRecord] = {}
        for records in ordered.values():
            for record in records:
                other = by_digest.get(record.digest)
                if other is None or end_of(record) < end_of(other):  # an end that was set counts
                    by_digest[record.digest] = record
        self._by_name, self._by_digest = {name: records for name, records in ordered.items() if records}, by_digest


def _latest_first(record: KeyRecord) -> tuple[int, float]:
    return -record.created, end_of(record)


def end_of(record: KeyRecord) -> float:
    """Return when a key stops to count, in milliseconds since 1970."""
    return float("inf") if record.until is None else record.until
