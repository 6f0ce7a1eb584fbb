"""Who hears that this process has changed secrets? What keeps them fresh, so that the change is visible at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.core.logs.event_log import Listeners

_listeners: Listeners[str] = Listeners()  # they get the source's name


@contextmanager
def after_writes(listener: Callable[[str], None]) -> Iterator[None]:
    """Within the block, call `listener` with the source's name after each write, in the thread that has written."""
    leave = _listeners.subscribe(listener)
    try:
        yield
    finally:
        leave()


def notify(vault: str) -> None:
    """Say that somebody has written to the source of this name."""
    _listeners.notify(vault)
