"""What do signals do? They end the service in order and in time, whatever hangs; SIGHUP has all secrets read again."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from app.core.logs.logging_config import get_logger
from app.core.store.refresh import CLOSING, Refresher
from app.core.store.sessions import close_sessions
from app.core.threads import has_started

GRACEFUL = 4.0  # seconds that requests get to end where the server has no limit of its own
SLACK = 0.5  # seconds that a busy machine may be late
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

log = get_logger(__name__)


class Ending:
    """Stands before the server's own handlers: first readiness drops, after `delay` seconds the server stops.

    A thread sees it through: it revokes the tokens where the event loop does not come to it, and ends the process where
    something keeps it from ending. Repeated signals end the delay; a second SIGINT (Ctrl+C) ends all waiting.
    """

    def __init__(self, refresher: Refresher, delay: float) -> None:
        self._refresher = refresher
        self._delay = delay
        self._heard: SimpleQueue[int | None] = SimpleQueue()  # None: the closing has begun; `put` may be interrupted
        self._serves = False
        self._before: dict[int, Any] = {}  # the handlers that were there
        self._refreshing: asyncio.Task[None] | None = None

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Heed signals until the block ends; only in the main thread, as Python has it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._loop, self._context = asyncio.get_running_loop(), copy_context()  # not that of whatever is interrupted
        self._process = os.getpid()
        self._heard, self._had_terminal = SimpleQueue(), _has_terminal()
        self._before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGHUP)}
        ours = {number: self._hear for number in self._before if self._is_ours(number)}
        # where it cannot be started, the server's own limits are left
        has_started(threading.Thread(target=self._see_it_through, name="ending", daemon=True))
        if getattr(self._server, "should_exit", False):  # it heard a signal while we were being imported
            self._hear(signal.SIGTERM)
        for number, handler in ours.items():
            signal.signal(number, handler)
        try:
            yield
        finally:
            for number in ours:
                signal.signal(number, self._before[number])

    def serving(self) -> None:
        """Say that the start is over: from now on, load balancers send requests."""
        self._serves = True

    def close(self) -> None:
        """Revoke the tokens, in the order of things."""
        self._heard.put(None)
        close_sessions(for_good=self._refresher.is_stopping)

    def _is_ours(self, number: int) -> bool:
        """Tell whether to heed a signal; where no server handles SIGTERM, Python's ways are meant.

        A SIGHUP that is ignored stays so: of `nohup` one expects that a terminal may be closed. SIGQUIT is ignored in
        whatever a shell starts with `&`, which means nothing.
        """
        stays_ignored = number == signal.SIGHUP and self._before[number] is signal.SIG_IGN
        return callable(self._before[signal.SIGTERM]) and self._before[number] is not None and not stays_ignored

    @property
    def _server(self) -> Any:
        """The server whose handler was there before: uvicorn's `Server`, for one."""
        return getattr(self._before.get(signal.SIGTERM), "__self__", None)

    def _hear(self, number: int, _frame: FrameType | None = None) -> None:
        """Take in a signal. This interrupts the main thread anywhere: no lock may be taken here, nothing logged."""
        if os.getpid() != self._process:  # a forked child: it ends as if it had no handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif number == signal.SIGHUP and (_has_terminal() or not self._had_terminal):
            self._loop.call_soon_threadsafe(self._refresh, context=self._context)
        else:
            self._heard.put(number)
            self._loop.call_soon_threadsafe(self._stop, number, context=self._context)

    def _refresh(self) -> None:
        log.info("refresh_requested", signal="SIGHUP")
        self._refreshing = asyncio.create_task(self._refresh_all())

    async def _refresh_all(self) -> None:
        changes = await self._refresher.refresh()
        late = [keeper.source for keeper in self._refresher.sources if keeper.source not in changes]
        log.info("refresh_finished", changed=[change.path for each in changes.values() for change in each], late=late)

    def _stop(self, number: int) -> None:
        first, delay = not self._refresher.is_stopping, self._delay if self._serves else 0.0
        self._refresher.stop()
        if first:
            log.info("service_stopping", signal=signal.Signals(number).name, delay=delay)
        if first and delay:
            self._loop.call_later(delay, self._pass_on, number)
        elif first or number != signal.SIGINT:  # at a second SIGINT uvicorn would leave out the closing
            self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        known = number if number == signal.SIGINT else signal.SIGTERM
        self._before[known](known, None)

    def _see_it_through(self) -> None:
        """Wait for a signal, then for the closing, then for the end of the process; each has its time."""
        first = self._heard.get()
        if first is not None:
            config = getattr(self._server, "config", None)
            graceful = getattr(config, "timeout_graceful_shutdown", None) or GRACEFUL
            if not self._closing_begins(first, (self._delay if self._serves else 0.0) + graceful + SLACK):
                close_sessions(for_good=True)
            else:
                time.sleep(CLOSING + SLACK)
            with suppress(Exception):  # in a thread, since a log may hang, too
                last_words = threading.Thread(target=_say_so, daemon=True)
                last_words.start()
                last_words.join(SLACK)
            os._exit(128 + first)

    def _closing_begins(self, first: int, seconds: float) -> bool:
        end, earlier = time.monotonic() + seconds, first
        with suppress(Empty):
            while (number := self._heard.get(timeout=max(0.0, end - time.monotonic()))) is not None:
                if earlier == number == signal.SIGINT:
                    return False
                earlier = number
            return True
        return False


def _say_so() -> None:
    log.warning("end_forced", threads=[thread.name for thread in threading.enumerate()])
    logging.shutdown()


def _has_terminal() -> bool:
    """Tell whether the process has a terminal; when that is closed, it sends SIGHUP and is gone."""
    try:
        os.close(os.open(os.ctermid(), os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
