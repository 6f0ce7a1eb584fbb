"""What was typed at the terminal, and can it be meant so? Refuses what would go wrong in silence."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import typer
from pydantic import ValidationError

from app.core.settings.app import AppSettings
from app.core.settings.problems import bad_settings
from app.core.settings.types import refuse_bad_path
from app.core.settings.variables import groups_of
from app.core.settings.vault import VaultSettings

LARGEST = 32 * 2**20  # bytes of a value; Vault takes no larger request


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
            elif value.startswith("@"):
                with Path(value[1:]).open("rb") as file:  # a pipe, too: @<(openssl rand -hex 32)
                    values[key] = _all_of(file, key).decode()
            else:
                values[key] = value
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
    return _all_of(sys.stdin.buffer, key)


def _all_of(file: BinaryIO, key: str) -> bytes:
    """Read what Vault would take; a device such as /dev/zero has no end."""
    content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise typer.BadParameter(f"{visible(key)}: is larger than {LARGEST // 2**20} MiB")
    return content


def without_credentials(kind: type[AppSettings]) -> AppSettings:
    """Return the settings where nobody logs in: the credentials may be missing, everything else must be right."""
    stand_ins = {name: group.stand_ins for name, group in groups_of(kind).items()}
    given: dict[str, Any] = {}
    for attempt in range(2):
        try:
            return kind(**given)
        except ValidationError as error:
            problems = [problem["loc"] for problem in error.errors(include_input=False, include_url=False)]
            known = {location: stand_ins.get(str(location[0]), VaultSettings.stand_ins) for location in problems}
            if attempt or any(location[-1] not in known[location] for location in problems):
                raise bad_settings(error) from None
            for location in problems:
                *groups, name = location
                group = given
                for each in groups:
                    group = group.setdefault(str(each), {})
                group[str(name)] = known[location][str(name)]
    raise AssertionError  # the loop has returned or raised
