"""Are the settings in order, and do they come from where one thinks?"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dotenv import dotenv_values

from app.config import TWICE, Settings, VaultSettings, other_names
from app.config_conjur import CONJUR, ConjurSettings
from app.credential_files import exposed_mode
from app.doctor.findings import Finding, ok, warning
from app.errors import BadSettings

USED = {"token": ("token",), "approle": ("role_id", "secret_id"), "cert": (), "kubernetes": ("jwt",), "jwt": ("jwt",)}
SECRET = re.compile(r"SECRET_.+|(VAULT_|VAULTS__.+?__)(TOKEN|SECRET_ID|JWT)|CONJUR_AUTHN_API_KEY")
ALIKE = 0.9  # of 1: how similar a name must be to be taken for a slip of the pen


def refused_settings(error: BadSettings) -> Iterator[Finding]:
    """Turn each problem into a finding."""
    for problem in error.problems:
        variable, _, cause = problem.partition(": ")
        verb = "Mend" if variable in _in_file() | _in_environment() else "Set"
        remedy = f"{verb} {variable} {_place(variable)}." if variable != ".env" else "Save it so."
        yield Finding("fault", cause, remedy, variable)


def good_settings(settings: Settings) -> Iterator[Finding]:
    """Say what counts, and point out names that look misspelt: they are ignored."""
    file, environment = _in_file(), _in_environment()
    given = file | environment
    enabled = ["vault"] * settings.vault.enabled + [*settings.vaults] + [CONJUR] * settings.conjur.enabled
    text = f"{settings.environment}; {', '.join(enabled) or 'VAULT_ENABLED is false, so no Vault'}"
    twice = sorted(name for name, value in file.items() if _environment_wins(name, value, environment))
    yield ok(text + (f"; the environment wins over .env for {', '.join(twice)}" if twice else ""))
    for prefix, own in _groups(settings).items():
        for name, other in _credentials(own).items():
            if getattr(own, name) is not None and getattr(own, other) is not None:
                one, two = f"{prefix}{name.upper()}", f"{prefix}{other.upper()}"
                yield warning(f"it is ignored, since {two} is set too", f"Unset {one} or {two}.", one)
        for field in (*_credentials(own).values(), "authn_token_file", "authn_jwt_file", "client_key"):
            yield from _exposed(getattr(own, field, None), f"{prefix}{field.upper()}")
    if any(_is_secret(name, value) for name, value in file.items()):
        yield from _exposed(Path(".env"), "")
    groups = {"VAULT_": VaultSettings.model_fields, "CONJUR_": ConjurSettings.model_fields}
    known = {f"{prefix}{name.upper()}" for prefix, fields in groups.items() for name in fields} | {"VAULT_ADDR"}
    for name in sorted(given):
        if name.startswith(tuple(groups)) and name not in known:
            for near in difflib.get_close_matches(name, known - given.keys(), 1, ALIKE):
                yield warning("there is no such variable", f"Set {near} {_place(name)}, if that is meant.", name)


def _groups(settings: Settings) -> dict[str, VaultSettings | ConjurSettings]:
    """Return the settings that are in use, by the beginning of their variables."""
    groups: dict[str, VaultSettings | ConjurSettings] = {"VAULT_": settings.vault, "CONJUR_": settings.conjur}
    groups |= {f"VAULTS__{name.upper().replace('-', '_')}__": own for name, own in settings.vaults.items()}
    return {prefix: own for prefix, own in groups.items() if own.enabled}


def _credentials(own: VaultSettings | ConjurSettings) -> dict[str, str]:
    """Return what the auth method takes, each with the other name for a file that holds it."""
    used = USED[own.auth_method] if isinstance(own, VaultSettings) else ("authn_api_key",)
    return {name: TWICE[name] for name in used}


def _exposed(file: Path | None, variable: str) -> Iterator[Finding]:
    """Warn of a file with a credential that others may read, as the service does."""
    if file is not None and (mode := exposed_mode(file)):
        subject = f"{variable}={file}" if variable else str(file)
        yield warning(f"others may read the credential in it: its mode is {mode}", f"`chmod 600 {file}`.", subject)


def _is_secret(name: str, value: str | None) -> bool:
    """Tell whether a variable holds a credential or a secret, not a reference to one."""
    return bool(SECRET.fullmatch(name)) and "{vault://" not in (value or "")


def _environment_wins(name: str, value: str | None, environment: Mapping[str, str | None]) -> bool:
    others = {other.upper() for other in other_names(name.lower())}
    return environment.get(name, value) != value or bool(others & environment.keys())


def _place(variable: str) -> str:
    places = {"in the environment": _in_environment(), "in .env": _in_file()}
    return next((place for place, names in places.items() if variable in names), "in the environment or in .env")


def _in_file() -> dict[str, str | None]:
    try:
        return {name.upper(): value for name, value in dotenv_values(".env", encoding="utf-8-sig").items() if value}
    except UnicodeDecodeError:
        return {}


def _in_environment() -> dict[str, str | None]:
    return {name.upper(): value for name, value in os.environ.items() if value}
