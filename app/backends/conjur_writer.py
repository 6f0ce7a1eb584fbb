"""How are variables written to Conjur?

Rests on `POST /secrets/<account>/variable/<id>`, on `POST` (add) and `PATCH` (update, delete)
`/policies/<account>/policy/<branch>`, and on `GET /resources/<account>/variable`. A value can be set only once a policy
has declared the variable; so the value is tried first, and a policy is loaded only after a 404. `PUT` is never sent: it
would remove whatever else the branch holds. Conjur has no check-and-set.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import requests

from app.backends.conjur import ConjurVariables
from app.conjur_errors import branch_denied, branch_missing, not_conjur
from app.conjur_policy import declare, delete
from app.conjur_session import ConjurSession
from app.errors import (
    AccessRefused,
    BadRequest,
    PathMissing,
    PermissionDenied,
    PolicyConflict,
    ServerFault,
    VaultError,
    raise_together,
)

T = TypeVar("T")

PATIENCE = 60.0  # seconds
PAGE = 1000  # resources in one answer, the most that Conjur gives


class ConjurWriter(ConjurVariables):
    """The variables of one account, to be changed; paths are whole ids, as for reading."""

    def __init__(
        self,
        session: ConjurSession,
        wrote: Callable[[], None] = lambda: None,
        wait: Callable[[float], object] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """Call `wrote` after each change, in the thread that made it.

        `wait` waits for so many seconds, by default until the session is closed at most; `patience` is how long a
        change waits in all, in seconds, while Conjur is busy with other policy loads.
        """
        super().__init__(session)
        self._branch = session.settings.policy_branch or session.shared.write_prefix
        self._wrote = wrote
        self._wait = wait or session.pause
        self._patience = patience

    def write(self, path: str, value: str) -> None:
        """Set a value; a variable that is not there is created first, if it lies in the policy branch."""
        self.write_many({path: value})

    def write_many(self, values: Mapping[str, str]) -> None:
        """Set several values; whatever variables lack are created with one policy load.

        If some fail, the others are written all the same. Raises a `VaultError`; one that lists them if several failed.
        """
        for path, value in values.items():
            _refuse_blank(self._writable(path), value)
        results = {path: self._set(path, value) for path, value in values.items()}
        if missing := [path for path, error in results.items() if isinstance(error, PathMissing)]:
            results |= self._create_and_set({path: values[path] for path in missing})
        errors = list(dict.fromkeys(error for error in results.values() if error is not None))
        if None in results.values():
            self._wrote()
        raise_together(errors)

    def declare(self, path: str, annotations: Mapping[str, str]) -> None:
        """Declare a variable with annotations; one that is there keeps those that it has, and gets no value."""
        self._writable(path)
        self._load("POST", declare(self._in_branch(path), annotations))
        self._wrote()

    def annotate(self, path: str, annotations: Mapping[str, str]) -> None:
        """Change some annotations and keep the others; a variable that is not there is declared.

        Conjur silently leaves what another policy has declared as it is: so this looks whether it was done.
        """
        where = self._writable(path)
        self._load("PATCH", declare(self._in_branch(path), annotations))
        self._wrote()
        if not annotations.items() <= self._resource(path, _annotations).items():
            cause = f"its annotations stay as another policy than {self._branch} declares them, or were changed again"
            raise VaultError(where, cause, "Change them where they are declared.")

    def annotations(self, path: str) -> dict[str, str]:
        """Return a variable's annotations; raise `PathMissing` if it is missing or cannot be seen."""
        self._readable(path)
        return self._resource(path, _annotations)

    def versions(self, path: str) -> Sequence[int]:
        """Return which versions a variable has, of the last 20; raise as `annotations`."""
        self._readable(path)
        return self._resource(path, _versions)

    def _resource(self, path: str, part: Callable[[Any], T]) -> T:
        where, segments = self._where(path), ("resources", self._session.account, "variable", path)
        try:
            return part(self._session.call(where, "GET", *segments).json())
        except PathMissing:
            raise self._missing(where) from None
        except (ValueError, TypeError, KeyError):
            raise self._not_resources() from None

    def refuse_missing(self, path: str) -> None:
        """Raise as `annotations`, but also where nothing may be read: for a change that would do nothing."""
        self._resource(path, _annotations)

    def delete(self, path: str) -> None:
        """Delete a variable with all its versions; nothing happens if there is none. It must lie in the branch."""
        self._writable(path)
        self._load("PATCH", delete(self._in_branch(path)))
        self._wrote()

    def list(self, prefix: str = "") -> list[tuple[str, dict[str, str]]]:
        """Return the variables below a path that this service may see, by id, with their annotations."""
        account, start = self._session.account, f"{self._session.account}:variable:"
        below = start + (f"{prefix}/" if prefix else "")
        self._refuse_to_read(self._where(prefix) if prefix else "variables")
        found: dict[str, dict[str, str]] = {}
        offset = 0
        while True:
            page = {"limit": str(PAGE), "offset": str(offset)}
            answer = self._session.call("variables", "GET", "resources", account, "variable", params=page)
            try:
                entries = answer.json()
                resources = [(str(each["id"]), _annotations(each)) for each in entries]
            except (ValueError, TypeError, KeyError):
                raise self._not_resources() from None
            found |= {each.removeprefix(start): notes for each, notes in resources if each.startswith(below)}
            if len(resources) < PAGE:
                return sorted(found.items())
            offset += PAGE

    def _writable(self, path: str) -> str:
        """Return a variable's full id; raise `AccessRefused` if nothing may be written."""
        where = self._where(path)
        if self._session.shared.access_mode == "read_only":
            remedy = "Set VAULT_ACCESS_MODE=read_and_write if this service is to write."
            raise AccessRefused(where, "VAULT_ACCESS_MODE is read_only", remedy)
        return where

    def _in_branch(self, path: str) -> str:
        """Return the id within the policy branch."""
        if self._branch == "root":
            return path
        if not path.startswith(f"{self._branch}/"):
            cause = (
                f"it does not lie in the policy branch {self._branch}, the only one where this service makes changes"
            )
            raise BadRequest(self._where(path), cause, f"Write below {self._branch}/, or set CONJUR_POLICY_BRANCH.")
        return path.removeprefix(f"{self._branch}/")

    def _set(self, path: str, value: str) -> VaultError | None:
        """Set a value; return what stands in the way, `PathMissing` if there is no such variable that could be seen."""
        where = self._where(path)
        try:
            try:
                self._post(where, path, value)
            except ServerFault:  # two writers at once pick the same next version: Conjur says 500 to one of them
                self._wait(random.uniform(0.05, 0.2))  # noqa: S311 - to part the two
                self._post(where, path, value)
        except PermissionDenied:
            return self._denied(where, path, "update")
        except VaultError as error:
            return error
        return None

    def _post(self, where: str, path: str, value: str) -> None:
        segments = ("secrets", self._session.account, "variable", path)
        self._created(self._session.call(where, "POST", *segments, data=value.encode()))

    def _create_and_set(self, values: Mapping[str, str]) -> dict[str, VaultError | None]:
        """Create variables with one policy load, and set them; a refusal of the policy is the cause if they cannot."""
        results: dict[str, VaultError | None] = {}
        statements: dict[str, str] = {}
        for path in values:
            try:
                statements[path] = declare(self._in_branch(path))
            except BadRequest as error:
                results[path] = self._uncreated([path], error, PathMissing)
        if not statements:
            return results
        try:
            self._load("POST", "".join(statements.values()))
        except VaultError as error:
            return results | dict.fromkeys(statements, self._uncreated([*statements], error, type(error)))
        for path in statements:
            failure = self._set(path, values[path])
            results[path] = self._unseen(path) if isinstance(failure, PathMissing) else failure
        return results

    def _uncreated(self, paths: Sequence[str], error: VaultError, form: type[VaultError]) -> VaultError:
        noun = "variable" if len(paths) == 1 else "variables"
        cause = f"there is no such {noun} that could be seen, and none could be created: {error.subject}: {error.cause}"
        return form(", ".join(map(self._where, paths)), cause, error.remedy)

    def _load(self, method: str, policy: str) -> None:
        """Load a policy into the branch; while others do, wait as Conjur says, and a little longer than each other."""
        where = f"{self._session.account}:policy:{self._branch}"
        segments = ("policies", self._session.account, "policy", self._branch)
        give_up = self._session.clock() + self._patience
        while True:
            try:
                self._created(self._session.call(where, method, *segments, data=policy.encode()))
            except PolicyConflict as conflict:
                pause = conflict.retry_after * random.uniform(1.0, 1.5)  # noqa: S311 - to part those who wait
                if self._session.clock() + pause > give_up:
                    cause = f"other policy loads have been in progress for {self._patience:g} s"
                    raise PolicyConflict(where, cause, conflict.remedy, conflict.retry_after) from None
                self._wait(pause)
            except PermissionDenied:
                privilege = {"POST": "create", "PATCH": "update"}[method]
                raise branch_denied(where, self._as_whom(), privilege) from None
            except PathMissing:
                raise branch_missing(where, self._as_whom()) from None
            else:
                return

    def _created(self, answer: requests.Response) -> None:
        if answer.status_code != requests.codes.created:
            raise not_conjur(self._session.address, f"HTTP {answer.status_code} to a write")

    def _unseen(self, path: str) -> PathMissing:
        cause = f"it was created in {self._branch}, but {self._as_whom()} cannot see it there"
        return PathMissing(self._where(path), cause, "Let this service own the branch in CONJUR_POLICY_BRANCH.")

    def _not_resources(self) -> VaultError:
        return not_conjur(self._session.address, "not the resources that were asked for")


def _refuse_blank(where: str, value: str) -> None:
    if not value.strip(" \t\n\v\f\r"):  # known in advance: otherwise a variable would be created for it
        raise BadRequest(where, "Conjur keeps no empty or blank values", "Delete the variable instead.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest(where, "the value is not Unicode text", "Write it as text, such as base64.") from None


def _annotations(resource: Any) -> dict[str, str]:
    return {str(each["name"]): str(each["value"]) for each in resource["annotations"]}


def _versions(resource: Any) -> list[int]:
    return sorted(int(each["version"]) for each in resource["secrets"])
