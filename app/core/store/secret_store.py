"""Which secrets does the service hold right now? The live, read-only mapping behind `app.state.vault_secrets`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from app.core import forks
from app.core.errors import SecretsIncomplete, SecretUnavailable
from app.core.logs.logging_config import get_logger
from app.core.logs.redaction import mask_from_now_on
from app.core.not_serializable import NotSerializable
from app.core.store.declaration import Declaration, Origin
from app.core.store.source import Secret

_ABSENT = object()  # equal to no value that a secret can have

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """What a rotation changed at one path; names only."""

    path: str
    old_version: int | None
    new_version: int | None
    keys: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """Return it for a log line or an answer."""
        return {"path": self.path, "old": self.old_version, "new": self.new_version, "keys": list(self.keys)}


class _SecretMapping(NotSerializable, Mapping[str, Any]):
    """A mapping that never shows its values by accident: not in `repr`, `str`, pickle or JSON."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {sorted(self)}>"


class Snapshot(_SecretMapping):
    """Secrets that belong together: read at one time, never changed."""

    __slots__ = ("_model", "_values", "generation", "origins")

    def __init__(
        self,
        values: Mapping[str, Any],
        origins: Mapping[str, Origin],
        model: BaseModel | None = None,
        generation: int = 0,  # counts the snapshots of a store
    ) -> None:
        self.generation = generation
        self._values = dict(values)
        self.origins = dict(origins)
        self._model = model

    @property
    def declared(self) -> BaseModel:
        """The declared model; raises `SecretUnavailable` if any of it is missing or malformed."""
        if self._model is None:
            raise SecretUnavailable("the declared secrets", "not all are held", "GET /health/ready tells why.")
        return self._model

    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise SecretUnavailable(
                f"secret {name!r}", "the service does not hold it", "GET /health/ready tells why."
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class SecretStore(_SecretMapping):
    """The snapshot in force. Reading looks at memory only; `publish` swaps in the next snapshot in one step.

    A handler that needs several values that belong together takes one `snapshot()` and reads them all from it.
    """

    def __init__(
        self, declared: type[BaseModel], sources: Iterable[str] = (), overrides: Iterable[Secret] = ()
    ) -> None:
        """Wait for what `sources`, in this order, will publish; `overrides` win over them all."""
        self.declared = declared
        self._declaration = Declaration(declared)
        self._snapshot = Snapshot({}, {})
        self._parts: dict[str, tuple[Secret, ...]] = dict.fromkeys(sources, ())
        self._publishing = forks.Lock()
        self._clashes: set[str] = set()
        self.problems = self._declaration.read({}, {}).problems
        self.publish("environment", overrides)

    def __getitem__(self, name: str) -> Any:
        return self._snapshot[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._snapshot)

    def __len__(self) -> int:
        return len(self._snapshot)

    def snapshot(self) -> Snapshot:
        """Return the secrets in force as one unchanging whole."""
        return self._snapshot

    def describe(self) -> dict[str, Any]:
        """Return what the log may say of it: names, and what is wrong."""
        return {"names": sorted(self), "broken": [f"{name}: {problem}" for name, problem in self.problems.items()]}

    def former_value(self, name: str, secret: Secret) -> Iterator[Any]:
        """Yield the value that the entry `name` had when this was in force, unless it is not as declared."""
        found = merge(self._parts)
        reading = self._declaration.read({**found, **secret.data}, found.origins)
        if name in reading.values:
            yield reading.values[name]

    def publish(self, source: str, secrets: Iterable[Secret]) -> tuple[Change, ...]:
        """Put what `source` holds now in place of what it held before, and return what changed by that.

        Raises `SecretsIncomplete`, and changes nothing, if a declared secret that is held now would be lost or
        malformed, or if the declaration as a whole would break. What was not in order before is left out, and listed
        in `problems`. What handlers get is what pydantic makes of it.
        """
        with self._publishing:
            before = self._parts.get(source, ())
            parts = {**self._parts, source: tuple(secrets)}
            mask_from_now_on((id(self), "offered"), [secret.data for secret in parts[source]])
            found = merge(parts)
            reading = self._declaration.read(found, found.origins)
            if worse := {name: why for name, why in reading.problems.items() if self._was_in_order(name, before)}:
                raise SecretsIncomplete(worse)
            self._parts = parts
            mask_from_now_on((id(self), source), [secret.data for secret in parts[source]])
            mask_from_now_on((id(self), "declared"), list(reading.values.values()))  # a validator may have changed them
            after = self._snapshot.generation + 1
            self._snapshot = Snapshot(reading.values, reading.origins, reading.model, after)
            self.problems = reading.problems
            self._report_clashes(found.origins)
            return tuple(_changes(before, parts[source]))

    def _was_in_order(self, name: str, before: Sequence[Secret]) -> bool:
        """Tell whether an entry that is missing or malformed now was in order until now, so that it must not be lost.

        | until now                      | the source's first load | a later load     |
        | ------------------------------ | ----------------------- | ---------------- |
        | a value that a source brought  | must not be lost        | must not be lost |
        | the declaration's default      | may break               | must not be lost |
        | not held, which was no problem | may break               | must not break   |
        | not held, which was a problem  | stays one               | stays one        |
        """
        if name in self._snapshot.origins:
            return bool(before) or self._snapshot.origins[name].source != "defaults"
        return bool(before) and name not in self.problems

    def _report_clashes(self, origins: Mapping[str, Origin]) -> None:
        """Warn once of each name that more than one source brings without having been asked for it by name."""
        found = Counter(name for source in self._parts for name in self._found_in(source))
        clashes = {name for name, count in found.items() if count > 1}
        if new := sorted(clashes - self._clashes):
            winners = [f"{name}: {origins[name].source}" for name in new if name in origins]
            log.warning("vault_secrets_clash", names=new, winners=winners)
        self._clashes = clashes

    def _found_in(self, source: str) -> set[str]:
        return {name for secret in self._parts[source] if not secret.explicit for name in secret.data}


def _changes(before: Iterable[Secret], after: Iterable[Secret]) -> Iterator[Change]:
    old, new = ({secret.path: secret for secret in secrets} for secrets in (before, after))
    for path in {**old, **new}:
        was, now = old.get(path, Secret(path, {})), new.get(path, Secret(path, {}))
        if was.data != now.data or was.version != now.version:
            keys = (key for key in {**was.data, **now.data} if was.data.get(key, _ABSENT) != now.data.get(key, _ABSENT))
            yield Change(path, was.version, now.version, tuple(sorted(keys)))


def merge(parts: Mapping[str, Iterable[Secret]]) -> Snapshot:
    """Put secrets from several sources and paths together; what is explicit wins, else the later one."""
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    secrets = [(source, secret) for source, secrets in parts.items() for secret in secrets]
    for source, secret in sorted(secrets, key=lambda each: each[1].explicit):
        values.update(secret.data)
        origin = Origin(source, secret.path, secret.version, secret.created_at)
        origins.update(dict.fromkeys(secret.data, origin))
    return Snapshot(values, origins)
