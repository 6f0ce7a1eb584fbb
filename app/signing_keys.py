"""Which key signs a token, and which ones are still accepted? A rotation must not log everybody out.

What was signed with the previous `jwt_secret` is accepted for as long as a token lives, also after a restart: Vault
keeps the previous versions, and `history` asks for those that were in force within that time.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from app import NAME
from app.unpicklable import Unpicklable

TOKEN_LIFETIME = 900  # seconds
LEEWAY = 30  # seconds by which the clocks of instances may differ
ALGORITHM = "HS256"


@dataclass(frozen=True, slots=True)
class SigningKeys(Unpicklable):
    """One key that signs, and former ones that only verify, each until its last token has expired."""

    current: str = field(repr=False)
    former: tuple[tuple[str, float], ...] = field(default=(), repr=False)  # the key, and until when it counts

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a token with these claims, valid for `TOKEN_LIFETIME`."""
        now = int(time.time())
        return jwt.encode({"iss": NAME, "iat": now, "exp": now + TOKEN_LIFETIME, **claims}, self.current, ALGORITHM)

    def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of a token; raise `jwt.InvalidTokenError` if no key in force has signed it."""
        now = time.time()
        for key in (self.current, *(key for key, until in self.former if now < until)):
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key,
                    [ALGORITHM],
                    issuer=NAME,
                    leeway=LEEWAY,
                    options={"require": ["iss", "sub", "iat", "exp"]},
                )
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
                continue
            return claims
        raise jwt.InvalidSignatureError

    def rotated(self, secret: str, keep: float) -> "SigningKeys":
        """Return keys that sign with `secret`; the one in force so far goes on verifying for `keep` seconds."""
        now = time.time()
        kept = [(key, until) for key, until in self.former if now < until and key != secret]
        return SigningKeys(secret, ((self.current, now + keep), *kept))


def signing_keys_builder(
    history: Callable[[str, float], Iterable[Any]], refresh_interval: float
) -> Callable[[Mapping[str, Any], SigningKeys | None], Any]:
    """Return the builder for `Rotating`; `history(name, seconds)` gives the values that a secret had of late.

    Another instance may sign with the old secret until its next refresh, and clocks differ a little: a former secret
    counts for so much longer than a token lives.
    """
    keep = TOKEN_LIFETIME + 1.1 * refresh_interval + 2 * LEEWAY

    async def build(secrets: Mapping[str, Any], old: SigningKeys | None) -> SigningKeys:
        secret = secrets["jwt_secret"]
        if old is not None:
            return old.rotated(secret, keep)
        until = time.time() + keep
        former = await asyncio.to_thread(history, "jwt_secret", keep)
        return SigningKeys(secret, tuple((key, until) for key in former if isinstance(key, str) and key != secret))

    return build
