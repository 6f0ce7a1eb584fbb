"""What stands between the service and its variables in Conjur? The chain, from the address to the values."""

import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import requests

from app.backends.conjur import ConjurVariables
from app.backends.protocol import Secret
from app.config import Settings
from app.config_conjur import CONJUR
from app.conjur import only_value, pick_variable, place_of
from app.conjur_errors import branch_denied, branch_missing
from app.conjur_login import tls_files
from app.conjur_policy import policy_branch
from app.conjur_session import ConjurSession
from app.doctor.entries import Place, read_entries
from app.doctor.findings import Check, Finding, HaltError, ok, walk
from app.doctor.network import Server, connect, resolve, shake_hands
from app.errors import BlueprintError, PathMissing, UnexpectedAnswer
from app.vault_calls import conjur_operation
from app.vault_errors import network_errors
from app.vault_http import open_connections


class ConjurChain:
    """The steps of Conjur; they change nothing in it. What a login brings cannot be revoked there, and soon expires."""

    name = CONJUR

    def __init__(
        self, settings: Settings, *, login: bool | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.secrets: list[Secret] = []  # what the service would load
        self.complete = False  # or a secret that is missing may be one that could not be read
        self._all = settings
        self._login_wanted = login
        self._clock = clock
        url = settings.conjur.appliance_url or ""
        self._server = Server("Conjur", url, settings.vault.timeout, tls_files(settings.conjur), "CONJUR_APPLIANCE_URL")
        self._session = ConjurSession(settings.conjur, settings.vault)
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
        if self._all.vault.access_mode != "read_only":
            steps["policy branch"] = self._policy_branch
        with self._ending:
            yield from walk(self.name, steps)

    def _tls(self) -> Iterator[Finding]:
        server = self._server
        self._http = self._ending.enter_context(open_connections(server.url, server.files, CONJUR, conjur_operation))
        return shake_hands(server, self._http, "/", self._clock())

    def _status(self) -> Iterator[Finding]:
        """Ask for the version, which not every server tells; what does not behave like Conjur shows at the login."""
        server = self._server
        with network_errors(server.url, server.name, server.variable):
            answer = self._http.get(f"{server.url}/", headers={"Accept": "application/json"}, timeout=server.timeout)
        try:
            version = answer.json()["version"]
        except (ValueError, KeyError, TypeError):
            yield ok("it answers, but does not tell its version", server.url)
        else:
            yield ok(f"version {version}", server.url)

    def _log_in(self) -> Iterator[Finding]:
        """Log in, and make sure that Conjur accepts the token (`GET /whoami`)."""
        if self._login_wanted is False and self._all.conjur.authn_token_file is None:
            raise HaltError(Finding("not reached", "not tried, because of --no-login"))
        self._session.call("whoami", "GET", "whoami")
        if login := self._session.current():
            left = dt.timedelta(seconds=int(self._session.time_left() or 0))
            yield ok(f"logged in as {login.login} in account {self._session.account}; the token expires in {left}")

    def _secrets(self) -> Iterator[Finding]:
        """Read what the service would read. A variable that fails does not keep the next one from being looked at."""
        names = {f"{name}={variable}": name for name, variable in self._all.conjur.variables}
        named: dict[str, Place] = {label: (label.removeprefix(f"{name}="), None) for label, name in names.items()}
        read = ConjurVariables(self._session).read_many
        entries = list(read_entries(self._all, CONJUR, named, read, place_of=place_of, pick=pick_variable))
        for entry in entries:
            if isinstance(found := entry.found, Secret):
                own = found if entry.refers else replace(found, data={names[entry.label]: only_value(found.data)})
                self.secrets.append(own)
            yield entry.finding("it has a value")
        self.complete = not any(isinstance(entry.found, BlueprintError) for entry in entries)

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
