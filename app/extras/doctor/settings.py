"""Are the settings in order, and do they come from where one thinks?"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from app.core.errors import BadSettings
from app.core.settings.app import AppSettings
from app.core.settings.dotenv import DOTENV, read_dotenv
from app.core.settings.source import SourceSettings
from app.core.settings.tool_names import as_given, our_name
from app.core.settings.variables import as_set, groups_of, other_names
from app.core.settings.vault import VaultSettings
from app.core.transport.credential_files import exposed_mode
from app.extras.doctor.findings import Finding, ok, warning
from app.extras.doctor.other_tools import examine_other_tools

ALIKE = 0.9  # of 1: how similar a name must be to be taken for a slip of the pen


def refused_settings(error: BadSettings) -> Iterator[Finding]:
    """Turn each problem into a finding."""
    for problem in error.problems:
        variable, _, cause = problem.partition(": ")
        yield Finding("fault", cause, _remedy(variable, cause), variable)


def _remedy(variable: str, cause: str) -> str:
    if variable == DOTENV:
        return "Fix that line." if cause.startswith("line ") else f"Make {DOTENV} a text file that this user may read."
    variable = as_given(as_set_by(variable))
    verb = "Fix" if variable in _in_file() | in_environment() else "Set"
    return f"{verb} {variable} {_place(variable)}."


def good_settings(settings: AppSettings) -> Iterator[Finding]:
    """Say what counts, and point out names that look misspelt: they are ignored."""
    kind, file, environment = type(settings), _in_file(), in_environment()
    given = file | environment
    sources = groups_with_prefix(settings)
    enabled = [name for name, _, own in sources if own.enabled]
    text = f"{settings.environment}; {', '.join(enabled) or 'VAULT_ENABLED is false, so no Vault'}"
    twice = sorted(name for name, value in file.items() if _environment_wins(kind, name, value, environment))
    yield ok(text + (f"; the environment wins over .env for {', '.join(twice)}" if twice else ""))
    for _, prefix, own in sources:
        if own.enabled:
            yield from _given_twice(prefix, own)
    yield from exposed_files(settings)
    yield from _odd_variables(environment, _beginnings(kind))
    known = {f"{name}_{field}".upper() for name, group in groups_of(kind).items() for field in group.model_fields}
    yield from examine_other_tools({"in the environment": environment, "in .env": file}, known)
    known |= {"VAULT_ADDR", "BAO_ADDR", *(f"BAO_{field}".upper() for field in VaultSettings.model_fields)}
    for name in sorted(given):
        if name.lower().startswith(_beginnings(kind)) and name not in known:
            for near in difflib.get_close_matches(name, known - given.keys(), 1, ALIKE):
                yield warning("there is no such variable", f"Set {near} {_place(name)}, if that is meant.", name)


def _odd_variables(environment: Mapping[str, str | None], beginnings: tuple[str, ...]) -> Iterator[Finding]:
    for name, lines in read_dotenv().twice.items():
        listed = " and ".join(map(str, lines))
        text = f"it is set in lines {listed}; the last one counts"
        yield warning(text, f"Remove it from {DOTENV} once.", name.upper())
    for name, value in sorted(environment.items()):  # Docker's --env-file leaves them there
        if re.fullmatch(r"""(["']).*\1""", value or "", re.DOTALL) and name.lower().startswith(beginnings):
            yield warning("it has quotes around it, which are part of the value", "Leave them out.", name)


def as_set_by(variable: str) -> str:
    """Return the variable that sets what `SECRET_<NAME>` stands for: it, or the one that names its file."""
    other = f"{variable}_FILE"
    return other if other in in_environment() | _in_file() else variable


def _beginnings(kind: type[AppSettings]) -> tuple[str, ...]:
    return ("bao_", *(f"{group}_" for group in groups_of(kind)))


def groups_with_prefix(settings: AppSettings) -> list[tuple[str, str, SourceSettings]]:
    """Return the groups of settings, each with its name and with the beginning of its variables."""
    own = [(name, f"{name.upper()}_", getattr(settings, name)) for name in groups_of(type(settings))]
    named = [(name, f"VAULTS__{name.upper().replace('-', '_')}__", own) for name, own in settings.vaults.items()]
    return [*own[:1], *named, *own[1:]]


def exposed_files(settings: AppSettings) -> Iterator[Finding]:
    """Point out files with credentials that others may read."""
    kind, file = type(settings), _in_file()
    for _, prefix, own in groups_with_prefix(settings):
        if own.enabled:
            for field in (*(own.value_or_file[name] for name in own.used_credentials()), *own.credential_files):
                yield from _exposed(getattr(own, field), f"{prefix}{field.upper()}")
    if any(is_secret(kind, name, value) for name, value in file.items()):
        yield from _exposed(Path(DOTENV), "")
    for name, value in {**file, **in_environment()}.items():
        if re.fullmatch(r"SECRET_.+_FILE", name):
            yield from _exposed(Path((value or "").strip()), name)


def _given_twice(prefix: str, own: SourceSettings) -> Iterator[Finding]:
    for names in own.one_of:
        first, *rest = [name for name in names if getattr(own, name) is not None] or [""]
        for name in rest:
            one, two = f"{prefix}{name.upper()}", f"{prefix}{first.upper()}"
            yield warning(f"it is ignored, since {two} is set too", f"Unset {one} or {two}.", one)
    for name, other in {name: own.value_or_file[name] for name in own.used_credentials()}.items():
        if getattr(own, name) is not None and getattr(own, other) is not None:
            one, two = f"{prefix}{name.upper()}", f"{prefix}{other.upper()}"
            yield warning(f"it is ignored, since {two} is set too", f"Unset {one} or {two}.", one)


def _exposed(file: Path | None, variable: str) -> Iterator[Finding]:
    """Warn of a file with a credential that others may read, as the service does."""
    if file is not None and (mode := exposed_mode(file)):
        subject = f"{variable}={file}" if variable else str(file)
        yield warning(f"others may read the credential in it: its mode is {mode}", f"`chmod 600 {file}`.", subject)


def is_secret(kind: type[AppSettings], name: str, value: str | None) -> bool:
    """Tell whether a variable holds a credential or a secret, not a reference to one."""
    credentials = [f"{group}_{field}" for group, own in groups_of(kind).items() for field in own.credentials]
    credentials += [f"vaults__.+?__{field}" for field in VaultSettings.credentials]
    pattern = "|".join(["secret_.+(?<!_file)", *credentials])
    return bool(re.fullmatch(pattern, our_name(name.lower()))) and "{vault://" not in (value or "")


def _environment_wins(
    kind: type[AppSettings], name: str, value: str | None, environment: Mapping[str, str | None]
) -> bool:
    ours = our_name(name.lower())
    others = other_names(kind, ours)
    return any(
        our_name(other.lower()) in others or (our_name(other.lower()) == ours and there != value)
        for other, there in environment.items()
    )


def _place(variable: str) -> str:
    places = {"in the environment": in_environment(), "in .env": _in_file()}
    return next((place for place, names in places.items() if variable in names), "in the environment or in .env")


def _in_file() -> dict[str, str | None]:
    try:
        read = read_dotenv().values
    except BadSettings:
        return {}
    return {name.upper(): text for name, value in read.items() if (text := as_set(name, value))}


def in_environment() -> dict[str, str | None]:
    """Return the variables that are set there, with their names in upper case."""
    return {name.upper(): text for name, value in os.environ.items() if (text := as_set(name, value))}
