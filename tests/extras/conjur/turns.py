"""Who of several replicas may send its next request? So that a test says in which order they meet at Conjur."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests

from app.config import Settings
from app.extras.conjur.session import ConjurSession
from tests.support import DEADLINE


class Turns:
    """Which of two replicas may send its next request; who has nothing to send any more passes."""

    def __init__(self, order: list[int]) -> None:
        self.taken = [0, 0]  # by each
        self._order = order
        self._done: set[int] = set()
        self._busy = False
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, who: int) -> Iterator[None]:
        """Wait for a turn, which lasts as long as the block."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._busy and self._next() in {who, None}, DEADLINE)
            self._busy = True
        try:
            yield
        finally:
            with self._changed:
                self.taken[who] += 1
                self._busy = False
                if self._order:
                    self._order.pop(0)
                self._changed.notify_all()

    def _next(self) -> int | None:
        while self._order and self._order[0] in self._done:
            self._order.pop(0)
        return self._order[0] if self._order else None

    def end(self, who: int) -> None:
        """Say that a replica is done."""
        with self._changed:
            self._done.add(who)
            self._changed.notify_all()


class Replica(ConjurSession):
    """A session that waits for its turn before each request."""

    def __init__(self, settings: Settings, who: int, turns: Turns) -> None:
        super().__init__(settings.conjur, settings.vault)
        self._who = who
        self._turns = turns

    def call(self, subject: str, method: str, *segments: str, **request: Any) -> requests.Response:
        """Send a request, when it is time."""
        with self._turns.turn(self._who):
            return super().call(subject, method, *segments, **request)
