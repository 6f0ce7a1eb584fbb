"""What is mounted where, and which KV version?

Rests on `GET sys/internal/ui/mounts`, and on the same of one mount point.
"""

from contextlib import suppress
from typing import Any

from app.core.errors import (
    BackendError,
    MountMissing,
    MountUnseen,
    PathMissing,
    PermissionDenied,
    UnexpectedAnswer,
    WrongKVVersion,
)
from app.core.transport.http import quoted
from app.core.transport.network_errors import not_vault
from app.core.vault.answers import checked_mounts, malformed
from app.core.vault.session import VaultSession
from app.core.vault.slips import mount_slip

NOTHING_THERE = "nothing is mounted there that the token may use"


class VaultMount:
    """One mount point; what was learned of it is kept."""

    def __init__(self, session: VaultSession) -> None:
        self._session = session
        self._mount_point = session.settings.mount_point

    def check_mount(self) -> str:
        """Return the KV version that is mounted, if it is the configured one.

        Raises `WrongKVVersion` if it is not, and `MountUnseen` if the token may use nothing there.
        """
        configured, found = self._session.settings.kv_version, self._mounted_version()
        if found is None:
            usable = ", ".join(self.usable_mounts()) or "none"
            check = f"Check VAULT_MOUNT_POINT (the token may use: {usable}), VAULT_NAMESPACE, and what policies allow."
            raise MountUnseen(self._mount_point, NOTHING_THERE, mount_slip(self._mount_point) or check)
        if configured not in {found, "auto"}:
            remedy = f"Set VAULT_KV_VERSION={found}."
            raise WrongKVVersion(self._mount_point, f"the mount is KV version {found}, not {configured}", remedy)
        return found

    def usable_mounts(self) -> list[str]:
        """Ask Vault where KV engines are mounted that the token may use."""
        where = "sys/internal/ui/mounts"
        answer = self._session.call(where, lambda client: client.adapter.get(f"/v1/{where}"))
        mounts = checked_mounts(answer, where)
        return sorted(path.rstrip("/") for path, kind in mounts.items() if kind in {"kv", "generic"})

    def _version(self) -> str:
        """Return the configured KV version; with `auto`, ask once (and again after a failure to tell)."""
        configured = self._session.settings.kv_version
        if configured != "auto":
            return configured
        found = self._session.kv_versions.get(self._mount_point) or self._mounted_version()
        if found is None:
            raise PermissionDenied(
                f"sys/internal/ui/mounts/{self._mount_point}",
                "the token may not look which KV version is mounted, or nothing is",
                mount_slip(self._mount_point)
                or "Check VAULT_MOUNT_POINT, or set VAULT_KV_VERSION to 1 or 2 instead of auto.",
            )
        self._session.kv_versions[self._mount_point] = found
        return found

    def _forget_version(self) -> None:
        """Have `auto` ask again."""
        self._session.kv_versions.pop(self._mount_point, None)

    def _has_another_version(self, before: str) -> bool:
        """With `auto`, ask again after a failure: a mount can be upgraded, or mounted again with another version."""
        if self._session.settings.kv_version != "auto":
            return False
        self._forget_version()
        with suppress(BackendError):
            return self._version() != before
        return False

    def _keeps_no_versions(self) -> bool:
        """Tell whether the mount is KV version 1, and has not become another one meanwhile."""
        return self._version() == "1" and not self._has_another_version("1")

    def _mounted_version(self) -> str | None:
        """Ask Vault which KV version is mounted; None if the token may not know."""
        where = f"sys/internal/ui/mounts/{self._mount_point}"
        try:
            answer = self._session.call(where, lambda client: client.adapter.get(f"/v1/{quoted(where)}"))
        except (PermissionDenied, PathMissing):
            return None
        return _kv_version_in(answer, self._mount_point, where)

    def _check_mount_if_possible(self) -> str:
        """Raise what is wrong with the mount, if that is why a read failed; return a hint if the token does not see it.

        The question may fail in its turn.
        """
        try:
            self.check_mount()
        except (WrongKVVersion, UnexpectedAnswer, MountMissing):
            raise
        except MountUnseen as error:
            return f" {error.remedy}"
        except BackendError:
            pass
        return ""


def _kv_version_in(answer: Any, mount_point: str, where: str) -> str:
    """Return the KV version in an answer to `GET sys/internal/ui/mounts/<mount>`; raise if there is none."""
    match answer:
        case {"data": {"path": str(there)}} if mount_point.startswith(there):  # it ends with a slash
            cause = f"nothing is mounted there: it is a path in {there}"
            raise MountMissing(mount_point, cause, mount_slip(mount_point, there.strip("/")))
        case {"data": {"type": "kv", "options": {"version": "1" | "2" as version}}}:
            return str(version)
        case {"data": {"type": "kv", "options": {"version": _}}}:
            raise malformed(where, "version")
        case {"data": {"type": "kv" | "generic"}}:
            return "1"
        case {"data": {"type": str(other)}}:
            raise WrongKVVersion(mount_point, f"a {other} engine is mounted there", "Check VAULT_MOUNT_POINT.")
        case _:
            raise not_vault(where, "no mount in it")
