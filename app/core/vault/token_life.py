"""When is the token renewed, and when replaced? Before it dies, so that no read meets a dead one.

Vault shortens what a renewal brings as the max TTL comes near, and refuses past it (with a 500 first, then with a 403).
So a token is replaced when a renewal brought less than half of what it had at first, when Vault refuses the renewal for
whatever reason, and when it cannot be renewed at all.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from app.core.errors import BackendError, LoginRefused, UnexpectedAnswer, VaultTLSFailed, VaultUnreachable
from app.core.logs.event_log import journal
from app.core.logs.logging_config import get_logger
from app.core.store.source_refresher import pause_after
from app.core.vault.login import Login

RENEW_AT = 0.6, 0.7  # of its TTL, spread so that a fleet that started together does not renew together
FIRST_AT = 0.02, 0.67  # the same of the first one, if a fleet is to be out of step from the start
LOOK_AGAIN = 60.0  # seconds between two looks at the token, at most: a read may have replaced it

log = get_logger(__name__)


class TokenHolder(Protocol):
    """What `VaultSession` can do with its token."""

    name: str

    def clock(self) -> float:
        """Return the time in seconds, from any start."""
        ...

    def current(self) -> Login | None:
        """Return the login in force."""
        ...

    def learn(self, login: Login) -> None:
        """Find out how long a token that was handed in will live."""
        ...

    def renew(self, login: Login) -> float:
        """Prolong the token's life; return its new TTL."""
        ...

    def replace(self, login: Login) -> None:
        """Log in again."""
        ...


class TokenKeeper:
    """Keeps the token of one session alive."""

    def __init__(
        self,
        find_holder: Callable[[], TokenHolder],
        jitter: Callable[[float, float], float] = random.uniform,
        instead: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`instead` returns the share of the renewals that are logins: else a fleet reaches its max TTL together."""
        self._find_holder = find_holder
        self._holder: TokenHolder
        self._jitter = jitter
        self._instead = instead
        self._login: Login | None = None
        self._full_ttl = 0.0
        self._due = 0.0
        self._failures = 0

    def tick(self) -> float:
        """Do what is due now; return how many seconds to wait before the next tick. Raises no `BackendError`."""
        self._holder = self._find_holder()  # each time: a service that is started again has a new session
        login = self._holder.current()
        if login is None:
            return 1.0
        try:
            self._tend(login)
        except BackendError as error:  # the token is kept: it may be good for a while yet
            self._failures += 1
            log.warning("token_upkeep_failed", error=type(error).__name__, reason=str(error))
            pause = pause_after(self._failures, self._jitter)
            if isinstance(error, LoginRefused):  # asking Vault more often does not make the credentials better
                pause = max(pause, (login.since + self._full_ttl - self._holder.clock()) / 10)
            return min(pause, LOOK_AGAIN)
        self._failures = 0
        return max(0.1, min(self._due - self._holder.clock(), LOOK_AGAIN)) if self._full_ttl else LOOK_AGAIN

    def _tend(self, login: Login) -> None:
        if login.auth.lease_duration is None and login.auth.client_token:
            self._holder.learn(login)
        if login is not self._login:
            self._schedule(login, login.auth.lease_duration or 0.0)
        if not self._full_ttl or self._holder.clock() < self._due:
            return
        if login.auth.obtained and self._jitter(0.0, 1.0) < self._instead():
            with suppress(BackendError):  # nothing asks for it: then a renewal
                self._replace(login)
                return
        if not (login.auth.renewable and self._renewed(login)):
            self._replace(login)

    def _replace(self, login: Login) -> None:
        self._holder.replace(login)
        if (successor := self._holder.current()) is not None:
            self._schedule(successor, successor.auth.lease_duration or 0.0)

    def _renewed(self, login: Login) -> bool:
        """Renew, and tell whether that helped."""
        try:
            ttl = self._holder.renew(login)
        except VaultTLSFailed:
            return False  # the certificate may have been rotated: a login reads it again
        except VaultUnreachable:
            raise
        except BackendError as error:
            if isinstance(error, UnexpectedAnswer) and not login.auth.obtained:
                raise  # no refusal: there may be no other token to take, and this one is good for a while yet
            log.info("token_renewal_refused", error=type(error).__name__)
            journal.record("renewal", self._holder.name, "failed", type(error).__name__)
            return False
        if ttl < self._full_ttl / 2:
            return False
        self._schedule(login, ttl)
        return True

    def _schedule(self, login: Login, ttl: float) -> None:
        is_first = self._login is None
        self._full_ttl = max(ttl, self._full_ttl) if login is self._login else ttl
        self._login = login
        self._due = login.since + ttl * self._jitter(*(FIRST_AT if is_first and self._instead() else RENEW_AT))
