"""How are API keys stored in Conjur? Each as a variable, and what is known of it as annotations of that variable.

A key counts as long as its records are annotated: a policy load writes them, and one listing tells them of all keys.
Conjur has no check-and-set; but a policy that is added (`POST`) leaves annotations that are there as they are. So of
several who want one name the first gets it. Of several who rotate one key at the same time the last one does; who was
overtaken is told so if that happens before the end. Rests on what `ConjurWriter` rests on.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from app.backends.conjur_writer import ConjurWriter
from app.errors import ApiKeyMissing, LostRace, PathMissing, VaultError
from app.key_records import KeyRecord, for_people, marker_of, name_taken, record_of
from app.logging_config import get_logger

RECORDS = "api-key-records"  # the annotation that the service reads; the others are for people
CLAIM = "sha256"  # the annotation that says whose key it is, also before that counts
TRIES = 3

log = get_logger(__name__)


class ConjurKeyShelf:
    """The keys below one path, which must lie in the policy branch that the service owns."""

    def __init__(self, find_writer: Callable[[], ConjurWriter], prefix: str) -> None:
        self._find_writer = find_writer
        self._prefix = prefix

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
            self._store(path, record, key)
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
        path = self._path(record.name)
        try:
            self._writer.annotate(path, _noted([record, *_records(mark)]))
            self._store(path, record, key)
        except VaultError as error:
            self._put_back(path, record, key, mark, error)
            raise

    def settle(self, record: KeyRecord, former: Iterable[KeyRecord], gone: Iterable[KeyRecord]) -> None:  # noqa: ARG002 - what is not noted is gone
        """Write all records of the name anew."""
        path = self._path(record.name)
        try:
            claimed = self._is_claimed(path, record)
        except PathMissing:
            raise ApiKeyMissing(record.name) from None
        if not claimed:
            raise LostRace(path, "somebody else has rotated it meanwhile", "Take the key that they got.")
        self._writer.annotate(path, _noted([record, *former]))

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
        if CLAIM not in noted:
            raise ApiKeyMissing(name)
        self._writer.delete(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _store(self, path: str, record: KeyRecord, key: str) -> None:
        """Set the key and verify it; raise `LostRace` if somebody else has claimed the variable meanwhile."""
        for _ in range(TRIES):
            with suppress(PathMissing):  # it has no value yet
                if self.reveal(record.name) == key:
                    return
            if not self._is_claimed(path, record):
                raise LostRace(path, "somebody else has changed it at the same time", "Look, and repeat.")
            self._writer.write(path, key)
        raise VaultError(path, "what is stored is not what was written", "Look who else writes there.")

    def _is_claimed(self, path: str, record: KeyRecord) -> bool:
        return self._writer.annotations(path).get(CLAIM) == record.digest.hex()

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
