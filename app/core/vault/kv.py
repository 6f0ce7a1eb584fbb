"""How are secrets read from Vault's KV engine?

Rests on `GET <mount>/data/<path>` (KV version 2) and `GET <mount>/<path>` (version 1). After a failure, and only then,
`POST sys/capabilities-self` and the mount table tell what prevents it.
"""

from contextlib import suppress
from typing import Any

import hvac
import hvac.exceptions

from app.core.errors import (
    AccessRefused,
    BackendError,
    BadRequest,
    MountMissing,
    PathMissing,
    PermissionDenied,
    VersionDeleted,
    VersionMissing,
    WrongKVVersion,
)
from app.core.settings.types import refuse_bad_path
from app.core.store.source import Secret
from app.core.transport.http import quoted
from app.core.transport.network_errors import not_vault
from app.core.vault.answers import checked_names, checked_state
from app.core.vault.mounts import NOTHING_THERE
from app.core.vault.never_backwards import NeverBackwards
from app.core.vault.permissions import VaultPermissions
from app.core.vault.slips import listed, looks_like_version_2, missing, mount_slip, path_slip


class VaultKV(VaultPermissions):
    """The secrets below one mount point."""

    def read(self, path: str, version: int | None = None) -> Secret:
        """Read the secret at `path`, by default its latest version: one request."""
        where = self._where(path)
        self._refuse_to_read(where)
        if version is not None:
            self._refuse_in_version_1(where, version)
        kv_version = self._version()

        def fetch(**more: Any) -> Any:
            return self._session.call(where, lambda client: self._get(client, kv_version, path, version, **more))

        try:
            follows = kv_version == "2" and version is None
            answer = NeverBackwards(self._session, where, fetch).read() if follows else fetch()
        except PermissionDenied:
            hint = self._check_mount_if_possible()
            better = mount_slip(self._mount_point) if hint else path_slip(self._mount_point, path)
            denied = self._denied(where, self.api_path(path), "read", better, hint)
            if hint:
                denied.cause += f"; {NOTHING_THERE}"
            elif not better and (names := self._names_in(path)):
                denied.cause += f"; it is a folder, too, which holds: {listed(names)}"
                denied.remedy = f"Set VAULT_SECRET_PATH to one of them. Or: {denied.remedy}"
            raise denied from None
        except BadRequest:
            self._check_mount_if_possible()
            raise
        except MountMissing as error:
            remedy = mount_slip(self._mount_point) or "Check VAULT_MOUNT_POINT and VAULT_NAMESPACE."
            raise MountMissing(where, error.cause, remedy) from None
        except PathMissing:
            if self._has_another_version(kv_version):
                return self.read(path, version)
            raise self._missing(where, path, version) from None
        return self._secret_2(where, path, answer) if kv_version == "2" else self._secret_1(where, path, answer)

    def api_path(self, path: str) -> str:
        """Return where the secret is in Vault's API, which is what policies name."""
        return f"{self._mount_point}/data/{path}" if self._version() == "2" else f"{self._mount_point}/{path}"

    def _where(self, path: str) -> str:
        """Name the secret in errors; nothing is ever sent for a path that leads out of the mount point."""
        refuse_bad_path(path)
        return f"{self._mount_point}/{path}"

    def _refuse_to_read(self, where: str) -> None:
        if self._session.settings.access_mode == "write_only":
            raise AccessRefused(where, "VAULT_ACCESS_MODE is write_only", "Set VAULT_ACCESS_MODE=read_and_write.")

    def _missing(self, where: str, path: str, version: int | None) -> PathMissing:
        self._check_mount_if_possible()
        if version is not None and self._is_there(path):
            remedy = f"`vault kv metadata get -mount={self._mount_point} {path}` tells which there are."
            return VersionMissing(where, f"there is no version {version} of it", remedy)
        return missing(where, self._mount_point, path, self._names_in)

    def _refuse_in_version_1(self, where: str, version: int) -> None:
        if self._keeps_no_versions():  # it would answer with what is there now
            cause = f"KV version 1 keeps no versions, so there is no version {version}"
            raise WrongKVVersion(where, cause, "Ask for no version, or move the secret to a KV version 2 mount.")

    def _names_in(self, path: str) -> list[str]:
        """Return the names in a folder, if it is one and the token may list it; what it may not is not tried."""
        folder = f"{self._mount_point}/{'metadata/' if self._version() == '2' else ''}{path}"
        with suppress(BackendError):
            held = self.capabilities([folder, f"{folder}/"])
            if any({"list", "root"}.intersection(some) for some in held.values()):
                answer = self._session.call(folder, lambda client: client.adapter.list(f"/v1/{quoted(folder)}"))
                return checked_names(answer, folder)
        return []

    def _is_there(self, path: str) -> bool:
        try:
            self.read(path)
        except VersionDeleted:
            return True
        except PathMissing:
            return False
        return True

    def _get(self, client: hvac.Client, kv_version: str, path: str, version: int | None, **more: Any) -> Any:
        """Send the request; hvac's own way of reading stumbles over answers that it does not expect."""
        if kv_version == "1":
            return client.adapter.get(f"/v1/{quoted(f'{self._mount_point}/{path}')}")
        more["params"] = {} if version is None else {"version": version}
        try:
            return client.adapter.get(f"/v1/{quoted(f'{self._mount_point}/data/{path}')}", **more)
        except hvac.exceptions.InvalidPath as error:
            match error.json:
                case {"data": {"metadata": {"version": int()}}}:  # there is such a version, but deleted or destroyed
                    return error.json
            raise

    def _secret_1(self, where: str, path: str, answer: Any) -> Secret:
        match answer:
            case {"data": dict(data)}:
                if looks_like_version_2(data):
                    self._check_mount_if_possible()
                return Secret(path, data)
            case _:
                raise not_vault(where, "no secret in it")

    def _secret_2(self, where: str, path: str, answer: Any) -> Secret:
        match answer:
            case {"data": {"data": dict(data), "metadata": {"version": _, "created_time": _} as about}}:
                return Secret(path, data, *checked_state(about, where))
            case {"data": {"data": None, "metadata": {"version": int(version), "destroyed": True}}}:
                raise VersionDeleted(where, f"version {version} was destroyed", "Write a new version.")
            case {"data": {"data": None, "metadata": {"version": int(version)}}}:
                raise VersionDeleted(
                    where,
                    f"version {version} was deleted",
                    f"`vault kv undelete -mount={self._mount_point} -versions={version} {path}`, or write a new one.",
                )
            case _:
                self._check_mount_if_possible()
                raise not_vault(where, "no secret in it")
