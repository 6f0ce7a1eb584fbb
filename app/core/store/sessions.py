"""Which sessions does the process have, and how do they end? One for each group of settings, with one token."""

import atexit
import signal
import sys
import threading
import time
from collections.abc import Callable, Hashable
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

from app.core import forks
from app.core.errors import BackendError
from app.core.logs.logging_config import get_logger
from app.core.threads import has_started

CLOSING = 3.5  # seconds; a little less than the service has for its end, so that what was given up is logged

log = get_logger(__name__)


class Session(Protocol):
    """What holds a token."""

    @property
    def name(self) -> str:
        """What the log calls it."""
        ...

    def close(self) -> None:
        """Give the token back, if it is ours, and close the connections."""
        ...


K = TypeVar("K", bound=Hashable)
S = TypeVar("S", bound=Session)

_over = threading.Event()  # the process is ending: nobody may log in any more
_kinds: "list[Sessions[Any, Any]]" = []


class Sessions(Generic[K, S]):
    """The sessions of one kind, by their settings; safe for threads, and after a fork."""

    def __init__(self) -> None:
        self._sessions: dict[K, S] = {}
        self._lock = forks.Lock()
        _kinds.append(self)

    def get(self, settings: K, make: Callable[[], S]) -> S:
        """Return the process's one session with these settings, made where there is none."""
        forks.notice_fork()
        with self._lock:
            if settings not in self._sessions:
                if _over.is_set():
                    raise BackendError("secrets", "the service is stopping", "It reads and writes nothing any more.")
                _heed_sigterm()
                self._sessions[settings] = make()
            return self._sessions[settings]

    def held(self, settings: K) -> S | None:
        """Return the session, if there is one; makes none."""
        return self._sessions.get(settings)

    @property
    def is_used(self) -> bool:
        """Whether there is a session; takes no lock."""
        return bool(self._sessions)

    def forget(self) -> list[S]:
        """Return all sessions, to be closed; the next use makes new ones."""
        forks.notice_fork()  # the parent's logins are not ours to end
        with self._lock:
            sessions = [*self._sessions.values()]
            self._sessions.clear()
        return sessions


def close_sessions(*, for_good: bool = False) -> None:
    """Revoke the tokens that this process obtained; the next use logs in again, or fails if it is `for_good`.

    Side by side, so that a server that hangs keeps no other from hearing of it; after `CLOSING` seconds nobody waits.
    """
    end = time.monotonic() + CLOSING
    if for_good:  # a thread that still works for a request, say, would obtain a token that nobody gives back
        _over.set()
    sessions = [session for kind in _kinds for session in kind.forget()]
    threads = [threading.Thread(target=session.close, daemon=True) for session in sessions]
    for session, thread in zip(sessions, threads, strict=True):
        if not has_started(thread):
            session.close()
    for session, thread in zip(sessions, threads, strict=True):
        if thread.ident is not None:  # it was started
            thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            log.warning("token_revocation_given_up", source=session.name, after=CLOSING)


def _heed_sigterm() -> None:
    """Have SIGTERM end a script as an exception does: its tokens are given back. Servers have handlers of their own."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    if any(kind.is_used for kind in _kinds):
        sys.exit(128 + number)
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


@atexit.register  # for scripts; the service does it in its lifespan
def _close_in_turn() -> None:
    for kind in _kinds:
        for session in kind.forget():  # no thread can be started any more
            session.close()
