"""How does the rest of the code get at Conjur? The index of the Conjur side; everything here blocks.

    conjur_source(settings)  all that the settings name, in one request if Conjur lets us
    get_conjur_writer(settings)  write, declare, annotate, delete, list, where VAULT_ACCESS_MODE allows it

A reference `{vault://conjur/path/to/variable}` names a variable by its whole path; `#2` is its version. Its `default=`
and `optional=true` count where Conjur says 404. It says so of what cannot be seen, too, and does not tell them apart:
where that matters, give no default. Where Conjur says that reading is forbidden (403), they never count.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from pydantic import ValidationError

from app.core.errors import BackendError, BadRequest
from app.core.settings.app import AppSettings
from app.core.settings.problems import bad_settings
from app.core.settings.references import Reference
from app.core.settings.vault import VaultSettings
from app.core.store.overrides import Texts, load, resolve
from app.core.store.sessions import Sessions
from app.core.store.source import Connection, Secret, SecretRef, TokenLife
from app.core.store.writes import notify
from app.extras.conjur.policy import variable_of
from app.extras.conjur.session import ConjurSession
from app.extras.conjur.settings import CONJUR, ConjurSettings
from app.extras.conjur.variables import ConjurVariables
from app.extras.conjur.writer import ConjurWriter

_sessions: Sessions[tuple[ConjurSettings, VaultSettings], ConjurSession] = Sessions()


class ConjurSource:
    """Conjur, of which `CONJUR_VARIABLES` and every `SECRET_<NAME>` that refers to it are wanted."""

    name = CONJUR
    answers_to = frozenset({CONJUR})

    def __init__(
        self, settings: ConjurSettings, shared: VaultSettings, texts: Texts, session: ConjurSession | None = None
    ) -> None:
        """`shared` are the settings that count for Vault and Conjur together, `texts` those of all `SECRET_<NAME>`.

        Without a `session` the process's one is used.
        """
        self.settings = settings
        self.awaited = not shared.enabled
        self.interval = shared.refresh_interval
        self.max_staleness = shared.max_staleness
        self._shared = shared
        self._texts = texts
        self._session = session

    @property
    def session(self) -> ConjurSession:
        """The session, made where there is none."""
        return self._session or _sessions.get((self.settings, self._shared), self._new_session)

    def load(self) -> tuple[Secret, ...]:
        """Read all that is wanted, in one request if Conjur lets us; raise together what cannot be read."""
        return load(self, self._texts)

    def resolve(self, reference: Reference, *, may_issue: bool = True) -> tuple[Any, int | None]:  # noqa: ARG002
        """Read what one reference stands for; return the value and its version, if the reference asks for one."""
        return resolve(self, reference)

    def connection(self) -> Connection:
        """Say how Conjur is reached and how long the token in force will live; looks at memory only."""
        own = self.settings
        by_jwt = f"authn-jwt/{own.authn_jwt_service_id}" if own.authn_jwt_service_id else None
        method = by_jwt or ("token file" if own.authn_token_file else "API key")
        session = self._session or _sessions.held((own, self._shared))
        login = session.current() if session else None
        life = TokenLife(login.lifetime, session.time_left()) if session and login else None
        return Connection(own.appliance_url or "", method, life)

    def how_to_set(self, entry: str, path: str | None) -> str:
        """Tell how to write the value of an entry, or where to name the variable that holds it."""
        if path is None:
            return f"Name the variable that holds it in CONJUR_VARIABLES: {entry}=path/to/variable."
        return f"Write another value: `conjur variable set -i {path} …`."

    def periodic(self) -> Mapping[str, Callable[[], float]]:
        """Return nothing: the token is replaced when it is needed."""
        return {}

    def call_when_due(self, wake: Callable[[], None]) -> None:
        """Do nothing: what is read there has no end."""

    def swapped(self, is_drained: Callable[[], bool]) -> None:
        """Do nothing, for the same reason."""

    def refused(self, entries: Mapping[str, str]) -> None:
        """Do nothing: a round reads all of them anyway."""

    def named(self) -> Mapping[str, SecretRef]:
        """Return the variables in `CONJUR_VARIABLES`."""
        return {f"{name}={variable}": (variable, None) for name, variable in self.settings.variables}

    def may_be_missing(self, _label: str) -> bool:
        """Return that none may."""
        return False

    def as_named(self, label: str, secret: Secret) -> Secret:
        """Return the variable's value as the entry that it is to be."""
        return Secret(secret.path, {label.partition("=")[0]: only_value(secret.data)})

    def place_of(self, reference: Reference) -> SecretRef:
        """Return the variable and the version."""
        return variable_of(reference), reference.version

    def extract(self, _reference: Reference, secret: Secret) -> Any:
        """Return the value: a variable has one."""
        return only_value(secret.data)

    def read_many(self, places: Sequence[SecretRef]) -> list[Secret | BackendError]:
        """Read several variables and versions; raises what is about none of them."""
        return ConjurVariables(self.session).read_many(places)

    def _new_session(self) -> ConjurSession:
        """Make sure of the credentials even where `CONJUR_ENABLED` is false and the start did not ask for them."""
        try:
            checked = ConjurSettings.model_validate({**dict(self.settings), "enabled": True})
        except ValidationError as error:
            raise bad_settings(error, CONJUR) from None
        return ConjurSession(checked, self._shared)


def conjur_source(settings: AppSettings) -> ConjurSource:
    """Return Conjur as a source."""
    return ConjurSource(ConjurSettings.within(settings), settings.vault, settings.secrets)


def get_conjur_writer(settings: AppSettings) -> ConjurWriter:
    """Return what changes variables; it creates and deletes them in `CONJUR_POLICY_BRANCH` only."""
    return ConjurWriter(conjur_source(settings).session, partial(notify, CONJUR))


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


def only_value(data: Mapping[str, Any]) -> Any:
    """Return the value of a variable."""
    (value,) = data.values()
    return value
