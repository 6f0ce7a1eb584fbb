"""How does the rest of the code get at Vault? The index of the Vault side; everything here blocks.

    get_vault_client()      an authenticated hvac client
    read_secret(path, key)  one secret, or one of its values
    load_vault_secrets()    all that the settings name, as one mapping that is as `AppSecrets` declares
    running()               the same kept fresh: `async with running() as secrets:` in a worker without HTTP

and, where `VAULT_ACCESS_MODE` allows it, `write_secret`, `patch_secret`, `delete_secret`, `undelete`, `destroy`,
`list_secrets`, `secret_metadata`. The process has one login and one token for each Vault that it is configured for.
"""

from collections.abc import Sequence
from typing import Any, overload

import hvac

from app.app_secrets import AppSecrets
from app.config import PROVIDERS, Settings, get_settings
from app.core.errors import BackendError, KeyMissing
from app.core.run import worker
from app.core.settings.references import Reference
from app.core.settings.types import vault_path
from app.core.settings.vault import VaultSettings
from app.core.store.failures import raise_together
from app.core.store.loading import load_secrets
from app.core.store.provider import Blueprint
from app.core.store.secret_store import Snapshot, merge
from app.core.store.sessions import close_sessions
from app.core.store.source import Secret, Source
from app.core.vault.sessions import get_session
from app.core.vault.source import VaultSource
from app.core.vault.writing import Writing

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
    "running",
    "secret_metadata",
    "undelete",
    "write_secret",
]

_writing = Writing(get_settings)
write_secret, patch_secret, delete_secret = _writing.write_secret, _writing.patch_secret, _writing.delete_secret
undelete, destroy = _writing.undelete, _writing.destroy
list_secrets, secret_metadata = _writing.list_secrets, _writing.secret_metadata


def get_vault_client() -> hvac.Client:
    """Return the process's authenticated client. Take it again for each use: a re-login replaces it.

    Raises `BadSettings` (a `ValueError`) for an unsupported auth method or missing credentials, and a `BackendError` if
    Vault cannot be reached or refuses the login.
    """
    return get_session(get_settings().vault).client()


def read_secret(path: str | None = None, key: str | None = None) -> Any:
    """Read the secret at `path` below the mount point (default: `VAULT_SECRET_PATH`), or one value of it.

    Raises `KeyMissing` (a `KeyError`) if the secret has no such key, `ValueError` for a path that no secret can have
    (empty, `..`), and a `BackendError` for all that Vault refuses.
    """
    settings = get_settings().vault
    paths = [*settings.paths] if path is None else [vault_path(path)]
    values = merge({"vault": VaultSource(settings).load() if path is None else read_paths(settings, paths)})
    if key is None:
        return dict(values)
    if key not in values:
        where = f"{settings.mount_point}/{','.join(paths)}"
        held = ", ".join(sorted(values)) or "none"
        raise KeyMissing(where, f"there is no key {key!r} in it; its keys: {held}", "Check the key, or add it.")
    return values[key]


@overload
def load_vault_secrets() -> Snapshot: ...
@overload
def load_vault_secrets(source: Source) -> tuple[Secret, ...]: ...
def load_vault_secrets(source: Source | None = None) -> Snapshot | tuple[Secret, ...]:
    """Read what the settings want: every path in `VAULT_SECRET_PATH` and all that is referred to, one request a path.

    Of one source, as the service does at its start and in every round; it fills `app.state.vault_secrets` with it.
    Without one, of them all: later ones win, `SECRET_<NAME>` overrides them, and the whole must be as `AppSecrets`
    declares; else raises `SecretsIncomplete`. Raises a `BackendError`, one that lists all that cannot be read.
    """
    if source is not None:
        return source.load()
    settings = get_settings()
    return load_secrets(AppSecrets, PROVIDERS.sources(settings), settings.secrets)


def running(settings: Settings | None = None, rotating: worker.Objects | None = None) -> worker.Live:
    """Hold it all in a worker, kept fresh, with `rotating` objects by their names; `docs/workers.md` has an example."""
    return worker.running(Blueprint(AppSecrets, Settings, PROVIDERS), settings, rotating, load=load_vault_secrets)


def read_reference(reference: Reference, settings: Settings | None = None) -> tuple[Any, int | None]:
    """Read what one reference stands for, as the service would; return the value and its version.

    Raises `BadSettings` if there is no such source, and a `BackendError` if it cannot be read.
    """
    own = settings or get_settings()
    return PROVIDERS.source(own, own.source_of(reference)).resolve(reference)


def read_paths(settings: VaultSettings, paths: Sequence[str]) -> tuple[Secret, ...]:
    """Read the latest versions of several secrets."""
    answers = VaultSource(settings).read_many([(path, None) for path in paths])
    raise_together([answer for answer in answers if isinstance(answer, BackendError)])
    return tuple(answer for answer in answers if isinstance(answer, Secret))
