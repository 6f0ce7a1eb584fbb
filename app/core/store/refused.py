"""What if somebody is turned away with what was built from secrets? Their source is asked at once, for all who wait."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from app.core.store.rotating import Rotating
from app.core.store.rounds import SharedRuns
from app.core.store.secret_store import Change, SecretStore
from app.core.store.source_refresher import SourceRefresher

READ_AGAIN = 1.0  # seconds between two questions for an object, if nothing new came; how often is issued, sources say
PATIENCE = 5.0  # seconds that who was turned away waits for other secrets


class NewSecrets:
    """Has secrets loaded anew; whoever asks meanwhile waits for the same load."""

    def __init__(
        self,
        store: SecretStore,
        keepers: Iterable[SourceRefresher],
        rounds: Mapping[str, SharedRuns[tuple[Change, ...]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._keepers = keepers
        self._rounds = rounds
        self._clock = clock
        self._under_way: dict[str, asyncio.Task[None]] = {}  # by object
        self._ended: dict[str, float] = {}

    async def ask(self, refused: Rotating[Any]) -> None:
        """Load anew what an object was built from, and let it follow; wait for that, but not for ever."""
        flight = self._under_way.get(refused.name)
        if flight is None or flight.done():
            if self._clock() - self._ended.get(refused.name, -READ_AGAIN) < READ_AGAIN:
                return
            flight = self._under_way[refused.name] = asyncio.create_task(self._load(refused))
        await asyncio.wait([flight], timeout=PATIENCE)

    async def _load(self, refused: Rotating[Any]) -> None:
        before = self._store.snapshot()
        origins = before.origins
        found = {name: origins[name] for name in refused.needs if name in origins}
        rounds: list[asyncio.Task[Any]] = []
        for keeper in self._keepers:
            entries = {name: origin.path for name, origin in found.items() if origin.source == keeper.source}
            if entries and keeper.upstream is not None:
                keeper.upstream.refused(entries)
                rounds.append(asyncio.create_task(self._rounds[keeper.source].next_run()))
        try:
            await asyncio.gather(*rounds)
        finally:
            now = self._store.snapshot()
            if all(now.get(name) == before.get(name) for name in refused.needs):
                self._ended[refused.name] = self._clock()
