"""What do Conjur's access tokens and API keys look like?"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
from typing import Any

from tests.extras.conjur.wire import Refused, unauthorized, unrouted

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32
DEFAULT_TTL = 480


class Clock:
    """The stand-in's time, which a test can move."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        self._ahead += seconds


class Tokens:
    """Issues and checks access tokens. The form is Conjur's; the signature is not (an HMAC is enough to notice)."""

    def __init__(self, clock: Clock) -> None:
        self.ttl = DEFAULT_TTL
        self._clock = clock
        self._key = secrets.token_bytes(32)

    def issue(self, login: str) -> bytes:
        """Return a token for `login`, as JSON."""
        issued = int(self._clock.now())
        key_id = hashlib.sha256(self._key).hexdigest()
        protected = _encoded(_compact({"alg": "conjur.org/slosilo/v2", "kid": key_id}))
        payload = _encoded(_compact({"iat": issued, "sub": login, "exp": issued + self.ttl}))
        return _compact({"protected": protected, "payload": payload, "signature": self._sign(protected, payload)})

    def check(self, header: str | None) -> tuple[str, int]:
        """Return login and time of issue from an `Authorization` header; raise Refused."""
        if not (found := re.match(r'Token token="(.*)"', header or "")):
            raise Refused(unauthorized("Authorization missing"))
        try:
            token = json.loads(_decoded(found[1]))
        except ValueError as cause:
            raise Refused(unauthorized("Malformed authorization token")) from cause
        if not isinstance(token, dict):
            raise Refused(unrouted(500))  # a slip of the real server's
        try:
            signature = self._sign(token["protected"], token["payload"])
            payload: dict[str, Any] = json.loads(_decoded(token["payload"]))
            if not hmac.compare_digest(signature, token["signature"]) or payload["exp"] <= self._clock.now():
                raise KeyError
        except (KeyError, TypeError, ValueError) as cause:
            raise Refused(unauthorized("Unauthorized: Invalid token")) from cause
        return payload["sub"], payload["iat"]

    def expire_all(self) -> None:
        """Make every token so far invalid; the server tells an expired one from a forged one in nothing."""
        self._key = secrets.token_bytes(32)

    def _sign(self, protected: str, payload: str) -> str:
        return _encoded(hmac.digest(self._key, f"{protected}.{payload}".encode(), "sha256"))


def new_api_key() -> str:
    """Return eight 32-bit words in base32, which is why the length varies."""
    return "".join(_crockford(secrets.randbits(32)) for _ in range(8))


def _crockford(number: int) -> str:
    return ("" if number < 32 else _crockford(number // 32)) + ALPHABET[number % 32]


def _compact(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode()


def _decoded(text: str) -> bytes:
    """Decode either base64 alphabet, with or without padding."""
    text = text.rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_" if set(text) & {"-", "_"} else None)
