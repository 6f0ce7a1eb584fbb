"""Would the service have every secret that it declares, in the form that it declares?"""

import difflib
from collections.abc import Iterator, Mapping, Sequence

from app.app_secrets import AppSecrets
from app.backends.protocol import Secret
from app.config import Settings
from app.config_conjur import CONJUR
from app.doctor.findings import Finding, ok
from app.resolution import local_overrides
from app.secret_store import Snapshot, broken_secrets, merge


def examine_declared(
    settings: Settings, found: Mapping[str, Sequence[Secret]], unread: Sequence[str]
) -> Iterator[Finding]:
    """Check what all sources together bring, in the order in which they count; `unread` names those that failed."""
    held = merge({**found, "environment": local_overrides(settings)})
    problems = broken_secrets(AppSecrets, held)
    for name in dict.fromkeys([*AppSecrets.model_fields, *problems]):
        origin, problem = held.origins.get(name), problems.get(name)
        if problem is None:
            where = "the default counts" if origin is None else f"from {origin.source}: {origin.path}"
            yield ok(where + ("" if origin is None or origin.version is None else f" version {origin.version}"), name)
        elif origin is None and unread:
            yield Finding("not reached", f"waits for: {', '.join(unread)}", subject=name)
        else:
            yield _broken(settings, name, problem, held)


def _broken(settings: Settings, name: str, problem: str, held: Snapshot) -> Finding:
    origin, vault = held.origins.get(name), settings.vault
    there, path = f"vault kv patch -mount={vault.mount_point}", (vault.secret_path or ("PATH",))[-1]
    if origin is not None and origin.path.startswith("SECRET_"):
        return Finding("fault", f"malformed: {problem}", f"Mend {origin.path}.", name)
    if origin is not None:
        there = (
            f"{there} {origin.path} {name}=…" if origin.source != CONJUR else f"conjur variable set -i {origin.path} …"
        )
        remedy = f"Write another value: `{there}`."
        return Finding("fault", f"malformed in {origin.source}: {origin.path}: {problem}", remedy, name)
    remedy = f"Add it: `{there} {path} {name}=…`."
    if settings.conjur.enabled and not vault.enabled:
        remedy = f"Name the variable that holds it in CONJUR_VARIABLES: {name}=path/to/variable."
    elif not vault.enabled:
        remedy = f"Set VAULT_ENABLED=true (`make seed` writes a .env for the dev Vault), or SECRET_{name.upper()}."
    spelt = {key.lower().replace("-", "_"): key for key in held if key not in AppSecrets.model_fields}
    near = [spelt[key] for key in difflib.get_close_matches(name, spelt, 1, 0.75)]
    return Finding("fault", f"{problem}; there is a key {near[0]!r}" if near else problem, remedy, name)
