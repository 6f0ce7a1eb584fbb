"""What must a child process not share with its parent? After a fork, what is watched here starts afresh in the child.

A fork copies tokens, sockets and locks, but only one thread. Two processes on one connection read each other's answers,
each could revoke the token of the other, and a lock that another thread held is never released.
"""

import os
import threading
from types import TracebackType
from typing import Protocol
from weakref import WeakSet

FORK_TIMEOUT = 1.0  # seconds that a fork waits for what should not be cut in two, and that this waits for a fork


class StartsAfresh(Protocol):
    """What holds something that belongs to one process."""

    def start_afresh(self) -> None:
        """Forget, in a child, what belongs to the parent; take no lock, and send nothing."""
        ...


_watched: WeakSet[StartsAfresh] = WeakSet()
_process = os.getpid()


def watch(holder: StartsAfresh) -> None:
    """Call `holder.start_afresh` in every child that is forked from now on."""
    _watched.add(holder)


def notice_fork() -> None:
    """Start afresh if this is a child and nobody has said so: not every fork is Python's."""
    if os.getpid() != _process:
        _start_afresh()


def _start_afresh() -> None:
    global _process  # noqa: PLW0603 - one a process
    for holder in list(_watched):
        holder.start_afresh()
    _process = os.getpid()


class _Whole:
    """What a fork must not cut in two: a child would wait for locks inside of C libraries, which nothing sets free.

    OpenSSL has such locks while it builds a context or shakes hands, and so has the search for an address. A fork waits
    for what has begun, and what would begin waits for the fork; neither for longer than `FORK_TIMEOUT`.
    """

    def __init__(self) -> None:
        self.start_afresh()
        watch(self)

    def start_afresh(self) -> None:
        """Know of nothing that has begun: no thread but this one is there."""
        self._changed = threading.Condition()
        self._inside = self._forks = 0

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._forks == 0, FORK_TIMEOUT)
            self._inside += 1

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        with self._changed:
            self._inside = max(0, self._inside - 1)  # a child starts with none
            self._changed.notify_all()

    def before_fork(self) -> None:
        """Let nothing begin, and wait for what has."""
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: self._inside == 0, FORK_TIMEOUT)

    def after_fork(self) -> None:
        """Let it begin again, in the parent."""
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()


whole = _Whole()
os.register_at_fork(before=whole.before_fork, after_in_parent=whole.after_fork, after_in_child=_start_afresh)


class Lock:
    """A lock that is free in every child, whichever thread of the parent's held it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        watch(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        self._lock.release()

    def acquire(self, timeout: float) -> bool:
        """Wait for the lock for so many seconds at most; tell whether it is ours now."""
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Give it back."""
        self._lock.release()

    def start_afresh(self) -> None:
        """Be free."""
        self._lock = threading.Lock()
