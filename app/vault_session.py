"""Who holds the token? One session a Vault: it logs in once for all threads and hands out an authenticated client.

The token lives until it is replaced: the new one is there first, calls under way finish with the old one, and the last
of them revokes it. hvac keeps one token a client and is not thread-safe while logging in, so each login gets a client
and connections of its own.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from typing import TypeVar

import hvac
import requests

from app.auth_methods import Auth, auth_method
from app.config import VaultSettings
from app.errors import BadRequest, BlueprintError, LoginRefused, PathMissing, PermissionDenied, VaultError
from app.logging_config import get_logger
from app.vault_http import open_http, vault_client, vault_errors

T = TypeVar("T")

# After a refused login, and after a login because of a 403, nobody logs in again for so many seconds: however many
# callers fail, Vault sees at most one login in this time.
LOGIN_PAUSE = 5.0

log = get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Login:
    """One token with the connections that it travels over, and how many calls are using it."""

    auth: Auth
    client: hvac.Client
    http: requests.Session
    since: float
    users: int = 0
    retired: bool = False


class VaultSession:
    """One client and one token for all threads of the process."""

    def __init__(self, settings: VaultSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._method = auth_method(settings)
        self._lock = threading.Lock()  # guards the four below; never held during network I/O
        self._current: _Login | None = None
        self._flight: Future[None] | None = None  # the login under way; all who need it wait for the same one
        self._refusal: tuple[float, LoginRefused] | None = None  # the last refusal, and until when it stands
        self._closed = False

    def client(self) -> hvac.Client:
        """Return the authenticated client, after a login if there was none.

        A token that was handed in is looked up, since no login has proved it. Raises a `VaultError` if that fails.
        """
        with self._borrow() as login:
            if not login.auth.obtained and self._is_dead(login):
                raise self._dead_token()
            return login.client

    def call(self, subject: str, operation: Callable[[hvac.Client], T]) -> T:
        """Run one operation against Vault and return its answer; `subject` names in errors what it is about.

        If Vault refuses because the token is dead, log in once more and repeat once.
        """
        with self._borrow() as login:
            try:
                with vault_errors(self.settings.url, subject):
                    return operation(login.client)
            except PermissionDenied:
                if not self._is_dead(login):
                    raise
        log.warning("token_rejected", address=self.settings.url)
        self._log_in(instead_of=login)
        with self._borrow() as login, vault_errors(self.settings.url, subject):
            return operation(login.client)

    def close(self) -> None:
        """Revoke the token, if we obtained it, and close the connections; later calls fail."""
        with self._lock:
            self._closed = True
            last, self._current = self._current, None
        if last is not None:
            self._retire(last)

    @contextmanager
    def _borrow(self) -> Iterator[_Login]:
        """Use the current login; it is not revoked before all who borrowed it have given it back."""
        login = self._take()
        try:
            yield login
        finally:
            with self._lock:
                login.users -= 1
                last_one = login.retired and login.users == 0
            if last_one:
                self._end(login)

    def _take(self) -> _Login:
        while True:
            with self._lock:
                if self._closed:
                    raise VaultError(self.settings.url, "the session is closed", "The service is shutting down.")
                if self._current is not None:
                    self._current.users += 1
                    return self._current
            self._log_in(instead_of=None)

    def _log_in(self, instead_of: _Login | None) -> None:
        """Log in, unless somebody has replaced `instead_of` already; join the login that is under way, if any."""
        with self._lock:
            if self._current is not instead_of:
                return
            if self._refusal is not None and self._clock() < self._refusal[0]:
                raise copy(self._refusal[1])
            flight, leader = self._flight, False
            if flight is None:
                flight, leader = Future(), True
                self._flight = flight
        if leader:
            self._fly(flight, instead_of)
        if (error := flight.exception()) is not None:
            raise copy(error)  # for each thread its own: one that is raised again and again collects tracebacks

    def _fly(self, flight: Future[None], instead_of: _Login | None) -> None:
        """Carry out the one login that all others wait for, and tell them how it ended."""
        try:
            login = self._new_login(instead_of)
        except BaseException as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            with self._lock:
                self._flight = None
                if isinstance(error, LoginRefused):
                    self._refusal = (self._clock() + LOGIN_PAUSE, error)
            log.warning("login_failed", method=self.settings.auth_method, error=type(error).__name__)
            flight.set_exception(error)
            return
        with self._lock:
            self._flight = self._refusal = None
            unwanted = login if self._closed else instead_of
            if not self._closed:
                self._current = login
        log.info("token_obtained", method=self.settings.auth_method, ttl=login.auth.lease_duration)
        flight.set_result(None)
        if unwanted is not None:
            self._retire(unwanted)

    def _new_login(self, instead_of: _Login | None) -> _Login:
        settings = self.settings
        where = f"auth method {settings.auth_method} at auth/{settings.login_mount_point}"
        http = open_http(settings)
        try:
            with vault_errors(settings.url, where):
                auth = self._method.login(vault_client(settings, http))
            if instead_of is not None and auth.client_token == instead_of.auth.client_token:
                raise self._dead_token()
        except (PermissionDenied, PathMissing, BadRequest) as error:
            http.close()
            raise self._login_refused(where, error) from None
        except BaseException:
            http.close()
            raise
        return _Login(auth, vault_client(settings, http, auth.client_token), http, self._clock())

    def _login_refused(self, where: str, error: BlueprintError) -> LoginRefused:
        if isinstance(error, PathMissing):
            return LoginRefused(where, "nothing is mounted there", "Enable the method, or set VAULT_AUTH_MOUNT_POINT.")
        return LoginRefused(where, "Vault refused the credentials", "Check them: wrong, expired, or used up?")

    def _dead_token(self) -> LoginRefused:
        return LoginRefused(
            "VAULT_TOKEN", "Vault does not accept the token: wrong, expired or revoked", "Provide a new one."
        )

    def _is_dead(self, login: _Login) -> bool:
        """Ask Vault whether it still knows the token (`GET auth/token/lookup-self`).

        A token whose policies forbid even that looks dead; so one that we have just obtained is taken to be alive.
        """
        if login.auth.obtained and self._clock() - login.since < LOGIN_PAUSE:
            return False
        try:
            with vault_errors(self.settings.url, "auth/token/lookup-self"):
                login.client.auth.token.lookup_self()
        except PermissionDenied:
            return True
        return False

    def _retire(self, login: _Login) -> None:
        with self._lock:
            login.retired = True
            idle = login.users == 0
        if idle:
            self._end(login)

    def _end(self, login: _Login) -> None:
        """Revoke the token if it is ours; failing that, it expires by itself."""
        if login.auth.obtained and login.auth.token_type != "batch":  # noqa: S105
            with suppress(VaultError), vault_errors(self.settings.url, "auth/token/revoke-self"):
                login.client.auth.token.revoke_self()
                log.info("token_revoked")
        login.http.close()
