"""How long may a caller take? For the head of a request, to take its answer, and between two requests.

uvicorn bounds only the last. Before each bound counts, the event loop reads what has arrived: a process that was
suspended (`docker pause`, SIGSTOP) goes on with its timers, and would close connections in which there are requests.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

A_LOOK = 0.05  # seconds; in between, the event loop reads what has arrived, and that ends the waiting

_Protocol: Any = AutoHTTPProtocol  # by httptools, or by h11 where that is not installed
_Some: Any = object  # one of them


class _Bound:
    """Acts when so many seconds are over, unless what is waited for comes before."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, act: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._act = act
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Wait; what is waited for already is not waited for longer."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def end(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._loop.call_later(A_LOOK, self._act)


class Bounds(_Some):  # type: ignore[misc]
    """Goes in front of a protocol of uvicorn's: it waits for no caller for ever."""

    cycle: Any  # uvicorn's: the request that is answered, or was last
    loop: asyncio.AbstractEventLoop
    timeout_keep_alive_task: asyncio.TimerHandle | None
    transport: Any

    head_timeout = 10.0  # seconds for the head of a request as a whole, from the connection or from its first byte
    taking_timeout = 30.0  # seconds in which a caller must take what has piled up for it

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._head = _Bound(self.loop, self.head_timeout, self._close)
        self._taking = _Bound(self.loop, self.taking_timeout, self._abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first head."""
        super().connection_made(transport)
        self._head.begin()

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of a head that has begun, and no longer for one that is here."""
        if not self.transport.get_write_buffer_size():
            self._taking.end()  # all former answers were taken
        former = self.cycle
        super().data_received(data)
        if self.cycle is not former or self.transport.get_protocol() is not self:  # a request, or a WebSocket
            self._head.end()
        elif former is None or former.response_complete:
            self._head.begin()

    def pause_writing(self) -> None:
        """Wait for a caller that takes less than it is sent."""
        super().pause_writing()
        self._taking.begin()

    def resume_writing(self) -> None:
        """Go on: it has taken enough for now."""
        super().resume_writing()
        self._taking.end()

    def on_response_complete(self) -> None:
        """Wait for the caller to take the rest of its answer: closing the connection would wait for that, too."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._taking.begin()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless something arrives now."""
        self.timeout_keep_alive_task = self.loop.call_later(A_LOOK, super().timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._head.end()
        self._taking.end()
        super().connection_lost(exc)

    def _close(self) -> None:
        self.transport.close()

    def _abort(self) -> None:
        self._taking.end()
        if self.transport.get_write_buffer_size():  # else it was taken, after the last pause
            self.transport.abort()


class BoundedHTTP(Bounds, _Protocol):  # type: ignore[misc] # which one, the installation decides
    """What the service speaks."""
