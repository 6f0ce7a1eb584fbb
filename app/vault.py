"""How does the rest of the code get at Vault? The index of the Vault side; everything here blocks.

    get_vault_client()      an authenticated hvac client
    read_secret(path, key)  one secret, or one of its values
    load_vault_secrets()    all that the settings name, as one mapping

and, where `VAULT_ACCESS_MODE` allows it, `write_secret`, `patch_secret`, `delete_secret`, `undelete`, `destroy`,
`list_secrets`, `secret_metadata`. The process has one login and one token for each Vault that it is configured for.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hvac

from app.backends.protocol import Secret
from app.backends.vault_kv import VaultKV
from app.config import MAIN_VAULT, Settings, VaultSettings, get_settings
from app.config_conjur import CONJUR
from app.config_types import vault_path
from app.conjur import read_conjur, read_conjur_reference
from app.errors import BlueprintError, KeyMissing, VaultError, VersionDeleted, raise_together
from app.logging_config import get_logger
from app.references import Reference, pick
from app.resolution import LeftOutError, local_overrides, references_to, resolve, value_of
from app.secret_store import SecretStore, Snapshot, merge
from app.vault_http import POOL_SIZE
from app.vault_sessions import close_sessions, get_session
from app.vault_writing import (
    delete_secret,
    destroy,
    list_secrets,
    patch_secret,
    secret_metadata,
    undelete,
    write_secret,
)

__all__ = [
    "close_sessions",
    "delete_secret",
    "destroy",
    "get_session",
    "get_vault_client",
    "list_secrets",
    "load_vault_secrets",
    "patch_secret",
    "read_reference",
    "read_secret",
    "secret_metadata",
    "undelete",
    "write_secret",
]

Place = tuple[str, int | None]  # a path and a version, None being the latest

MOST_VERSIONS = 10  # that are looked at for former values

log = get_logger(__name__)


def get_vault_client() -> hvac.Client:
    """Return the process's authenticated client. Take it anew for each use: a re-login replaces it.

    Raises `BadSettings` (a `ValueError`) for an unsupported auth method or missing credentials, and a `VaultError` if
    Vault cannot be reached or refuses the login.
    """
    return get_session(get_settings().vault).client()


def read_secret(path: str | None = None, key: str | None = None) -> Any:
    """Read the secret at `path` below the mount point (default: `VAULT_SECRET_PATH`), or one value of it.

    Raises `KeyMissing` (a `KeyError`) if the secret has no such key, `ValueError` for a path that no secret can have
    (empty, `..`), and a `VaultError` for all that Vault refuses.
    """
    settings = get_settings().vault
    paths = settings.secret_path if path is None else (vault_path(path),)
    values = merge({"vault": read_paths(settings, paths)})
    if key is None:
        return dict(values)
    if key not in values:
        where = f"{settings.mount_point}/{','.join(paths)}"
        held = ", ".join(sorted(values)) or "none"
        raise KeyMissing(where, f"there is no key {key!r} in it; its keys: {held}", "Check the key, or add it.")
    return values[key]


def load_vault_secrets(settings: Settings | None = None) -> Snapshot:
    """Read every path in `VAULT_SECRET_PATH`, one request each, later ones win; `SECRET_<NAME>` overrides them all.

    Then `CONJUR_VARIABLES`, which win over Vault's. Empty if both are disabled and nothing is overridden. Raises a
    `VaultError` if anything cannot be read; one that lists them all, whichever Vault they are of.
    """
    settings = settings or get_settings()
    parts: dict[str, tuple[Secret, ...]] = {}
    errors: list[BlueprintError] = []
    for name in (MAIN_VAULT, *settings.vaults, CONJUR):
        try:
            parts[name] = read_conjur(settings) if name == CONJUR else read_vault(settings, name)
        except BlueprintError as error:
            errors.append(error)
    raise_together(errors)
    return merge({**parts, "environment": local_overrides(settings)})


def read_vault(settings: Settings, vault: str = MAIN_VAULT) -> tuple[Secret, ...]:
    """Read what is wanted of one Vault: its `VAULT_SECRET_PATH`, and every `SECRET_<NAME>` that refers to it.

    One request a path, however many keys of it are referred to, so that values that belong together rotate together.
    Nothing if Vault is disabled. Raises a `VaultError`; if several things failed, one that lists them all.
    """
    own = settings.of(vault)
    if not own.enabled:
        return ()
    found = references_to(settings, vault)
    wanted: list[Place] = [(path, None) for path in own.secret_path]
    wanted += [(reference.resource, reference.version) for references in found.values() for reference in references]
    places = list(dict.fromkeys(wanted))
    answers = dict(zip(places, _read_each(own, places, vault), strict=True))

    main = [answers[path, None] for path in own.secret_path]
    secrets = [answer for answer in main if isinstance(answer, Secret)]
    errors: list[BlueprintError] = [answer for answer in main if isinstance(answer, VaultError)]
    for entry in resolve(settings, found, lambda each: answers[each.resource, each.version], pick):
        if isinstance(entry, Secret):
            secrets.append(entry)
        else:
            errors.append(entry)
    raise_together(errors)
    return tuple(secrets)


def read_reference(reference: Reference, settings: Settings | None = None) -> tuple[Any, int | None]:
    """Read what one reference stands for, as the service would; return the value and its version.

    Raises `BadSettings` if there is no such Vault, and a `VaultError` if it cannot be read.
    """
    settings = settings or get_settings()
    if reference.name == CONJUR:
        return read_conjur_reference(settings, reference)
    answer = _read_each(settings.of(reference.name), [(reference.resource, reference.version)], reference.name)[0]
    try:
        value = value_of(reference, answer, pick)
    except LeftOutError:
        return None, None
    return value, answer.version if isinstance(answer, Secret) else None


def recent_values(settings: VaultSettings, store: SecretStore, name: str, seconds: float) -> list[Any]:
    """Return the values that the entry `name` had within the last so many seconds, before the one in force.

    Asks Vault only if the version in force is younger than that: Vault keeps the versions before it. What Vault does
    not tell (deleted, forbidden, out of reach) is left out.
    """
    origin = store.snapshot().origins.get(name)
    if not settings.enabled or origin is None or origin.path not in settings.secret_path:
        return []
    kv, since = VaultKV(get_session(settings)), time.time() - seconds
    version, created_at = origin.version or 0, origin.created_at or 0.0
    values: list[Any] = []
    for earlier in range(version - 1, max(0, version - 1 - MOST_VERSIONS), -1):
        if created_at < since:
            break
        try:
            secret = kv.read(origin.path, earlier)
        except VersionDeleted:
            continue
        except VaultError as error:
            log.warning("former_version_unavailable", path=origin.path, version=earlier, error=type(error).__name__)
            break
        created_at = secret.created_at or 0.0
        if store.would_take(name, secret.data):  # what would be refused was never in force
            values.append(secret.data[name])
    return values


def read_paths(settings: VaultSettings, paths: Sequence[str]) -> tuple[Secret, ...]:
    """Read the latest versions of several secrets."""
    answers = _read_each(settings, [(path, None) for path in paths])
    raise_together([answer for answer in answers if isinstance(answer, VaultError)])
    return tuple(answer for answer in answers if isinstance(answer, Secret))


def _read_each(settings: VaultSettings, wanted: Sequence[Place], name: str = MAIN_VAULT) -> list[Secret | VaultError]:
    """Read several paths and versions, side by side if there is more than one; a failure takes the secret's place."""
    kv = VaultKV(get_session(settings, name))

    def read(place: Place) -> Secret | VaultError:
        try:
            return kv.read(*place)
        except VaultError as error:
            return error

    if len(wanted) <= 1:
        return [read(place) for place in wanted]
    with ThreadPoolExecutor(min(len(wanted), POOL_SIZE), thread_name_prefix="vault-read") as pool:
        return list(pool.map(read, wanted))
