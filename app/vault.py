"""How does the rest of the code get at Vault? The index of the Vault side; everything here blocks.

    get_vault_client()      an authenticated hvac client
    read_secret(path, key)  one secret, or one of its values
    load_vault_secrets()    all that the settings name, as one mapping

The process has one session, and so one login and one token, for each Vault that it is configured for.
"""

import atexit
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hvac
from pydantic import ValidationError

from app.backends.protocol import Secret
from app.backends.vault_kv import VaultKV
from app.config import Settings, VaultSettings, bad_settings, get_settings, vault_path
from app.errors import KeyMissing, VaultError
from app.logging_config import get_logger
from app.secret_store import SecretStore, Snapshot, merge
from app.vault_http import POOL_SIZE
from app.vault_session import VaultSession

MOST_VERSIONS = 10  # that are looked at for former values

log = get_logger(__name__)

_sessions: dict[VaultSettings, VaultSession] = {}
_sessions_lock = threading.Lock()


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

    Empty if Vault is disabled and nothing is overridden. Raises a `VaultError` if any path cannot be read.
    """
    settings = settings or get_settings()
    return merge({"vault": read_vault(settings.vault), "environment": local_overrides(settings)})


def read_vault(settings: VaultSettings) -> tuple[Secret, ...]:
    """Read what the settings name; nothing if Vault is disabled."""
    return read_paths(settings, settings.secret_path) if settings.enabled else ()


def local_overrides(settings: Settings) -> tuple[Secret, ...]:
    """Return the entries that `SECRET_<NAME>` sets, for development without Vault and for tests."""
    return tuple(
        Secret(f"SECRET_{name.upper()}", {name: value.get_secret_value()}) for name, value in settings.secrets.items()
    )


def recent_values(settings: VaultSettings, store: SecretStore, name: str, seconds: float) -> list[Any]:
    """Return the values that the entry `name` had within the last so many seconds, before the one in force.

    Asks Vault only if the version in force is younger than that: Vault keeps the versions before it. What Vault does
    not tell (deleted, forbidden, out of reach) is left out.
    """
    origin = store.snapshot().origins.get(name)
    if not settings.enabled or origin is None or origin.source != "vault":
        return []
    kv, since = VaultKV(get_session(settings)), time.time() - seconds
    version, created_at = origin.version or 0, origin.created_at or 0.0
    values: list[Any] = []
    while version > 1 and created_at > since and len(values) < MOST_VERSIONS:
        version -= 1
        try:
            secret = kv.read(origin.path, version)
        except VaultError as error:
            log.warning("former_version_unavailable", path=origin.path, version=version, error=type(error).__name__)
            break
        values.append(secret.data.get(name))
        created_at = secret.created_at or 0.0
    return values


def read_paths(settings: VaultSettings, paths: Sequence[str]) -> tuple[Secret, ...]:
    """Read several paths, side by side if there is more than one."""
    kv = VaultKV(get_session(settings))
    if len(paths) == 1:
        return (kv.read(paths[0]),)
    with ThreadPoolExecutor(min(len(paths), POOL_SIZE), thread_name_prefix="vault-read") as pool:
        return tuple(pool.map(kv.read, paths))


def get_session(settings: VaultSettings) -> VaultSession:
    """Return the process's one session with this Vault."""
    with _sessions_lock:
        if settings not in _sessions:
            _sessions[settings] = VaultSession(_checked(settings))
        return _sessions[settings]


def close_sessions() -> None:
    """Revoke the tokens that this process obtained; the next use logs in again."""
    with _sessions_lock:
        sessions = list(_sessions.values())
        _sessions.clear()
    for session in sessions:
        session.close()


atexit.register(close_sessions)  # for scripts; the service does it in its lifespan


def _checked(settings: VaultSettings) -> VaultSettings:
    """Make sure of the credentials even where `VAULT_ENABLED` is false and the start did not ask for them."""
    try:
        return VaultSettings.model_validate({**dict(settings), "enabled": True})
    except ValidationError as error:
        raise bad_settings(error, "vault") from None
