"""How does another program get the secrets? In its environment: `python -m app exec -- alembic upgrade head`."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from app.core.errors import BadSettings, BlueprintError
from app.core.logs.logging_config import configure_logging
from app.core.run.child import end_as, run_child
from app.core.store.loading import load_secrets
from app.core.store.provider import Blueprint
from app.core.store.sessions import close_sessions

WRONG_SETTINGS, NOT_EXECUTABLE, NOT_FOUND = 3, 126, 127  # exit codes; the last two as shells have them


def exec_command(blueprint: Blueprint, command: Sequence[str]) -> NoReturn:
    """Replace this process by the command, with each declared secret in a variable: `DATABASE_URL` for `database_url`.

    What is no text is JSON. The token is revoked before; the secrets are those of this moment. Where Vault has issued
    some of them, this process stays, as they end with its token: it keeps them, and gives them back in the end.
    """
    words = [*command[1:]] if command[:1] == ["--"] else [*command]
    if not words:
        _end("give a command: python -m app exec -- COMMAND …", 2)
    ticks: dict[str, Callable[[], float]] = {}
    try:
        settings = blueprint.settings.of_environment()
        sources = blueprint.providers.sources(settings)
        secrets = load_secrets(blueprint.declared, sources, settings.secrets)
        if any(source.connection().leases for source in sources):
            ticks = {name: tick for source in sources for name, tick in source.periodic().items()}
            configure_logging(
                settings.log_level if "log_level" in settings.model_fields_set else "WARNING", settings.log_format
            )
    except BlueprintError as error:
        _end(str(error), WRONG_SETTINGS if isinstance(error, BadSettings) else 1)
    finally:
        if not ticks:
            close_sessions()
    environment = {**os.environ, **variables(secrets, blueprint.declared.model_fields)}
    try:
        if not ticks:
            os.execvpe(words[0], words, environment)  # noqa: S606 - it is asked for
        code = run_child(words, environment, ticks)
    except OSError as error:
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        _end(f"{words[0]}: {error.strerror}", code)
    finally:
        close_sessions(for_good=True)  # what still renews must not log in anew
    end_as(code)


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
