"""How are API keys stored in Conjur? Each as a variable, and what is known of it as annotations of that variable.

A key counts as long as its records are annotated: a policy load writes them, and one listing tells them of all keys.
Conjur has no check-and-set; but a policy that is added (`POST`) leaves annotations that are there as they are. So of
several who want one name the first gets it. Of several who rotate one key at the same time the last one does, whose key
then both is stored and counts; who was overtaken is told so if that happens before the end. Rests on what
`ConjurWriter` rests on.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from app.backends.conjur_writer import ConjurWriter
from app.errors import ApiKeyMissing, LostRace, PathMissing, VaultError
from app.key_records import KeyRecord, digest_of, for_people, marker_of, name_taken, record_of
from app.logging_config import get_logger

RECORDS = "api-key-records"  # the annotation that the service reads; the others are for people
CLAIM = "sha256"  # the annotation that says whose key it is, also before that counts
TRIES = 5
PAUSE = 0.1, 0.5  # seconds, spread so that those who are at the same key do not go on meeting

log = get_logger(__name__)


class ConjurKeyShelf:
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

    def records(self) -> list[KeyRecord]:
        """Return what is known of all keys: a request for every thousand variables that can be seen."""
        return [record for _, annotations in self._writer.list(self._prefix) for record in _records(annotations)]

    def add(self, record: KeyRecord, key: str) -> None:
        """Claim the name, set the key, verify it, and only then let it count."""
        path = self._path(record.name)
        with suppress(PathMissing):  # a variable that is there is left alone, whatever it holds
            self._writer.annotations(path)
            raise name_taken(path, record.name)
        try:
            self._writer.declare(path, for_people(record))
            if not self._is_claimed(path, record):
                raise name_taken(path, record.name)
            self._store(path, record, key, for_people(record))
            self._writer.annotate(path, _noted([record]))
        except VaultError as error:
            self._undo(path, record, error)
            raise

    def look(self, name: str) -> tuple[list[KeyRecord], dict[str, str]]:
        """Return the records of a name, and its annotations."""
        try:
            noted = self._writer.annotations(self._path(name))
        except PathMissing:
            raise ApiKeyMissing(name) from None
        found = _records(noted)
        if not found:
            raise ApiKeyMissing(name)
        return found, noted

    def replace(self, record: KeyRecord, key: str, mark: Any) -> None:
        """Put the new record first, then the key; if that fails, put the records back as they were."""
        path, notes = self._path(record.name), _noted([record, *_records(mark)])
        try:
            self._writer.annotate(path, notes)
            self._store(path, record, key, notes)
        except VaultError as error:
            self._put_back(path, record, key, mark, error)
            raise

    def settle(self, record: KeyRecord, former: Iterable[KeyRecord], gone: Iterable[KeyRecord]) -> None:  # noqa: ARG002 - what is not noted is gone
        """Write all records of the name anew; the claim is left to who may be claiming it just now."""
        path = self._path(record.name)
        self._refuse_if_lost(path, record, "Take the key that they got.")
        self._writer.annotate(path, {RECORDS: _noted([record, *former])[RECORDS]})
        if self._claim(path) is None:  # it was revoked before we wrote
            self._writer.delete(path)
            raise ApiKeyMissing(record.name)
        self._refuse_if_lost(path, record, "Take the key that they got; if that does not count, rotate it again.")

    def _refuse_if_lost(self, path: str, record: KeyRecord, remedy: str) -> None:
        try:
            claimed = self._is_claimed(path, record)
        except PathMissing:
            raise ApiKeyMissing(record.name) from None
        if not claimed:
            raise LostRace(path, "somebody else has rotated it meanwhile", remedy)

    def reveal(self, name: str) -> str:
        """Return the key that is stored under a name."""
        (key,) = self._writer.read(self._path(name)).data.values()
        return str(key)

    def remove(self, name: str) -> None:
        """Delete the variable, and with it all that is known of the key; one that holds something else stays."""
        try:
            noted = self._writer.annotations(self._path(name))
        except PathMissing:
            raise ApiKeyMissing(name) from None
        if not {CLAIM, RECORDS} & noted.keys():
            raise ApiKeyMissing(name)
        self._writer.delete(self._path(name))

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
                claimed, stored = self._claim(path), self._stored(record.name)
                if claimed == stored == record.digest.hex():
                    return
                if claimed is None:  # revoked: our write has made a variable that belongs to nobody
                    self._writer.delete(path)
                if claimed in {stored, None}:
                    raise LostRace(path, "somebody else has changed it at the same time", "Look, and repeat.")
            self._writer.annotate(path, claim)
        raise VaultError(path, "what is stored is not what was written", "Look who else writes there.")

    def _claim(self, path: str) -> str | None:
        """Return the hash of the key that is claimed to be there."""
        return self._writer.annotations(path).get(CLAIM)

    def _stored(self, name: str) -> str | None:
        """Return the hash of the key that is there."""
        try:
            return digest_of(self.reveal(name)).hex()
        except PathMissing:  # it has no value yet
            return None

    def _is_claimed(self, path: str, record: KeyRecord) -> bool:
        return self._claim(path) == record.digest.hex()

    def _undo(self, path: str, record: KeyRecord, error: VaultError) -> None:
        """Leave nothing behind that is ours; if that fails, say what to do."""
        try:
            if self._is_claimed(path, record):
                self._writer.delete(path)
        except PathMissing:
            pass
        except VaultError as another:
            _left_behind(record.name, another)
            error.remedy += f" Then DELETE /api-keys/{record.name}, since traces of the attempt could not be removed."

    def _put_back(self, path: str, record: KeyRecord, key: str, before: Mapping[str, str], error: VaultError) -> None:
        """Undo a rotation that failed, unless it is somebody else's by now; if the key is set, say what to do."""
        try:
            if not self._is_claimed(path, record):
                return
            if self.reveal(record.name) != key:
                self._writer.annotate(path, before)
                return
        except VaultError as another:
            _left_behind(record.name, another)
        error.remedy += " The new key may be stored already: rotate it again."


def _records(annotations: Mapping[str, str]) -> list[KeyRecord]:
    return [record for marker in annotations.get(RECORDS, "").split() if (record := record_of(marker))]


def _noted(records: list[KeyRecord]) -> dict[str, str]:
    return {**for_people(records[0]), RECORDS: " ".join(map(marker_of, records))}


def _left_behind(name: str, error: VaultError) -> None:
    log.warning("api_key_left_behind", name=name, error=type(error).__name__, reason=str(error))
