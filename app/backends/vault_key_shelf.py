"""How are API keys stored in Vault? Each as a secret `{"key": …}`, and what is known of it in the names of a list.

Below the write prefix, `<name>` holds the key, in the form that other services read, and custom metadata for people.
`.index/<record>` has no values: all that the service must know of a key stands in its name, so that one `LIST` tells it
of 10,000 keys. A key counts as long as its record is there: an issue writes the record last, a revocation removes it
first. Rests on KV version 2: `data/`, `metadata/` and `LIST metadata/`.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

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
            self._settle(record, key, error)
            raise
        try:
            self._describe(record)
            self._verify(path, key)
            self._writer.write_custom_metadata(self._marker(record), {})
        except VaultError as error:
            self._undo(record, error)
            raise

    def replace(self, record: KeyRecord, key: str, former: Iterable[KeyRecord], gone: Iterable[KeyRecord]) -> None:
        """Put the records first, then the key with check-and-set: if that fails, all is as it was."""
        path, new = self._path(record.name), []
        version = self._writer.metadata(path)["current_version"]
        try:
            for each in (record, *former):
                new.append(self._marker(each))
                self._writer.write_custom_metadata(new[-1], {})
            self._writer.write(path, {"key": key}, cas=version)
            self._verify(path, key)
        except VaultError as error:
            if self._is_as_before(path, version, error):
                self._take_back(record.name, new, error)
            raise
        with suppress(VaultError):  # the one is for people, the others have an earlier end on record
            self._describe(record)
            for each in gone:
                self._writer.delete_metadata(self._marker(each))

    def reveal(self, name: str) -> str:
        """Return the key that is stored under a name."""
        return str(self._writer.read(self._path(name)).data.get("key", ""))

    def remove(self, name: str) -> None:
        """Remove the records first: from then on no key of this name counts."""
        markers = [each for each in self._writer.list(f"{self._prefix}/{INDEX}") if each.startswith(f"{name}~")]
        if not markers:
            try:  # a key without a record: left behind by an issue that broke off
                self._writer.metadata(self._path(name))
            except PathMissing:
                raise ApiKeyMissing(name) from None
        for marker in markers:
            self._writer.delete_metadata(f"{self._prefix}/{INDEX}/{marker}")
        self._writer.delete_metadata(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _marker(self, record: KeyRecord) -> str:
        return f"{self._prefix}/{INDEX}/{marker_of(record)}"

    def _describe(self, record: KeyRecord) -> None:
        """Write down for people what is known of the key; the service itself does not read it."""
        self._writer.write_custom_metadata(self._path(record.name), for_people(record))

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

    def _settle(self, record: KeyRecord, key: str, error: VaultError) -> None:
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
        self._take_back(record.name, [self._marker(record), self._path(record.name)], error)

    def _take_back(self, name: str, paths: Iterable[str], error: VaultError) -> None:
        try:
            for path in paths:
                self._writer.delete_metadata(path)
        except VaultError as another:
            log.warning("api_key_left_behind", name=name, error=type(another).__name__, reason=str(another))
            error.remedy += f" Then DELETE /api-keys/{name}, since traces of the attempt could not be removed."
