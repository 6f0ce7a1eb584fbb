"""The samples' signing keys: a rotation, or a restart after it, logs nobody out."""

import asyncio
import copy
import json
import pickle
import time
from base64 import urlsafe_b64encode
from datetime import datetime
from typing import Any

import jwt
import pytest

from app import NAME
from app.core.store.rotating import Rotating
from app.routes.signing_keys import LEEWAY, TOKEN_LIFETIME, SigningKeys, signing_keys_builder

INTERVAL = 300.0  # seconds between two refreshes
SPREAD = 1.1 * INTERVAL + LEEWAY  # for so long another instance may not have heard of a rotation


class Clock:
    """The time that the signing keys and PyJWT see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = float(int(time.time()))
        monkeypatch.setattr("app.routes.signing_keys.time.time", lambda: self.now)
        patched = type("Patched", (datetime,), {"now": lambda *_, **__: self})
        monkeypatch.setattr("jwt.api_jwt.datetime", patched)

    def timestamp(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Hold the time."""
    return Clock(monkeypatch)


def keys(*history: tuple[str, float]) -> Rotating[SigningKeys]:
    """Return signing keys as the service has them, with what Vault remembers of former secrets."""

    def remembered(name: str, seconds: float) -> list[tuple[str, float]]:
        assert name == "jwt_secret"
        assert seconds > TOKEN_LIFETIME + 300
        return list(history)

    return Rotating("signing keys", ("jwt_secret",), signing_keys_builder("jwt_secret", remembered, INTERVAL))


def signed(n: int, iat: Any, exp: Any = None, **claims: Any) -> str:
    """Return a token that somebody made who has a secret."""
    exp = iat + TOKEN_LIFETIME if exp is None else exp
    return jwt.encode({"iss": NAME, "sub": "x", "iat": iat, "exp": exp, **claims}, secret(n))


def is_good(held: SigningKeys, token: str) -> bool:
    """Tell whether a token is accepted."""
    try:
        held.verify(token)
    except jwt.InvalidTokenError:
        return False
    return True


async def current(rotating: Rotating[SigningKeys]) -> SigningKeys:
    """Return the keys in force."""
    async with rotating.borrow() as held:
        return held


def secret(n: int) -> str:
    """Return one of many secrets."""
    return f"secret-number-{n}-of-sufficient-length-for-HS256"


def test_tokens_survive_a_rotation_for_their_lifetime(clock: Clock) -> None:
    """New ones are signed with the new secret at once; the old secret is forgotten when its last token has expired."""

    async def body() -> None:
        rotating = keys()
        await rotating.follow({"jwt_secret": secret(1)})
        token = (await current(rotating)).sign({"sub": "x"})
        clock.now += 10
        await rotating.follow({"jwt_secret": secret(2)})
        after = await current(rotating)
        assert after.verify(token)["sub"] == "x"
        assert jwt.decode(after.sign({"sub": "y"}), secret(2), ["HS256"])["sub"] == "y"
        clock.now += TOKEN_LIFETIME + SPREAD + LEEWAY + 1
        await rotating.follow({"jwt_secret": secret(3)})
        assert [key for key, _ in (await current(rotating)).former] == [secret(2)]

    asyncio.run(body())


def test_a_former_key_counts_only_for_what_was_signed_before_its_successor(clock: Clock) -> None:
    """And one interval longer, since other instances may not have heard of it: who has stolen it has no more."""

    async def body() -> None:
        rotating, at = keys(), int(clock.now)
        await rotating.follow({"jwt_secret": secret(1)})
        await rotating.follow({"jwt_secret": secret(2)})
        clock.now += SPREAD + 5
        held, spread = await current(rotating), int(SPREAD)
        assert is_good(held, signed(1, at - 1))
        assert is_good(held, signed(1, at + spread))
        assert not is_good(held, signed(1, at + spread + 1))
        assert not is_good(held, signed(1, int(clock.now)))
        assert is_good(held, signed(2, int(clock.now)))

    asyncio.run(body())


def test_after_a_restart_the_time_counts_at_which_the_successor_was_written(clock: Clock) -> None:
    """Not that of the restart; and where Vault remembers nothing, no former key counts."""

    async def body() -> None:
        at = int(clock.now)
        for history, good in (((secret(1), at - 500.0),), True), ((), False):
            rotating = keys(*history)
            await rotating.follow({"jwt_secret": secret(2)})
            held = await current(rotating)
            assert is_good(held, signed(1, at - 500 + int(SPREAD))) is good
            assert not is_good(held, signed(1, at - 500 + int(SPREAD) + 1))
            assert not is_good(held, signed(1, at))
            assert is_good(held, signed(2, at))

    asyncio.run(body())


@pytest.mark.parametrize("n", [1, 2], ids=["former key", "present key"])
@pytest.mark.parametrize(
    ("born", "dies"),
    [
        pytest.param(0, 10 * 366 * 86400, id="in ten years"),
        pytest.param(0, TOKEN_LIFETIME + 1, id="a second too long"),
        pytest.param(-4 * TOKEN_LIFETIME, 60, id="long ago, and still good"),
        pytest.param(LEEWAY + 1, TOKEN_LIFETIME, id="born later"),
        pytest.param(0, -1, id="dies before it is born"),
        pytest.param(0.5, 60, id="half a second"),
        pytest.param(True, None, id="true"),
        pytest.param("0", None, id="text"),
        pytest.param(0, float("inf"), id="never"),
        pytest.param(0, 1e308, id="huge"),
    ],
)
def test_no_token_lives_longer_than_it_may(clock: Clock, n: int, born: Any, dies: Any) -> None:
    """Whoever signed it: the lifetime is ours to say."""

    async def body() -> None:
        rotating, at = keys(), int(clock.now)
        await rotating.follow({"jwt_secret": secret(1)})
        await rotating.follow({"jwt_secret": secret(2)})
        iat = at + born if type(born) in {int, float} else born
        exp = at + (TOKEN_LIFETIME if dies is None else dies)
        assert not is_good(await current(rotating), signed(n, iat, exp))

    asyncio.run(body())


def test_tokens_survive_a_restart_after_a_rotation() -> None:
    """Vault remembers the former secret."""

    async def body() -> None:
        before = keys()
        await before.follow({"jwt_secret": secret(1)})
        token = (await current(before)).sign({"sub": "x"})
        restarted = keys((secret(1), time.time()), (secret(0), time.time() - 10))
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
        for leak in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                leak(held)

    asyncio.run(body())


NOW = int(time.time())
ODD_TIMES = {
    "a fraction": NOW + 60.5,
    "a float": float(NOW - 60),
    "beyond all dates": 1e308,
    "a huge number": 10**30,
    "not a number": float("nan"),
    "infinite": float("inf"),
    "negative": -1,
    "a boolean": True,
    "a text": str(NOW),
    "a list": [NOW],
    "null": None,
}


@pytest.mark.parametrize("claim", ["iat", "exp", "nbf"])
@pytest.mark.parametrize("odd", ODD_TIMES)
def test_a_time_that_this_service_would_not_write_is_refused(claim: str, odd: str) -> None:
    """Also in a token that is signed well: JSON has many numbers, and what else there is."""
    times = {"iat": NOW, "exp": NOW + 600, "nbf": NOW, claim: ODD_TIMES[odd]}
    token = jwt.api_jws.encode(json.dumps({"iss": NAME, "sub": "x", **times}).encode(), secret(1), "HS256")
    with pytest.raises(jwt.InvalidTokenError):
        SigningKeys(secret(1)).verify(token)


@pytest.mark.parametrize("where", ["header", "payload"])
def test_json_that_is_nested_too_deep_is_refused(where: str) -> None:
    """Whoever sends it; the parser gives up with an error of its own."""
    deep = b"[" * 20_000 + b"]" * 20_000
    token = jwt.api_jws.encode(deep, secret(1), "HS256")
    if where == "header":
        token = f"{urlsafe_b64encode(deep).decode().rstrip('=')}.e30.x"
    with pytest.raises(jwt.InvalidTokenError):
        SigningKeys(secret(1)).verify(token)


def test_a_subject_that_is_no_text_is_refused() -> None:
    """Half of a surrogate pair cannot be sent on."""
    claims = {"iss": NAME, "sub": "\ud800", "iat": NOW, "exp": NOW + 600}
    token = jwt.api_jws.encode(json.dumps(claims).encode(), secret(1), "HS256")
    with pytest.raises(jwt.InvalidTokenError):
        SigningKeys(secret(1)).verify(token)
