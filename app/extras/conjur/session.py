"""Who holds Conjur's token? One session: it logs in once for all threads, and sends every request with the token.

The token is replaced before it expires, at the next request; there is nothing to renew or revoke. Conjur does not tell
an expired token from a wrong one: after a 401 there is one new login and one repetition, whatever the reason.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import requests

from app.core import forks
from app.core.errors import BackendError, LoginRefused, VaultTLSFailed, VaultUnreachable
from app.core.logs.event_log import journal
from app.core.logs.logging_config import get_logger
from app.core.settings.vault import VaultSettings
from app.core.transport.network_errors import network_errors
from app.core.transport.single_flight import LOGIN_PAUSE, SingleFlight
from app.extras.conjur.errors import TokenRefusedError, failed, refusal
from app.extras.conjur.login import OCTETS, ConjurLogin, api_url, log_in
from app.extras.conjur.settings import CONJUR, ConjurSettings

WRITES = 64  # locks for variables: two of them may share one
LOOK = 0.2  # seconds; so often does who waits for a lock look whether the session is closed

log = get_logger(__name__)


class ConjurSession:
    """One token for all threads of the process, kept apart from the secrets and from every `repr`."""

    name = CONJUR

    def __init__(
        self,
        settings: ConjurSettings,
        shared: VaultSettings,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`shared` are the settings that count for Vault and Conjur together."""
        self.settings = settings
        self.shared = shared
        self.clock = clock
        self._wall_clock = wall_clock
        self.account = settings.account or ""
        self.address = settings.appliance_url or ""
        self._logins = SingleFlight(self._log_in, lambda login: login.http.close(), clock)
        self._closing = threading.Event()
        self.policy_load = forks.Lock()  # held during each: Conjur refuses a load while another is in progress
        self._writes = [forks.Lock() for _ in range(WRITES)]
        self._relogin_blocked_until = 0.0  # a login because of a 401 has just not helped
        forks.watch(self)

    def start_afresh(self) -> None:
        """Wait on nothing that a thread of the parent's may hold."""
        closed = self._closing.is_set()
        self._closing = threading.Event()
        if closed:
            self._closing.set()

    def call(self, subject: str, method: str, *segments: str, **request: Any) -> requests.Response:
        """Send one request and return its answer; `subject` names in errors what it is about.

        `segments` are those of the path, each to be percent-encoded whole; `request` is what requests takes beside it.
        Raises a `BackendError` for every answer of 300 or above: no redirect is followed.
        """
        login = self._take()
        try:
            return self._send(login, subject, method, segments, request)
        except TokenRefusedError:
            if self.clock() < self._relogin_blocked_until:
                raise self._useless() from None
            login.refused = True
            log.warning("token_rejected", address=self.address)
        except VaultTLSFailed:
            pass  # a login reads the TLS files again
        self._logins.replace(login)
        try:
            return self._send(self._take(), subject, method, segments, request)
        except TokenRefusedError:
            self._relogin_blocked_until = self.clock() + LOGIN_PAUSE
            raise self._useless() from None

    def current(self) -> ConjurLogin | None:
        """Return the login in force, without making one."""
        return self._logins.current

    def time_left(self) -> float | None:
        """Return the seconds until the token expires; None if there is none."""
        login = self._logins.current
        return None if login is None else max(0.0, login.since + login.lifetime - self.clock())

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the session is closed: the next call then says so."""
        self._closing.wait(seconds)

    def write_of(self, variable: str) -> forks.Lock:
        """Return the lock to hold while a variable is written: Conjur answers two writes at once with HTTP 500."""
        return self._writes[hash(variable) % WRITES]

    def acquire(self, lock: forks.Lock, seconds: float) -> bool:
        """Wait for a lock for so many seconds at most; tell whether it is ours. Raises once the session is closed."""
        forks.notice_fork()  # or it could be one that a thread of the parent's holds
        end = time.monotonic() + seconds
        while not lock.acquire(min(LOOK, max(0.0, end - time.monotonic()))):
            if self._closing.is_set():
                raise self._closed()
            if time.monotonic() >= end:
                return False
        return True

    def close(self) -> None:
        """Close the connections; later calls fail. The token expires by itself: Conjur has no way to revoke one."""
        self._closing.set()
        last = self._logins.close(self.shared.timeout)
        if last is not None:
            last.http.close()

    def _take(self) -> ConjurLogin:
        forks.notice_fork()
        login = self._logins.current
        if login is None or self.clock() >= login.replace_at:
            try:
                self._logins.replace(login)
            except BackendError as error:
                expired = login is None or self.clock() >= login.since + login.lifetime
                if expired or isinstance(error, VaultUnreachable):
                    raise
            else:
                login = self._logins.current  # good for one use at least, however short its life
        if login is None or self._logins.closed:
            raise self._closed()
        return login

    def _send(
        self, login: ConjurLogin, subject: str, method: str, segments: tuple[str, ...], request: dict[str, Any]
    ) -> requests.Response:
        headers = {"Authorization": f'Token token="{login.token}"'}  # the quotes are needed
        if "data" in request:
            headers |= OCTETS
        with network_errors(self.address, "Conjur", "CONJUR_APPLIANCE_URL"):
            url = api_url(self.settings, *segments)
            request = {**request, "headers": headers, "timeout": self.shared.timeout, "allow_redirects": False}
            answer = login.http.request(method, url, **request)
        if answer.status_code == requests.codes.unauthorized:
            raise TokenRefusedError
        if failed(answer):
            raise refusal(answer, self.address, subject)
        return answer

    def _log_in(self, instead_of: ConjurLogin | None) -> ConjurLogin:
        try:
            login = log_in(self.settings, self.shared.timeout, self.clock(), self._wall_clock(), instead_of)
        except BaseException as error:
            log.warning("login_failed", method="conjur", error=type(error).__name__)
            journal.record("login", self.name, "failed", type(error).__name__)
            raise
        log.info("token_obtained", method="conjur", ttl=login.lifetime)
        journal.record("login", self.name, detail=login.login)
        return login

    def _closed(self) -> BackendError:
        return BackendError(self.address, "the session is closed", "The service is shutting down.")

    def _useless(self) -> LoginRefused:
        cause = "Conjur does not accept the token that it has just issued"
        return LoginRefused(self.address, cause, "Check the clocks and the data key of all its nodes.")
