"""What is wanted of a source, and what comes of it? Wanted places, read once, and filled in.

Wanted is what the settings name themselves, and what `SECRET_<NAME>` entries refer to; literals among these stay as
they are.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import SecretStr

from app.core.errors import (
    BackendError,
    BadReference,
    BlueprintError,
    KeyMissing,
    MountMissing,
    PathMissing,
    VersionDeleted,
    VersionMissing,
)
from app.core.settings.references import Reference, references_in, substitute
from app.core.store.failures import raise_together
from app.core.store.source import Secret, SecretRef

Texts = Mapping[str, SecretStr]  # of `SECRET_<NAME>`, by name


class LeftOutError(Exception):
    """An optional reference leads nowhere."""


class Reads(Protocol):
    """How one source is read."""

    answers_to: frozenset[str]  # whom references ask that lead here

    def named(self) -> Mapping[str, SecretRef]:
        """Return the places that the settings name themselves, by what people call them."""
        ...

    def may_be_missing(self, label: str) -> bool:
        """Tell whether it is no error if there is nothing at one of these."""
        ...

    def as_named(self, label: str, secret: Secret) -> Secret:
        """Return what was read for one of these as entries of the mapping."""
        ...

    def place_of(self, reference: Reference) -> SecretRef:
        """Return where a reference leads."""
        ...

    def read_many(self, places: Sequence[SecretRef]) -> list[Secret | BackendError]:
        """Read several places; a failure takes the secret's place."""
        ...

    def extract(self, reference: Reference, secret: Secret) -> Any:
        """Return which value of what was read is meant; raise `KeyMissing`."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """What the settings name themselves, or a `SECRET_<NAME>` that refers to some places, and what came of it."""

    label: str
    places: tuple[SecretRef, ...]
    refers: bool
    found: Secret | BlueprintError | None  # None: what is optional leads nowhere


ReadMany = Callable[[Sequence[SecretRef]], list[Secret | BackendError]]


def load(source: Reads, texts: Texts, read: ReadMany | None = None) -> tuple[Secret, ...]:
    """Return all that is wanted of a source, or of what `read` says in its place; raise together what prevents it."""
    found = [entry.found for entry in read_entries(source, texts, read)]
    raise_together(list(dict.fromkeys(each for each in found if isinstance(each, BlueprintError))))  # each once
    return tuple(each for each in found if isinstance(each, Secret))


def read_entries(source: Reads, texts: Texts, read: ReadMany | None = None) -> Iterator[Entry]:
    """Read each wanted place once, however many entries want it, so that what belongs together rotates together."""
    named, referring = source.named(), references_to(texts, source.answers_to)
    referred = [source.place_of(each) for references in referring.values() for each in references]
    places = list(dict.fromkeys([*named.values(), *referred]))
    answers = dict(zip(places, (read or source.read_many)(places), strict=True)) if places else {}
    for label, place in named.items():
        yield Entry(label, (place,), refers=False, found=_as_entries(source, label, answers[place]))
    for entry, references in referring.items():
        label, there = f"SECRET_{entry.upper()}", tuple(map(source.place_of, references))
        asked = {each.text: (each, answers[source.place_of(each)]) for each in references}
        for found in _filled_in(source, entry, texts[entry].get_secret_value(), asked):
            yield Entry(label, there, refers=True, found=found)


def _as_entries(source: Reads, label: str, answer: Secret | BackendError) -> Secret | BackendError | None:
    """Return what was read at a named place; None if nothing is there, and that is no error.

    What was deleted is as good as missing; a mount point or a namespace that is not there is another matter.
    """
    if isinstance(answer, Secret):
        return source.as_named(label, answer)
    is_missing = isinstance(answer, PathMissing) and not isinstance(answer, MountMissing)
    return None if is_missing and source.may_be_missing(label) else answer


def resolve(source: Reads, reference: Reference, read: ReadMany | None = None) -> tuple[Any, int | None]:
    """Read what one reference stands for; return the value and its version, or None for both if it is left out."""
    (answer,) = (read or source.read_many)([source.place_of(reference)])
    try:
        value = value_of(source, reference, answer)
    except LeftOutError:
        return None, None
    except BlueprintError as error:
        raise _named(error, reference.text) from None
    return value, answer.version if isinstance(answer, Secret) else None


def references_to(texts: Texts, answers_to: Container[str]) -> dict[str, tuple[Reference, ...]]:
    """Return the entries that refer to one source, with their references."""
    found = {entry: references_in(value.get_secret_value()) for entry, value in texts.items()}
    return {
        entry: references for entry, references in found.items() if references and references[0].addressee in answers_to
    }


def _filled_in(
    source: Reads, entry: str, text: str, asked: Mapping[str, tuple[Reference, Secret | BackendError]]
) -> Iterator[Secret | BlueprintError | None]:
    """Return the entry with its references replaced; all that prevents it takes its place, by its name."""
    variable = f"SECRET_{entry.upper()}"
    values: dict[str, Any] = {}
    errors: list[BlueprintError] = []
    for reference, answer in asked.values():
        try:
            values[reference.text] = value_of(source, reference, answer)
        except LeftOutError:
            pass
        except BlueprintError as error:
            errors.append(_named(error, variable, reference.text))
    if errors or len(values) < len(asked):
        yield from errors or (None,)
        return
    try:
        value = substitute(text, lambda reference: values[reference.text])
    except BadReference as error:
        yield _named(error, variable)
        return
    _, first = next(iter(asked.values()))
    version, created_at = (first.version, first.created_at) if isinstance(first, Secret) else (None, None)
    yield Secret(variable, {entry: value}, version, created_at, explicit=True)


def _named(error: BlueprintError, *names: str) -> BlueprintError:
    """Return the error with these names in front of its subject; others may hold the same error for other names."""
    named = copy(error)
    named.subject = ": ".join(dict.fromkeys([*names, error.subject]))
    named.remedy = error.remedy.replace("VAULT_SECRET_PATH", names[0])  # that is where the path stands
    return named


def value_of(source: Reads, reference: Reference, answer: Secret | BackendError) -> Any:
    """Return what a reference stands for; its options count where something is missing, and nowhere else.

    Raises `LeftOutError` if that is to be left out, and a `BackendError` if it cannot be read.
    """
    try:
        if isinstance(answer, BackendError):
            raise answer
        return source.extract(reference, answer)
    except (PathMissing, KeyMissing) as error:
        if isinstance(error, MountMissing | VersionMissing | VersionDeleted):
            raise
        if "default" in reference.options:
            return reference.options["default"]
        if reference.options.get("optional") == "true":
            raise LeftOutError from None
        raise


def local_overrides(texts: Texts) -> tuple[Secret, ...]:
    """Return the entries that `SECRET_<NAME>` sets to a literal, for development without Vault and for tests."""
    literals = {name: value.get_secret_value() for name, value in texts.items()}
    return tuple(
        Secret(f"SECRET_{name.upper()}", {name: substitute(text, lambda _: None)}, explicit=True)
        for name, text in literals.items()
        if not references_in(text)
    )
