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
from dataclasses import dataclass, replace
from typing import TypeVar

import hvac
import requests

from app.auth_methods import Auth, auth_method
from app.config import VaultSettings
from app.errors import BadRequest, LoginRefused, PathMissing, PermissionDenied, VaultError, VaultTLSFailed
from app.logging_config import get_logger
from app.vault_http import open_http, vault_client, vault_errors

T = TypeVar("T")

# After a login that was refused, or that did not help against a 403, nobody logs in again for so many seconds: however
# many callers fail, Vault sees at most one login in this time.
LOGIN_PAUSE = 5.0

log = get_logger(__name__)


@dataclass(eq=False, slots=True)
class Login:
    """One token with the connections that it travels over, and how many calls are using it."""

    auth: Auth
    since: float  # by the session's clock
    client: hvac.Client
    http: requests.Session
    users: int = 0
    uses: int = 0
    retired: bool = False
    tls_failed: bool = False

    def is_worn(self, now: float) -> bool:
        """Tell whether the token has expired or used up its uses, as far as we know; each is good for one use."""
        expired = bool(self.auth.lease_duration) and now >= self.since + (self.auth.lease_duration or 0)
        used_up = 0 < self.auth.num_uses <= self.uses + 1  # the last use is kept for the revocation
        return self.auth.obtained and self.uses > 0 and (expired or used_up)


class VaultSession:
    """One client and one token for all threads of the process."""

    def __init__(self, settings: VaultSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.clock = clock
        self.kv_versions: dict[str, str] = {}  # by mount point, where they had to be asked for
        self._method = auth_method(settings)
        self._lock = threading.Lock()  # guards the four below; never held during network I/O
        self._current: Login | None = None
        self._flight: Future[None] | None = None  # the login under way; all who need it wait for the same one
        self._refusal: tuple[float, LoginRefused] | None = None  # the last refusal, and until when it stands
        self._closed = False
        self._futile_until = 0.0  # a login because of a 403 has just not helped

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

        If Vault refuses because the token is dead, or the TLS files have changed, log in once more and repeat once.
        """
        with self._borrow() as login:
            try:
                with vault_errors(self.settings.url, subject):
                    return operation(login.client)
            except PermissionDenied:
                if not self._is_dead(login):
                    raise
                log.warning("token_rejected", address=self.settings.url)
            except VaultTLSFailed:
                login.tls_failed = True  # a login reads the TLS files anew
        self.replace(login)
        with self._borrow() as login:
            try:
                with vault_errors(self.settings.url, subject):
                    return operation(login.client)
            except PermissionDenied:
                self._futile_until = self.clock() + LOGIN_PAUSE
                raise

    def current(self) -> Login | None:
        """Return the login in force, without making one."""
        return self._current

    def renew(self, login: Login) -> float:
        """Prolong the token's life (`POST auth/token/renew-self`); return its new TTL in seconds."""
        with vault_errors(self.settings.url, "auth/token/renew-self"):
            answer = login.client.auth.token.renew_self()
        renewed = replace(Auth.from_answer(answer), obtained=login.auth.obtained)
        login.auth, login.since = renewed, self.clock()
        log.info("token_renewed", ttl=renewed.lease_duration)
        return renewed.lease_duration or 0.0

    def learn(self, login: Login) -> None:
        """Ask how long a token that was handed in will live (`GET auth/token/lookup-self`)."""
        with vault_errors(self.settings.url, "auth/token/lookup-self"):
            data = login.client.auth.token.lookup_self()["data"]
        login.auth = replace(login.auth, lease_duration=float(data["ttl"]), renewable=bool(data.get("renewable")))
        login.since = self.clock()

    def replace(self, login: Login) -> None:
        """Log in anew, unless somebody has replaced `login` already; join the login that is under way, if any."""
        self._log_in(instead_of=login)

    def close(self) -> None:
        """Revoke the token, if we obtained it, and close the connections; later calls fail."""
        with self._lock:
            self._closed = True
            last, self._current = self._current, None
        if last is not None:
            self._end(last)  # without waiting for calls under way: a Vault that hangs must not delay the shutdown

    @contextmanager
    def _borrow(self) -> Iterator[Login]:
        """Use the current login; it is not revoked before all who borrowed it have given it back."""
        login = self._take()
        try:
            yield login
        finally:
            with self._lock:
                login.users -= 1
                last_one = login.retired and login.users == 0 and not self._closed
            if last_one:
                self._end(login)

    def _take(self) -> Login:
        while True:
            with self._lock:
                if self._closed:
                    raise VaultError(self.settings.url, "the session is closed", "The service is shutting down.")
                login = self._current
                if login is not None and not login.is_worn(self.clock()):
                    login.users += 1
                    login.uses += 1
                    return login
            self._log_in(instead_of=login)

    def _log_in(self, instead_of: Login | None) -> None:
        with self._lock:
            if self._current is not instead_of:
                return
            if self._refusal is not None and self.clock() < self._refusal[0]:
                raise copy(self._refusal[1])
            flight, leader = self._flight, False
            if flight is None:
                flight, leader = Future(), True
                self._flight = flight
        if leader:
            self._fly(flight, instead_of)
        if (error := flight.exception()) is not None:
            raise copy(error)  # for each thread its own: one that is raised again and again collects tracebacks

    def _fly(self, flight: Future[None], instead_of: Login | None) -> None:
        """Carry out the one login that all others wait for, and tell them how it ended."""
        try:
            login = self._new_login(instead_of)
        except BaseException as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            with self._lock:
                self._flight = None
                if isinstance(error, LoginRefused):
                    self._refusal = (self.clock() + LOGIN_PAUSE, error)
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

    def _new_login(self, instead_of: Login | None) -> Login:
        settings = self.settings
        namespace = settings.login_namespace or settings.namespace
        where = f"auth method {settings.auth_method} at auth/{settings.login_mount_point}"
        where += f" in namespace {namespace}" if namespace else ""
        http = open_http(settings)
        try:
            with vault_errors(settings.url, where):
                auth = self._method.login(vault_client(settings, http, namespace=namespace))
            if instead_of and not instead_of.tls_failed and auth.client_token == instead_of.auth.client_token:
                raise self._dead_token()
        except (PermissionDenied, PathMissing, BadRequest) as error:
            http.close()
            remedy = "Check the credentials, the role, VAULT_AUTH_MOUNT_POINT and VAULT_LOGIN_NAMESPACE."
            cause = (
                f"{error.cause}, or nothing is mounted there" if isinstance(error, PermissionDenied) else error.cause
            )
            raise LoginRefused(where, f"Vault refuses the login: {cause}", remedy) from None
        except BaseException:
            http.close()
            raise
        client = vault_client(settings, http, auth.client_token, settings.namespace)
        return Login(auth, self.clock(), client, http)

    def _dead_token(self) -> LoginRefused:
        return LoginRefused(
            "VAULT_TOKEN", "Vault does not accept the token: wrong, expired or revoked", "Provide a new one."
        )

    def _is_dead(self, login: Login) -> bool:
        """Ask Vault whether it still knows the token (`GET auth/token/lookup-self`).

        A token whose policies forbid even that looks dead; so if a new one has just not helped, it counts as alive.
        """
        if self.clock() < self._futile_until:
            return False
        try:
            with vault_errors(self.settings.url, "auth/token/lookup-self"):
                login.client.auth.token.lookup_self()
        except PermissionDenied:
            return True
        return False

    def _retire(self, login: Login) -> None:
        with self._lock:
            login.retired = True
            idle = login.users == 0
        if idle:
            self._end(login)

    def _end(self, login: Login) -> None:
        """Revoke the token if it is ours; failing that, it expires by itself."""
        if login.auth.obtained and login.auth.token_type != "batch":  # noqa: S105
            with suppress(VaultError), vault_errors(self.settings.url, "auth/token/revoke-self"):
                login.client.auth.token.revoke_self()
                log.info("token_revoked")
        login.http.close()
