"""Would the service have every secret that it declares, in the form that it declares?"""

import difflib
from collections.abc import Iterator, Sequence

from app.core.settings.app import AppSettings
from app.core.store.declaration import Declaration
from app.core.store.provider import Blueprint
from app.core.store.secret_store import Snapshot
from app.extras.doctor.dynamic import NOT_DONE
from app.extras.doctor.findings import Finding, ok
from app.extras.doctor.settings import as_set_by


def examine_declared(
    blueprint: Blueprint,
    settings: AppSettings,
    held: Snapshot,
    unread: Sequence[str],
    promised: Sequence[str],
) -> Iterator[Finding]:
    """Check what all sources together bring, which is `held`; `unread` names those that failed.

    `promised` are entries, or the beginning of their names, that Vault would issue: nobody knows their form yet.
    """
    declared = blueprint.declared
    declaration = Declaration(declared)
    reading = declaration.read(held, held.origins)
    problems = reading.problems
    for name in dict.fromkeys([*declared.model_fields, *problems]):
        if any(name == each or (each.endswith("_") and name.startswith(each)) for each in promised):
            yield ok(NOT_DONE, name)
            continue
        origin, problem = declaration.origin(name, held.origins), problems.get(name)
        if problem is None:
            where = "the default counts" if origin is None else f"from {origin.source}: {origin.path}"
            yield ok(where + ("" if origin is None or origin.version is None else f" version {origin.version}"), name)
        elif origin is None and unread:
            yield Finding("not reached", f"waits for: {', '.join(unread)}", subject=name)
        else:
            yield _broken(blueprint, settings, name, problem, held)


def _broken(blueprint: Blueprint, settings: AppSettings, name: str, problem: str, held: Snapshot) -> Finding:
    origin = Declaration(blueprint.declared).origin(name, held.origins)
    if origin is not None and origin.path.startswith("SECRET_"):
        return Finding("fault", f"malformed: {problem}", f"Fix {as_set_by(origin.path)}.", name)
    if origin is not None:
        remedy = blueprint.providers.source(settings, origin.source).how_to_set(origin.key or name, origin.path)
        return Finding("fault", f"malformed in {origin.source}: {origin.path}: {problem}", remedy, name)
    provider, source = blueprint.providers.primary(settings)
    remedy = provider.source(settings, source).how_to_set(name, None)
    spelt = {key.lower().replace("-", "_"): key for key in held if key not in blueprint.declared.model_fields}
    near = [spelt[key] for key in difflib.get_close_matches(name, spelt, 1, 0.75)]
    return Finding("fault", f"{problem}; there is a key {near[0]!r}" if near else problem, remedy, name)
