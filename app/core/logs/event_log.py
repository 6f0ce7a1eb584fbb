"""What happened lately between the service and its secrets? A bounded memory, and who wants to hear of each event.

Each login, read and rotation is noted; the status page shows the notes, the metrics count them. Names only.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from app.core import forks
from app.core.logs.logging_config import get_logger, where_raised

Kind = Literal["login", "renewal", "load", "rotation", "refused", "rebuilt", "upkeep", "lease"]
Outcome = Literal["ok", "failed"]

T = TypeVar("T")

KEPT = 200  # events

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    at: float  # seconds since 1970
    kind: Kind
    source: str  # the Vault, or the object that was rebuilt
    outcome: Outcome
    detail: str = ""  # for people; holds no value


class Listeners(Generic[T]):
    """Those who want to hear of each event of a kind, in this process; safe for many threads."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[T], None]] = []
        forks.watch(self)

    def start_afresh(self) -> None:
        """Let the parent's listeners alone: what they keep, and the locks that they take, are not a child's."""
        self._listeners = []

    def notify(self, event: T) -> None:
        """Call each listener, in this thread; one that fails harms nobody."""
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001
                log.error("listener_failed", **where_raised(error))  # noqa: TRY400 - no messages

    def subscribe(self, listener: Callable[[T], None]) -> Callable[[], None]:
        """Have `listener` called with each event, in the thread that tells of it; return what ends that."""
        self._listeners.append(listener)

        def leave() -> None:
            with suppress(ValueError):  # in a child it is gone
                self._listeners.remove(listener)

        return leave


class Journal(Listeners[Event]):
    """The latest events, and listeners that are told of each; safe for many threads."""

    def __init__(self) -> None:
        super().__init__()
        self._events: deque[Event] = deque(maxlen=KEPT)

    def record(self, kind: Kind, source: str, outcome: Outcome = "ok", detail: str = "") -> None:
        """Remember an event, and tell the listeners."""
        event = Event(time.time(), kind, source, outcome, detail)
        self._events.append(event)
        self.notify(event)

    def clear(self) -> None:
        """Forget the events; for tests that share the process."""
        self._events.clear()

    def events(self) -> tuple[Event, ...]:
        """Return the latest events, oldest first."""
        return tuple(self._events)


journal = Journal()  # the process's
