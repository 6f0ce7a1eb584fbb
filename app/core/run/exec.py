"""How does another program get the secrets? In its environment: `python -m app exec -- alembic upgrade head`."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from app.core.errors import BadSettings, BlueprintError
from app.core.store.loading import load_secrets
from app.core.store.provider import Blueprint
from app.core.store.sessions import close_sessions

WRONG_SETTINGS, NOT_EXECUTABLE, NOT_FOUND = 3, 126, 127  # exit codes; the last two as shells have them


def exec_command(blueprint: Blueprint, command: Sequence[str]) -> NoReturn:
    """Replace this process by the command, with each declared secret in a variable: `DATABASE_URL` for `database_url`.

    What is no text is JSON. The token is revoked before; the secrets are those of this moment.
    """
    words = [*command[1:]] if command[:1] == ["--"] else [*command]
    if not words:
        _end("give a command: python -m app exec -- COMMAND …", 2)
    try:
        settings = blueprint.settings.of_environment()
        secrets = load_secrets(blueprint.declared, blueprint.providers.sources(settings), settings.secrets)
    except BlueprintError as error:
        _end(str(error), WRONG_SETTINGS if isinstance(error, BadSettings) else 1)
    finally:
        close_sessions()
    try:
        os.execvpe(words[0], words, {**os.environ, **variables(secrets, blueprint.declared.model_fields)})  # noqa: S606 - it is asked for
    except OSError as error:
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        _end(f"{words[0]}: {error.strerror}", code)


def variables(secrets: Mapping[str, Any], names: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    """Return the declared secrets as variables."""
    held = {name: secrets[name] for name in names if name in secrets}
    return {
        name.upper(): value if isinstance(value, str) else json.dumps(value, default=str)
        for name, value in held.items()
    }


def _end(text: str, code: int) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)  # noqa: T201 - a command's answer
    sys.exit(code)
