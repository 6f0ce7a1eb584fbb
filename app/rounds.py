"""How do several sources keep out of each other's way? Each has its own thread, and at most one round to come.

`asyncio.to_thread` would not do: its few threads are shared, and sources that hang would take them all.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Generic, TypeVar

from app.logging_config import get_logger, where_raised

T = TypeVar("T")

AFTER_A_BUG = 30.0  # seconds

log = get_logger(__name__)


async def in_own_thread(work: Callable[[], T]) -> T:
    """Run what blocks in a thread of its own and return what it returns.

    Whoever stops waiting leaves the thread behind: it ends with its call, or with the process, which does not wait.
    """
    call: Future[T] = Future()
    call.set_running_or_notify_cancel()  # it cannot be taken back

    def run() -> None:
        try:
            call.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            call.set_exception(error)

    threading.Thread(target=copy_context().run, args=(run,), daemon=True).start()
    return await asyncio.wrap_future(call)


class Rounds(Generic[T]):
    """The rounds of one source: however many ask, one is under way and one more is to come, for all who asked since."""

    def __init__(self, work: Callable[[], T], after: Callable[[], Awaitable[None]]) -> None:
        """Take what a round is: `work`, which blocks, and then `after`."""
        self._work = work
        self._after = after
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def another(self) -> T:
        """Wait for a round that begins now or later, and return what its work returned."""
        if self._next is None:
            self._next = asyncio.create_task(self._begin_after(self._running))
        return await asyncio.shield(self._next)

    async def aclose(self) -> None:
        """Wait for no round any more."""
        tasks = [task for task in (self._running, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin_after(self, running: asyncio.Task[T] | None) -> T:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        result = await in_own_thread(self._work)
        await self._after()
        return result


async def again_and_again(tick: Callable[[], Awaitable[float]]) -> None:
    """Call `tick` for ever, after the pause that it asks for; a bug must not end that."""
    while True:
        try:
            pause = await tick()
        except Exception as error:  # noqa: BLE001
            log.error("upkeep_failed", **where_raised(error))  # noqa: TRY400 - no messages: they may hold values
            pause = AFTER_A_BUG
        await asyncio.sleep(pause)
