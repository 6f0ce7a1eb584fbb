"""How does the code change secrets? Where `VAULT_ACCESS_MODE` allows it; everything here blocks.

What was written is visible to this process at once: whoever keeps the secrets fresh hears of it (`after_writes`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from app.backends.vault_kv_writer import VaultKVWriter
from app.config import MAIN_VAULT, Settings, get_settings
from app.vault_sessions import get_session

_listeners: list[Callable[[str], None]] = []


def get_writer(vault: str = MAIN_VAULT, settings: Settings | None = None) -> VaultKVWriter:
    """Return what changes secrets below the mount point of the Vault of this name."""
    own = (settings or get_settings()).of(vault)
    return VaultKVWriter(get_session(own, vault), partial(tell, vault))


def write_secret(path: str, data: Mapping[str, Any], cas: int | None = None) -> int | None:
    """Write a whole secret; return its new version (None in KV version 1).

    With `cas`, only if that is still the current version (0: only if there is none); else raises `LostRace`, which
    names the current one.
    """
    return get_writer().write(path, data, cas)


def patch_secret(path: str, changes: Mapping[str, Any]) -> int:
    """Change some keys of a secret and keep the others; None removes a key. Returns the new version."""
    return get_writer().patch(path, changes)


def delete_secret(path: str) -> None:
    """Delete the latest version; `undelete` brings it back (in KV version 1: nothing does)."""
    get_writer().delete(path)


def undelete(path: str, versions: Sequence[int]) -> None:
    """Bring deleted versions back."""
    get_writer().undelete(path, versions)


def destroy(path: str, versions: Sequence[int]) -> None:
    """Destroy versions for good."""
    get_writer().destroy(path, versions)


def list_secrets(path: str = "") -> list[str]:
    """Return the names below a path, folders with a closing slash; none if there is no such folder."""
    return get_writer().list(path)


def secret_metadata(path: str) -> dict[str, Any]:
    """Return what Vault knows of a secret beside its values: `versions`, `current_version`, `custom_metadata`, …."""
    return get_writer().metadata(path)


@contextmanager
def after_writes(listener: Callable[[str], None]) -> Iterator[None]:
    """Within the block, call `listener` with the Vault's name after each write, in the thread that has written."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(vault: str) -> None:
    """Say that somebody has written to the Vault of this name, or to Conjur."""
    for listener in tuple(_listeners):
        listener(vault)
