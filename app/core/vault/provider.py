"""Which Vaults do the settings name, and how are they read, changed and permitted?"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from app.core.errors import AccessRefused, PathMissing, PermissionDenied, VersionDeleted, WrongKVVersion
from app.core.settings.app import AppSettings
from app.core.settings.vault import MAIN_VAULT
from app.core.store.writes import notify
from app.core.vault.kv_writer import VaultKVWriter
from app.core.vault.policy import vault_policy
from app.core.vault.sessions import get_session
from app.core.vault.source import VaultSource, vault_source
from app.core.vault.versions import is_gone


class VaultProvider:
    """Vault, or OpenBao: `VAULT_…`, and each `VAULTS__<NAME>__…`."""

    primary = MAIN_VAULT

    def names(self, settings: AppSettings) -> Mapping[str, bool]:
        """Return the Vaults, and whether each is enabled."""
        return {name: vault.enabled for name, vault in settings.every_vault.items()}

    def source(self, settings: AppSettings, name: str) -> VaultSource:
        """Return one of them."""
        return vault_source(settings, name)

    def folders(self, settings: AppSettings, name: str) -> VaultKVWriter:
        """Return what changes secrets below its mount point."""
        session = get_session(settings.vault_settings(name), name)
        session.catch_up()
        return VaultFolders(session, partial(notify, name))

    def policy(self, settings: AppSettings, name: str) -> str:
        """Return the policy in the form that `vault policy write` takes."""
        return vault_policy(settings, name)


class VaultFolders(VaultKVWriter):
    """Looks before it deletes or brings back: Vault itself says nothing where there is nothing to do.

    A token that may change, but not look, changes all the same.
    """

    def delete(self, path: str) -> None:
        """Delete the latest version; raise `PathMissing` where there is none."""
        with suppress(PermissionDenied, AccessRefused):
            self._refuse_whatis_gone(path)
        super().delete(path)

    def undelete(self, path: str, versions: Sequence[int]) -> None:
        """Bring deleted versions back; raise `PathMissing` for one that is not there."""
        with suppress(PermissionDenied, AccessRefused):
            there = self.metadata(path)["versions"]
            for version in versions:
                if (about := there.get(str(version))) is None:
                    known = ", ".join(there) or "none"
                    raise PathMissing(path, f"there is no version {version}; there is: {known}", "Check the version.")
                if about.get("destroyed"):
                    remedy = "Nothing brings it back: write it again."
                    raise VersionDeleted(path, f"version {version} is destroyed", remedy)
        super().undelete(path, versions)

    def _refuse_whatis_gone(self, path: str) -> None:
        try:
            about = self.metadata(path)
        except WrongKVVersion:
            self.read(path)  # version 1 has no metadata
            return
        latest = about.get("current_version", 0)
        if not latest:
            raise PathMissing(path, "there is no version of it", "Check the path.")
        if is_gone(about["versions"].get(str(latest), {})):
            cause = f"version {latest}, the latest one, is deleted already"
            raise VersionDeleted(path, cause, "There is no more to do.")
