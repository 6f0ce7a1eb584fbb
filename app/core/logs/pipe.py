"""What becomes of log lines that nobody reads? A pipe that is full takes none, and they are dropped, with a count.

A write to it would wait until somebody reads: the service would hang because of a log collector that does. A terminal
that nobody looks at (`docker run -t`), or that is stopped by Ctrl-S, is the same.
"""

import os
import select
import socket
import stat
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from app.core import forks

READER_WAITS, PAUSE = 0.2, 10.0  # seconds that a line waits for a reader who is slow, and until the next one may
AT_END = 1.0  # seconds that the rest of the last line waits


class Pipe:
    """A pipe, a socket or a terminal that is written to without waiting; not safe for threads."""

    def __init__(self, file: int) -> None:
        """`file` itself is left as it is: other processes write to it, too, and would not expect it not to wait."""
        self.dropped = 0  # lines since somebody asked
        self._rest = b""  # of a line of which the pipe took a part: it goes first
        self._no_patience_until = 0.0
        self._send: Callable[[bytes], int]
        if stat.S_ISSOCK(os.fstat(file).st_mode):
            connection = socket.socket(fileno=os.dup(file))
            self._file = connection.fileno()
            self._send = lambda data: connection.send(data, socket.MSG_DONTWAIT)
        else:
            self._file = os.open(f"/dev/fd/{file}", os.O_WRONLY | os.O_NONBLOCK)
            self._send = lambda data: os.write(self._file, data)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLOUT)
        forks.watch(self)

    def start_afresh(self) -> None:
        """Leave what is left to write to the parent."""
        self._rest, self.dropped = b"", 0

    @property
    def is_writable(self) -> bool:
        """Whether somebody reads."""
        return bool(self._poll.poll(0))

    def write(self, line: str) -> None:
        """Write the line, or drop it."""
        self.flush()
        if self._rest:
            self.dropped += 1
            return
        data = line.encode("utf-8", "backslashreplace")
        self._rest = self._written(data)
        if self._rest == data:  # nothing of it, so it need not be ended
            self._rest = b""
            self.dropped += 1

    def flush(self) -> None:
        """Try to write what is left of a line."""
        self._rest = self._written(self._rest)

    def finish(self) -> None:
        """Tear no line, if somebody still reads."""
        self._rest = self._written(self._rest, AT_END)

    def _written(self, data: bytes, patience: float | None = None) -> bytes:
        """Write, and return what is left."""
        end = time.monotonic()
        if patience is not None or end >= self._no_patience_until:
            end += READER_WAITS if patience is None else patience
        while data:
            try:
                data = data[self._send(data) :]
            except BlockingIOError:
                left = end - time.monotonic()
                if left <= 0 or not self._poll.poll(left * 1000):
                    self._no_patience_until = time.monotonic() + PAUSE
                    break
            except OSError:  # nobody can read it any more
                break
        return data


def pipe_of(stream: Any) -> Pipe | None:
    """Return the pipe that the stream writes to; None if it is something that does not fill up, or not one of ours."""
    try:
        file = stream.fileno()
        mode = os.fstat(file)
        if stat.S_ISFIFO(mode.st_mode) or stat.S_ISSOCK(mode.st_mode) or os.isatty(file):
            return _pipe(file, mode.st_dev, mode.st_ino)
    except (AttributeError, OSError, ValueError):
        pass
    return None


@cache
def _pipe(file: int, _device: int, _number: int) -> Pipe:
    return Pipe(file)
