"""Who holds the token? One session a Vault: it logs in once for all threads and hands out an authenticated client.

The token lives until it is replaced: the new one is there first, calls under way finish with the old one, and the last
of them revokes it. hvac keeps one token a client and is not thread-safe while logging in, so each login gets a client
and connections of its own.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import hvac

from app.auth_methods import Auth, auth_method
from app.config import MAIN_VAULT, VaultSettings
from app.errors import PermissionDenied, VaultError, VaultTLSFailed
from app.journal import journal
from app.logging_config import get_logger
from app.single_flight import LOGIN_PAUSE, SingleFlight
from app.vault_errors import data_of, vault_errors
from app.vault_login import Login, end_login, log_in, unusable

T = TypeVar("T")

log = get_logger(__name__)


class VaultSession:
    """One client and one token for all threads of the process."""

    def __init__(
        self, settings: VaultSettings, clock: Callable[[], float] = time.monotonic, name: str = MAIN_VAULT
    ) -> None:
        self.name = name
        self.settings = settings
        self.clock = clock
        self.kv_versions: dict[str, str] = {}  # by mount point, where they had to be asked for
        self._method = auth_method(settings)
        now = lambda: self.clock()  # noqa: E731, PLW0108 - tests put another clock in its place
        self._logins = SingleFlight(self._log_in, self._retire, now)
        self._futile_until = 0.0  # a login because of a 403 has just not helped

    def client(self) -> hvac.Client:
        """Return the authenticated client, after a login if there was none.

        A token that was handed in is looked up, since no login has proved it. Raises a `VaultError` if that fails.
        """
        with self._borrow() as login:
            if login.auth.obtained or not self._is_dead(login):
                return login.client
        self.replace(login)  # its file may hold a new one
        with self._borrow() as login:
            if not self._is_dead(login):
                return login.client
        raise unusable(login, self.clock())

    def call(self, subject: str, operation: Callable[[hvac.Client], T]) -> T:
        """Run one operation against Vault and return its answer; `subject` names in errors what it is about.

        If Vault refuses because the token is dead, or the TLS files have changed, log in once more and repeat once.
        """
        with self._borrow() as login:
            try:
                with vault_errors(self.settings.url, subject):
                    return operation(login.client)
            except PermissionDenied:
                if not self._is_dead(login):
                    raise
                login.dead = True
                log.warning("token_rejected", address=self.settings.url)
            except VaultTLSFailed:
                login.tls_failed = True  # a login reads the TLS files anew
        self.replace(login)
        with self._borrow() as login:
            try:
                with vault_errors(self.settings.url, subject):
                    return operation(login.client)
            except PermissionDenied:
                if self._is_dead(login):  # it cannot be: its policies do not let it look itself up
                    self._futile_until = self.clock() + LOGIN_PAUSE
                raise

    def current(self) -> Login | None:
        """Return the login in force, without making one."""
        return self._logins.current

    def time_left(self) -> float | None:
        """Return the seconds until the token expires, infinity if it never does; None if nobody knows."""
        login = self.current()
        return None if login is None else login.seconds_left(self.clock())

    def renew(self, login: Login) -> float:
        """Prolong the token's life (`POST auth/token/renew-self`); return its new TTL in seconds."""
        with vault_errors(self.settings.url, "auth/token/renew-self"):
            answer = login.client.auth.token.renew_self()
        renewed = replace(Auth.from_answer(answer), obtained=login.auth.obtained)
        login.auth, login.since = renewed, self.clock()
        log.info("token_renewed", ttl=renewed.lease_duration)
        journal.note("renewal", self.name, detail=f"for {renewed.lease_duration or 0:.0f} s")
        return renewed.lease_duration or 0.0

    def learn(self, login: Login) -> None:
        """Ask how long a token that was handed in will live (`GET auth/token/lookup-self`)."""
        with vault_errors(self.settings.url, "auth/token/lookup-self"):
            data = data_of(login.client.auth.token.lookup_self())
        login.auth = replace(login.auth, lease_duration=float(data["ttl"]), renewable=bool(data.get("renewable")))
        login.since = self.clock()

    def replace(self, login: Login) -> None:
        """Log in anew, unless somebody has replaced `login` already; join the login that is under way, if any."""
        self._logins.replace(login)

    def close(self) -> None:
        """Revoke the token, if we obtained it, and close the connections; later calls fail."""
        last = self._logins.close(self.settings.timeout)
        if last is not None:
            end_login(last)  # without waiting for calls under way: a Vault that hangs must not delay the shutdown

    @contextmanager
    def _borrow(self) -> Iterator[Login]:
        """Use the current login; it is not revoked before all who borrowed it have given it back."""
        login = self._take()
        try:
            yield login
        finally:
            with self._logins.lock:
                login.users -= 1
                last_one = login.retired and login.users == 0
            if last_one:
                end_login(login)

    def _take(self) -> Login:
        while True:
            with self._logins.lock:
                if self._logins.closed:
                    raise VaultError(self.settings.url, "the session is closed", "The service is shutting down.")
                login = self._logins.current
                if login is not None and not login.is_worn(self.clock()):
                    login.users += 1
                    login.uses += 1
                    return login
            self._logins.replace(login)

    def _log_in(self, instead_of: Login | None) -> Login:
        try:
            login = log_in(self.settings, self._method, self.clock(), instead_of, self.name)
        except BaseException as error:
            log.warning("login_failed", method=self.settings.auth_method, error=type(error).__name__)
            journal.note("login", self.name, "failed", type(error).__name__)
            raise
        log.info("token_obtained", method=self.settings.auth_method, ttl=login.auth.lease_duration)
        journal.note("login", self.name, detail=self.settings.auth_method)
        return login

    def _is_dead(self, login: Login) -> bool:
        """Tell whether Vault has forgotten the token, unless a new login has just not helped."""
        return self.clock() >= self._futile_until and login.is_dead()

    def _retire(self, login: Login) -> None:
        with self._logins.lock:
            login.retired = True
            idle = login.users == 0
        if idle:
            end_login(login)
