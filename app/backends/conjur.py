"""How are variables read from Conjur?

Rests on `GET /secrets/<account>/variable/<id>[?version=…]`, and on `GET /secrets?variable_ids=…` for several at once.
That one is all or nothing and does not say what stands in the way; so after a failure each variable is read alone.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import requests

from app.backends.protocol import Secret
from app.config_types import refuse_bad_path
from app.conjur_errors import not_conjur
from app.conjur_session import ConjurSession
from app.errors import (
    AccessRefused,
    BadRequest,
    PathMissing,
    PermissionDenied,
    ServerFault,
    UnexpectedAnswer,
    VaultError,
)
from app.vault_http import POOL_SIZE

LONGEST_QUERY = 4000  # characters of ids in one request; servers and proxies in front of them bound a request's line

Place = tuple[str, int | None]  # a variable and a version, None being the latest


class ConjurVariables:
    """The variables of one account; each is a secret with one value, under the last segment of its id."""

    def __init__(self, session: ConjurSession) -> None:
        self._session = session

    def read(self, path: str, version: int | None = None) -> Secret:
        """Read one variable, by default its latest version: one request. Conjur keeps the last 20 versions.

        Raises `PathMissing` where Conjur says 404: it hides what may not be seen, so that can be missing or forbidden.
        """
        where = self._readable(path)
        params = {} if version is None else {"version": str(version)}
        try:
            segments = ("secrets", self._session.account, "variable", path)
            answer = self._session.call(where, "GET", *segments, params=params)
        except PathMissing:
            raise self._missing(where, version) from None
        except PermissionDenied:
            raise self._denied(where, path, "execute") from None
        return Secret(path, {_name(path): self._text(where, answer)}, version)

    def read_many(self, places: Sequence[Place]) -> list[Secret | VaultError]:
        """Read several variables and versions; a failure of one takes the secret's place, any other is raised.

        The latest versions come with one request, so that what belongs together is read together. (Very many come with
        several. An id that holds a comma cannot be asked for in this way, and is read alone, like an old version.) A
        fault of the server's may be about one variable, or about the batch; a second one is taken for Conjur's own.
        """
        ids = {place: self._readable(place[0]) for place in places}  # before anything is sent
        latest = [identifier for (path, version), identifier in ids.items() if version is None and "," not in path]
        found: dict[Place, Secret | VaultError] = {}
        faults = 0
        if len(latest) > 1:
            for batch in _batches(latest):
                try:
                    found |= self._batch(batch)
                except ServerFault:
                    faults += 1
                    if faults > 1:
                        raise
        rest = [place for place in ids if place not in found]
        if len(rest) == 1:
            found[rest[0]] = self._read_or_fail(rest[0])
        elif rest:
            workers = 1 if faults else min(len(rest), POOL_SIZE)
            with ThreadPoolExecutor(workers, thread_name_prefix="conjur-read") as pool:
                for place, answer in zip(rest, pool.map(self._read_or_fail, rest), strict=True):
                    found[place] = answer
                    faults += isinstance(answer, ServerFault)
                    if isinstance(answer, ServerFault) and faults > 1:
                        pool.shutdown(cancel_futures=True)
                        raise answer
        return [found[place] for place in places]

    def _batch(self, ids: Sequence[str]) -> dict[Place, Secret | VaultError]:
        """Return what the variables hold; nothing if one of them stands in the way."""
        # in a query Conjur takes + for a blank, and the comma parts ids
        query = ",".join(quote(identifier, safe=":/") for identifier in ids)
        try:
            answer = self._session.call(f"{len(ids)} variables", "GET", "secrets", params=f"variable_ids={query}")
        except (PathMissing, PermissionDenied, BadRequest):
            return {}
        try:
            values = answer.json()
        except ValueError:
            values = None
        if not isinstance(values, dict) or not all(isinstance(values.get(identifier), str) for identifier in ids):
            raise not_conjur(self._session.address, "not the variables that were asked for")
        paths = {identifier: identifier.split(":", 2)[2] for identifier in ids}
        return {(path, None): Secret(path, {_name(path): values[each]}) for each, path in paths.items()}

    def _read_or_fail(self, place: Place) -> Secret | VaultError:
        try:
            return self.read(*place)
        except VaultError as error:
            return error

    def _readable(self, path: str) -> str:
        """Return a variable's full id; raise `AccessRefused` if it may not be read at all."""
        self._refuse_to_read(where := self._where(path))
        return where

    def _refuse_to_read(self, where: str) -> None:
        if self._session.shared.access_mode == "write_only":
            raise AccessRefused(where, "VAULT_ACCESS_MODE is write_only", "Set VAULT_ACCESS_MODE=read_and_write.")

    def _where(self, path: str) -> str:
        """Return a variable's full id; nothing is ever sent for one that we do not allow, though Conjur would."""
        refuse_bad_path(path)
        if "" in path.split("/"):
            raise ValueError("must not have empty segments")
        return f"{self._session.account}:variable:{path}"

    def _text(self, where: str, answer: requests.Response) -> str:
        """Return the value, exactly; there is no charset in the answer."""
        if "Content-Disposition" not in answer.headers:
            raise not_conjur(self._session.address, "a page")  # of a proxy's: it must not pass for the secret
        try:
            return answer.content.decode()
        except UnicodeDecodeError:
            cause = "its value is binary, not UTF-8 text"
            raise UnexpectedAnswer(where, cause, "Store it as text, such as base64.") from None

    def _missing(self, where: str, version: int | None = None) -> PathMissing:
        """Say what Conjur's 404 may mean, and how somebody who may see everything tells the reasons apart."""
        cause = f"it is missing, has no value yet, or cannot be seen by {self._as_whom()}; Conjur does not say which"
        if version is not None:
            cause = f"there is no version {version} (the last 20 are kept), or {cause}"
        remedy = (
            f"As an administrator: `conjur resource show {where}` tells whether it is there and which versions it has,"
            f" `conjur resource permitted-roles {where} execute` who may read it."
        )
        return PathMissing(where, cause, remedy)

    def _denied(self, where: str, path: str, privilege: str) -> PermissionDenied:
        whom = self._as_whom()
        role = f"!host {whom.removeprefix('host/')}" if whom.startswith("host/") else f"!user {whom}"
        remedy = f"Permit it in a policy: role {role}, privileges [{privilege}], resource !variable {path}."
        return PermissionDenied(where, f"{whom} can see it, but lacks the privilege {privilege}", remedy)

    def _as_whom(self) -> str:
        login = self._session.current()
        return login.login if login is not None else "this service"


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _batches(ids: Sequence[str]) -> Iterator[list[str]]:
    """Part the ids into requests of bearable length."""
    batch: list[str] = []
    length = 0
    for identifier in ids:
        size = len(quote(identifier, safe=":/")) + 1
        if batch and length + size > LONGEST_QUERY:
            yield batch
            batch, length = [], 0
        batch.append(identifier)
        length += size
    if batch:
        yield batch
