"""When do we talk to Vault? At the start, again with growing pauses while that fails, and to keep the token alive."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

from app.backends.protocol import Secret
from app.errors import BlueprintError, SecretsIncomplete
from app.logging_config import get_logger
from app.secret_store import SecretStore

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries while a source fails

log = get_logger(__name__)


def pause_after(failures: int, jitter: Callable[[float, float], float]) -> float:
    """Return how many seconds to wait after so many failures in a row: growing, bounded, and spread by jitter."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 16))
    return jitter(longest / 2, longest)


class Keeper:
    """Keeps the part of the store that comes from one source filled."""

    def __init__(
        self,
        source: str,
        load: Callable[[], Iterable[Secret]],
        store: SecretStore,
        *,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.source = source
        self.fault: BlueprintError | None = None  # why the last round failed; None if it did not
        self._load = load
        self._store = store
        self._jitter = jitter
        self._failures = 0

    def round(self) -> None:
        """Load once; a failure is kept in `fault`, and what is held stays as it is."""
        try:
            self._store.publish(self.source, self._load())
        except BlueprintError as error:
            self._failures += 1
            self.fault = error
            log.warning("vault_secrets_load_failed", source=self.source, error=type(error).__name__, reason=str(error))
        except Exception as error:
            self._failures += 1
            self.fault = BlueprintError(self.source, f"a fault of our own ({type(error).__name__})", "See the log.")
            log.exception("vault_secrets_load_failed", source=self.source)
        else:
            self._failures, self.fault = 0, None
            log.info("vault_secrets_loaded", source=self.source, names=sorted(self._store), broken=self._store.problems)

    def pause(self) -> float | None:
        """Return how many seconds to wait before the next round; None: no further round is needed."""
        if self._failures:
            return pause_after(self._failures, self._jitter)
        return LONGEST_PAUSE if self._store.problems else None

    async def run(self) -> None:
        """Repeat rounds in a worker thread for as long as they are needed."""
        while (pause := self.pause()) is not None:
            await asyncio.sleep(pause)
            await asyncio.to_thread(self.round)


@asynccontextmanager
async def kept_fresh(
    store: SecretStore, keepers: list[Keeper], upkeep: Iterable[Callable[[], float]] = (), *, fail_fast: bool
) -> AsyncIterator[None]:
    """Load everything once, then keep it fresh in the background until the block ends.

    `upkeep` are ticks to be called all the while: each returns after how many seconds it wants to be called again.
    With `fail_fast`, raises what stands in the way of a complete start.
    """
    await asyncio.gather(*(asyncio.to_thread(keeper.round) for keeper in keepers))
    if fail_fast:
        raise_first_fault(store, keepers)
    tasks = [asyncio.create_task(keeper.run(), name=f"keep {keeper.source} fresh") for keeper in keepers]
    tasks += [asyncio.create_task(_call_again_and_again(tick)) for tick in upkeep]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def _call_again_and_again(tick: Callable[[], float]) -> None:
    while True:
        try:
            pause = await asyncio.to_thread(tick)
        except Exception:
            log.exception("upkeep_failed")  # a bug must not end it
            pause = LONGEST_PAUSE
        await asyncio.sleep(pause)


def raise_first_fault(store: SecretStore, keepers: list[Keeper]) -> None:
    """Raise why the secrets are not all there, if so: the source's fault, which is the cause, before the gap."""
    for keeper in keepers:
        if keeper.fault is not None:
            raise keeper.fault
    if store.problems:
        raise SecretsIncomplete(store.problems)
