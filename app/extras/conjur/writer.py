"""How are variables written to Conjur?

Rests on `POST /secrets/<account>/variable/<id>`, on `POST` (add) and `PATCH` (update, delete)
`/policies/<account>/policy/<branch>`. A value can be set only once a policy
has declared the variable; so the value is tried first, and a policy is loaded only after a 404. `PUT` is never sent: it
would remove whatever else the branch holds. Conjur has no check-and-set.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import requests

from app.core.errors import (
    AccessRefused,
    BackendError,
    BadRequest,
    PathMissing,
    PermissionDenied,
    PolicyConflict,
    ServerFault,
)
from app.core.store.failures import raise_together
from app.extras.conjur.errors import branch_denied, branch_missing, not_conjur
from app.extras.conjur.policy import declare, delete
from app.extras.conjur.resources import ConjurResources, annotations_in
from app.extras.conjur.session import ConjurSession

SCRIPT_WAITS = 60.0  # seconds
SHORTEST_WAIT = 0.5  # seconds
LOAD_PAUSE = 0.02, 0.1  # seconds, in which a load of another process may come to its end
CLASH_PAUSES = (0.05, 0.2), (0.1, 0.4), (0.2, 0.8), (0.4, 1.6), (0.8, 2.4)  # seconds, at random: to part who meet


class ConjurWriter(ConjurResources):
    """The variables of one account, to be changed; paths are whole ids, as for reading."""

    def __init__(
        self,
        session: ConjurSession,
        wrote: Callable[[], None] = lambda: None,
        wait: Callable[[float], object] | None = None,
        patience: float = SCRIPT_WAITS,
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

        If some fail, the others are written all the same. Raises one `BackendError`, which lists several.
        """
        for path, value in values.items():
            _refuse_blank(self._writable(path), value)
        results = self._set_all(values)
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

    def annotate(self, path: str, annotations: Mapping[str, str], still: Callable[[], None] = lambda: None) -> None:
        """Change some annotations and keep the others; a variable that is not there is declared.

        Conjur silently leaves what another policy has declared as it is: so this looks whether it was done. `still` is
        called right before each attempt, after whatever wait, and raises if it is not to be any more.
        """
        where = self._writable(path)
        self._load("PATCH", declare(self._in_branch(path), annotations), still)
        self._wrote()
        if not annotations.items() <= self._resource(path, annotations_in).items():
            cause = f"its annotations stay as another policy than {self._branch} declares them, or were changed again"
            raise BackendError(where, cause, "Change them where they are declared.")

    def delete(self, path: str) -> None:
        """Delete a variable with all its versions; nothing happens if there is none. It must lie in the branch."""
        self._writable(path)
        self._load("PATCH", delete(self._in_branch(path)))
        self._wrote()

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

    def _set_all(self, values: Mapping[str, str]) -> dict[str, BackendError | None]:
        """Set values one by one; return what prevents each, `PathMissing` if no such variable could be seen."""
        results: dict[str, BackendError | None] = {}
        for path, value in values.items():
            is_down = any(isinstance(error, ServerFault) for error in results.values())  # it was asked often enough
            results[path] = self._set(path, value, () if is_down else CLASH_PAUSES)
        return results

    def _set(self, path: str, value: str, pauses: Sequence[tuple[float, float]]) -> BackendError | None:
        """Set a value; after a fault again, after each of the pauses: two writers at once pick the same next version.

        Conjur says 500 to one of them then, who is most likely of another process: ours take turns.
        """
        where = self._where(path)
        try:
            for pause in pauses:
                try:
                    self._post(where, path, value)
                except ServerFault:
                    self._wait(random.uniform(*pause))  # noqa: S311 - to part those who meet
                else:
                    return None
            self._post(where, path, value)
        except PermissionDenied:
            return self._denied(where, path, "update")
        except BackendError as error:
            return error
        return None

    def _post(self, where: str, path: str, value: str) -> None:
        """Send a value when no other thread writes this variable; without a turn, a repetition has to do."""
        segments, lock = ("secrets", self._session.account, "variable", path), self._session.write_of(path)
        held = self._session.acquire(lock, self._patience)
        try:
            self._created(self._session.call(where, "POST", *segments, data=value.encode()))
        finally:
            if held:
                lock.release()  # not kept while we pause: another thread may be luckier

    def _create_and_set(self, values: Mapping[str, str]) -> dict[str, BackendError | None]:
        """Create variables with one policy load, and set them; a refusal of the policy is the cause if they cannot."""
        results: dict[str, BackendError | None] = {}
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
        except BackendError as error:
            return results | dict.fromkeys(statements, self._uncreated([*statements], error, type(error)))
        for path, failure in self._set_all({path: values[path] for path in statements}).items():
            results[path] = self._unseen(path) if isinstance(failure, PathMissing) else failure
        return results

    def _uncreated(self, paths: Sequence[str], error: BackendError, form: type[BackendError]) -> BackendError:
        noun = "variable" if len(paths) == 1 else "variables"
        cause = f"there is no such {noun} that could be seen, and none could be created: {error.subject}: {error.cause}"
        return form(", ".join(map(self._where, paths)), cause, error.remedy)

    def _load(self, method: str, policy: str, still: Callable[[], None] = lambda: None) -> None:
        """Load a policy into the branch; while others do, wait as Conjur says, and a little longer than each other.

        But never much longer than a third of what is left of the patience: Conjur names 1 to 8 s at random, and a load
        takes a fraction of one.
        """
        where = f"{self._session.account}:policy:{self._branch}"
        start = self._session.clock()
        give_up = start + self._patience
        load = partial(self._load_once, where, method, policy)
        while (pause := self._load_now(load, still, give_up - self._session.clock())) is not None:
            left = give_up - self._session.clock()
            if left <= 0:
                cause = f"other policy loads have been in progress for {self._session.clock() - start:.3g} s"
                raise PolicyConflict(where, cause, "Try again in a while.", pause)
            spread = random.uniform(1.0, 1.5)  # noqa: S311 - to part those who wait
            self._wait(min(pause * spread, max(left / 3 * (spread - 0.5), SHORTEST_WAIT), left))

    def _load_now(self, load: Callable[[], float | None], still: Callable[[], None], patience: float) -> float | None:
        """Load a policy when no other thread does; return after how many seconds to try again, if others do."""
        lock = self._session.policy_load
        if not self._session.acquire(lock, patience):
            return 1.0
        try:
            still()
            if (pause := load()) is not None:  # of another process: our threads would meet the same load
                self._session.pause(random.uniform(*LOAD_PAUSE))  # noqa: S311 - likewise
            return pause
        finally:
            lock.release()  # not kept while we wait: another thread may be luckier

    def _load_once(self, where: str, method: str, policy: str) -> float | None:
        """Load a policy; return after how many seconds to try again, if another process does."""
        segments = ("policies", self._session.account, "policy", self._branch)
        try:
            self._created(self._session.call(where, method, *segments, data=policy.encode()))
        except PolicyConflict as conflict:
            return conflict.retry_after
        except PermissionDenied:
            privilege = {"POST": "create", "PATCH": "update"}[method]
            raise branch_denied(where, self._as_whom(), privilege) from None
        except PathMissing:
            raise branch_missing(where, self._as_whom()) from None
        return None

    def _created(self, answer: requests.Response) -> None:
        if answer.status_code != requests.codes.created:
            raise not_conjur(self._session.address, f"HTTP {answer.status_code} to a write")

    def _unseen(self, path: str) -> PathMissing:
        cause = f"it was created in {self._branch}, but {self._as_whom()} cannot see it there"
        return PathMissing(self._where(path), cause, "Let this service own the branch in CONJUR_POLICY_BRANCH.")


def _refuse_blank(where: str, value: str) -> None:
    if not value.strip(" \t\n\v\f\r"):  # known in advance: otherwise a variable would be created for it
        raise BadRequest(where, "Conjur keeps no empty or blank values", "Delete the variable instead.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest(where, "the value is not Unicode text", "Write it as text, such as base64.") from None
