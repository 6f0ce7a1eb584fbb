"""How do `SECRET_<NAME>` entries become values? Literals stay as they are; references ask one Vault, or Conjur."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from app.backends.protocol import Secret
from app.config import Settings
from app.errors import BlueprintError, KeyMissing, MountMissing, PathMissing, VaultError, VersionDeleted, VersionMissing
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
    """Return each entry in `found` with its value; what stands in the way takes its place.

    `answer_to` says what was read for a reference, `pick` which value of that is meant.
    """
    for entry, references in found.items():
        try:
            text = settings.secrets[entry].get_secret_value()
            value = filled(text, lambda reference: value_of(reference, answer_to(reference), pick))
        except LeftOutError:
            continue
        except BlueprintError as error:
            yield error
        else:
            first = answer_to(references[0])
            version, created_at = (first.version, first.created_at) if isinstance(first, Secret) else (None, None)
            yield Secret(f"SECRET_{entry.upper()}", {entry: value}, version, created_at, explicit=True)


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
