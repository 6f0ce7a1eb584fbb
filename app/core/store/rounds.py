"""How do several sources keep out of each other's way? Each has its own thread, and at most one round to come.

`asyncio.to_thread` would not do: its few threads are shared, and sources that hang would take them all.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Generic, NoReturn, TypeVar

from app.core.logs.event_log import journal
from app.core.logs.logging_config import get_logger, where_raised
from app.core.threads import has_started

T = TypeVar("T")

AFTER_A_BUG = 30.0  # seconds

log = get_logger(__name__)


async def in_own_thread(work: Callable[[], T]) -> T:
    """Run what blocks in a thread of its own and return what it returns.

    A caller that stops waiting leaves the thread behind: that ends with its call, or with the process at the latest.
    Whatever ends the work is raised here as an `Exception`; `RuntimeError` also where no thread can be started.
    """
    call: Future[Callable[[], T]] = Future()
    call.set_running_or_notify_cancel()  # it cannot be taken back

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            call.set_result(partial(_raise, error))  # a future would drop a StopIteration, and take some for its own
        except BaseException as error:  # noqa: BLE001 - such as SystemExit, which would end the event loop
            call.set_result(partial(_raise, RuntimeError(f"ended by {type(error).__name__}")))
        else:
            call.set_result(lambda: result)

    if not has_started(threading.Thread(target=copy_context().run, args=(run,), daemon=True)):
        raise RuntimeError("no thread can be started")
    return (await asyncio.wrap_future(call))()


def _raise(error: Exception) -> NoReturn:
    raise error


class SharedRuns(Generic[T]):
    """The rounds of one source: however many ask, one is under way and one more is to come, for all who asked since."""

    def __init__(
        self, work: Callable[[], T], after: Callable[[], Awaitable[None]], failed: Callable[[Exception], T]
    ) -> None:
        """Take what a round is: `work`, which blocks, and then `after`; `failed` says what becomes of a bug in it."""
        self._work = work
        self._after = after
        self._failed = failed
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def next_run(self) -> T:
        """Wait for a round that begins now or later, and return what its work returned."""
        if self._next is None or self._next.done():  # done: somebody has cancelled it before it began
            self._next = asyncio.create_task(self._begin_after(self._running))
        return await asyncio.shield(self._next)

    async def aclose(self) -> None:
        """Cancel pending rounds."""
        tasks = [task for task in (self._running, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin_after(self, running: asyncio.Task[T] | None) -> T:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        try:
            result = await in_own_thread(self._work)
        except Exception as error:  # noqa: BLE001 - such as: no thread can be started
            result = self._failed(error)
        await self._after()
        return result


async def again_and_again(
    name: str,
    tick: Callable[[], Awaitable[float | None]],
    tell: Callable[[str, BaseException | None], None] = lambda _name, _error: None,
    is_over: Callable[[], bool] = lambda: True,
) -> None:
    """Call `tick` again after the pause that it asks for, in seconds, until that is None; no failure ends it.

    Nor does a cancellation, unless `is_over`. `tell` hears of each tick how it ended: None is well.
    """
    pause: float | None = None
    while True:
        try:
            if pause is not None:
                await asyncio.sleep(pause)
            pause = await tick()
            tell(name, None)
            if pause is None:
                return
        except BaseException as error:
            if (is_cancelled(error) and is_over()) or is_closed(error):
                raise
            _uncancel()
            pause = AFTER_A_BUG
            with suppress(Exception):  # such as: no memory
                tell(name, error)
                # no message: it may hold a value
                log.error("background_task_failed", task=name, **where_raised(error))  # noqa: TRY400
                journal.record("upkeep", name, "failed", type(error).__name__)


def is_cancelled(error: BaseException) -> bool:
    """Tell whether it is this task that is to end, not something that it waits for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def is_closed(error: BaseException) -> bool:
    """Tell whether Python ends a coroutine whose event loop is gone: it may not wait any more."""
    return isinstance(error, GeneratorExit) and asyncio._get_running_loop() is None  # noqa: SLF001 - documented


def _uncancel() -> None:
    """Forget that somebody wanted to end this task."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
