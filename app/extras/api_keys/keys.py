"""Who may call us? Keys that the administrator issues, rotates and revokes; the service knows only their hashes.

A key is stored where other services can fetch it (`ApiKeyStore`); this process holds an index by SHA-256 hash. The
index is read again within each refresh interval, so that every replica honours a new key, and refuses a revoked one,
within that time; the process that made the change knows at once.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import replace

from app.core import forks
from app.core.errors import BackendError, LostRace, SecretUnavailable
from app.core.logs.logging_config import get_logger
from app.extras.api_keys.errors import ApiKeyExists, IdempotencyKeyReused
from app.extras.api_keys.key_index import REQUEST, KeyIndex, end_of
from app.extras.api_keys.key_records import PREFIX, ApiKeyStore, KeyRecord, digest_of

LOCKS = 16
LOOKS, PAUSE = 10, 0.2  # seconds between looks for what another replica is doing just now

log = get_logger(__name__)


class ApiKeys:
    """Issues, rotates and revokes keys; everything but `find` blocks."""

    def __init__(
        self, store: ApiKeyStore, clock: Callable[[], float] = time.time, wait: Callable[[float], object] = time.sleep
    ) -> None:
        """`clock` gives the seconds since 1970; `wait` waits for so many seconds."""
        self.index = KeyIndex()
        self._store = store
        self._clock = clock
        self._wait = wait
        self._changing = [forks.Lock() for _ in range(LOCKS)]  # by name: one change of it at a time, here at least

    def find(self, key: str) -> KeyRecord | None:
        """Return whose key this is, if it counts. Looks at memory only."""
        return self.index.find(key, self._clock())

    def caller(self, key: str) -> str | None:
        """Return who sends this key, if it counts. Looks at memory only."""
        record = self.find(key)
        return None if record is None else f"api-key/{record.name}"

    def raise_unread(self) -> None:
        """Raise `SecretUnavailable` while the index has not been read."""
        if self.index.problems:
            raise SecretUnavailable("the API keys", "not read yet", "GET /health/ready tells why.")

    def load(self) -> tuple[int, list[KeyRecord]]:
        """Read what is known of all keys, for `KeyIndex.publish`."""
        return self.index.start(), self._store.records()

    def refresh(self) -> None:
        """Read the index now."""
        self.index.publish("", self.load())

    def issue(self, name: str, expires_in: int | None = None, idempotency_key: str = "") -> tuple[KeyRecord, str]:
        """Make a key, store and verify it, and return it; it is good for `expires_in` seconds, or for ever.

        The same `idempotency_key` again brings the same key again. Raises `ApiKeyExists`, `IdempotencyKeyReused`, or a
        `BackendError` after which nothing is stored, or that says what is left and what to do.
        """
        tag = _tag("issue", idempotency_key, name, expires_in)
        with self._one_change_of(name):
            if tag and (made := self._made_for(tag)):
                return made, self._again(made, tag)
            key = PREFIX + secrets.token_urlsafe(32)
            record = self._record(name, key, expires_in, tag)
            try:
                self._store.add(record, key)
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
            if made is None or self._was_broken_off(made, tag):
                record, key = self._replaced(name, expires_in, tag)
            else:
                record, key = made, self._again(made, tag)
            # later ones are those of others who are about to learn that they have lost
            older = [each for each in self._store.describe(name)[0] if each.created < record.created]
            self.index.change(name, [record, *older])
            now = self._clock()
            last = int((now + grace_period) * 1000) if record is not made else record.created + grace_period * 1000
            former = [replace(each, until=int(min(end_of(each), last))) for each in older if each.counts_at(now)]
            try:
                self._store.expire_old(record, former, set(older) - set(former))
            except BackendError as error:
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
                self._store.remove(name)
            except BackendError as error:
                error.remedy += f" Then repeat the DELETE: elsewhere keys of {name} may count still."
                raise
            finally:
                self.index.change(name, [])
        log.info("api_key_revoked", name=name)

    def _replaced(self, name: str, expires_in: int | None, tag: str) -> tuple[KeyRecord, str]:
        records, mark = self._store.describe(name)
        present = max(records, key=lambda each: each.created)
        key = PREFIX + secrets.token_urlsafe(32)
        lifetime = _lifetime(present) if expires_in is None else expires_in
        record = self._record(name, key, lifetime, tag, not_before=present.created + 1)
        try:
            self._store.replace(record, key, mark)
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
            made = self.index.made_for(tag)
            if made is None:
                self.refresh()
                made = self.index.made_for(tag)
            if made is not None and (not patiently or self._is_stored(made)):
                return made
            if patiently:
                self._wait(PAUSE)
        return None

    def _was_broken_off(self, made: KeyRecord, tag: str) -> bool:
        """Tell whether an attempt at this very request left the newest record, but not its key.

        Then it is made again, and that record goes with the old ones. (A newer record says that the key was stored,
        and has been replaced since.)
        """
        return made.tag == tag and made == self.index.of(made.name)[0] and not self._is_stored(made)

    def _is_stored(self, made: KeyRecord) -> bool:
        return digest_of(self._store.fetch(made.name)) == made.digest

    def _again(self, made: KeyRecord, tag: str) -> str:
        """Answer a request that was carried out before as it was answered then."""
        if made.tag != tag:
            raise IdempotencyKeyReused(made.name)
        key = self._store.fetch(made.name)
        if digest_of(key) != made.digest:
            raise ApiKeyExists(made.name, "the key that this request made has been replaced", "Take the present one.")
        return key

    def _one_change_of(self, name: str) -> forks.Lock:
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
