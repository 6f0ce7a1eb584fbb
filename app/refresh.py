"""When do we talk to Vault? At the start, then once an interval; after a failure sooner, with growing pauses.

Each source has its own rounds, in a thread of its own: one that hangs neither delays nor breaks the others.
"""

import asyncio
import math
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, Protocol

from app.errors import BlueprintError, SecretsIncomplete, raise_together
from app.journal import journal
from app.logging_config import get_logger, where_raised
from app.rotating import Rotating
from app.rounds import Rounds, again_and_again, in_own_thread
from app.secret_store import Change, SecretStore

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries while a source fails
SPREAD = 0.9, 1.1  # of the interval, so that a fleet does not march in step
GRACE = 0.5  # seconds that the start waits for a source that it need not wait for
PATIENCE = 5.0  # seconds that who asks for a refresh waits for each source

log = get_logger(__name__)


def pause_after(failures: int, jitter: Callable[[float, float], float]) -> float:
    """Return how many seconds to wait after so many failures in a row: growing, bounded, and spread by jitter."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 16))
    return jitter(longest / 2, longest)


class Holder(Protocol):
    """What is kept fresh: the `SecretStore`, for one."""

    @property
    def problems(self) -> Mapping[str, str]:
        """What is missing or malformed in it."""
        ...

    def publish(self, source: str, loaded: Any) -> tuple[Change, ...]:
        """Take in what was loaded; return what changed."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Return what the log may say of it."""
        ...


class Keeper:
    """Keeps what comes from one source fresh."""

    def __init__(
        self,
        source: str,
        load: Callable[[], Any],
        store: Holder,
        *,
        interval: float,  # seconds between two rounds; 0: none after the first good one
        max_staleness: float = 0.0,  # seconds after which what is held no longer counts; 0: never
        awaited: bool = True,  # whether the start waits for the first round also without `fail_fast`
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.source = source
        self.awaited = awaited
        self.fault: BlueprintError | None = None  # why the last round failed; None if it did not
        self.max_staleness = max_staleness if interval else 0.0  # seconds; 0: what is held counts for ever
        self.failures = 0  # in a row
        self.rotated: dict[tuple[str, str], float] = {}  # when a path's key last changed, in seconds since 1970
        self._load = load
        self._store = store
        self._interval = interval
        self._clock = clock
        self._jitter = jitter
        self._one_at_a_time = threading.Lock()
        self._confirmed: float | None = None  # when Vault last said what is held
        self._due: float | None = None  # the next beat of the interval; None before the first good round
        self._planned: float | None = None  # when the next round is, be it on the beat or sooner after a failure

    def round(self) -> tuple[Change, ...]:
        """Load, check and swap in; return what changed. A failure is kept in `fault`, and what is held stays."""
        with self._one_at_a_time:
            try:
                changes = self._store.publish(self.source, self._load())
            except BlueprintError as error:
                event = "vault_secrets_refused" if isinstance(error, SecretsIncomplete) else "vault_secrets_load_failed"
                log.warning(event, source=self.source, error=type(error).__name__, reason=str(error))
                self._fail(error, "refused" if isinstance(error, SecretsIncomplete) else "load")
            except Exception as error:  # noqa: BLE001 - a bug must not end the rounds
                log.error("vault_secrets_load_failed", source=self.source, **where_raised(error))  # noqa: TRY400
                self._fail(BlueprintError(self.source, f"a fault of our own ({type(error).__name__})", "See the log."))
            else:
                self._succeed(changes)
                return changes
        return ()

    def pause(self) -> float | None:
        """Return how many seconds to wait before the next round; None: no further round is wanted."""
        pause = self._pause()
        self._planned = None if pause is None else self._clock() + pause
        return pause

    def _pause(self) -> float | None:
        if self.failures:
            pause = pause_after(self.failures, self._jitter)
            return min(pause, self._interval) if self._interval else pause
        if self._store.problems:
            pause = self._jitter(LONGEST_PAUSE / 2, LONGEST_PAUSE)
            return min(pause, self._interval) if self._interval else pause
        if not self._interval:
            return None
        now = self._clock()
        if self._due is None:  # spread over a whole interval: instances that started together part here
            self._due = now + self._jitter(0.0, self._interval)
        else:
            self._due += self._interval * self._jitter(*SPREAD)
            if self._due <= now:  # after an outage, back to the old beat: those who lost Vault together stay apart
                self._due += math.ceil((now - self._due) / self._interval) * self._interval
        return max(self._due - now, 0.0)

    @property
    def age(self) -> float | None:
        """How many seconds ago Vault last confirmed what is held; None: never."""
        return None if self._confirmed is None else self._clock() - self._confirmed

    @property
    def is_waiting(self) -> bool:
        """Whether the first round is still to come or under way."""
        return self._confirmed is None and self.fault is None

    @property
    def is_stale(self) -> bool:
        """Whether what is held is older than it may be."""
        return bool(self.max_staleness and (self.age or 0.0) > self.max_staleness)

    @property
    def next_round(self) -> float | None:
        """In how many seconds the next round is planned; None: none is."""
        return None if self._planned is None else max(self._planned - self._clock(), 0.0)

    def _fail(self, error: BlueprintError, kind: Literal["refused", "load"] = "load") -> None:
        self.failures += 1
        self.fault = error
        journal.note(kind, self.source, "failed", type(error).__name__)

    def _succeed(self, changes: tuple[Change, ...]) -> None:
        first = self._confirmed is None
        healed, self.fault, self.failures, self._confirmed = self.fault is not None, None, 0, self._clock()
        if first:
            log.info("vault_secrets_loaded", source=self.source, **self._store.describe())
            journal.note("load", self.source)
            return
        for change in changes:
            self.rotated |= dict.fromkeys(((change.path, key) for key in change.keys), time.time())
            log.info("vault_secrets_rotated", source=self.source, **change.describe())
            journal.note("rotation", self.source, detail=f"{change.path}: {', '.join(change.keys)}")
        if healed:
            log.info("vault_secrets_fresh_again", source=self.source)
            journal.note("load", self.source, detail="after a fault")
        elif not changes:
            log.debug("vault_secrets_unchanged", source=self.source)


class Refresher:
    """Runs the keepers, and lets the objects that are built from secrets follow, while the service runs."""

    def __init__(
        self,
        store: SecretStore,
        keepers: Sequence[Keeper],
        rotating: Mapping[str, Rotating[Any]] = MappingProxyType({}),
        upkeep: Sequence[Callable[[], float]] = (),
    ) -> None:
        """Take what is to be kept fresh; `upkeep` are ticks that say after how many seconds to call them again."""
        self.store = store
        self.keepers = keepers
        self.rotating = rotating
        self._upkeep = upkeep
        self._loop: asyncio.AbstractEventLoop
        self._rounds: dict[str, Rounds[tuple[Change, ...]]] = {}  # by source

    @asynccontextmanager
    async def running(self, *, fail_fast: bool) -> AsyncIterator[None]:
        """Load what the start waits for, then keep everything fresh until the block ends.

        With `fail_fast`, waits for every source, and raises what stands in the way of a complete start.
        """
        self._loop = asyncio.get_running_loop()
        self._rounds = {keeper.source: Rounds(keeper.round, self._follow) for keeper in self.keepers}
        first = {keeper: asyncio.create_task(self._rounds[keeper.source].another()) for keeper in self.keepers}
        tasks = [asyncio.create_task(self._keep(keeper, begun)) for keeper, begun in first.items()]
        try:
            await asyncio.gather(*(begun for keeper, begun in first.items() if fail_fast or keeper.awaited))
            if first:  # the others may be as quick; what they override should not count even for a moment
                await asyncio.wait(first.values(), timeout=GRACE)
            await self._follow()  # also where there is no source
            if fail_fast:
                self.raise_fault()
            tasks += [asyncio.create_task(again_and_again(partial(in_own_thread, tick))) for tick in self._upkeep]
            tasks.append(asyncio.create_task(again_and_again(self._rebuild_what_failed)))
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(each.aclose() for each in self._rounds.values()))
            await asyncio.gather(*(each.aclose() for each in self.rotating.values()))

    async def refresh(self) -> dict[str, tuple[Change, ...]]:
        """Carry out one round of every source, side by side; return what changed, by source.

        A source that has not answered within `PATIENCE` is not in it; its round goes on.
        """
        rounds = {source: asyncio.create_task(each.another()) for source, each in self._rounds.items()}
        late: set[asyncio.Task[Any]] = (await asyncio.wait(rounds.values(), timeout=PATIENCE))[1] if rounds else set()
        for task in late:
            task.cancel()  # the waiting, not the round
        return {source: task.result() for source, task in rounds.items() if task not in late}

    def catch_up(self, source: str) -> None:
        """Carry out a round of one source now, in the thread that has just written there; blocks."""
        for keeper in self.keepers:
            if keeper.source == source:
                keeper.round()
        asyncio.run_coroutine_threadsafe(self._follow(), self._loop)

    def raise_fault(self) -> None:
        """Raise why the secrets are not all there, if so: all faults of sources, which are the cause, or the gap."""
        raise_together([keeper.fault for keeper in self.keepers if keeper.fault is not None])
        if self.store.problems:
            raise SecretsIncomplete(self.store.problems)

    async def _keep(self, keeper: Keeper, first: asyncio.Task[tuple[Change, ...]]) -> None:
        await first
        while (pause := keeper.pause()) is not None:
            await asyncio.sleep(pause)
            await self._rounds[keeper.source].another()

    async def _follow(self) -> None:
        secrets = self.store.snapshot()
        await asyncio.gather(*(each.follow(secrets) for each in self.rotating.values()))

    async def _rebuild_what_failed(self) -> float:
        """Try again also where no round comes any more; a round does so anyway."""
        if any(each.fault for each in self.rotating.values()):
            await self._follow()
        return LONGEST_PAUSE / 2
