"""How are secrets written to Vault's KV engine?

Rests on `POST`, `PATCH` and `DELETE <mount>/data/<path>`, `POST <mount>/undelete|destroy/<path>`, `LIST` and
`GET <mount>/metadata/<path>` (KV version 2), and on `POST`, `DELETE` and `LIST <mount>/<path>` (version 1, which has no
versions: what needs them is refused with a clear error).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import hvac

from app.core.errors import (
    AccessRefused,
    BackendError,
    BadRequest,
    LostRace,
    MountMissing,
    PathMissing,
    PermissionDenied,
    WrongKVVersion,
)
from app.core.transport.error_causes import CAS_REQUIRED, STALE_WRITE
from app.core.transport.http import quoted
from app.core.vault import never_backwards
from app.core.vault.answers import checked_metadata, checked_version
from app.core.vault.kv import VaultKV
from app.core.vault.never_backwards import NeverBackwards
from app.core.vault.session import VaultSession
from app.core.vault.slips import mount_slip
from app.core.vault.write_outcome import told

TRIES = 3  # to patch by reading and writing, while others write too


class VaultKVWriter(VaultKV):
    """The secrets below one mount point, to be changed; every call is one request unless it says otherwise."""

    def __init__(self, session: VaultSession, wrote: Callable[[], None] = lambda: None) -> None:
        """Call `wrote` after each change, in the thread that made it."""
        super().__init__(session)
        self._wrote = wrote

    def write(self, path: str, data: Mapping[str, Any], cas: int | None = None) -> int | None:
        """Write a whole secret; return its new version (None in KV version 1).

        With `cas`, only if that is still the current version (0: only if there is none); else `LostRace`.
        """
        self._refuse_to_write(path)
        kv_version = self._version()
        try:
            return self._write_1(path, data, cas) if kv_version == "1" else self._write_2(path, data, cas)
        except PathMissing:
            if not self._has_another_version(kv_version):
                raise
        return self.write(path, data, cas)

    def _write_1(self, path: str, data: Mapping[str, Any], cas: int | None) -> int | None:
        if cas is not None:
            self.refuse_in_version_1(path, "check-and-set")
        self._send(path, "update", "post", path, json=dict(data))
        return None

    def _write_2(self, path: str, data: Mapping[str, Any], cas: int | None) -> int | None:
        body = {"data": dict(data), "options": {} if cas is None else {"cas": cas}}
        answer = self._changing(path, cas, "update", "post", body)
        if not isinstance(answer, dict) and self._has_another_version("2"):
            cause = f"the mount has become KV version 1, so what was sent is now at data/{path}"
            remedy = f"Delete it there (`vault kv delete -mount={self._mount_point} data/{path}`), and write again."
            raise WrongKVVersion(self._where(path), cause, remedy)
        return self._new_version(path, answer)

    def patch(self, path: str, changes: Mapping[str, Any]) -> int:
        """Change some keys of a secret and keep the others; None removes a key. Returns the new version.

        Objects are merged key by key (RFC 7396): by Vault where the token has the capability `patch`. Otherwise, or
        where Vault requires check-and-set, this reads, merges and writes with it: a second and a third request, again
        if somebody else was faster, and `LostRace` in the end.
        """
        self._refuse_to_write(path)
        self.refuse_in_version_1(path, "a patch")
        try:
            return self._new_version(path, self._changing(path, None, "patch", "patch", {"data": dict(changes)}))
        except PermissionDenied:
            pass
        except BadRequest as error:
            if error.cause != CAS_REQUIRED:
                raise
        for attempt in range(1, TRIES + 1):
            held = self.read(path)
            try:
                return self.write(path, _merged(held.data, changes), cas=held.version) or 0
            except LostRace:
                if attempt == TRIES:
                    raise
        raise AssertionError  # the loop has returned or raised

    def delete(self, path: str) -> None:
        """Delete the latest version; `undelete` brings it back (in KV version 1: nothing does)."""
        self._refuse_to_write(path)
        self._send(path, "delete", "delete", path if self._version() == "1" else f"data/{path}")

    def undelete(self, path: str, versions: Sequence[int]) -> None:
        """Bring deleted versions back."""
        self._refuse_to_write(path)
        self.refuse_in_version_1(path, "undelete")
        self._send(path, "update", "post", f"undelete/{path}", json={"versions": list(versions)})

    def destroy(self, path: str, versions: Sequence[int]) -> None:
        """Destroy versions for good."""
        self._refuse_to_write(path)
        self.refuse_in_version_1(path, "destroy")
        self._send(path, "update", "post", f"destroy/{path}", json={"versions": list(versions)})

    def list(self, path: str = "") -> list[str]:
        """Return the names below a path, folders with a closing slash; none if there is no such folder."""
        self._refuse_to_read(self._where(path) if path else self._mount_point)
        kv_version = self._version()
        where = path if kv_version == "1" else f"metadata/{path}"
        folder = self._where(path) if path else self._mount_point
        names = NeverBackwards(self._session, folder, partial(self._send, path, "list", "list", where)).names()
        return self.list(path) if not names and self._has_another_version(kv_version) else names

    def metadata(self, path: str) -> dict[str, Any]:
        """Return what Vault knows of a secret beside its values: versions, their times, and custom metadata."""
        self._refuse_to_read(self._where(path))
        self.refuse_in_version_1(path, "metadata")
        try:
            return self._metadata(path)
        except PathMissing:
            if self._has_another_version("2"):
                self.refuse_in_version_1(path, "metadata")
            raise

    def write_custom_metadata(self, path: str, custom: Mapping[str, str]) -> None:
        """Put so-called custom metadata on a secret, in place of what was there; makes the path if there is none."""
        self._refuse_to_write(path)
        self.refuse_in_version_1(path, "metadata")
        self._send(path, "update", "post", f"metadata/{path}", json={"custom_metadata": dict(custom)})
        self._session.changes.note(self._where(path), is_there=True)

    def delete_metadata(self, path: str) -> None:
        """Remove a secret for good, with all its versions and metadata; nothing happens if there is none."""
        self._refuse_to_write(path)
        self.refuse_in_version_1(path, "metadata")
        self._send(path, "delete", "delete", f"metadata/{path}")
        self._session.secret_versions.pop(self._where(path), None)  # a new one begins with version 1
        self._session.changes.note(self._where(path), is_there=False)

    def refuse_in_version_1(self, path: str, what: str) -> None:
        """Raise `WrongKVVersion` where the mount cannot do `what`."""
        if self._keeps_no_versions():
            cause = f"KV version 1 keeps no versions, so {what} is not possible there"
            raise WrongKVVersion(self._where(path), cause, "Use a KV version 2 mount, or write it whole.")

    def _metadata(self, path: str) -> dict[str, Any]:
        fetch = partial(self._send, path, "read", "get", f"metadata/{path}")
        return checked_metadata(NeverBackwards(self._session, self._where(path), fetch).read(), self._where(path))

    def _refuse_to_write(self, path: str) -> None:
        """Raise `AccessRefused` before anything is sent, also to find out the KV version.

        With `auto` that is asked again: of what goes to the wrong place, nobody would say so.
        """
        where = self._where(path)
        if self._session.settings.access_mode == "read_only":
            remedy = "Set VAULT_ACCESS_MODE=read_and_write if this service is to write."
            raise AccessRefused(where, "VAULT_ACCESS_MODE is read_only", remedy)
        self._forget_version()

    def _changing(self, path: str, cas: int | None, capability: str, method: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/merge-patch+json"} if method == "patch" else {}
        for _ in range(1 + never_backwards.TRIES):
            try:
                return self._send(path, capability, method, f"data/{path}", json=body, headers=headers)
            except BadRequest as error:
                if error.cause != STALE_WRITE:
                    raise
            if not self._may_lag(path, cas):
                break
            self._session.wait(never_backwards.PAUSE)
        cause = f"version {cas} is not the current one any more"
        with suppress(BackendError):  # to tell the current one; the race is lost all the same
            cause += f", {self._metadata(path).get('current_version', 0)} is"
        raise LostRace(self._where(path), cause, "Read it again, and repeat the change.")

    def _may_lag(self, path: str, cas: int | None) -> bool:
        """Tell whether a standby may have refused a write, by what it has: a moment ago we made what `cas` says."""
        where, session = self._where(path), self._session
        is_ours = session.changes.is_recent(where) and cas == session.secret_versions.get(where, 0)
        return is_ours and session.consistency.from_the_leader() is None

    def _send(self, path: str, capability: str, method: str, where: str, **request: Any) -> Any:
        subject = self._mount_point if method == "list" and not path else self._where(path)
        slip = mount_slip(self._mount_point)  # what is written would lie elsewhere, and a list would be empty
        slip = slip if slip and self._check_mount_if_possible() else ""
        api_path = f"{self._mount_point}/{where}"

        def send(client: hvac.Client) -> Any:
            return client.adapter.request(method, f"/v1/{quoted(api_path)}", **request)

        try:
            with told(subject) if capability not in {"read", "list"} else nullcontext():
                answer = self._session.call(subject, send)
        except PermissionDenied:
            raise self._denied(subject, api_path, capability, slip, is_new=lambda: self._is_new(path, where)) from None
        except MountMissing as error:
            raise MountMissing(subject, error.cause, slip or error.remedy) from None
        if capability not in {"read", "list"}:
            self._wrote()
        return answer

    def _is_new(self, path: str, where: str) -> bool:
        """Tell whether a write makes a secret; assumed where nobody may look. To undelete or to destroy never does."""
        if where.startswith(("undelete/", "destroy/")):
            return False
        with suppress(BackendError):
            return not self._is_there(path)
        return True

    def _new_version(self, path: str, answer: Any) -> int:
        """Return the version that was written; no read of this process gets an older one any more."""
        version, where = checked_version(answer, self._where(path)), self._where(path)
        known = self._session.secret_versions
        known[where] = version if version == 1 else max(version, known.get(where, 0))  # 1: somebody had removed it
        self._session.changes.note(where, is_there=True)
        return version


def _merged(held: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge as Vault does (RFC 7396): objects key by key, and only what is None in the changes goes."""
    merged = dict(held) if isinstance(held, Mapping) else {}
    for name, change in changes.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), change) if isinstance(change, Mapping) else change
    return merged
