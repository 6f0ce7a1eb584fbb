"""What does `python -m app …` do? `serve` and `exec` are here; other commands come with extras."""

import sys
from importlib import import_module
from importlib.util import find_spec

from app.core.run.exec import exec_command
from app.core.run.serve import serve
from app.core.store.provider import Blueprint

EXTRAS = "app.extras"
COMMANDS = ["get", "put", "patch", "delete", "undelete", "list", "versions", "policy"]  # of the extra cli


def main(blueprint: Blueprint) -> None:
    """Carry out what the command line asks for."""
    match sys.argv[1:]:
        case ["serve", *options]:
            serve(blueprint, options)
        case ["exec", *command]:
            exec_command(blueprint, command)
        case ["doctor", *_] if not _is_there("doctor"):
            _say_what_is_missing("doctor", "doctor")
        case _ if _is_there("cli"):
            import_module(f"{EXTRAS}.cli.main").main(blueprint)
        case ["doctor", *options]:
            import_module(f"{EXTRAS}.doctor.command").main(blueprint, options)
        case [command, *_] if command in COMMANDS:
            _say_what_is_missing(command, "cli")
        case _:
            sys.exit("usage: python -m app serve | exec -- COMMAND …; other commands come with the extra cli")


def _is_there(extra: str) -> bool:
    return find_spec(f"{EXTRAS}.{extra}") is not None


def _say_what_is_missing(command: str, extra: str) -> None:
    sys.exit(f"error: `python -m app {command}` comes with the extra {extra}: there is no folder app/extras/{extra}")
