"""How are variables read from Conjur?

Rests on `GET /secrets/<account>/variable/<id>[?version=…]`, and on `GET /secrets?variable_ids=…` for several at once;
after a 404 on `GET /resources/<account>/variable/<id>`.
That one is all or nothing and does not say what prevents it; so after a failure each variable is read alone.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import requests

from app.core.errors import (
    AccessRefused,
    BackendError,
    BadRequest,
    PathMissing,
    PermissionDenied,
    ServerFault,
    UnexpectedAnswer,
)
from app.core.settings.types import refuse_bad_path
from app.core.store.source import Secret
from app.core.transport.connections import POOL_SIZE
from app.extras.conjur.errors import not_conjur
from app.extras.conjur.session import ConjurSession

LONGEST_QUERY = 4000  # characters of ids in one request; servers and proxies in front of them bound a request's line

SecretRef = tuple[str, int | None]  # a variable and a version, None being the latest


class ConjurVariables:
    """The variables of one account; each is a secret with one value, under the last segment of its id."""

    def __init__(self, session: ConjurSession) -> None:
        self._session = session

    def read(self, path: str, version: int | None = None) -> Secret:
        """Read one variable, by default its latest version: one request. Conjur keeps the last 20 versions.

        Raises `PathMissing` where Conjur says 404, after another request that tells whether only the value is missing:
        it hides what may not be seen, so the rest can be missing or forbidden.
        """
        where = self._readable(path)
        params = {} if version is None else {"version": str(version)}
        try:
            segments = ("secrets", self._session.account, "variable", path)
            answer = self._session.call(where, "GET", *segments, params=params)
        except PathMissing:
            raise self._missing(where, path, version) from None
        except PermissionDenied:
            raise self._denied(where, path, "execute") from None
        return Secret(path, {_name(path): self._text(where, answer)}, version)

    def read_many(self, places: Sequence[SecretRef]) -> list[Secret | BackendError]:
        """Read several variables and versions; a failure of one takes the secret's place, any other is raised.

        The latest versions come with one request, so that what belongs together is read together. (Very many come with
        several. An id that holds a comma cannot be asked for in this way, and is read alone, like an old version.) A
        fault of the server's may be about one variable, or about the batch; a second one is taken for Conjur's own.
        """
        ids = {place: self._readable(place[0]) for place in places}  # before anything is sent
        latest = [identifier for (path, version), identifier in ids.items() if version is None and "," not in path]
        found: dict[SecretRef, Secret | BackendError] = {}
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

    def _batch(self, ids: Sequence[str]) -> dict[SecretRef, Secret | BackendError]:
        """Return what the variables hold; nothing if one of them prevents that."""
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

    def _read_or_fail(self, place: SecretRef) -> Secret | BackendError:
        try:
            return self.read(*place)
        except BackendError as error:
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

    def _missing(self, where: str, path: str, version: int | None) -> PathMissing:
        """Say what Conjur's 404 to a read means: one for all, but its list of versions tells them apart."""
        try:
            answer = self._session.call(where, "GET", "resources", self._session.account, "variable", path)
            versions = sorted(int(each["version"]) for each in answer.json()["secrets"])
        except PathMissing:
            return self._not_seen(where)
        except (BackendError, ValueError, TypeError, KeyError):
            cause = f"it is missing, has no value, or cannot be seen by {self._as_whom()}; Conjur does not say which"
            return PathMissing(where, cause, self._who_knows(where))
        if not versions:
            return PathMissing(where, "it has no value yet", f"Set it: `conjur variable set -i {path} -v …`.")
        if version is None:
            return PathMissing(where, "it had no value until a moment ago", "Try again.")
        found = f"there are {versions[0]} to {versions[-1]}" if len(versions) > 1 else f"there is {versions[0]}"
        cause = f"there is no version {version} of it ({found}; the last 20 are kept)"
        return PathMissing(where, cause, "Name one of those, or none for the latest.")

    def _not_seen(self, where: str) -> PathMissing:
        cause = f"it is missing, or cannot be seen by {self._as_whom()}; Conjur does not say which"
        return PathMissing(where, cause, self._who_knows(where))

    def _who_knows(self, where: str) -> str:
        """Tell how somebody who may see everything tells the reasons apart."""
        return (
            f"As an administrator: `conjur resource show {where}` tells whether it is there and which versions it has,"
            f" `conjur resource permitted-roles {where} execute` who may read it."
        )

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
