"""Who holds the token? One session a Vault: it logs in once for all threads and hands out an authenticated client.

The token lives until it is replaced: the new one is there first, calls under way finish with the old one, and the last
of them revokes it. hvac keeps one token a client and is not thread-safe while logging in, so each login gets a client
and connections of its own.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Protocol, TypeVar

import hvac

from app.core import forks
from app.core.errors import BackendError, PermissionDenied, VaultTLSFailed
from app.core.logs.event_log import journal
from app.core.logs.logging_config import get_logger
from app.core.settings.vault import MAIN_VAULT, VaultSettings
from app.core.transport.single_flight import LOGIN_PAUSE, SingleFlight
from app.core.vault.answers import checked_lookup
from app.core.vault.auth_methods import Auth, auth_method
from app.core.vault.consistency import Consistency, RecentChanges
from app.core.vault.errors import refuse_wrapped, vault_errors
from app.core.vault.login import Login, end_login, log_in, unusable

T = TypeVar("T")

log = get_logger(__name__)


class Credentials(Protocol):
    """What was issued over a session; a lease dies with the token that asked for it."""

    def token_replaced(self) -> None:
        """Take in that there is another login now."""
        ...

    def close(self) -> None:
        """Give back what does not end with the last token."""
        ...


class VaultSession:
    """One client and one token for all threads of the process."""

    def __init__(
        self, settings: VaultSettings, clock: Callable[[], float] = time.monotonic, name: str = MAIN_VAULT
    ) -> None:
        self.name = name
        self.settings = settings
        self.clock = clock
        self.wait: Callable[[float], object] = time.sleep
        self.kv_versions: dict[str, str] = {}  # by mount point, where they had to be asked for
        self.secret_versions: dict[str, int] = {}  # by mount point and path, the last that was read or written
        self.consistency = Consistency()
        now = lambda: self.clock()  # noqa: E731, PLW0108 - tests put another clock in its place
        self.changes = RecentChanges(now)
        self.credentials: Credentials | None = None
        self._method = auth_method(settings)
        self._logins = SingleFlight(self._log_in, self._retire, now)
        self._relogin_blocked_until = 0.0  # a login because of a 403 has just not helped

    def client(self) -> hvac.Client:
        """Return the authenticated client, after a login if there was none.

        A token that was handed in is looked up, since no login has proved it. Raises a `BackendError` if that fails.
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
        answer = self.call_with_login(subject, lambda login: operation(login.client))
        refuse_wrapped(answer, subject)
        return answer

    def call_with_login(self, subject: str, operation: Callable[[Login], T]) -> T:
        """Do the same with an operation that wants to know by which login it is carried out.

        If Vault refuses because the token is dead, or the TLS files have changed, log in once more and repeat once.
        """
        with self._borrow() as login:
            try:
                return self._answer(subject, operation, login)
            except PermissionDenied:
                if not self._is_dead(login):
                    raise
                login.dead = True
                log.warning("token_rejected", address=self.settings.url)
            except VaultTLSFailed:
                login.tls_failed = True  # a login reads the TLS files again
        self.replace(login)
        with self._borrow() as login:
            try:
                return self._answer(subject, operation, login)
            except PermissionDenied:
                if self._is_dead(login):  # it cannot be: its policies do not let it look itself up
                    self._relogin_blocked_until = self.clock() + LOGIN_PAUSE
                raise

    def catch_up(self) -> None:
        """Learn how far the cluster is, for a script that begins with a read; a login tells, a token is looked up."""
        if self.settings.auth_method == "token":
            with suppress(BackendError):
                self.client()

    def _answer(self, subject: str, operation: Callable[[Login], T], login: Login) -> T:
        with vault_errors(self.settings.url, subject):
            return operation(login)

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
        # a Proxy that forces its own token upon requests renews that one
        told = Auth.from_answer(answer, "auth/token/renew-self")
        renewed = replace(login.auth, lease_duration=told.lease_duration, renewable=told.renewable)
        login.auth, login.since = renewed, self.clock()
        log.info("token_renewed", ttl=renewed.lease_duration)
        journal.record("renewal", self.name, detail=f"for {renewed.lease_duration or 0:.0f} s")
        return renewed.lease_duration or 0.0

    def learn(self, login: Login) -> None:
        """Ask how long a token that was handed in will live (`GET auth/token/lookup-self`)."""
        with vault_errors(self.settings.url, "auth/token/lookup-self"):
            data = checked_lookup(login.client.auth.token.lookup_self())
        login.auth = replace(login.auth, lease_duration=float(data["ttl"]), renewable=bool(data.get("renewable")))
        login.since = self.clock()

    def replace(self, login: Login) -> None:
        """Log in again, unless somebody has replaced `login` already; join the login that is under way, if any."""
        self._logins.replace(login)

    def close(self) -> None:
        """Revoke the token, if we obtained it, and close the connections; later calls fail."""
        last = self._logins.close(self.settings.timeout)
        if self.credentials is not None:
            self.credentials.close()
        if last is not None:
            end_login(last)  # without waiting for calls under way: a Vault that hangs must not delay the shutdown

    @contextmanager
    def _borrow(self) -> Iterator[Login]:
        """Use the current login; it is not revoked before all who borrowed it have given it back."""
        login = self._take()
        try:
            yield login
        finally:
            self.give_back(login)

    def hold(self, login: Login) -> None:
        """Have a login that is in use not end before `give_back`: what was issued by its token dies with it."""
        with self._logins.lock:
            login.users += 1

    def give_back(self, login: Login) -> None:
        """Use it no longer; the last one ends a login that has been replaced."""
        with self._logins.lock:
            login.users -= 1
            last_one = login.retired and login.users == 0
        if last_one:
            end_login(login)

    def _take(self) -> Login:
        forks.notice_fork()
        while True:
            with self._logins.lock:
                if self._logins.closed:
                    raise BackendError(self.settings.url, "the session is closed", "The service is shutting down.")
                login = self._logins.current
                if login is not None and not login.is_spent(self.clock()):
                    login.users += 1
                    login.uses += 1
                    return login
            self._logins.replace(login)

    def _log_in(self, instead_of: Login | None) -> Login:
        try:
            login = log_in(
                self.settings, self._method, self.clock(), instead_of, self.name, consistency=self.consistency
            )
        except BaseException as error:
            log.warning("login_failed", method=self.settings.auth_method, error=type(error).__name__)
            journal.record("login", self.name, "failed", type(error).__name__)
            raise
        log.info("token_obtained", method=self.settings.auth_method, ttl=login.auth.lease_duration)
        journal.record("login", self.name, detail=self.settings.auth_method)
        return login

    def _is_dead(self, login: Login) -> bool:
        """Tell whether Vault has forgotten the token, unless a new login has just not helped."""
        return self.clock() >= self._relogin_blocked_until and login.is_dead()

    def _retire(self, login: Login) -> None:
        with self._logins.lock:
            login.retired = True
            idle = login.users == 0
        if idle:
            end_login(login)
        if self.credentials is not None:
            self.credentials.token_replaced()
