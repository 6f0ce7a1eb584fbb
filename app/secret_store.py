"""Which secrets does the service hold right now? The live, read-only mapping behind `app.state.vault_secrets`."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from app.backends.protocol import Secret
from app.errors import SecretsIncomplete, SecretUnavailable
from app.logging_config import get_logger
from app.redaction import hold, redact
from app.unpicklable import Unpicklable

_ABSENT = object()  # equal to no value that a secret can have

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an entry comes from; shown to people, so it holds no value."""

    source: str
    path: str
    version: int | None
    created_at: float | None  # when this version was written, in seconds since 1970


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


class _SecretMapping(Unpicklable, Mapping[str, Any]):
    """A mapping that never shows its values by accident: not in `repr`, `str`, pickle or JSON."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {sorted(self)}>"


class Snapshot(_SecretMapping):
    """Secrets that belong together: read at one time, never changed."""

    __slots__ = ("_values", "origins")

    def __init__(self, values: Mapping[str, Any], origins: Mapping[str, Origin]) -> None:
        self._values = dict(values)
        self.origins = dict(origins)

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
        self._declared = declared
        self._snapshot = Snapshot({}, {})
        optional = {name: field.get_default(call_default_factory=True) for name, field in _optional(declared)}
        self._parts: dict[str, tuple[Secret, ...]] = {"defaults": (Secret("the declaration", optional),)}
        self._parts |= dict.fromkeys(sources, ())
        self._publishing = threading.Lock()
        self._clashes: set[str] = set()
        self.problems = broken_secrets(declared, {})
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

    def would_take(self, name: str, values: Mapping[str, Any]) -> bool:
        """Tell whether these values hold one for `name` that is as declared."""
        return name in values and name not in broken_secrets(self._declared, values)

    def publish(self, source: str, secrets: Iterable[Secret]) -> tuple[Change, ...]:
        """Put what `source` holds now in place of what it held before, and return what changed by that.

        Raises `SecretsIncomplete`, and changes nothing, if a declared secret that is held now would be lost or
        malformed, or if the declaration as a whole would break. What was not in order before is left out, and listed
        in `problems`.
        """
        with self._publishing:
            before = self._parts.get(source, ())
            parts = {**self._parts, source: tuple(secrets)}
            hold((id(self), "offered"), [secret.data for secret in parts[source]])
            merged = merge(parts)
            problems = broken_secrets(self._declared, merged)
            lost = {name for name, origin in self._snapshot.origins.items() if before or origin.source != "defaults"}
            worse = {
                name: problem
                for name, problem in problems.items()
                if name in lost or (before and name not in self.problems)
            }
            if worse:
                raise SecretsIncomplete(worse)
            self._parts = parts
            hold((id(self), source), [secret.data for secret in parts[source]])
            self._snapshot = Snapshot(
                {name: value for name, value in merged.items() if name not in problems},
                {name: origin for name, origin in merged.origins.items() if name not in problems},
            )
            self.problems = problems
            self._report_clashes()
            return tuple(_changes(before, parts[source]))

    def _report_clashes(self) -> None:
        """Warn once of each name that more than one source brings without having been asked for it by name."""
        found = Counter(name for source in self._parts if source != "defaults" for name in self._found_in(source))
        clashes = {name for name, count in found.items() if count > 1}
        if new := sorted(clashes - self._clashes):
            origins = self._snapshot.origins
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


def _optional(declared: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    return ((name, field) for name, field in declared.model_fields.items() if not field.is_required())


def broken_secrets(declared: type[BaseModel], values: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with each declared secret that is missing or malformed, without any value."""
    try:
        declared.model_validate(dict(values))
    except ValidationError as error:
        return {  # a validator of the declaration may put the value into its message
            str((*problem["loc"], "the declaration")[0]): "missing"
            if problem["type"] == "missing"
            else redact(problem["msg"])
            for problem in error.errors(include_input=False, include_url=False)
        }
    return {}
