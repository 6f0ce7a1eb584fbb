"""How does the rest of the code get at Conjur? The index of the Conjur side; everything here blocks.

    read_conjur(settings)   all that the settings name, in one request if Conjur lets us
    get_conjur_writer()     write, declare, annotate, delete, list, where VAULT_ACCESS_MODE allows it

A reference `{vault://conjur/path/to/variable}` names a variable by its whole path; `#2` is its version. Its `default=`
and `optional=true` count where Conjur says 404. It says so of what cannot be seen, too, and does not tell them apart:
where that matters, give no default. Where Conjur says that reading is forbidden (403), they never count.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from app.backends.conjur import ConjurVariables
from app.backends.conjur_writer import ConjurWriter
from app.backends.protocol import Secret
from app.config import Settings, get_settings
from app.config_conjur import CONJUR
from app.conjur_policy import variable_of
from app.errors import BadRequest, BlueprintError, VaultError, raise_together
from app.references import Reference
from app.resolution import LeftOutError, references_to, resolve, value_of
from app.vault_sessions import get_conjur_session
from app.vault_writing import tell


def read_conjur(settings: Settings) -> tuple[Secret, ...]:
    """Read what is wanted of Conjur: `CONJUR_VARIABLES`, and every `SECRET_<NAME>` that refers to it.

    Nothing if Conjur is disabled. Raises a `VaultError`; if several variables cannot be read, one that lists them all.
    """
    if not settings.conjur.enabled:
        return ()
    found = references_to(settings, CONJUR)
    named = {name: (variable, None) for name, variable in settings.conjur.variables}
    referred = [place_of(reference) for references in found.values() for reference in references]
    places = list(dict.fromkeys([*named.values(), *referred]))
    if not places:
        return ()
    answers = dict(zip(places, ConjurVariables(get_conjur_session(settings)).read_many(places), strict=True))

    secrets: list[Secret] = []
    errors: list[BlueprintError] = []
    for name, place in named.items():
        answer = answers[place]
        if isinstance(answer, Secret):
            secrets.append(Secret(answer.path, {name: only_value(answer.data)}))
        else:
            errors.append(answer)
    for entry in resolve(settings, found, lambda each: answers[place_of(each)], pick_variable):
        if isinstance(entry, Secret):
            secrets.append(entry)
        else:
            errors.append(entry)
    raise_together(list(dict.fromkeys(errors)))  # a variable that is wanted twice fails once
    return tuple(secrets)


def read_conjur_reference(settings: Settings, reference: Reference) -> tuple[Any, int | None]:
    """Read what one reference stands for; return the value and its version, if the reference asks for one."""
    answer: Secret | VaultError
    try:
        answer = ConjurVariables(get_conjur_session(settings)).read(*place_of(reference))
    except VaultError as error:
        answer = error
    try:
        return value_of(reference, answer, pick_variable), reference.version
    except LeftOutError:
        return None, None


def get_conjur_writer(settings: Settings | None = None) -> ConjurWriter:
    """Return what changes variables; it creates and deletes them in `CONJUR_POLICY_BRANCH` only."""
    return ConjurWriter(get_conjur_session(settings or get_settings()), partial(tell, CONJUR))


class ConjurFolders:
    """Conjur as the command line sees it: a folder of variables for a secret, a variable for each of its keys."""

    def __init__(self, writer: ConjurWriter) -> None:
        self._writer = writer

    def write(self, path: str, data: Mapping[str, str], cas: int | None = None) -> None:
        """Set variables; others in the folder stay as they are."""
        if cas is not None:
            raise _impossible(path, "check-and-set")
        self._writer.write_many({f"{path}/{key}": value for key, value in data.items()})

    def patch(self, path: str, changes: Mapping[str, str | None]) -> None:
        """Set variables, and delete those whose value is None."""
        self.write(path, {key: value for key, value in changes.items() if value is not None})
        for key, value in changes.items():
            if value is None:
                self._writer.delete(f"{path}/{key}")

    def delete(self, path: str) -> None:
        """Delete one variable for good, with all its versions."""
        self._writer.refuse_missing(path)  # or Conjur would say nothing of one that is not there
        self._writer.delete(path)

    def undelete(self, path: str, versions: Sequence[int]) -> NoReturn:
        """Refuse: what Conjur has deleted is gone."""
        raise _impossible(path, f"undeleting versions {versions}")

    def list(self, path: str = "") -> list[str]:
        """Return the ids of the variables below a path that this service may see."""
        return [variable for variable, _ in self._writer.list(path)]

    def metadata(self, path: str) -> dict[str, Any]:
        """Return which versions of a variable there are."""
        return {"versions": {str(version): {} for version in self._writer.versions(path)}}


def _impossible(path: str, what: str) -> BadRequest:
    return BadRequest(path, f"{what} is not possible in Conjur", "Do without it there.")


def place_of(reference: Reference) -> tuple[str, int | None]:
    """Return the variable and the version that a reference names."""
    return variable_of(reference), reference.version


def pick_variable(_reference: Reference, data: Mapping[str, Any]) -> Any:
    """Return what a reference means of what was read: all of it."""
    return only_value(data)


def only_value(data: Mapping[str, Any]) -> Any:
    """Return the value of a variable."""
    (value,) = data.values()
    return value
