"""How are secrets read from Vault's KV engine?

Rests on `GET <mount>/data/<path>` (KV version 2).
"""

from typing import Any

import hvac

from app.backends.protocol import Secret
from app.errors import PathMissing, PermissionDenied, VersionDeleted, WrongKVVersion
from app.vault_http import not_vault
from app.vault_session import VaultSession


class VaultKV:
    """The secrets below one mount point."""

    def __init__(self, session: VaultSession, mount_point: str) -> None:
        self._session = session
        self._mount_point = mount_point

    def read(self, path: str) -> Secret:
        """Read the latest version of the secret at `path`: one request."""
        where = f"{self._mount_point}/{path}"

        def read_latest(client: hvac.Client) -> Any:
            return client.secrets.kv.v2.read_secret_version(
                path, mount_point=self._mount_point, raise_on_deleted_version=False
            )

        try:
            answer = self._session.call(where, read_latest)
        except PermissionDenied:
            remedy = f'Grant it in the policy: path "{self._mount_point}/data/{path}" {{ capabilities = ["read"] }}.'
            raise PermissionDenied(where, "permission denied", remedy) from None
        except PathMissing:
            raise PathMissing(where, "there is no secret at this path", _hint(self._mount_point, path)) from None
        return self._secret(where, path, answer)

    def _secret(self, where: str, path: str, answer: Any) -> Secret:
        match answer:
            case {"data": {"data": dict(data), "metadata": {"version": int(version)}}}:
                return Secret(path, data, version)
            case {"data": {"data": None, "metadata": {"version": version, "destroyed": True}}}:
                raise VersionDeleted(where, f"version {version}, the latest, was destroyed", "Write a new version.")
            case {"data": {"data": None, "metadata": {"version": version}}}:
                raise VersionDeleted(
                    where,
                    f"version {version}, the latest, was deleted",
                    f"`vault kv undelete -mount={self._mount_point} -versions={version} {path}`, or write a new one.",
                )
            case {"data": dict()}:
                raise WrongKVVersion(where, "the mount is not KV version 2", "Check VAULT_MOUNT_POINT.")
            case _:
                raise not_vault(where, "no secret in it")


def _hint(mount_point: str, path: str) -> str:
    """Guess which well-known slip led to a path that is not there."""
    first = path.split("/", 1)[0]
    if first == "data":
        return "Leave out data/: it belongs to the API, not to the path. Set VAULT_SECRET_PATH without it."
    if first == mount_point.split("/", 1)[0] and "/" in path:
        return f"VAULT_SECRET_PATH counts from the mount point: leave out {first}/."
    return f"Write it (`vault kv put -mount={mount_point} {path} …`), or check VAULT_MOUNT_POINT and VAULT_SECRET_PATH."
