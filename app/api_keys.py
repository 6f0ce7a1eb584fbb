"""Who may call us? Keys that the administrator issues, rotates and revokes; the service knows only their hashes.

A key is stored where other services can fetch it (`KeyShelf`); what this process holds is an index by SHA-256 hash. The
index is read anew within each refresh interval, so that every replica honours a new key, and refuses a revoked one,
within that time; the process that made the change knows at once.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from app.errors import ApiKeyExists, ApiKeyMissing, IdempotencyKeyReused, VaultError
from app.key_records import KeyRecord, KeyShelf, digest_of
from app.logging_config import get_logger
from app.secret_store import Change

PREFIX = "fvb_"  # so that secret scanners, and people, know one when they see it

log = get_logger(__name__)


class KeyIndex:
    """The keys that count, in memory. Safe for threads: readers see one whole state or the next."""

    problems: Mapping[str, str] = MappingProxyType({})  # for the keeper: an index is never incomplete

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changes = 0
        self._changed: dict[str, tuple[int, tuple[KeyRecord, ...]]] = {}  # by us, perhaps not yet in what was loaded
        self._by_name: dict[str, tuple[KeyRecord, ...]] = {}
        self._by_digest: dict[bytes, KeyRecord] = {}

    @property
    def changes(self) -> int:
        """How many changes this process has made; to be looked at before loading, and given to `publish`."""
        return self._changes

    def find(self, key: str, now: float) -> KeyRecord | None:
        """Return whose key this is, if it counts. What is looked up is a hash: how long it takes tells nothing."""
        record = self._by_digest.get(digest_of(key))
        return record if record is not None and record.counts_at(now) else None

    def of(self, name: str) -> tuple[KeyRecord, ...]:
        """Return what is known of a name, the present key first."""
        return self._by_name.get(name, ())

    def made_for(self, tag: str) -> KeyRecord | None:
        """Return the key that was made for this tag."""
        return next((record for records in self._by_name.values() for record in records if record.tag == tag), None)

    def present(self) -> list[KeyRecord]:
        """Return the present key of each name, by name."""
        return [records[0] for _, records in sorted(self._by_name.items())]

    def describe(self) -> dict[str, Any]:
        """Return what the log says when the index was loaded first."""
        return {"keys": len(self._by_name)}

    def change(self, name: str, records: Iterable[KeyRecord]) -> None:
        """Take in what this process has just changed."""
        with self._lock:
            self._changes += 1
            self._changed[name] = (self._changes, tuple(records))
            self._rebuild({**self._by_name, name: tuple(records)})

    def publish(self, _source: str, loaded: tuple[int, Iterable[KeyRecord]]) -> tuple[Change, ...]:
        """Take in all keys as they were when they were loaded; what this process has changed since then stays."""
        changes, records = loaded
        by_name: dict[str, list[KeyRecord]] = {}
        for record in records:
            by_name.setdefault(record.name, []).append(record)
        with self._lock:
            self._changed = {name: made for name, made in self._changed.items() if made[0] > changes}
            self._rebuild({**by_name, **{name: made[1] for name, made in self._changed.items()}})
        return ()

    def _rebuild(self, by_name: Mapping[str, Iterable[KeyRecord]]) -> None:
        ordered = {name: tuple(sorted(records, key=_latest_first)) for name, records in by_name.items()}
        by_digest: dict[bytes, KeyRecord] = {}
        for records in ordered.values():
            for record in records:
                other = by_digest.get(record.digest)
                if other is None or _end(record) < _end(other):  # an end that was set counts, whatever else is stored
                    by_digest[record.digest] = record
        self._by_name, self._by_digest = {name: records for name, records in ordered.items() if records}, by_digest


def _latest_first(record: KeyRecord) -> int:
    return -record.created


def _end(record: KeyRecord) -> float:
    return float("inf") if record.until is None else record.until


class ApiKeys:
    """Issues, rotates and revokes keys; everything but `find` blocks."""

    def __init__(self, shelf: KeyShelf, clock: Callable[[], float] = time.time) -> None:
        self.index = KeyIndex()
        self._shelf = shelf
        self._clock = clock

    def find(self, key: str) -> KeyRecord | None:
        """Return whose key this is, if it counts. Looks at memory only."""
        return self.index.find(key, self._clock())

    def load(self) -> tuple[int, list[KeyRecord]]:
        """Read what is known of all keys, for `KeyIndex.publish`."""
        changes = self.index.changes  # first: what is changed while this loads counts more
        return changes, self._shelf.records()

    def refresh(self) -> None:
        """Read the index now."""
        self.index.publish("", self.load())

    def issue(self, name: str, expires_in: int | None = None, idempotency_key: str = "") -> tuple[KeyRecord, str]:
        """Make a key, store and verify it, and return it; it is good for `expires_in` seconds, or for ever.

        The same `idempotency_key` again brings the same key again. Raises `ApiKeyExists`, `IdempotencyKeyReused`, or a
        `VaultError` after which nothing is stored, or that says what is left and what to do.
        """
        tag = _tag("issue", idempotency_key)
        if tag and (made := self.index.made_for(tag)):
            return self._again(made, name, expires_in)
        key = PREFIX + secrets.token_urlsafe(32)
        record = self._record(name, key, expires_in, tag)
        try:
            self._shelf.add(record, key)
        except ApiKeyExists:
            self.refresh()  # another replica may have made it, for the same request
            if tag and (made := self.index.made_for(tag)):
                return self._again(made, name, expires_in)
            raise
        self.index.change(name, [record])
        log.info("api_key_issued", name=name, expires_in=expires_in)
        return record, key

    def rotate(
        self, name: str, grace_period: int, expires_in: int | None = None, idempotency_key: str = ""
    ) -> tuple[KeyRecord, str]:
        """Make a new key for a name; older ones stay good for `grace_period` seconds at most, and not beyond their end.

        Without `expires_in` the new key gets as long a life as the present one was given. Raises as `issue`, and
        `ApiKeyMissing` if there is no such name.
        """
        tag = _tag(f"rotate {name}", idempotency_key)
        self.refresh()
        present = self.index.of(name)
        if not present:
            raise ApiKeyMissing(name)
        if tag and (made := self.index.made_for(tag)):
            return self._again(made, name, _lifetime(made) if expires_in is None else expires_in)
        key = PREFIX + secrets.token_urlsafe(32)
        lifetime = _lifetime(present[0]) if expires_in is None else expires_in
        record = self._record(name, key, lifetime, tag, not_before=present[0].created + 1)
        now = self._clock()
        last = (now + grace_period) * 1000
        former = [replace(each, until=int(min(_end(each), last))) for each in present if each.counts_at(now)]
        self._shelf.replace(record, key, former, set(present) - set(former))
        self.index.change(name, [record, *former])
        log.info("api_key_rotated", name=name, grace_period=grace_period)
        return record, key

    def revoke(self, name: str) -> None:
        """Make all keys of a name worthless; raise `ApiKeyMissing` if there is none."""
        self._shelf.remove(name)
        self.index.change(name, [])
        log.info("api_key_revoked", name=name)

    def _record(self, name: str, key: str, expires_in: int | None, tag: str, not_before: int = 0) -> KeyRecord:
        created = max(int(self._clock() * 1000), not_before)  # the latest key is the present one, whatever clocks say
        until = None if expires_in is None else created + expires_in * 1000
        return KeyRecord(name, digest_of(key), created, until, tag)

    def _again(self, made: KeyRecord, name: str, expires_in: int | None) -> tuple[KeyRecord, str]:
        """Answer a request that was carried out before as it was answered then."""
        if (made.name, _lifetime(made)) != (name, expires_in):
            raise IdempotencyKeyReused(name)
        if self.index.of(made.name)[0] != made:
            raise ApiKeyExists(name, "the key that this request made has been rotated since", "Take the present one.")
        key = self._shelf.reveal(name)
        if digest_of(key) != made.digest:
            raise VaultError(name, "what is stored is not what was issued", f"DELETE /api-keys/{name}, and issue anew.")
        return made, key


def _tag(operation: str, idempotency_key: str) -> str:
    return hashlib.sha256(f"{operation} {idempotency_key}".encode()).hexdigest()[:24] if idempotency_key else ""


def _lifetime(record: KeyRecord) -> int | None:
    return None if record.until is None else (record.until - record.created) // 1000
