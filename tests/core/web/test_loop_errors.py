"""Connections that wait where no file descriptor is left are closed, and the log says so once a second."""

import asyncio
import errno
import socket
from contextlib import ExitStack

import pytest

from app.core.web import loop_errors
from app.core.web.loop_errors import LoopErrors


def test_what_waits_is_closed_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """As asyncio reports it: with the listener, again and again."""
    context = {"exception": OSError(errno.EMFILE, "full"), "message": "socket.accept()"}

    async def run() -> None:
        loop, errors = asyncio.get_running_loop(), LoopErrors()
        with ExitStack() as open_, socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0)
            waiting = [open_.enter_context(socket.create_connection(listener.getsockname())) for _ in range(3)]
            for _ in range(2):
                errors(loop, {**context, "socket": listener})
            assert [each.recv(1) for each in waiting] == [b""] * 3
        errors.close()

    asyncio.run(run())
    assert caplog.text.count("connections_not_accepted") == 1
    assert "'closed': 3" in caplog.text


def test_a_loop_that_says_nothing_is_looked_after(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the end of the service."""
    monkeypatch.setattr(loop_errors, "EVERY", 0.01)

    def no_descriptor(*_: object) -> int:
        raise OSError(errno.EMFILE, "full")

    async def run() -> None:
        errors = LoopErrors()
        with monkeypatch.context() as patch:
            patch.setattr("os.open", no_descriptor)
            errors.look(asyncio.get_running_loop())
            await asyncio.sleep(0.2)  # many times as long as it takes; what counts is that it comes again
        errors.close()

    asyncio.run(run())
    assert caplog.text.count("connections_not_accepted") > 1
