"""What was typed at the terminal, and can it be meant so? Refuses what would go wrong in silence."""

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from app.backends.vault_kv_writer import VaultKVWriter
from app.config import NEEDED, Settings, bad_settings
from app.config_types import refuse_bad_path
from app.errors import AccessRefused, PathMissing, PermissionDenied, VersionDeleted, WrongKVVersion

# what the settings may lack where nobody logs in, and what stands in for it
NO_CREDENTIALS: dict[str, Any] = {
    **{name: "-" for choices in NEEDED.values() for needs in choices for name in needs[:1]},
    "secret_id_wrapped": False,
    "authn_api_key": "-",
}


def visible(text: str) -> str:
    """Show characters that would steer the terminal instead of obeying them."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def refuse_what_is_no_text(arguments: Sequence[str]) -> None:
    """Raise `ValueError` for an argument whose bytes are not UTF-8: they would arrive as something else."""
    for number, argument in enumerate(arguments, 1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise ValueError(f"argument {number} is not UTF-8; encode it, for instance as base64") from None


def checked_path(path: str) -> str:
    """Return the path; raise a `ValueError` that names it if no secret can have it."""
    try:
        if folder := path.strip("/"):
            refuse_bad_path(folder)
    except ValueError as error:
        raise ValueError(f"{path[:200]}: {error}") from None
    return path


def values_of(pairs: Sequence[str]) -> dict[str, str]:
    """Return what `key=value`, `key=@file` and `key=-` stand for."""
    values: dict[str, str] = {}
    if sum(pair.partition("=")[2] == "-" for pair in pairs) > 1:
        raise typer.BadParameter("only one value can come from standard input")
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter("each value has the form key=value, key=@file or key=-")
        if key in values:
            raise typer.BadParameter(f"{visible(key)} is given twice")
        try:
            if value == "-":
                values[key] = _standard_input(key).decode()
            else:
                values[key] = Path(value[1:]).read_bytes().decode() if value.startswith("@") else value
        except OSError as error:
            raise typer.BadParameter(
                f"{visible(key)}: {visible(value[1:])} cannot be read ({error.strerror})"
            ) from None
        except UnicodeDecodeError:
            raise typer.BadParameter(f"{visible(key)}: is not UTF-8; encode it, for instance as base64") from None
    return values


def _standard_input(key: str) -> bytes:
    if sys.stdin is None:
        raise typer.BadParameter(f"{visible(key)}: standard input is closed")
    return sys.stdin.buffer.read()


def check_deletion(writer: Any, path: str) -> None:
    """Raise `PathMissing` where there is nothing to delete: Vault itself says nothing then.

    A token that may delete, but not look, deletes all the same. (Conjur's writer looks by itself.)
    """
    if not isinstance(writer, VaultKVWriter):
        return
    with suppress(PermissionDenied, AccessRefused):
        try:
            about = writer.metadata(path)
        except WrongKVVersion:
            writer.read(path)  # version 1 has no metadata
            return
        latest = about.get("current_version", 0)
        if not latest:
            raise PathMissing(path, "there is no version of it", "Check the path.")
        if _is_gone(about["versions"].get(str(latest), {})):
            raise VersionDeleted(
                path, f"version {latest}, the latest one, is deleted already", "There is no more to do."
            )


def check_undeletion(writer: Any, path: str, versions: Iterable[int]) -> None:
    """Raise `PathMissing` for a version that is not there or cannot come back: Vault itself says nothing then."""
    if not isinstance(writer, VaultKVWriter):
        return
    with suppress(PermissionDenied, AccessRefused):
        there = writer.metadata(path)["versions"]
        for version in versions:
            if (about := there.get(str(version))) is None:
                known = ", ".join(there) or "none"
                raise PathMissing(path, f"there is no version {version}; there is: {known}", "Check the version.")
            if about.get("destroyed"):
                raise VersionDeleted(path, f"version {version} is destroyed", "Nothing brings it back: write it anew.")


def _is_gone(about: dict[str, Any]) -> bool:
    """Tell it of one version; the time of its deletion may be to come (`delete_version_after`)."""
    deleted = about.get("deletion_time")
    return bool(about.get("destroyed") or (deleted and datetime.fromisoformat(deleted) <= datetime.now(UTC)))


def settings_without_credentials() -> Settings:
    """Return the settings where nobody logs in: the credentials may be missing, everything else must be right."""
    given: dict[str, Any] = {}
    for attempt in range(2):
        try:
            return Settings(**given)
        except ValidationError as error:
            problems = [problem["loc"] for problem in error.errors(include_input=False, include_url=False)]
            if attempt or any(location[-1] not in NO_CREDENTIALS for location in problems):
                raise bad_settings(error) from None
            for *groups, name in problems:
                group = given
                for each in groups:
                    group = group.setdefault(str(each), {})
                group[str(name)] = NO_CREDENTIALS[str(name)]
    raise AssertionError  # the loop has returned or raised
