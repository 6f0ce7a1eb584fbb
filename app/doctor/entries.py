"""Does the service get each secret that it wants of one Vault, or of Conjur?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.backends.protocol import Secret
from app.config import Settings
from app.doctor.findings import Finding, fault, ok
from app.errors import BlueprintError, VaultError
from app.references import Reference
from app.resolution import Pick, references_to, resolve

Place = tuple[str, int | None]  # a path and a version, None being the latest


@dataclass(frozen=True, slots=True)
class Entry:
    """What the settings name themselves, or a `SECRET_<NAME>` that refers to some places."""

    label: str
    places: tuple[Place, ...]
    refers: bool
    found: Secret | BlueprintError | None  # None: an optional reference that leads nowhere

    def finding(self, text: str) -> Finding:
        """Say what was found: `text`, unless something stands in the way."""
        match self.found:
            case Secret():
                return ok(text, self.label)
            case None:
                return ok("left out: it is optional, and leads nowhere", self.label)
            case error:  # it names what it is about
                return fault(error)


def read_entries(
    settings: Settings,
    source: str,
    named: Mapping[str, Place],
    read: Callable[[Sequence[Place]], list[Secret | VaultError]],
    *,
    place_of: Callable[[Reference], Place],
    pick: Pick,
) -> Iterator[Entry]:
    """Read each place once, as the service does; a failure takes the secret's place.

    `named` are the places that are wanted beside those that references name, by their labels.
    """
    referring = references_to(settings, source)
    places = [*named.values(), *(place_of(each) for references in referring.values() for each in references)]
    unique = list(dict.fromkeys(places))
    answers = dict(zip(unique, read(unique), strict=True)) if unique else {}
    for label, place in named.items():
        yield Entry(label, (place,), refers=False, found=answers[place])
    for entry, references in referring.items():
        label, places = f"SECRET_{entry.upper()}", list(map(place_of, references))
        found = list(resolve(settings, {entry: references}, lambda each: answers[place_of(each)], pick))
        for each in found or (None,):
            yield Entry(label, tuple(places), refers=True, found=each)
