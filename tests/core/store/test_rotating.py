"""Objects that follow their secrets: built, checked, swapped, drained, closed."""

import asyncio
import copy
import json
import pickle
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from app.core.errors import SecretUnavailable
from app.core.logs.logging_config import configure_logging
from app.core.store.rotating import Rotating


class Engine:
    """Something that is built from a URL and must not be closed while in use."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.closed = False


class Plant:
    """Builds engines; refuses the URLs that it is told to."""

    def __init__(self) -> None:
        self.built: list[Engine] = []
        self.refuse: set[str] = set()
        self.unfit: set[str] = set()
        self.engines = Rotating("engine", ("url",), self.build, check=self.check, close=self.close)

    async def build(self, secrets: Mapping[str, Any], _old: Engine | None) -> Engine:
        assert set(secrets) == {"url"}, "only what it needs"
        if secrets["url"] in self.refuse:
            raise ConnectionError("canary")
        self.built.append(Engine(secrets["url"]))
        return self.built[-1]

    async def check(self, engine: Engine) -> None:
        await asyncio.sleep(0)
        if engine.url in self.unfit:
            raise ConnectionError("canary")

    async def close(self, engine: Engine) -> None:
        assert not engine.closed, "closed twice"
        engine.closed = True

    async def url(self) -> str:
        """Return the URL of the engine in force."""
        async with self.engines.borrow() as engine:
            assert not engine.closed
            return engine.url


def scenario(body: Callable[[Plant], Coroutine[Any, Any, None]]) -> Plant:
    """Run `body` with a plant."""
    plant = Plant()
    asyncio.run(body(plant))
    return plant


def test_it_is_built_when_its_secrets_are_there_and_only_then() -> None:
    """Before, whoever wants it is told why there is none."""

    async def body(plant: Plant) -> None:
        await plant.engines.follow({"other": "x"})
        with pytest.raises(SecretUnavailable, match="engine: its secrets are not there"):
            await plant.url()
        await plant.engines.follow({"url": "a", "other": "x"})
        assert await plant.url() == "a"

    assert len(scenario(body).built) == 1


async def _as_it_is(secrets: Mapping[str, Any], _old: object) -> Any:
    return secrets["url"]


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy, repr], ids=lambda leak: leak.__name__)
def test_what_it_holds_spreads_nowhere(leak: Callable[[object], object]) -> None:
    """Not even an object that could be pickled, nor the secrets that it was built from."""

    async def body() -> None:
        rotating = Rotating("plain", ("url",), _as_it_is)
        await rotating.follow({"url": "canary"})
        try:
            shown = repr(leak(vars(rotating)["_held"]))
        except TypeError as error:
            shown = str(error)
        assert "canary" not in shown
        assert leak is repr or "cannot be pickled or copied" in shown

    asyncio.run(body())


def test_it_is_not_rebuilt_for_a_secret_that_it_does_not_need() -> None:
    """Nor for a round that changed nothing."""

    async def body(plant: Plant) -> None:
        for other in ("x", "x", "y"):
            await plant.engines.follow({"url": "a", "other": other})

    assert len(scenario(body).built) == 1


def test_the_old_one_is_closed_when_its_last_user_is_done() -> None:
    """New users get the new one meanwhile."""

    async def body(plant: Plant) -> None:
        await plant.engines.follow({"url": "a"})
        async with plant.engines.borrow() as first, plant.engines.borrow():
            await plant.engines.follow({"url": "b"})
            assert await plant.url() == "b"
            assert not first.closed
        await asyncio.sleep(0)  # it is closed in a task of its own
        assert first.closed
        assert not plant.built[1].closed

    scenario(body)


def test_one_that_nobody_uses_is_closed_at_once() -> None:
    """And the last one at the end."""

    async def body(plant: Plant) -> None:
        await plant.engines.follow({"url": "a"})
        await plant.engines.follow({"url": "b"})
        await asyncio.sleep(0)
        assert plant.built[0].closed
        await plant.engines.aclose()
        assert plant.built[1].closed

    scenario(body)


@pytest.mark.parametrize("fault", ["refuse", "unfit"])
def test_a_new_one_that_fails_leaves_the_old_one_in_force_until_it_succeeds(fault: str) -> None:
    """It is reported by class, tried again at the next round, and what was built in vain is closed."""

    async def body(plant: Plant) -> None:
        await plant.engines.follow({"url": "a"})
        getattr(plant, fault).add("b")
        for _ in range(2):
            await plant.engines.follow({"url": "b"})
            assert plant.engines.fault == "ConnectionError"
            assert await plant.url() == "a"
        await asyncio.sleep(0)
        assert all(engine.closed for engine in plant.built[1:])
        getattr(plant, fault).clear()
        await plant.engines.follow({"url": "b"})
        assert plant.engines.fault is None
        assert await plant.url() == "b"

    scenario(body)


def test_a_rotation_back_to_the_old_secret_clears_the_fault() -> None:
    """Somebody fixed Vault by writing the old value again."""

    async def body(plant: Plant) -> None:
        await plant.engines.follow({"url": "a"})
        plant.unfit.add("b")
        await plant.engines.follow({"url": "b"})
        await plant.engines.follow({"url": "a"})
        assert plant.engines.fault is None

    scenario(body)


def test_users_without_pause_never_meet_a_closed_one() -> None:
    """Fifty users through two hundred rotations."""

    async def body(plant: Plant) -> None:
        await plant.engines.follow({"url": "0"})
        done = False

        async def use() -> int:
            count = 0
            while not done:
                async with plant.engines.borrow() as engine:
                    await asyncio.sleep(0)
                    assert not engine.closed
                    count += 1
            return count

        users = [asyncio.create_task(use()) for _ in range(50)]
        for n in range(1, 201):
            await plant.engines.follow({"url": str(n)})
        done = True
        assert sum(await asyncio.gather(*users)) > 1000
        await asyncio.sleep(0)
        assert [engine.closed for engine in plant.built] == [True] * 200 + [False]

    scenario(body)


def test_a_build_that_hangs_or_is_cancelled_holds_nothing_up() -> None:
    """It counts as failed after a while; the old object stays in force."""

    async def body() -> None:
        async def build(secrets: Mapping[str, Any], _old: str | None) -> str:
            if secrets["url"] == "hang":
                await asyncio.sleep(3600)
            if secrets["url"] == "cancel":
                raise asyncio.CancelledError
            return str(secrets["url"])

        rotating = Rotating("engine", ("url",), build, limit=0.05)
        await rotating.follow({"url": "a"})
        for url, fault in (("hang", "TimeoutError"), ("cancel", "CancelledError")):
            await rotating.follow({"url": url})
            assert rotating.fault == fault
            async with rotating.borrow() as value:
                assert value == "a"

    asyncio.run(body())


def test_at_the_end_users_finish_before_the_object_is_closed() -> None:
    """And the end waits for that: what it left open would be cut off with the process."""

    async def body(plant: Plant) -> None:
        await plant.engines.follow({"url": "a"})
        async with plant.engines.borrow() as engine:
            end = asyncio.create_task(plant.engines.aclose())
            await asyncio.wait([end], timeout=0.01)
            assert not engine.closed
            assert not end.done()
            assert not plant.engines.is_built
        await end
        assert engine.closed

    scenario(body)


@pytest.mark.parametrize("error", [ValueError("canary"), SystemExit(7), asyncio.CancelledError()])
def test_whatever_close_raises_is_told_and_ends_nothing_else(
    capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    """A `SystemExit` would end the event loop, with everything else that is still to be closed."""
    configure_logging(form="json")

    async def build(secrets: Mapping[str, Any], _old: str | None) -> str:
        return str(secrets["url"])

    async def close(_value: str) -> None:
        raise error

    async def body() -> None:
        rotating = Rotating("engine", ("url",), build, close=close)
        await rotating.follow({"url": "a"})
        await rotating.aclose()

    asyncio.run(body())
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    failed = [(line["object"], line["error"]) for line in told if line["event"] == "object_close_failed"]
    assert failed == [("engine", type(error).__name__)]
    assert "canary" not in str(told)


def test_a_cancelled_user_does_not_break_the_closing_off() -> None:
    """The closing is nobody's request."""

    async def body() -> None:
        closed: list[str] = []

        async def build(secrets: Mapping[str, Any], _old: str | None) -> str:
            return str(secrets["url"])

        async def close(value: str) -> None:
            await asyncio.sleep(0.01)
            closed.append(value)

        rotating = Rotating("engine", ("url",), build, close=close)
        await rotating.follow({"url": "a"})

        async def use() -> None:
            async with rotating.borrow():
                await asyncio.sleep(3600)

        user = asyncio.create_task(use())
        await asyncio.sleep(0)
        await rotating.follow({"url": "b"})
        user.cancel()
        await asyncio.gather(user, return_exceptions=True)
        await rotating.aclose()
        assert sorted(closed) == ["a", "b"]

    asyncio.run(body())
