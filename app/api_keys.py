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

from app.errors import ApiKeyExists, IdempotencyKeyReused, LostRace, VaultError
from app.key_records import KeyRecord, KeyShelf, digest_of
from app.logging_config import get_logger
from app.secret_store import Change

PREFIX = "fvb_"  # so that secret scanners, and people, know one when they see it
REQUEST = 24  # characters of a tag that say which request it was; the others say what it asked for
LOCKS = 16
LOOKS, PAUSE = 10, 0.2  # seconds between looks for what another replica is doing just now

log = get_logger(__name__)


class KeyIndex:
    """The keys that count, in memory. Safe for threads: readers see one whole state or the next."""

    def __init__(self) -> None:
        self.problems: Mapping[str, str] = MappingProxyType({"index": "not loaded yet"})
        self._lock = threading.Lock()
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

    def made_for(self, request: str) -> KeyRecord | None:
        """Return the key that was made for a request, by the first part of its tag."""
        found = (each for records in self._by_name.values() for each in records if each.tag[:REQUEST] == request)
        return next(found, None) if request else None

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
                if other is None or _end(record) < _end(other):  # an end that was set counts, whatever else is stored
                    by_digest[record.digest] = record
        self._by_name, self._by_digest = {name: records for name, records in ordered.items() if records}, by_digest


def _latest_first(record: KeyRecord) -> tuple[int, float]:
    return -record.created, _end(record)


def _end(record: KeyRecord) -> float:
    return float("inf") if record.until is None else record.until


class ApiKeys:
    """Issues, rotates and revokes keys; everything but `find` blocks."""

    def __init__(
        self, shelf: KeyShelf, clock: Callable[[], float] = time.time, wait: Callable[[float], object] = time.sleep
    ) -> None:
        """`clock` gives the seconds since 1970; `wait` waits for so many seconds."""
        self.index = KeyIndex()
        self._shelf = shelf
        self._clock = clock
        self._wait = wait
        self._changing = [threading.Lock() for _ in range(LOCKS)]  # by name: one change of it at a time, here at least

    def find(self, key: str) -> KeyRecord | None:
        """Return whose key this is, if it counts. Looks at memory only."""
        return self.index.find(key, self._clock())

    def load(self) -> tuple[int, list[KeyRecord]]:
        """Read what is known of all keys, for `KeyIndex.publish`."""
        return self.index.start(), self._shelf.records()

    def refresh(self) -> None:
        """Read the index now."""
        self.index.publish("", self.load())

    def issue(self, name: str, expires_in: int | None = None, idempotency_key: str = "") -> tuple[KeyRecord, str]:
        """Make a key, store and verify it, and return it; it is good for `expires_in` seconds, or for ever.

        The same `idempotency_key` again brings the same key again. Raises `ApiKeyExists`, `IdempotencyKeyReused`, or a
        `VaultError` after which nothing is stored, or that says what is left and what to do.
        """
        tag = _tag("issue", idempotency_key, name, expires_in)
        with self._one_change_of(name):
            if tag and (made := self._made_for(tag)):
                return made, self._again(made, tag)
            key = PREFIX + secrets.token_urlsafe(32)
            record = self._record(name, key, expires_in, tag)
            try:
                self._shelf.add(record, key)
            except ApiKeyExists:
                if tag and (made := self._made_for(tag, patiently=True)):  # another replica is at the same request
                    return made, self._again(made, tag)
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
        tag = _tag("rotate", idempotency_key, name, grace_period, expires_in)
        with self._one_change_of(name):
            made = self._made_for(tag) if tag else None
            if made and (made.tag != tag or self._is_stored(made) or made != self.index.of(name)[0]):
                record, key = made, self._again(made, tag)
            else:  # a record without its key is what an attempt left that was broken off: it goes with the old ones
                record, key = self._replaced(name, expires_in, tag)
            # later ones are those of others who are about to learn that they have lost
            older = [each for each in self._shelf.look(name)[0] if each.created < record.created]
            self.index.change(name, [record, *older])
            now = self._clock()
            last = int((now + grace_period) * 1000) if record is not made else record.created + grace_period * 1000
            former = [replace(each, until=int(min(_end(each), last))) for each in older if each.counts_at(now)]
            try:
                self._shelf.settle(record, former, set(older) - set(former))
            except VaultError as error:
                if type(error) is not LostRace:  # then another key is stored
                    error.remedy += " The new key is stored, and old ones count still: rotate it again."
                raise
            self.index.change(name, [record, *former])
        log.info("api_key_rotated", name=name, grace_period=grace_period)
        return record, key

    def revoke(self, name: str) -> None:
        """Make all keys of a name worthless; raise `ApiKeyMissing` if there is none."""
        with self._one_change_of(name):
            try:
                self._shelf.remove(name)
            except VaultError as error:
                error.remedy += f" Then repeat the DELETE: elsewhere keys of {name} may count still."
                raise
            finally:
                self.index.change(name, [])
        log.info("api_key_revoked", name=name)

    def _replaced(self, name: str, expires_in: int | None, tag: str) -> tuple[KeyRecord, str]:
        records, mark = self._shelf.look(name)
        present = max(records, key=lambda each: each.created)
        key = PREFIX + secrets.token_urlsafe(32)
        lifetime = _lifetime(present) if expires_in is None else expires_in
        record = self._record(name, key, lifetime, tag, not_before=present.created + 1)
        try:
            self._shelf.replace(record, key, mark)
        except LostRace:
            if tag and (made := self._made_for(tag, patiently=True)):  # another replica is at the same request
                return made, self._again(made, tag)
            raise
        return record, key

    def _record(self, name: str, key: str, expires_in: int | None, tag: str, not_before: int = 0) -> KeyRecord:
        created = max(int(self._clock() * 1000), not_before)  # the latest key is the present one, whatever clocks say
        until = None if expires_in is None else created + expires_in * 1000
        return KeyRecord(name, digest_of(key), created, until, tag)

    def _made_for(self, tag: str, *, patiently: bool = False) -> KeyRecord | None:
        """Return the key that this request made before, here or at another replica, which may be at it just now."""
        for _ in range(LOOKS if patiently else 1):
            made = self.index.made_for(tag[:REQUEST])
            if made is None:
                self.refresh()
                made = self.index.made_for(tag[:REQUEST])
            if made is not None and (not patiently or self._is_stored(made)):
                return made
            if patiently:
                self._wait(PAUSE)
        return None

    def _is_stored(self, made: KeyRecord) -> bool:
        return digest_of(self._shelf.reveal(made.name)) == made.digest

    def _again(self, made: KeyRecord, tag: str) -> str:
        """Answer a request that was carried out before as it was answered then."""
        if made.tag != tag:
            raise IdempotencyKeyReused(made.name)
        key = self._shelf.reveal(made.name)
        if digest_of(key) != made.digest:
            raise ApiKeyExists(made.name, "the key that this request made has been replaced", "Take the present one.")
        return key

    def _one_change_of(self, name: str) -> threading.Lock:
        return self._changing[hash(name) % LOCKS]


def _tag(operation: str, idempotency_key: str, name: str, *request: object) -> str:
    """Return what tells a request again: which one it is, and whether it is the same."""
    if not idempotency_key:
        return ""
    scope = operation if operation == "issue" else f"{operation} {name}"
    which = hashlib.sha256(f"{scope} {idempotency_key}".encode()).hexdigest()[:REQUEST]
    return which + hashlib.sha256(repr((name, *request)).encode()).hexdigest()[:8]


def _lifetime(record: KeyRecord) -> int | None:
    return None if record.until is None else (record.until - record.created) // 1000
