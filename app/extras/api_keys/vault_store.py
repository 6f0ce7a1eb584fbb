"""How are API keys stored in Vault? Each as a secret `{"key": …}`, and what is known of it in the names of a list.

Below the write prefix, `<name>` holds the key, in the form that other services read, and custom metadata for people.
`.index/<record>` has no values: all that the service must know of a key stands in its name, so that one `LIST` tells it
of 10,000 keys. A key counts as long as its record is there: an issue writes the record last, a revocation removes it
first. Others may keep their own secrets below the prefix: they are neither replaced nor deleted. Rests on KV version 2:
`data/`, `metadata/` and `LIST metadata/`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from app.core.errors import BackendError, LostRace, PathMissing, PermissionDenied
from app.core.logs.logging_config import get_logger
from app.core.vault.kv_writer import VaultKVWriter
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

INDEX = ".index"

log = get_logger(__name__)


class VaultApiKeyStore:
    """The keys below one path of a KV engine of version 2."""

    def __init__(self, find_writer: Callable[[], VaultKVWriter], prefix: str) -> None:
        self._find_writer = find_writer
        self._prefix = prefix

    @property
    def _writer(self) -> VaultKVWriter:
        return self._find_writer()  # each time: a service that is started again has a new session

    def records(self) -> list[KeyRecord]:
        """Return what is known of all keys: one request."""
        return good_records(self._markers(), f"{self._prefix}/{INDEX}")

    def _markers(self) -> list[str]:
        self._writer.refuse_in_version_1(self._prefix, "an index of keys")
        return self._writer.list(f"{self._prefix}/{INDEX}")

    def add(self, record: KeyRecord, key: str) -> None:
        """Store the key if there is none of this name, verify it, and only then let it count."""
        path = self._path(record.name)
        with suppress(PathMissing, PermissionDenied):  # a secret without a version can have metadata of others
            self._writer.metadata(path)
            raise self._name_taken(record.name)
        try:
            self._writer.write(path, {"key": key}, cas=0)
        except LostRace:
            raise self._name_taken(record.name) from None
        except BackendError as error:  # it may have been written all the same
            self._settle_write(record, key, error)
            raise
        try:
            self._writer.write_custom_metadata(path, for_people(record))
            self._verify(path, key)
            self._note(record)
            self._verify(path, key)  # somebody may have revoked the name meanwhile
        except BackendError as error:
            self._undo(record, error)
            raise

    def describe(self, name: str) -> tuple[list[KeyRecord], int]:
        """Return the records of a name, and the version of its key: first that, since what changes later changes it."""
        version, described = self._state(name)
        if not self._holds_key(name, described=described):  # somebody else's secret stays as it is
            raise ApiKeyMissing(name)
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
        except BackendError as error:
            if self._is_as_before(path, mark, error):
                self._take_back(record, error)
            raise

    def expire_old(self, record: KeyRecord, former: Iterable[KeyRecord], gone: Iterable[KeyRecord]) -> None:
        """Write the new ends first: the earliest end on record counts, so what else is left there does no harm."""
        former = tuple(former)
        for each in former:
            self._note(each)
        with suppress(BackendError):
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

    def fetch(self, name: str) -> str:
        """Return the key that is stored under a name."""
        return str(self._writer.read(self._path(name)).data.get("key", ""))

    def remove(self, name: str) -> None:
        """Remove the records first: from then on no key of this name counts. What is stored goes if it is a key."""
        known = self._forget_all(name)
        if self._may_go(name):
            self._writer.delete_metadata(self._path(name))
        elif not known:
            raise ApiKeyMissing(name)
        self._forget_all(name)  # those of an issue or a rotation that was under way

    def _forget_all(self, name: str) -> bool:
        known = [record for marker in self._markers() if (record := record_of(marker))]
        found = [record for record in known if record.name == name]  # also one that does not count yet
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
        except BackendError as error:
            error.subject, error.cause, error.remedy = (
                text.replace(marker_of(record), "*") for text in (error.subject, error.cause, error.remedy)
            )
            raise

    def _state(self, name: str) -> tuple[int, bool]:
        """Return the version of what is stored under a name, and whether this service has described it as a key."""
        try:
            known = self._writer.metadata(self._path(name))
        except PathMissing:
            raise ApiKeyMissing(name) from None
        return int(known["current_version"]), is_for_people(known.get("custom_metadata") or {})

    def _holds_key(self, name: str, *, described: bool) -> bool:
        """Tell whether a key is stored there. What a crash has left in the middle of an issue is not described yet."""
        try:
            data = self._writer.read(self._path(name)).data
        except PathMissing:  # deleted, destroyed or never written: the description tells whose it was
            return described
        return is_key(data.get("key")) and (described or len(data) == 1)

    def _may_go(self, name: str) -> bool:
        """Tell whether what is stored under a name is a key, and not somebody else's secret."""
        try:
            _, described = self._state(name)
        except ApiKeyMissing:
            return False
        return self._holds_key(name, described=described)

    def _name_taken(self, name: str) -> ApiKeyExists:
        ours = False
        with suppress(BackendError):
            ours = self._may_go(name)
        return name_taken(self._path(name), name, ours=ours)

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _marker(self, record: KeyRecord) -> str:
        return f"{self._prefix}/{INDEX}/{marker_of(record)}"

    def _verify(self, path: str, key: str) -> None:
        if not self._is_ours(path, key):
            raise BackendError(path, "what is stored is not what was written", "Look who else writes there.")

    def _is_ours(self, path: str, key: str) -> bool:
        try:
            return bool(self._writer.read(path).data.get("key") == key)
        except PathMissing:
            return False

    def _holds(self, record: KeyRecord) -> bool:
        """Tell whether the key of a record is stored, or described: by now the name may be somebody else's."""
        path = self._path(record.name)
        try:
            return digest_of(str(self._writer.read(path).data.get("key"))) == record.digest
        except BackendError as error:
            with suppress(PathMissing):
                described = (self._writer.metadata(path).get("custom_metadata") or {}).get("sha256")
                if described == record.digest.hex():
                    return True
            if isinstance(error, PathMissing):
                return False
            raise

    def _is_as_before(self, path: str, version: int, error: BackendError) -> bool:
        """Tell whether a rotation that failed has left the key as it was; if not, say in `error` what to do."""
        with suppress(BackendError):
            if isinstance(error, LostRace) or self._writer.metadata(path)["current_version"] == version:
                return True
        error.remedy += " The new key may be stored already: rotate it again."
        return False

    def _settle_write(self, record: KeyRecord, key: str, error: BackendError) -> None:
        """Undo what a write that failed may have done; what is stored, if anything, may be somebody else's."""
        try:
            ours = self._is_ours(self._path(record.name), key)
        except BackendError:
            error.remedy += f" The key may be stored, but does not count: DELETE /api-keys/{record.name} first."
            return
        if ours:
            self._undo(record, error)

    def _undo(self, record: KeyRecord, error: BackendError) -> None:
        """Leave nothing behind; if that fails too, say in `error` what is left."""
        self._take_back(record, error, key_too=True)

    def _take_back(self, record: KeyRecord, error: BackendError, *, key_too: bool = False) -> None:
        name = record.name
        try:
            self._forget(record)
            if key_too and self._holds(record):
                self._writer.delete_metadata(self._path(name))
        except BackendError as another:
            log.warning("api_key_left_behind", name=name, error=type(another).__name__, reason=str(another))
            again = f"DELETE /api-keys/{name}" if key_too else f"rotate {name} again"
            error.remedy += f" Then {again}, since traces of the attempt could not be removed."
