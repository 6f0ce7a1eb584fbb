"""What is known of an API key, and where is it stored? One file a backend, one protocol."""

import hashlib
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from app.core.logs.logging_config import get_logger
from app.core.logs.redaction import KEY_PREFIX
from app.extras.api_keys.errors import ApiKeyExists

PREFIX = KEY_PREFIX  # so that secret scanners, people, and this service know one of its keys when they see it

_DATE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
_FOR_PEOPLE = {"created_at": _DATE, "expires_at": f"{_DATE}|never", "sha256": "[0-9a-f]{64}"}
_RECORD = re.compile(r"([^~]+)~([A-Za-z0-9_-]{43})~([0-9]{1,15})~([0-9]{0,15})~([0-9a-f]*)")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
# milliseconds: the last one that a date can have; how far clocks may differ; twice the longest life of a key
LAST_MOMENT, A_DAY, LONGEST_LIFE = 253402300799999, 86_400_000, 20 * 366 * 86_400_000

log = get_logger(__name__)

_told: set[str] = set()


def digest_of(key: str) -> bytes:
    """Return the hash that stands for a key. It needs neither salt nor stretching: a key is 256 random bits."""
    return hashlib.sha256(key.encode()).digest()


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of one key. A name may have several: its key, and former ones until their grace period ends."""

    name: str
    digest: bytes
    created: int  # milliseconds since 1970
    until: int | None = None  # milliseconds since 1970; None: for ever
    tag: str = ""  # which `Idempotency-Key` it was made for

    def counts_at(self, now: float) -> bool:
        """Tell whether the key is still good, `now` being in seconds since 1970."""
        return self.until is None or now * 1000 < self.until


class ApiKeyStore(Protocol):
    """Where keys are stored. All calls block; each raises a `BackendError` if it could not do its work."""

    def records(self) -> list[KeyRecord]:
        """Return what is known of all keys, in a few requests however many there are."""
        ...

    def add(self, record: KeyRecord, key: str) -> None:
        """Store a new key, verify it, and let it count, or leave nothing behind; raise `ApiKeyExists`."""
        ...

    def describe(self, name: str) -> tuple[list[KeyRecord], Any]:
        """Return what is known of a name, and a mark of its state for `replace`; raise `ApiKeyMissing`."""
        ...

    def replace(self, record: KeyRecord, key: str, mark: Any) -> None:
        """Store another key of a name, verify it, and let it count; the old ones count as before.

        Raises `LostRace` if the state is not what `look` saw. After any error all is as it was, or the error says what
        is not.
        """
        ...

    def expire_old(self, record: KeyRecord, former: Iterable[KeyRecord], gone: Iterable[KeyRecord]) -> None:
        """Give `former` keys of a name their new ends, and forget those that are `gone`; `record` is the present one.

        Raises `ApiKeyMissing` if the name has been revoked meanwhile.
        """
        ...

    def fetch(self, name: str) -> str:
        """Return the key that is stored under a name."""
        ...

    def remove(self, name: str) -> None:
        """Remove all keys of a name, and nothing that others have made; raise `ApiKeyMissing` if there is none."""
        ...


def marker_of(record: KeyRecord) -> str:
    """Return the text that says all of a record, fit for a path."""
    digest = urlsafe_b64encode(record.digest).decode().rstrip("=")
    until = "" if record.until is None else record.until
    return f"{record.name}~{digest}~{record.created}~{until}~{record.tag}"


def record_of(marker: str) -> KeyRecord | None:
    """Return the record that a text stands for; None for what else may lie there."""
    match = _RECORD.fullmatch(marker)
    if match is None:
        return None
    name, digest, created, until, tag = match.groups()
    if max(int(created), int(until or 0)) > LAST_MOMENT:
        return None
    return KeyRecord(name, urlsafe_b64decode(digest + "="), int(created), int(until) if until else None, tag)


def good_records(markers: Iterable[str], place: str) -> list[KeyRecord]:
    """Return the records that this service may have written; warn, once each, of what else lies there.

    A key that was made tomorrow would stay the present one of its name, whatever comes after it.
    """
    now = time.time() * 1000
    good: list[KeyRecord] = []
    for marker in markers:
        record = record_of(marker)
        if record is None:
            reason = "it is no record of this service"
        elif not _NAME.fullmatch(record.name):
            reason = "its name is not one that a key can have"
        elif record.created > now + A_DAY:
            reason = "it was made in the future: check the clocks"
        elif record.until is not None and record.until > now + LONGEST_LIFE:
            reason = "it ends later than any key does"
        else:
            good.append(record)
            continue
        if marker not in _told:
            _told.add(marker)
            name = marker.partition("~")[0]
            log.warning("api_key_record_ignored", place=place, name=name[:64] if "~" in marker else None, reason=reason)
    return good


def for_people(record: KeyRecord) -> dict[str, str]:
    """Return what is written down beside a key for people; the service only looks whether it is there."""
    until = "never" if record.until is None else _date(record.until)
    return {"created_at": _date(record.created), "expires_at": until, "sha256": record.digest.hex()}


def is_for_people(notes: Mapping[str, str]) -> bool:
    """Tell whether `for_people` has made these notes, perhaps with some of somebody else's among them."""
    return all(re.fullmatch(form, str(notes.get(name))) for name, form in _FOR_PEOPLE.items())


def is_key(value: object) -> bool:
    """Tell whether a value has the form of the keys that this service makes."""
    return isinstance(value, str) and value.startswith(PREFIX)


def name_taken(path: str, name: str, *, ours: bool) -> ApiKeyExists:
    """Return the error for a name that is in use; `ours`: what is there would be deleted as a key."""
    remedy = "Choose another name: this service has not made what is there, and does not delete it."
    if ours:
        remedy = f"Choose another name, or DELETE /api-keys/{name} first; GET /api-keys tells whether it counts."
    return ApiKeyExists(path, "something is stored under this name already", remedy)


def _date(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
