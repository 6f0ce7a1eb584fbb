"""How do `SECRET_<NAME>` entries become values? Literals stay as they are; references ask one Vault, or Conjur."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any

from app.backends.protocol import Secret
from app.config import Settings
from app.errors import (
    BadReference,
    BlueprintError,
    KeyMissing,
    MountMissing,
    PathMissing,
    SeveralFailed,
    VaultError,
    VersionDeleted,
    VersionMissing,
    raise_together,
)
from app.references import Reference, filled, references_in

Pick = Callable[[Reference, Mapping[str, Any]], Any]


class LeftOutError(Exception):
    """An optional reference leads nowhere."""


def references_to(settings: Settings, name: str) -> dict[str, tuple[Reference, ...]]:
    """Return the entries that refer to the Vault of this name, with their references."""
    found = {entry: references_in(value.get_secret_value()) for entry, value in settings.secrets.items()}
    return {entry: references for entry, references in found.items() if references and references[0].name == name}


def resolve(
    settings: Settings,
    found: Mapping[str, tuple[Reference, ...]],
    answer_to: Callable[[Reference], Secret | VaultError],
    pick: Pick,
) -> Iterator[Secret | BlueprintError]:
    """Return each entry in `found` with its value; all that stands in the way takes its place, reference by reference.

    `answer_to` says what was read for a reference, `pick` which value of that is meant.
    """
    for entry, references in found.items():
        variable, text = f"SECRET_{entry.upper()}", settings.secrets[entry].get_secret_value()
        try:
            value = _filled(variable, text, references, lambda each: value_of(each, answer_to(each), pick))
        except LeftOutError:
            continue
        except SeveralFailed as several:
            yield from several.errors
        except BlueprintError as error:
            yield error
        else:
            first = answer_to(references[0])
            version, created_at = (first.version, first.created_at) if isinstance(first, Secret) else (None, None)
            yield Secret(variable, {entry: value}, version, created_at, explicit=True)


def _filled(variable: str, text: str, references: Sequence[Reference], value: Callable[[Reference], Any]) -> Any:
    """Return the text with its references replaced; raise together, each by its name, what stands in the way."""
    values: dict[str, Any] = {}
    errors: list[BlueprintError] = []
    left_out = False
    for reference in {each.text: each for each in references}.values():
        try:
            values[reference.text] = value(reference)
        except LeftOutError:
            left_out = True
        except BlueprintError as error:
            errors.append(_named(error, variable, reference.text))
    raise_together(errors)
    if left_out:
        raise LeftOutError
    try:
        return filled(text, lambda reference: values[reference.text])
    except BadReference as error:
        raise _named(error, variable) from None


def _named(error: BlueprintError, *names: str) -> BlueprintError:
    """Return the error with these names in front of its subject; others may hold the same error for other names."""
    named = copy(error)
    named.subject = ": ".join(dict.fromkeys([*names, error.subject]))
    named.remedy = error.remedy.replace("VAULT_SECRET_PATH", names[0])  # that is where the path stands
    return named


def value_of(reference: Reference, answer: Secret | VaultError, pick: Pick) -> Any:
    """Return what a reference stands for; its options count where something is missing, and nowhere else.

    Raises `LeftOutError` if that is to be left out, and a `VaultError` if it cannot be read.
    """
    try:
        if isinstance(answer, VaultError):
            raise answer
        return pick(reference, answer.data)
    except (PathMissing, KeyMissing) as error:
        if isinstance(error, MountMissing | VersionMissing | VersionDeleted):
            raise
        if "default" in reference.options:
            return reference.options["default"]
        if reference.options.get("optional") == "true":
            raise LeftOutError from None
        raise


def local_overrides(settings: Settings) -> tuple[Secret, ...]:
    """Return the entries that `SECRET_<NAME>` sets to a literal, for development without Vault and for tests."""
    texts = {name: value.get_secret_value() for name, value in settings.secrets.items()}
    return tuple(
        Secret(f"SECRET_{name.upper()}", {name: filled(text, lambda _: None)}, explicit=True)
        for name, text in texts.items()
        if not references_in(text)
    )
