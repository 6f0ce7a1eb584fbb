"""Which values did a secret have before the one in force? Vault keeps those, and says when each was written."""

import time
from typing import Any

from app.core.errors import BackendError, VersionDeleted
from app.core.logs.logging_config import get_logger
from app.core.settings.vault import VaultSettings
from app.core.store.secret_store import SecretStore
from app.core.vault.kv import VaultKV
from app.core.vault.sessions import get_session

MOST_VERSIONS = 10  # that are looked at

log = get_logger(__name__)


def recent_values(settings: VaultSettings, store: SecretStore, name: str, seconds: float) -> list[tuple[Any, float]]:
    """Return the values that the entry `name` had within the last so many seconds, before the one in force.

    Each comes with the time, in seconds since 1970, at which its successor was written; the latest is first.

    Asks Vault only if the version in force is younger than that: Vault keeps the versions before it. What Vault does
    not tell (deleted, forbidden, out of reach) is left out.
    """
    snapshot = store.snapshot()
    origin = snapshot.origins.get(name)
    if not settings.enabled or origin is None or origin.path not in settings.paths:
        return []
    kv, since = VaultKV(get_session(settings)), time.time() - seconds
    version, created_at = origin.version or 0, origin.created_at or 0.0
    values: list[tuple[Any, float]] = []
    successor, written = snapshot[name], created_at
    for earlier in range(version - 1, max(0, version - 1 - MOST_VERSIONS), -1):
        if created_at < since:
            break
        try:
            secret = kv.read(origin.path, earlier)
        except VersionDeleted:
            continue
        except BackendError as error:
            log.warning("former_version_unavailable", path=origin.path, version=earlier, error=type(error).__name__)
            break
        created_at = secret.created_at or 0.0
        for value in store.former_value(name, secret):  # what would be refused was never in force
            if value != successor:
                values.append((value, written))
            successor, written = value, created_at
    return values
