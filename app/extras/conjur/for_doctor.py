"""What stands between the service and its variables in Conjur? The chain, from the address to the values."""

import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import requests

from app.core.errors import BlueprintError, PathMissing, UnexpectedAnswer
from app.core.settings.app import AppSettings
from app.core.store.overrides import read_entries
from app.core.store.source import Secret
from app.core.transport.calls import conjur_operation
from app.core.transport.http import open_connections
from app.core.transport.network_errors import network_errors
from app.core.transport.redirects import is_moved, target_of
from app.extras.conjur.errors import NOT_CONJURS, branch_denied, branch_missing, refusal
from app.extras.conjur.index import ConjurSource
from app.extras.conjur.login import tls_files
from app.extras.conjur.policy import policy_branch
from app.extras.conjur.session import ConjurSession
from app.extras.conjur.settings import CONJUR, ConjurSettings
from app.extras.doctor.findings import Check, Finding, HaltError, of_entry, ok, reminder, walk
from app.extras.doctor.network import Server, connect, resolve, shake_hands


class ConjurChain:
    """The steps of Conjur; they change nothing in it. What a login brings cannot be revoked there, and soon expires."""

    def __init__(
        self,
        settings: AppSettings,
        name: str = CONJUR,
        *,
        login: bool | None = None,
        production: bool = False,
        issue: bool = False,  # noqa: ARG002 - Conjur issues nothing
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.secrets: list[Secret] = []  # what the service would load
        self.promised: list[str] = []  # Conjur issues nothing
        self.complete = False  # or a secret that is missing may be one that could not be read
        self.name = name
        self._all = settings
        self._own = own = ConjurSettings.within(settings)
        self._login_wanted = login
        self._for_production = production
        self._clock = clock
        url = own.appliance_url or ""
        self._server = Server("Conjur", url, settings.vault.timeout, tls_files(own), "CONJUR_APPLIANCE_URL")
        self._session = ConjurSession(own, settings.vault)
        self._http: requests.Session = requests.Session()
        self._ending = ExitStack()
        self._ending.callback(self._session.close)

    def findings(self) -> Iterator[Finding]:
        """Take the steps."""
        steps: dict[str, Check] = {
            "host name": partial(resolve, self._server),
            "connection": partial(connect, self._server),
            "TLS": self._tls,
            "status": self._status,
            "login": self._log_in,
            "secrets": self._secrets,
        }
        if self._for_production:
            steps["policy"] = self._policy
        if self._all.vault.access_mode != "read_only":
            steps["policy branch"] = self._policy_branch
        with self._ending:
            yield from walk(self.name, steps)

    def _tls(self) -> Iterator[Finding]:
        server = self._server
        self._http = self._ending.enter_context(open_connections(server.url, server.files, CONJUR, conjur_operation))
        return shake_hands(server, self._http, "/", self._clock())

    def _status(self) -> Iterator[Finding]:
        """Ask for the version, which not every server tells; what does not behave like Conjur shows at the login.

        Where its database is down, Conjur says 500 here as everywhere.
        """
        server = self._server
        with network_errors(server.url, server.name, server.variable):
            asked: dict[str, Any] = {"headers": {"Accept": "application/json"}, "timeout": server.timeout}
            answer = self._http.get(f"{server.url}/", allow_redirects=False, **asked)
        is_fault = answer.status_code >= requests.codes.server_error or answer.status_code in NOT_CONJURS
        if is_fault or is_moved(f"{server.url}/", target_of(answer)):
            raise refusal(answer, server.url, "its status")
        try:
            version = answer.json()["version"]
        except (ValueError, KeyError, TypeError):
            yield ok("it answers, but does not tell its version", server.url)
        else:
            yield ok(f"version {version}", server.url)

    def _log_in(self) -> Iterator[Finding]:
        """Log in, and make sure that Conjur accepts the token (`GET /whoami`)."""
        if self._login_wanted is False and self._own.authn_token_file is None:
            raise HaltError(Finding("not reached", "not tried, because of --no-login"))
        self._session.call("whoami", "GET", "whoami")
        if login := self._session.current():
            left = dt.timedelta(seconds=int(self._session.time_left() or 0))
            yield ok(f"logged in as {login.login} in account {self._session.account}; the token expires in {left}")

    def _secrets(self) -> Iterator[Finding]:
        """Read what the service would read. A variable that fails does not keep the next one from being looked at."""
        source = ConjurSource(self._own, self._all.vault, self._all.secrets, self._session)
        entries = list(read_entries(source, self._all.secrets))
        self.secrets = [entry.found for entry in entries if isinstance(entry.found, Secret)]
        for entry in entries:
            yield of_entry(entry, "it has a value")
        self.complete = not any(isinstance(entry.found, BlueprintError) for entry in entries)

    def _policy(self) -> Iterator[Finding]:
        """Say what Conjur does not tell the host of itself."""
        remedy = f"Load what `python -m app policy --vault {self.name}` prints, and give the host nothing else."
        yield reminder("what else this host may do, and from where it may log in, cannot be asked of Conjur", remedy)

    def _policy_branch(self) -> Iterator[Finding]:
        """Ask for the privileges (`GET /resources/…?check=true`); nothing is written."""
        branch, account = policy_branch(self._all), self._session.account
        where, whom = f"{account}:policy:{branch}", self._session.current()
        login = whom.login if whom else "this service"
        for privilege in ("create", "update"):
            asked = {"check": "true", "privilege": privilege}
            try:
                self._session.call(where, "GET", "resources", account, "policy", branch, params=asked)
            except PathMissing:
                raise branch_missing(where, login) from None
            except UnexpectedAnswer:  # a 404 without a body: it can be seen
                raise branch_denied(where, login, privilege) from None
        yield ok("this service may change it", where)


chain = ConjurChain  # what the doctor looks for
