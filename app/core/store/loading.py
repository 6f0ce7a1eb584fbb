"""How does a script read all secrets at once? From every source, merged as in the service, and as declared."""

from collections.abc import Iterable

from pydantic import BaseModel

from app.core.errors import BlueprintError, SecretsIncomplete
from app.core.store.declaration import Declaration
from app.core.store.failures import raise_together
from app.core.store.overrides import Texts, local_overrides
from app.core.store.secret_store import Snapshot, merge
from app.core.store.source import Secret, Source


def load_secrets(declared: type[BaseModel] | None, sources: Iterable[Source], texts: Texts) -> Snapshot:
    """Read every source; what a later one brings wins, and literals of `SECRET_<NAME>` win over all.

    Raises a `BlueprintError`, one that lists all that cannot be read; `SecretsIncomplete` if it is not as `declared`.
    """
    parts: dict[str, tuple[Secret, ...]] = {}
    errors: list[BlueprintError] = []
    for source in sources:
        try:
            parts[source.name] = source.load()
        except BlueprintError as error:
            errors.append(error)
    raise_together(errors)
    found = merge({**parts, "environment": local_overrides(texts)})
    if declared is None:
        return found
    reading = Declaration(declared).read(found, found.origins)
    if reading.problems:
        raise SecretsIncomplete(reading.problems)
    return Snapshot(reading.values, reading.origins, reading.model)
