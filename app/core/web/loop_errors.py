"""What happens when no file descriptor is left for a connection? It is closed, and the log says so once a second.

asyncio would try thousands of times a second, more and more, with a traceback each time, while the caller waits. uvloop
closes such connections by itself and says nothing, so there the descriptors are looked at once a second.
"""

import asyncio
import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from app.core.logs.logging_config import get_logger

EVERY = 1.0  # seconds between two lines
MOST = 4096  # connections that are closed at a time: more than a listener keeps waiting
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

log = get_logger(__name__)


class LoopErrors:
    """Takes what the event loop meets: connections that it cannot accept, and all else, which is logged as ever."""

    def __init__(self) -> None:
        self._spare: int | None = None  # a descriptor that can be given up to accept, and close, what is waiting
        self._closed = 0  # connections since the last line
        self._next_line = 0.0
        self._next_look: asyncio.TimerHandle | None = None
        self._keep_spare()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take in one error."""
        error, listener = context.get("exception"), context.get("socket")
        if listener is None or not isinstance(error, OSError) or error.errno not in EXHAUSTED:
            loop.default_exception_handler(context)
            return
        self._close_waiting(listener.fileno())
        if (now := time.monotonic()) >= self._next_line:
            log.error("connections_not_accepted", reason=os.strerror(error.errno), closed=self._closed)
            self._closed, self._next_line = 0, now + EVERY

    def look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say once a second that no descriptor is left, until `close`."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            log.error("connections_not_accepted", reason=error.strerror)  # noqa: TRY400 - where it was met says nothing
        self._next_look = loop.call_later(EVERY, self.look, loop)

    def close(self) -> None:
        """Give up the spare descriptor, and look no more."""
        self._give_up_spare()
        if self._next_look is not None:
            self._next_look.cancel()

    def _give_up_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _close_waiting(self, file: int) -> None:
        self._give_up_spare()
        listener = socket.socket(fileno=file)
        try:
            for _ in range(MOST):
                listener.accept()[0].close()
                self._closed += 1
        except OSError:  # none is left, or another thread was quicker to use the descriptor
            pass
        finally:
            listener.detach()
            self._keep_spare()

    def _keep_spare(self) -> None:
        with suppress(OSError):  # the next time, perhaps
            self._spare = os.open(os.devnull, os.O_RDONLY)


@contextmanager
def bounded_loop_errors() -> Iterator[None]:
    """Within the block, let the event loop's errors fill no log; a handler that somebody has set stays."""
    loop = asyncio.get_running_loop()
    if loop.get_exception_handler() is not None:
        yield
        return
    errors = LoopErrors()
    loop.set_exception_handler(errors)
    if not isinstance(loop, asyncio.BaseEventLoop):  # uvloop's
        errors.look(loop)
    try:
        yield
    finally:
        loop.set_exception_handler(None)
        errors.close()
