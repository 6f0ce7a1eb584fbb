"""How are secrets read from Vault's KV engine?

Rests on `GET <mount>/data/<path>` (KV version 2) and `GET <mount>/<path>` (version 1). After a failure, and only then,
`POST sys/capabilities-self` and `GET sys/internal/ui/mounts/<mount>` tell what stands in the way.
"""

from datetime import datetime
from typing import Any

import hvac
import hvac.exceptions

from app.backends.protocol import Secret
from app.config_types import refuse_bad_path
from app.errors import (
    AccessRefused,
    PathMissing,
    PermissionDenied,
    UnexpectedAnswer,
    VaultError,
    VersionDeleted,
    WrongKVVersion,
)
from app.vault_errors import data_of, not_vault
from app.vault_http import quoted
from app.vault_session import VaultSession


class VaultKV:
    """The secrets below one mount point."""

    def __init__(self, session: VaultSession) -> None:
        self._session = session
        self._mount_point = session.settings.mount_point

    def read(self, path: str, version: int | None = None) -> Secret:
        """Read the secret at `path`, by default its latest version: one request."""
        where = self._where(path)
        if self._session.settings.access_mode == "write_only":
            raise AccessRefused(where, "VAULT_ACCESS_MODE is write_only", "Set VAULT_ACCESS_MODE=read_and_write.")
        kv_version = self._version()
        api_path = f"{self._mount_point}/data/{path}" if kv_version == "2" else where
        try:
            answer = self._session.call(where, lambda client: self._get(client, kv_version, path, version))
        except PermissionDenied:
            self._check_version(kv_version)
            raise self._denied(where, api_path, "read") from None
        except PathMissing as error:
            if "nothing is mounted" in error.cause or "namespace" in error.cause:
                remedy = "Check VAULT_MOUNT_POINT and VAULT_NAMESPACE."
                raise PathMissing(where, error.cause, remedy) from None
            self._check_version(kv_version)
            remedy = _hint(self._mount_point, path)
            raise PathMissing(where, "there is no secret at this path", remedy) from None
        return self._secret_2(where, path, answer) if kv_version == "2" else self._secret_1(where, path, answer)

    def _where(self, path: str) -> str:
        """Name the secret in errors; nothing is ever sent for a path that leads out of the mount point."""
        refuse_bad_path(path)
        return f"{self._mount_point}/{path}"

    def _get(self, client: hvac.Client, kv_version: str, path: str, version: int | None) -> Any:
        """Send the request; hvac's own way of reading stumbles over answers that it does not expect."""
        if kv_version == "1":
            return client.adapter.get(f"/v1/{quoted(f'{self._mount_point}/{path}')}")
        params = {} if version is None else {"version": version}
        try:
            return client.adapter.get(f"/v1/{quoted(f'{self._mount_point}/data/{path}')}", params=params)
        except hvac.exceptions.InvalidPath as error:
            match error.json:
                case {"data": {"metadata": {"version": int()}}}:  # there is such a version, but deleted or destroyed
                    return error.json
            raise

    def _secret_1(self, where: str, path: str, answer: Any) -> Secret:
        match answer:
            case {"data": dict(data)}:
                return Secret(path, data)
            case _:
                raise not_vault(where, "no secret in it")

    def _secret_2(self, where: str, path: str, answer: Any) -> Secret:
        match answer:
            case {"data": {"data": dict(data), "metadata": {"version": int(version), "created_time": str(created)}}}:
                return Secret(path, data, version, datetime.fromisoformat(created).timestamp())
            case {"data": {"data": None, "metadata": {"version": version, "destroyed": True}}}:
                raise VersionDeleted(where, f"version {version} was destroyed", "Write a new version.")
            case {"data": {"data": None, "metadata": {"version": version}}}:
                raise VersionDeleted(
                    where,
                    f"version {version} was deleted",
                    f"`vault kv undelete -mount={self._mount_point} -versions={version} {path}`, or write a new one.",
                )
            case _:
                self._check_version("2")
                raise not_vault(where, "no secret in it")

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
                "Check VAULT_MOUNT_POINT, or set VAULT_KV_VERSION to 1 or 2 instead of auto.",
            )
        self._session.kv_versions[self._mount_point] = found
        return found

    def _mounted_version(self) -> str | None:
        """Ask Vault which KV version is mounted; None if the token may not know."""
        where = f"sys/internal/ui/mounts/{self._mount_point}"
        try:
            answer = self._session.call(where, lambda client: client.adapter.get(f"/v1/{quoted(where)}"))
        except (PermissionDenied, PathMissing):
            return None
        match answer:
            case {"data": {"type": "kv", "options": {"version": str(version)}}}:
                return version
            case {"data": {"type": "kv" | "generic"}}:
                return "1"
            case {"data": {"type": str(other)}}:
                raise WrongKVVersion(
                    self._mount_point, f"a {other} engine is mounted there", "Check VAULT_MOUNT_POINT."
                )
            case _:
                raise not_vault(where, "no mount in it")

    def _check_version(self, assumed: str) -> None:
        """Raise `WrongKVVersion` if that is why a read failed; the question may fail in its turn."""
        try:
            found = self._mounted_version()
        except (WrongKVVersion, UnexpectedAnswer):
            raise
        except VaultError:
            return
        if found not in {None, assumed}:
            remedy = f"Set VAULT_KV_VERSION={found}."
            raise WrongKVVersion(self._mount_point, f"the mount is KV version {found}, not {assumed}", remedy)

    def _denied(self, where: str, api_path: str, capability: str) -> PermissionDenied:
        """Say which capability is missing, and what the token has instead."""
        cause = "permission denied"
        try:
            answer = self._session.call("sys/capabilities-self", lambda client: client.sys.get_capabilities([api_path]))
            held = data_of(answer)[api_path]
        except (VaultError, KeyError):
            pass
        else:
            cause = f"permission denied: the token lacks the capability {capability} (it has: {', '.join(held)})"
        remedy = f'Grant it in the policy: path "{api_path}" {{ capabilities = ["{capability}"] }}.'
        return PermissionDenied(where, cause, remedy)


def _hint(mount_point: str, path: str) -> str:
    """Guess which well-known slip led to a path that is not there."""
    first = path.split("/", 1)[0]
    if first == "data":
        return "Leave out data/: it belongs to the API, not to the path. Set VAULT_SECRET_PATH without it."
    if f"{path}/".startswith(f"{mount_point}/") and path != mount_point:
        return f"VAULT_SECRET_PATH counts from the mount point: leave out {mount_point}/."
    return f"Write it (`vault kv put -mount={mount_point} {path} …`), or check VAULT_MOUNT_POINT and VAULT_SECRET_PATH."
