"""Which key signs a token, and which ones are still accepted? A rotation must not log everybody out.

What was signed with a former secret while that was in force is accepted for as long as a token lives, also after a
restart: Vault keeps the former versions, and `history` asks for those that were in force within that time. Whoever has
got hold of a former secret cannot sign anything later, nor anything that lives longer. To drop former secrets at once,
see docs/operate.md.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jwt

from app import NAME
from app.core.not_serializable import NotSerializable
from app.core.store.rounds import in_own_thread

TOKEN_LIFETIME = 900  # seconds
LEEWAY = 30  # seconds by which the clocks of instances may differ
ALGORITHM = "HS256"
LAST_SECOND = 253402300799  # of the year 9999, the last one that a date can have


@dataclass(frozen=True, slots=True)
class SigningKeys(NotSerializable):
    """One key that signs, and former ones that only verify what was signed while they were in force."""

    current: str = field(repr=False)
    # the key, and the last moment at which an instance that had not heard of its successor may have signed with it
    former: tuple[tuple[str, float], ...] = field(default=(), repr=False)

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a token with these claims, valid for `TOKEN_LIFETIME`."""
        now = int(time.time())
        return jwt.encode({"iss": NAME, "iat": now, "exp": now + TOKEN_LIFETIME, **claims}, self.current, ALGORITHM)

    def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of a token; raise `jwt.InvalidTokenError` if no key in force has signed it."""
        for key, last in ((self.current, math.inf), *self.former):
            try:
                claims = _claims_of(token, key)
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
                continue
            _check_times(claims["iat"], claims["exp"], last)
            return claims
        raise jwt.InvalidSignatureError

    def rotated(self, secret: str, spread: float) -> "SigningKeys":
        """Return keys that sign with `secret`; other instances may sign with the one so far for `spread` seconds."""
        now = time.time()
        kept = ((self.current, now + spread), *self.former)
        return SigningKeys(secret, tuple((key, last) for key, last in kept if key != secret and now < _end(last)))


def _check_times(issued: int, expires: int, last: float) -> None:
    """Raise `jwt.InvalidTokenError` for times that we would not have written; PyJWT has compared them to now."""
    if issued > last:
        raise jwt.InvalidIssuedAtError("the key had a successor by then")
    if not issued <= expires <= issued + TOKEN_LIFETIME:
        raise jwt.InvalidTokenError("a token does not live so long")


def _end(last: float) -> float:
    """Return when the last token has expired that a former key may have signed."""
    return last + TOKEN_LIFETIME + LEEWAY


def _claims_of(token: str, key: str) -> dict[str, Any]:
    """Return the claims of a token, with times as `sign` writes them: JSON has others, and handlers stumble."""
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            [ALGORITHM],
            issuer=NAME,
            leeway=LEEWAY,
            options={"require": ["iss", "sub", "iat", "exp"]},
        )
        claims["sub"].encode()  # a half of a surrogate pair cannot be sent on
    except (RecursionError, UnicodeEncodeError):
        raise jwt.DecodeError from None
    for name in ("iat", "exp", "nbf"):
        time_of = claims.get(name, 0)
        if type(time_of) is not int or not 0 <= time_of <= LAST_SECOND:
            raise jwt.DecodeError
    return claims


def signing_keys_builder(
    name: str, history: Callable[[str, float], Iterable[tuple[Any, float]]], refresh_interval: float
) -> Callable[[Mapping[str, Any], SigningKeys | None], Any]:
    """Return the builder for `Rotating`.

    `history(name, seconds)` gives the values that the secret `name` had of late, each with when its successor was
    written. Another instance may sign with the old secret until its next refresh, and clocks differ a little.
    """
    spread = 1.1 * refresh_interval + LEEWAY

    async def build(secrets: Mapping[str, Any], old: SigningKeys | None) -> SigningKeys:
        secret = secrets[name]
        if old is not None:
            return old.rotated(secret, spread)
        former = await in_own_thread(partial(history, name, _end(spread)))
        return SigningKeys(
            secret, tuple((key, end + spread) for key, end in former if isinstance(key, str) and key != secret)
        )

    return build
