"""What is mounted where? The answers of Vault's mount table, understood."""

from typing import Any

from app.core.errors import MountMissing, WrongKVVersion
from app.core.transport.network_errors import not_vault
from app.core.vault.answers import malformed
from app.core.vault.slips import mount_slip

NOTHING_THERE = "nothing is mounted there that the token may use"


def kv_version_in(answer: Any, mount_point: str, where: str) -> str:
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
