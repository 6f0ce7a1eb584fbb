"""How does the command line begin and end? With the commands of all extras; the exit code fits what went wrong."""

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import typer

from app import extras
from app.core.errors import (
    AccessRefused,
    BadReference,
    BadSettings,
    BlueprintError,
    KeyMissing,
    LoginRefused,
    LostRace,
    PathMissing,
    PermissionDenied,
    VaultRateLimited,
    VaultSealed,
    VaultUnreachable,
)
from app.core.store.provider import Blueprint
from app.extras.cli.command_input import refuse_what_is_no_text, visible
from app.extras.cli.commands import cli

# what a script can tell apart; 2 is a wrong command line
EXIT_CODES: dict[int, tuple[type[Exception], ...]] = {
    3: (BadSettings, BadReference),
    4: (PathMissing, KeyMissing),
    5: (PermissionDenied, LoginRefused, AccessRefused),
    6: (LostRace,),
    7: (VaultUnreachable, VaultSealed, VaultRateLimited),
    2: (ValueError,),
    1: (BlueprintError,),
}


def main(blueprint: Blueprint) -> None:
    """Run the command line of this service; the exit code fits what went wrong."""
    for command in commands_of_extras():
        command.add_to(cli)
    try:
        refuse_what_is_no_text(sys.argv[1:])
        try:
            cli(prog_name="python -m app", obj=blueprint)
        finally:
            if sys.stdout is not None:  # it is where the shell has closed it
                sys.stdout.flush()
    except (BlueprintError, ValueError) as error:
        _end(str(error), next(code for code, kinds in EXIT_CODES.items() if isinstance(error, kinds)))
    except OSError as error:
        if error.filename is not None:  # something else cannot be read; what is written to has no name here
            _end(f"{os.fsdecode(error.filename)}: {error.strerror}", 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries once more at its end
        _end(f"standard output: {error.strerror}", 1)


def commands_of_extras() -> Iterator[ModuleType]:
    """Yield what other extras add to the command line: their `for_cli.py`."""
    for folder in map(Path, extras.__path__):
        for file in sorted(folder.glob("*/for_cli.py")):  # without an import of each extra, which takes long
            yield import_module(f"{extras.__name__}.{file.parent.name}.{file.stem}")


def _end(text: str, code: int) -> NoReturn:
    typer.echo(f"error: {_visible_lines(text)}", err=True)
    sys.exit(code)


def _visible_lines(text: str) -> str:
    return "\n".join(map(visible, text.split("\n")))
