"""How are API keys stored in Conjur? Each as a variable, and what is known of it as annotations of that variable.

A key counts as long as its record is in the annotation `RECORDS`, which one listing tells of all keys. Conjur has no
check-and-set; what makes up for it, since each request takes effect whole:

- `POST` of a policy leaves annotations that are there. So of several who issue one name the first to declare it has the
  claim (`CLAIM`); the others see that it is not theirs, have written nothing, and get `ApiKeyExists`.
- `PATCH` overwrites: of several who rotate one key the last has the claim. Each writes the claim, then the value, and
  goes on after it has seen both as its own, twice, with a pause. Who sees both as another's has lost (`LostRace`); one
  of each means that somebody is between the two: both repeat, after pauses of their own.
- Right before each `PATCH` we look whether the claim is as we think, and right after it once more. Where another came
  between, our load has cost that one its record: we make it again from `CLAIMED`, and have lost.
- `PATCH` declares again what was revoked just before. Such a variable has no version, which every key that counts has:
  it is deleted again, and the change refused. So neither a revoked key nor a former one comes back.

So who was told of a key has it until another change comes after the end. Three at once, or a replica that dies on the
way, can leave a key stored that does not count (rotate it again). Rests on what `ConjurWriter` rests on.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from app.core.errors import BackendError, LostRace, PathMissing, UnexpectedAnswer
from app.core.logs.logging_config import get_logger
from app.core.settings.app import AppSettings
from app.extras.api_keys.errors import ApiKeyExists, ApiKeyMissing
from app.extras.api_keys.key_records import (
    KeyRecord,
    digest_of,
    for_people,
    good_records,
    is_for_people,
    is_key,
    marker_of,
    name_taken,
    record_of,
)
from app.extras.conjur.index import conjur_source
from app.extras.conjur.key_variables import CLAIM, Claims, creation_prefix, lost
from app.extras.conjur.writer import ConjurWriter

RECORDS = "api-key-records"  # the annotation that says which keys count; most others are for people
CLAIMED = "api-key-claimed"  # the record of the key that has the claim, from which an overwritten one is made again
REQUEST_WAITS = 10.0  # seconds that a request waits for other policy loads: while one does, the service cannot end
TRIES = 5
PAUSE = 0.1, 0.5  # seconds, spread so that those who are at the same key do not go on meeting

log = get_logger(__name__)


def key_store(settings: AppSettings) -> "ConjurApiKeyStore":
    """Return where the API keys of this service are; raise `BadSettings` if that is a place where it could not be."""
    find = lambda: ConjurWriter(conjur_source(settings).session, patience=REQUEST_WAITS)  # noqa: E731
    return ConjurApiKeyStore(find, creation_prefix(settings))


class ConjurApiKeyStore:
    """The keys below one path, which must lie in the policy branch that the service owns."""

    def __init__(
        self, find_writer: Callable[[], ConjurWriter], prefix: str, wait: Callable[[float], object] = time.sleep
    ) -> None:
        """`wait` waits for so many seconds."""
        self._find_writer = find_writer
        self._prefix = prefix
        self._wait = wait

    @property
    def _writer(self) -> ConjurWriter:
        return self._find_writer()  # each time: a service that is started again has a new session

    @property
    def _claims(self) -> Claims:
        return Claims(self._writer)

    def records(self) -> list[KeyRecord]:
        """Return what is known of all keys: a request for every thousand variables that can be seen."""
        return [record for _, noted in self._writer.list(self._prefix) for record in records_in(noted, self._prefix)]

    def add(self, record: KeyRecord, key: str) -> None:
        """Claim the name, set the key, verify it, and only then let it count."""
        path = self._path(record.name)
        with suppress(PathMissing):  # a variable that is there is left alone, whatever it holds
            raise self._name_taken(record.name, self._writer.annotations(path))
        try:
            self._writer.declare(path, claiming(record))
            if not self._is_claimed(path, record):
                raise name_taken(path, record.name, ours=True)
            self._store(path, record, key, claiming(record))
            self._claims.note(path, counting([record]), lambda: self._claims.refuse_if_not(path, record.digest.hex()))
        except ApiKeyMissing:
            raise LostRace(path, "somebody else has revoked it at the same time", "Look, and repeat.") from None
        except BackendError as error:
            self._undo(path, record, error)
            raise

    def describe(self, name: str) -> tuple[list[KeyRecord], dict[str, str]]:
        """Return the records of a name, and its annotations."""
        noted = self._noted(name)
        found = records_in(noted, self._path(name))
        if not found:
            raise ApiKeyMissing(name)
        return found, noted

    def replace(self, record: KeyRecord, key: str, mark: Any) -> None:
        """Put the new record first, then the key; if that fails, put the records back as they were."""
        path, notes = self._path(record.name), claiming(record) | counting([record, *records_in(mark)])
        try:
            self._claims.note(path, notes, lambda: self._claims.refuse_if_not(path, mark.get(CLAIM)))
            self._store(path, record, key, notes)
        except BackendError as error:
            self._put_back(path, record, key, mark, error)
            raise

    def expire_old(self, record: KeyRecord, former: Iterable[KeyRecord], gone: Iterable[KeyRecord]) -> None:  # noqa: ARG002 - what is not noted is gone
        """Write all records of the name again; the claim is left to who may be claiming it just now."""
        path, former = self._path(record.name), [*former]
        noted = self._claims.note(
            path, counting([record, *former]), lambda: self._claims.refuse_if_not(path, record.digest.hex())
        )
        if noted.get(CLAIM) == record.digest.hex():
            return
        if (winner := claimed_in(noted)) and winner not in records_in(noted):  # our records stand in place of theirs
            self._claims.note(path, counting([winner, *former]))
        raise lost(path)

    def fetch(self, name: str) -> str:
        """Return the key that is stored under a name."""
        (key,) = self._writer.read(self._path(name)).data.values()
        return str(key)

    def remove(self, name: str) -> None:
        """Delete the variable, and with it all that is known of the key; one that holds something else stays."""
        path, noted = self._path(name), self._noted(name)
        if self._may_go(name, noted):
            self._writer.delete(path)
        elif records_in(noted):  # somebody has set another value: it stays, but no key counts any more
            self._writer.annotate(path, {RECORDS: "none"})
        else:
            raise ApiKeyMissing(name)

    def _noted(self, name: str) -> dict[str, str]:
        try:
            return self._writer.annotations(self._path(name))
        except PathMissing:
            raise ApiKeyMissing(name) from None

    def _name_taken(self, name: str, noted: Mapping[str, str]) -> ApiKeyExists:
        ours = False
        with suppress(BackendError):
            ours = self._may_go(name, noted)
        return name_taken(self._path(name), name, ours=ours)

    def _may_go(self, name: str, noted: Mapping[str, str]) -> bool:
        """Tell whether a variable is annotated as a key, and holds one, or no value yet."""
        if not (is_for_people(noted) or records_in(noted)):
            return False
        try:
            return is_key(self.fetch(name))
        except PathMissing:
            return True
        except UnexpectedAnswer:  # it is binary
            return False

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _store(self, path: str, record: KeyRecord, key: str, claim: Mapping[str, str]) -> None:
        """Set the key until it and the claim are ours; raise `LostRace` if both are somebody else's, or are gone.

        Where one is ours and the other is not, somebody else may be between the two, and about to find the same.
        """
        for _ in range(TRIES):
            self._writer.write(path, key)
            for pause in (0.0, random.uniform(*PAUSE)):  # noqa: S311 - to part those who meet
                self._wait(pause)
                claimed, stored = self._claims.holder(path), self._stored(record.name)
                if claimed == stored == record.digest.hex():
                    return
                if claimed is None:  # revoked: our write has made a variable that belongs to nobody
                    self._writer.delete(path)
                if claimed in {stored, None}:
                    raise LostRace(path, "somebody else has changed it at the same time", "Look, and repeat.")
            self._claims.note(path, claim)
        raise BackendError(path, "what is stored is not what was written", "Look who else writes there.")

    def _stored(self, name: str) -> str | None:
        """Return the hash of the key that is there."""
        try:
            return digest_of(self.fetch(name)).hex()
        except PathMissing:  # it has no value yet
            return None

    def _is_claimed(self, path: str, record: KeyRecord) -> bool:
        return self._claims.holder(path) == record.digest.hex()

    def _undo(self, path: str, record: KeyRecord, error: BackendError) -> None:
        """Leave nothing behind that is ours; if that fails, say what to do."""
        try:
            if self._is_claimed(path, record):
                self._writer.delete(path)
        except PathMissing:
            pass
        except BackendError as another:
            log.warning("api_key_left_behind", name=record.name, error=type(another).__name__, reason=str(another))
            error.remedy += f" Then DELETE /api-keys/{record.name}, since traces of the attempt could not be removed."

    def _put_back(self, path: str, record: KeyRecord, key: str, before: Mapping[str, str], error: BackendError) -> None:
        """Undo a rotation that failed, unless it is somebody else's by now; if the key is set, say what to do."""
        try:
            if not self._is_claimed(path, record):
                return
            if self.fetch(record.name) != key:
                self._claims.note(path, before)
                return
        except (PathMissing, ApiKeyMissing):  # it was revoked: there is nothing to put back
            return
        except BackendError as another:
            log.warning("api_key_left_behind", name=record.name, error=type(another).__name__, reason=str(another))
        error.remedy += " The new key may be stored already: rotate it again."


def records_in(annotations: Mapping[str, str], place: str = "") -> list[KeyRecord]:
    """Return the keys of a name that count; `place` is named where a record is none of ours."""
    return good_records(annotations.get(RECORDS, "").split(), place)


def counting(records: Iterable[KeyRecord]) -> dict[str, str]:
    """Return the annotation that lets these keys of a name count, and no others."""
    return {RECORDS: " ".join(map(marker_of, records))}


def claiming(record: KeyRecord) -> dict[str, str]:
    """Return the annotations that claim a name, or the right to rotate its key."""
    return {**for_people(record), CLAIMED: marker_of(record)}


def claimed_in(annotations: Mapping[str, str]) -> KeyRecord | None:
    """Return the record of the key that has the claim, if it was noted."""
    record = record_of(annotations.get(CLAIMED, ""))
    return record if record and record.digest.hex() == annotations.get(CLAIM) else None
