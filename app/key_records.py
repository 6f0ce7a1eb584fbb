"""What is known of an API key, and where is it stored? One file a backend, one protocol."""

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from app.errors import ApiKeyExists

_RECORD = re.compile(r"([^~]+)~([A-Za-z0-9_-]{43})~([0-9]{1,15})~([0-9]{0,15})~([0-9a-f]*)")


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


class KeyShelf(Protocol):
    """Where keys are stored. All calls block; each raises a `VaultError` if it could not do its work."""

    def records(self) -> list[KeyRecord]:
        """Return what is known of all keys, in a few requests however many there are."""
        ...

    def add(self, record: KeyRecord, key: str) -> None:
        """Store a new key, verify it, and let it count, or leave nothing behind; raise `ApiKeyExists`."""
        ...

    def look(self, name: str) -> tuple[list[KeyRecord], Any]:
        """Return what is known of a name, and a mark of its state for `replace`; raise `ApiKeyMissing`."""
        ...

    def replace(self, record: KeyRecord, key: str, mark: Any) -> None:
        """Store another key of a name, verify it, and let it count; the old ones count as before.

        Raises `LostRace` if the state is not what `look` saw. After any error all is as it was, or the error says what
        is not.
        """
        ...

    def settle(self, record: KeyRecord, former: Iterable[KeyRecord], gone: Iterable[KeyRecord]) -> None:
        """Give `former` keys of a name their new ends, and forget those that are `gone`; `record` is the present one.

        Raises `ApiKeyMissing` if the name has been revoked meanwhile.
        """
        ...

    def reveal(self, name: str) -> str:
        """Return the key that is stored under a name."""
        ...

    def remove(self, name: str) -> None:
        """Remove all keys of a name; raise `ApiKeyMissing` if there is none."""
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
    return KeyRecord(name, urlsafe_b64decode(digest + "="), int(created), int(until) if until else None, tag)


def for_people(record: KeyRecord) -> dict[str, str]:
    """Return what is written down beside a key for people; the service itself does not read it."""
    until = "never" if record.until is None else _date(record.until)
    return {"created_at": _date(record.created), "expires_at": until, "sha256": record.digest.hex()}


def name_taken(path: str, name: str) -> ApiKeyExists:
    """Return the error for a name that is in use."""
    remedy = f"Choose another name, or DELETE /api-keys/{name} first; GET /api-keys tells whether it counts."
    return ApiKeyExists(path, "something is stored under this name already", remedy)


def _date(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
