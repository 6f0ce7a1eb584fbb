"""A consumer whose credentials are refused: its source is asked at once, and what it wanted to open is opened again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.core.errors import SecretUnavailable
from app.core.store.rotating import Rotating


class RefusedError(Exception):
    """What a database says of a wrong password."""


class Database:
    """Lets in who has the password of today; counts who comes."""

    def __init__(self) -> None:
        self.password = "a"
        self.tries: list[str] = []
        self.open = 0

    @asynccontextmanager
    async def connect(self, password: str) -> AsyncIterator[str]:
        self.tries.append(password)
        await asyncio.sleep(0)
        if password != self.password:
            raise RefusedError
        self.open += 1
        try:
            yield password
        finally:
            self.open -= 1


class Source:
    """Has the password of today, unless nobody has told it."""

    def __init__(self, database: Database, pools: Rotating[str]) -> None:
        self.asked = 0
        self.knows = True
        self._database = database
        pools.ask_for_new = self._ask
        self._pools = pools

    async def _ask(self, refused: Rotating[Any]) -> None:
        assert refused is self._pools
        self.asked += 1
        if self.knows:
            await refused.follow({"password": self._database.password})


async def _as_it_is(secrets: Mapping[str, Any], _old: str | None) -> str:
    password: str = secrets["password"]
    return password


Body = Callable[[Database, Rotating[str], Source], Coroutine[Any, Any, None]]


def scenario(body: Body) -> None:
    """Run `body` with a pool for yesterday's password."""

    async def run() -> None:
        database = Database()
        pools = Rotating("pool", ("password",), _as_it_is, refused=lambda error: isinstance(error, RefusedError))
        await pools.follow({"password": "a"})
        await body(database, pools, Source(database, pools))
        assert not database.open

    asyncio.run(run())


def test_opening_is_tried_once_more_with_the_new_object() -> None:
    """Whoever opens it notices nothing."""

    async def body(database: Database, pools: Rotating[str], source: Source) -> None:
        database.password = "b"
        async with pools.opened(database.connect) as connection:
            assert connection == "b"
        assert database.tries == ["a", "b"]
        assert source.asked == 1

    scenario(body)


def test_nothing_is_repeated_once_it_is_open() -> None:
    """A statement may have been carried out."""

    async def body(database: Database, pools: Rotating[str], source: Source) -> None:
        async def work() -> None:
            async with pools.opened(database.connect):
                database.password = "b"
                raise RefusedError

        with pytest.raises(RefusedError):
            await work()
        assert database.tries == ["a"]
        assert source.asked == 0

    scenario(body)


def test_what_the_source_does_not_know_stays_refused() -> None:
    """Neither is the same tried twice."""

    async def body(database: Database, pools: Rotating[str], source: Source) -> None:
        database.password, source.knows = "b", False
        with pytest.raises(RefusedError):
            async with pools.opened(database.connect):
                pass
        assert database.tries == ["a"]

    scenario(body)


def test_what_is_no_refusal_is_not_tried_again() -> None:
    """Such as a database that is down."""

    async def body(_database: Database, pools: Rotating[str], source: Source) -> None:
        @asynccontextmanager
        async def down(_password: str) -> AsyncIterator[None]:
            await asyncio.sleep(0)
            raise ConnectionRefusedError
            yield

        with pytest.raises(ConnectionRefusedError):
            async with pools.opened(down):
                pass
        assert source.asked == 0

    scenario(body)


def test_the_refused_object_is_closed_at_once() -> None:
    """Who was refused does not hold it while the next one is built."""
    closed: list[str] = []

    async def close(password: str) -> None:
        await asyncio.sleep(0)
        closed.append(password)

    async def run() -> None:
        database = Database()
        pools = Rotating(
            "pool", ("password",), _as_it_is, close=close, refused=lambda error: isinstance(error, RefusedError)
        )
        await pools.follow({"password": "a"})
        Source(database, pools)
        database.password = "b"
        async with pools.opened(database.connect):
            await asyncio.sleep(0.01)
            assert closed == ["a"]

    asyncio.run(run())


def test_without_an_object_there_is_nothing_to_open() -> None:
    """And it says what is missing."""

    async def run() -> None:
        pools: Rotating[str] = Rotating("pool", ("password",), _as_it_is)
        with pytest.raises(SecretUnavailable):
            async with pools.opened(Database().connect):
                pass

    asyncio.run(run())


def test_the_oldest_generation_counts_until_its_object_is_closed() -> None:
    """By that a source knows when former credentials are of no more use."""

    async def run() -> None:
        pools: Rotating[str] = Rotating("pool", ("password",), _as_it_is)
        assert pools.oldest == float("inf")
        await pools.follow({"password": "a"}, 1)
        await pools.follow({"password": "a"}, 2)
        assert pools.oldest == 2
        async with pools.borrow():
            await pools.follow({"password": "b"}, 3)
            assert pools.oldest == 2
        await asyncio.sleep(0.01)
        assert pools.oldest == 3

    asyncio.run(run())
