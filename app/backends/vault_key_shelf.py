"""How are API keys stored in Vault? Each as a secret `{"key": …}`, and what is known of it in the names of a list.

Below the write prefix, `<name>` holds the key, in the form that other services read, and custom metadata for people.
`.index/<record>` has no values: all that the service must know of a key stands in its name, so that one `LIST` tells it
of 10,000 keys. A key counts as long as its record is there: an issue writes the record last, a revocation removes it
first. Rests on KV version 2: `data/`, `metadata/` and `LIST metadata/`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from app.backends.vault_kv_writer import VaultKVWriter
from app.errors import ApiKeyMissing, LostRace, PathMissing, VaultError
from app.key_records import KeyRecord, for_people, marker_of, name_taken, record_of
from app.logging_config import get_logger

INDEX = ".index"

log = get_logger(__name__)


class VaultKeyShelf:
    """The keys below one path of a KV engine of version 2."""

    def __init__(self, find_writer: Callable[[], VaultKVWriter], prefix: str) -> None:
        self._find_writer = find_writer
        self._prefix = prefix

    @property
    def _writer(self) -> VaultKVWriter:
        return self._find_writer()  # each time: a service that is started again has a new session

    def records(self) -> list[KeyRecord]:
        """Return what is known of all keys: one request."""
        self._writer.refuse_in_version_1(self._prefix, "an index of keys")
        names = self._writer.list(f"{self._prefix}/{INDEX}")
        return [record for name in names if (record := record_of(name))]

    def add(self, record: KeyRecord, key: str) -> None:
        """Store the key if there is none of this name, verify it, and only then let it count."""
        path = self._path(record.name)
        try:
            self._writer.write(path, {"key": key}, cas=0)
        except LostRace:
            raise name_taken(path, record.name) from None
        except VaultError as error:  # it may have been written all the same
            self._settle_write(record, key, error)
            raise
        try:
            self._writer.write_custom_metadata(path, for_people(record))
            self._verify(path, key)
            self._note(record)
            self._verify(path, key)  # somebody may have revoked the name meanwhile
        except VaultError as error:
            self._undo(record, error)
            raise

    def look(self, name: str) -> tuple[list[KeyRecord], int]:
        """Return the records of a name, and the version of its key: first that, since what changes later changes it."""
        try:
            version: int = self._writer.metadata(self._path(name))["current_version"]
        except PathMissing:
            raise ApiKeyMissing(name) from None
        found = [record for record in self.records() if record.name == name]
        if not found:
            raise ApiKeyMissing(name)
        return found, version

    def replace(self, record: KeyRecord, key: str, mark: Any) -> None:
        """Put the new record first, then the key with check-and-set: if that fails, all is as it was."""
        path = self._path(record.name)
        try:
            self._note(record)
            self._writer.write(path, {"key": key}, cas=mark)
            self._verify(path, key)
        except VaultError as error:
            if self._is_as_before(path, mark, error):
                self._take_back(record, error)
            raise

    def settle(self, record: KeyRecord, former: Iterable[KeyRecord], gone: Iterable[KeyRecord]) -> None:
        """Write the new ends first: the earliest end on record counts, so what else is left there does no harm."""
        former = tuple(former)
        for each in former:
            self._note(each)
        with suppress(VaultError):
            for each in gone:
                self._forget(each)
            self._writer.write_custom_metadata(self._path(record.name), for_people(record))
        try:
            self._writer.read(self._path(record.name))
        except PathMissing:  # it was revoked before we wrote
            for each in (record, *former):
                self._forget(each)
            self._writer.delete_metadata(self._path(record.name))  # which has no version, only what we described
            raise ApiKeyMissing(record.name) from None

    def reveal(self, name: str) -> str:
        """Return the key that is stored under a name."""
        return str(self._writer.read(self._path(name)).data.get("key", ""))

    def remove(self, name: str) -> None:
        """Remove the records first: from then on no key of this name counts."""
        known = self._forget_all(name)
        try:
            self._writer.metadata(self._path(name))
        except PathMissing:
            if not known:
                raise ApiKeyMissing(name) from None
        self._writer.delete_metadata(self._path(name))
        self._forget_all(name)  # those of an issue or a rotation that was under way

    def _forget_all(self, name: str) -> bool:
        found = [record for record in self.records() if record.name == name]
        for record in found:
            self._forget(record)
        return bool(found)

    def _note(self, record: KeyRecord) -> None:
        with self._without_hash(record):
            self._writer.write_custom_metadata(self._marker(record), {})

    def _forget(self, record: KeyRecord) -> None:
        with self._without_hash(record):
            self._writer.delete_metadata(self._marker(record))

    @contextmanager
    def _without_hash(self, record: KeyRecord) -> Iterator[None]:
        """Keep the hash, which is part of the path, out of errors."""
        try:
            yield
        except VaultError as error:
            error.subject, error.cause, error.remedy = (
                text.replace(marker_of(record), "*") for text in (error.subject, error.cause, error.remedy)
            )
            raise

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _marker(self, record: KeyRecord) -> str:
        return f"{self._prefix}/{INDEX}/{marker_of(record)}"

    def _verify(self, path: str, key: str) -> None:
        if not self._is_ours(path, key):
            raise VaultError(path, "what is stored is not what was written", "Look who else writes there.")

    def _is_ours(self, path: str, key: str) -> bool:
        try:
            return bool(self._writer.read(path).data.get("key") == key)
        except PathMissing:
            return False

    def _is_as_before(self, path: str, version: int, error: VaultError) -> bool:
        """Tell whether a rotation that failed has left the key as it was; if not, say in `error` what to do."""
        with suppress(VaultError):
            if isinstance(error, LostRace) or self._writer.metadata(path)["current_version"] == version:
                return True
        error.remedy += " The new key may be stored already: rotate it again."
        return False

    def _settle_write(self, record: KeyRecord, key: str, error: VaultError) -> None:
        """Undo what a write that failed may have done; what is stored, if anything, may be somebody else's."""
        try:
            ours = self._is_ours(self._path(record.name), key)
        except VaultError:
            error.remedy += f" The key may be stored, but does not count: DELETE /api-keys/{record.name} first."
            return
        if ours:
            self._undo(record, error)

    def _undo(self, record: KeyRecord, error: VaultError) -> None:
        """Leave nothing behind; if that fails too, say in `error` what is left."""
        self._take_back(record, error, key_too=True)

    def _take_back(self, record: KeyRecord, error: VaultError, *, key_too: bool = False) -> None:
        name = record.name
        try:
            self._forget(record)
            if key_too:
                self._writer.delete_metadata(self._path(name))
        except VaultError as another:
            log.warning("api_key_left_behind", name=name, error=type(another).__name__, reason=str(another))
            again = f"DELETE /api-keys/{name}" if key_too else f"rotate {name} again"
            error.remedy += f" Then {again}, since traces of the attempt could not be removed."
