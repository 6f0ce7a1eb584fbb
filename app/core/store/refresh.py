"""How is everything kept fresh while the service runs? Each source by its own rounds, and what is built from it.

The rounds are in a thread of their own: a source that hangs neither delays nor breaks the others.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import MappingProxyType
from typing import Any

from app.core.errors import NotStarted, SecretsIncomplete
from app.core.logs.logging_config import get_logger, where_raised
from app.core.store.failures import raise_together
from app.core.store.refused import NewSecrets
from app.core.store.rotating import Rotating
from app.core.store.rounds import SharedRuns, again_and_again, in_own_thread
from app.core.store.secret_store import Change, SecretStore
from app.core.store.source_refresher import LONGEST_PAUSE, OVERDUE, SourceRefresher

CLOSING = 4.0  # seconds for all that is to be closed: an orchestrator kills a service that takes much longer to end
GRACE = 0.5  # seconds that the start waits for a source that it need not wait for
FIRST_ROUND = OVERDUE + 1.0  # seconds that the start waits for a source, if it waits for it; then it goes on without
REBUILDING = "objects built from secrets"  # the name of the task that builds again what could not be built
LATE_AFTER = 5.0  # seconds that who asks for a refresh waits for each source
SWITCH = 0.001  # seconds after which a round that computes lets the event loop go on; Python's 5 ms would be noticed

log = get_logger(__name__)


async def _in_own_thread_or_here(work: Callable[[], None]) -> None:
    try:
        await in_own_thread(work)
    except RuntimeError:  # no thread can be started
        work()


NOT_RUN = "its lifespan has not run, so no secret was read, nothing is refreshed, and VAULT_FAIL_FAST has no effect"
RUN_IT = (
    "Start the server without `--lifespan off`; an application that mounts this one must run its lifespan, "
    "as docs/operate.md shows; in a test, write `with TestClient(app)`."
)


class Refresher:
    """Runs the keepers, and lets the objects that are built from secrets follow, while the service runs."""

    def __init__(
        self,
        store: SecretStore,
        keepers: Iterable[SourceRefresher],
        rotating: Mapping[str, Rotating[Any]] = MappingProxyType({}),
        periodic: Mapping[str, Callable[[], float]] = MappingProxyType({}),
    ) -> None:
        """Take what is to be kept fresh; `periodic` are ticks: each says in how many seconds it is due again."""
        self.store = store
        self.sources = [*keepers]
        self.rotating = rotating
        self.has_started = False  # an application that is mounted in another one, for instance, may never be
        self._told = False
        self._periodic = periodic
        self.failing: dict[str, str] = {}  # background tasks whose last try failed, and by which class of error
        self.is_stopping = False
        self._is_over = False
        self._stopping: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._rounds: dict[str, SharedRuns[tuple[Change, ...]]] = {}  # by source
        self._new_secrets: NewSecrets

    def add(self, source: SourceRefresher) -> None:
        """Keep one more fresh, from the next start on."""
        self.sources.append(source)

    @asynccontextmanager
    async def running(self, *, fail_fast: bool, at_end: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
        """Load what the start waits for, then keep everything fresh until the block ends.

        With `fail_fast`, waits for every source, and raises what prevents a complete start; `stop` ends the waiting.
        `at_end` is called in the end, in a thread of its own, side by side with the closing of what was built: it may
        block.
        """
        self.has_started = True
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH))
        self._loop = asyncio.get_running_loop()
        self.failing, self._is_over, self._stopping = {}, False, asyncio.Event()
        if self.is_stopping:
            self._stopping.set()
        self._rounds = {keeper.source: SharedRuns(keeper.round, self._follow, keeper.failed) for keeper in self.sources}
        self._new_secrets = NewSecrets(self.store, self.sources, self._rounds)
        for keeper in self.sources:
            if keeper.upstream is not None:
                keeper.upstream.call_when_due(partial(self._wake, keeper.source))
        first = {keeper: asyncio.create_task(self._rounds[keeper.source].next_run()) for keeper in self.sources}
        ticks = {keeper.source: partial(self._round, keeper) for keeper in self.sources}
        tasks = [self._in_background(source, tick) for source, tick in ticks.items()]
        try:
            await self._until_stopped(self._first_load(first, fail_fast=fail_fast))
            if fail_fast and not self.is_stopping:
                self.raise_fault()
            for name, tick in self._periodic.items():
                tasks.append(self._in_background(name, partial(in_own_thread, tick)))
            tasks.append(self._in_background(REBUILDING, self._rebuild_what_failed))
            yield
        finally:
            self._is_over = True
            for task in tasks:
                task.cancel()
            await self._end(tasks, at_end)
            self.is_stopping = False

    def stop(self) -> None:
        """Say in readiness that the service is stopping, and let the start wait for nothing more; in the event loop."""
        self.is_stopping = True
        if hasattr(self, "_stopping"):
            self._stopping.set()

    async def _first_load(self, first: Mapping[SourceRefresher, asyncio.Task[Any]], *, fail_fast: bool) -> None:
        if awaited := [begun for keeper, begun in first.items() if fail_fast or keeper.awaited]:
            for ended in (await asyncio.wait(awaited, timeout=FIRST_ROUND))[0]:
                ended.result()
        if first:  # the others may be as quick; what they override should not count even for a moment
            await asyncio.wait(first.values(), timeout=GRACE)
        await self._follow()  # also where there is no source

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        working, stopping = asyncio.create_task(work), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            working.cancel()
            stopping.cancel()

    def _in_background(self, name: str, tick: Callable[[], Awaitable[float | None]]) -> asyncio.Task[None]:
        return asyncio.create_task(again_and_again(name, tick, self._tell, lambda: self._is_over))

    def _tell(self, task: str, error: BaseException | None) -> None:
        if error is None:
            self.failing.pop(task, None)
        else:
            self.failing[task] = type(error).__name__

    @property
    def background_tasks(self) -> tuple[str, ...]:
        """The names of what goes on by itself: rounds by their source, then the upkeep."""
        return (*(keeper.source for keeper in self.sources), *self._periodic, REBUILDING)

    async def _end(self, tasks: Iterable[asyncio.Task[None]], at_end: Callable[[], None]) -> None:
        """Close everything side by side, and after `CLOSING` seconds wait for nothing any more."""
        closing: dict[asyncio.Task[Any], str] = {asyncio.create_task(_in_own_thread_or_here(at_end)): "sessions"}
        closing |= {task: f"background task {name}" for task, name in zip(tasks, self.background_tasks, strict=False)}
        closing |= {asyncio.create_task(each.aclose()): f"rounds of {name}" for name, each in self._rounds.items()}
        closing |= {asyncio.create_task(each.aclose()): each.name for each in self.rotating.values()}
        done, late = await asyncio.wait(closing, timeout=CLOSING)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("closing_failed", of=closing[task], **where_raised(error))
        for task in late:
            log.warning("closing_given_up", of=closing[task], after=CLOSING)
            task.cancel()

    async def refresh(self) -> dict[str, tuple[Change, ...]]:
        """Carry out one round of every source, side by side; return what changed, by source.

        A source that has not answered within `LATE_AFTER` is not in it; its round goes on.
        """
        rounds = {source: asyncio.create_task(each.next_run()) for source, each in self._rounds.items()}
        late: set[asyncio.Task[Any]] = (await asyncio.wait(rounds.values(), timeout=LATE_AFTER))[1] if rounds else set()
        for task in late:
            task.cancel()  # the waiting, not the round
        return {source: task.result() for source, task in rounds.items() if task not in late}

    def catch_up(self, source: str) -> None:
        """Carry out a round of one source now, in the thread that has just written there; blocks."""
        for keeper in self.sources:
            if keeper.source == source:
                keeper.round()
        asyncio.run_coroutine_threadsafe(self._follow(), self._loop)

    def idle(self) -> NotStarted | None:
        """Return what is wrong where something is to be read or built, and nobody has begun; log it once."""
        unbuilt = any(not each.is_built and not each.fault for each in self.rotating.values())
        if self.has_started or not (unbuilt or any(keeper.is_waiting for keeper in self.sources)):
            return None
        error = NotStarted("this application", NOT_RUN, RUN_IT)
        if not self._told:
            self._told = True
            log.error("lifespan_not_run", reason=str(error))
        return error

    def raise_fault(self) -> None:
        """Raise why the secrets are not all there, if so: all faults of sources, which are the cause, or the gap."""
        raise_together([keeper.fault for keeper in self.sources if keeper.fault is not None])
        if self.store.problems:
            raise SecretsIncomplete(self.store.problems)

    async def _round(self, keeper: SourceRefresher) -> float | None:
        """Carry out a round, and say when the next one is due. The first is the one that the start waits for, too."""
        await self._rounds[keeper.source].next_run()
        return keeper.pause()

    async def _follow(self) -> None:
        secrets = self.store.snapshot()
        for each in self.rotating.values():
            each.ask_for_new = self._new_secrets.ask
        await asyncio.gather(*(each.follow(secrets, secrets.generation) for each in self.rotating.values()))

    def _wake(self, source: str) -> None:
        """Carry out a round of one source: what it holds is good no longer. From any thread."""
        with suppress(RuntimeError):  # the loop is closed
            asyncio.run_coroutine_threadsafe(self._rounds[source].next_run(), self._loop)

    async def _rebuild_what_failed(self) -> float:
        """Try again also where no round comes any more; a round does so anyway. Tell of rounds that are overdue."""
        for keeper in self.sources:
            keeper.tell_if_overdue()
        failed = [each for each in self.rotating.values() if each.fault]
        for each in failed:
            if each.was_refused:
                await self._new_secrets.ask(each)
        if failed:
            await self._follow()
        return LONGEST_PAUSE / 2
