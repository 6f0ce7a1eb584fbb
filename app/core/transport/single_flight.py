"""How do many threads get by with one login? One of them logs in; the others wait for it, and share what comes of it.

What a login is, and what is left to do for one that has been replaced, the session says to which the logins belong.
"""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from copy import copy
from typing import Generic, TypeVar

from app.core import forks
from app.core.errors import BackendError, LoginRefused, VaultUnreachable

L = TypeVar("L")

# After a login that was refused, or that did not help, nobody logs in again for so many seconds: however many callers
# fail, the server sees at most one login in this time. After one that failed otherwise, the pause grows to it.
LOGIN_PAUSE = 5.0


class SingleFlight(Generic[L]):
    """The login in force, and the one that is to replace it."""

    def __init__(
        self, log_in: Callable[[L | None], L], retire: Callable[[L], None], clock: Callable[[], float]
    ) -> None:
        """`log_in` brings a login instead of another one; `retire` takes each that is no longer in force."""
        self.lock = forks.Lock()  # guards those below; never held during network I/O
        self.current: L | None = None
        self.closed = False
        self._flight: Future[None] | None = None  # the login under way; all who need it wait for the same one
        self._failure: tuple[float, BackendError] | None = None  # why the last login failed, and until when that stands
        self._failures = 0  # in a row
        self._log_in = log_in
        self._retire = retire
        self._clock = clock
        forks.watch(self)

    def start_afresh(self) -> None:
        """Forget the parent's login, without giving it back, and the one that a thread of the parent's is making."""
        self.current = self._flight = self._failure = None
        self._failures = 0

    def replace(self, instead_of: L | None) -> None:
        """Log in again, unless somebody has replaced `instead_of` already; join the login that is under way, if any."""
        with self.lock:
            if self.current is not instead_of:
                return
            if self._failure is not None and self._clock() < self._failure[0]:
                raise copy(self._failure[1])
            flight, leader = self._flight, False
            if flight is None:
                flight, leader = Future(), True
                self._flight = flight
        if leader:
            self._fly(flight, instead_of)
        elif isinstance(error := flight.exception(), BackendError):
            raise copy(error)  # for each thread its own: one that is raised again and again collects tracebacks
        elif isinstance(error, Exception):
            raise error

    def close(self, patience: float) -> L | None:
        """Let nobody log in any more, and return the last login; wait so many seconds for one that is under way."""
        with self.lock:
            self.closed = True
            last, self.current = self.current, None
            flight = self._flight
        if last is None and flight is not None:
            with suppress(TimeoutError):  # the thread that is logging in gives the token back, which takes a moment
                flight.exception(patience)
        return last

    def _fly(self, flight: Future[None], instead_of: L | None) -> None:
        """Carry out the one login that all others wait for, and tell them how it ended."""
        try:
            login = self._log_in(instead_of)
        except BaseException as error:
            with self.lock:
                self._flight = None
                if isinstance(error, BackendError) and not isinstance(error, VaultUnreachable):
                    self._failures += 1
                    pause = LOGIN_PAUSE if isinstance(error, LoginRefused) else 0.5 * 2 ** min(self._failures, 4)
                    self._failure = (self._clock() + min(pause, LOGIN_PAUSE), error)
            flight.set_exception(error)
            raise
        with self.lock:
            self._flight, self._failure, self._failures = None, None, 0
            closed = self.closed
            if not closed:
                self.current = login
        if closed:  # while we were logging in
            self._retire(login)
        flight.set_result(None)
        if instead_of is not None and not closed:
            self._retire(instead_of)
