"""Who is turned away has its source asked: how often, and when again?"""

import asyncio
from typing import Any

from pydantic import BaseModel

from app.core.store.refused import NewSecrets
from app.core.store.rotating import Rotating
from app.core.store.rounds import SharedRuns
from app.core.store.secret_store import SecretStore
from app.core.store.source import Secret
from app.core.store.source_refresher import SourceRefresher


class Declared(BaseModel):
    """One secret."""

    password: str


class Upstream:
    """A source that is told of refusals."""

    def refused(self, _entries: Any) -> None:
        pass

    def swapped(self, _is_drained: Any) -> None:
        pass


def loads_for(passwords: list[str], asks: int) -> int:
    """Ask so often within a moment, with these passwords in turn at the source; return how often it was asked."""
    loads = 0

    def load() -> list[Secret]:
        nonlocal loads
        loads += 1
        return [Secret("db", {"password": passwords[min(loads, len(passwords)) - 1]})]

    async def run() -> None:
        store = SecretStore(Declared, sources=["vault"])
        upstream: Any = Upstream()
        keeper = SourceRefresher("vault", load, store, interval=60.0, upstream=upstream)
        keeper.round()
        pools: Rotating[str] = Rotating("pool", ("password",), build)

        async def follow() -> None:
            await pools.follow(store.snapshot())

        await follow()
        rounds = {"vault": SharedRuns(keeper.round, follow, keeper.failed)}
        asking = NewSecrets(store, [keeper], rounds, clock=lambda: 0.0)
        for _ in range(asks):
            await asking.ask(pools)
        await rounds["vault"].aclose()

    asyncio.run(run())
    return loads - 1


async def build(secrets: Any, _old: str | None) -> str:
    """Return what is built."""
    return str(secrets["password"])


def test_a_source_that_brings_nothing_new_is_not_asked_again_at_once() -> None:
    """Else each request that is refused would ask it."""
    assert loads_for(["a"], asks=3) == 1


def test_new_secrets_that_are_refused_too_are_asked_for_at_once() -> None:
    """A password may change twice within a second."""
    assert loads_for(["a", "b", "c"], asks=2) == 2
