"""How does the code change secrets? Where `VAULT_ACCESS_MODE` allows it; everything here blocks.

What was written is visible to this process at once: what keeps the secrets fresh hears of it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from app.core.settings.app import AppSettings
from app.core.settings.vault import MAIN_VAULT, VaultSettings
from app.core.store.writes import notify
from app.core.vault.kv_writer import VaultKVWriter
from app.core.vault.sessions import get_session


class Writing:
    """What changes secrets below the mount point of the Vault `VAULT_…`, with the settings of the moment."""

    def __init__(self, settings: Callable[[], AppSettings]) -> None:
        self._settings = settings

    def writer(self, vault: str = MAIN_VAULT) -> VaultKVWriter:
        """Return what changes secrets in the Vault of this name."""
        return writer(self._settings().vault_settings(vault), vault)

    def write_secret(self, path: str, data: Mapping[str, Any], cas: int | None = None) -> int | None:
        """Write a whole secret; return its new version (None in KV version 1).

        With `cas`, only if that is still the current version (0: only if there is none); else raises `LostRace`, which
        names the current one.
        """
        return self.writer().write(path, data, cas)

    def patch_secret(self, path: str, changes: Mapping[str, Any]) -> int:
        """Change some keys of a secret and keep the others; None removes a key. Returns the new version."""
        return self.writer().patch(path, changes)

    def delete_secret(self, path: str) -> None:
        """Delete the latest version; `undelete` brings it back (in KV version 1: nothing does)."""
        self.writer().delete(path)

    def undelete(self, path: str, versions: Sequence[int]) -> None:
        """Bring deleted versions back."""
        self.writer().undelete(path, versions)

    def destroy(self, path: str, versions: Sequence[int]) -> None:
        """Destroy versions for good."""
        self.writer().destroy(path, versions)

    def list_secrets(self, path: str = "") -> list[str]:
        """Return the names below a path, folders with a closing slash; none if there is no such folder."""
        return self.writer().list(path)

    def secret_metadata(self, path: str) -> dict[str, Any]:
        """Return what Vault knows of a secret beside its values: `versions`, `current_version`, `custom_metadata`."""
        return self.writer().metadata(path)


def writer(settings: VaultSettings, name: str = MAIN_VAULT) -> VaultKVWriter:
    """Return what changes secrets in this Vault, and says so."""
    return VaultKVWriter(get_session(settings, name), partial(notify, name))
