"""When is an idle connection closed? Not before a look at whether a request has arrived on it meanwhile.

A process that was suspended (`docker pause`, SIGSTOP) goes on with its timers first, and uvicorn's would close all idle
connections, those with requests in them, too: to their callers, answers that never come.
"""

from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

A_LOOK = 0.05  # seconds; in between, the event loop reads what has arrived, and that cancels the closing

_Protocol: Any = AutoHTTPProtocol  # by h11, or by httptools where it is installed


class KeepAlive(_Protocol):  # type: ignore[misc] # which one, the installation decides
    """uvicorn's own protocol, which closes a connection a moment later."""

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless something arrives now."""
        self.timeout_keep_alive_task = self.loop.call_later(A_LOOK, super().timeout_keep_alive_handler)
