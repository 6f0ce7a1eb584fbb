"""Is a version of a secret there, and until when? By what Vault's metadata say of it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def is_gone(about: Mapping[str, Any]) -> bool:
    """Tell whether a version is deleted or destroyed; its deletion may be to come (`delete_version_after`)."""
    deleted = about.get("deletion_time")
    return bool(about.get("destroyed") or (deleted and datetime.fromisoformat(deleted) <= datetime.now(UTC)))


def state_of(about: Mapping[str, Any]) -> str:
    """Return the state of a version in words."""
    if about.get("destroyed"):
        return "destroyed"
    deleted = about.get("deletion_time")
    if is_gone(about):
        return f"deleted {deleted}"
    return f"there until {deleted}" if deleted else "there"
