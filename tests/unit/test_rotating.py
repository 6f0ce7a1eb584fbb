"""Objects that follow their secrets: built, checked, swapped, drained, closed."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import jwt
import pytest

from app import NAME
from app.errors import SecretUnavailable
from app.rotating import Rotating
from app.signing_keys import TOKEN_LIFETIME, SigningKeys, signing_keys_builder


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
    """Somebody mended Vault by writing the old value again."""

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
    """Whatever `close` does."""

    async def body(plant: Plant) -> None:
        await plant.engines.follow({"url": "a"})
        async with plant.engines.borrow() as engine:
            await plant.engines.aclose()
            assert not engine.closed
        await plant.engines.aclose()
        assert engine.closed
        assert not plant.engines.is_built

    scenario(body)


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


def keys(*history: str) -> Rotating[SigningKeys]:
    """Return signing keys as the service has them, with what Vault remembers of former secrets."""

    def remembered(name: str, seconds: float) -> list[str]:
        assert name == "jwt_secret"
        assert seconds > TOKEN_LIFETIME + 300
        return list(history)

    return Rotating("signing keys", ("jwt_secret",), signing_keys_builder(remembered, 300.0))


async def current(rotating: Rotating[SigningKeys]) -> SigningKeys:
    """Return the keys in force."""
    async with rotating.borrow() as held:
        return held


def secret(n: int) -> str:
    """Return one of many secrets."""
    return f"secret-number-{n}-of-sufficient-length-for-HS256"


def test_tokens_survive_a_rotation_for_their_lifetime(monkeypatch: pytest.MonkeyPatch) -> None:
    """New ones are signed with the new secret at once; the old secret is forgotten when its last token has expired."""

    async def body() -> None:
        rotating = keys()
        await rotating.follow({"jwt_secret": secret(1)})
        token = (await current(rotating)).sign({"sub": "x"})
        await rotating.follow({"jwt_secret": secret(2)})
        after = await current(rotating)
        assert after.verify(token)["sub"] == "x"
        assert jwt.decode(after.sign({"sub": "y"}), secret(2), ["HS256"])["sub"] == "y"
        later = time.time() + TOKEN_LIFETIME + 1.1 * 300 + 61
        long_lived = jwt.encode({"iss": NAME, "sub": "x", "iat": 1, "exp": 4_102_444_800}, secret(1))
        assert after.verify(long_lived)
        monkeypatch.setattr("app.signing_keys.time.time", lambda: later)
        with pytest.raises(jwt.InvalidSignatureError):
            after.verify(long_lived)

    asyncio.run(body())


def test_tokens_survive_a_restart_after_a_rotation() -> None:
    """Vault remembers the former secret."""

    async def body() -> None:
        before = keys()
        await before.follow({"jwt_secret": secret(1)})
        token = (await current(before)).sign({"sub": "x"})
        restarted = keys(secret(1), secret(0))
        await restarted.follow({"jwt_secret": secret(2)})
        assert (await current(restarted)).verify(token)["sub"] == "x"

    asyncio.run(body())


def test_several_rotations_within_a_lifetime_keep_all_their_tokens_good() -> None:
    """And a secret that comes back is not kept twice."""

    async def body() -> None:
        rotating, tokens = keys(), []
        for n in (1, 2, 3, 1):
            await rotating.follow({"jwt_secret": secret(n)})
            tokens.append((await current(rotating)).sign({"sub": "x"}))
        held = await current(rotating)
        assert all(held.verify(token) for token in tokens)
        assert len(held.former) == 2
        assert "secret-number" not in repr(held)

    asyncio.run(body())
