"""A Conjur server for tests to hold, and ways to prepare it; nothing here leans on what the stand-in alone can do."""

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import quote

import requests

from app.config import Settings
from tests.extras.conjur.standin import StandIn
from tests.support import unique

ALL_KINDS = ("variable", "webservice", "host", "user", "layer", "group", "policy")
OCTETS = {"Content-Type": "application/octet-stream"}  # or Conjur takes a body for a form


@dataclass
class Conjur:
    """A running server, an administrator's login, and a policy branch of the tests' own."""

    url: str
    account: str
    login: str
    api_key: str
    standin: StandIn | None = None  # where it is one; for tests of faults, which no real server has on demand
    branch: str = field(default_factory=lambda: unique("blueprint-tests"))
    _token: str = ""

    def __post_init__(self) -> None:
        self.load(f"- !policy {self.branch}\n", "root")

    def remove(self) -> None:
        """Remove the branch and whatever a test has declared below its name."""
        found = [
            (kind, each) for kind in ALL_KINDS for each in self._ids(kind) if f"{each}/".startswith(f"{self.branch}/")
        ]
        # the innermost first
        statements = [f"- !delete\n  record: !{kind} {_quoted(each)}\n" for kind, each in sorted(found, key=_depth)]
        self.load("".join(statements), "root", "PATCH")

    def request(self, method: str, *segments: str, **more: Any) -> requests.Response:
        """Send a request as the administrator; every answer of 400 or above is an error of the test's own."""
        answer = self.send(method, *segments, **more)
        assert answer.ok, (method, segments, answer.status_code, answer.text)
        return answer

    def send(
        self, method: str, *segments: str, headers: Mapping[str, str | None] = OCTETS, **more: Any
    ) -> requests.Response:
        """Send a request as the administrator and return its answer."""
        url = "/".join([self.url, *(quote(segment, safe="") for segment in segments)])
        for _ in range(30):
            authorization = {"Authorization": f'Token token="{self._token}"'}
            answer = requests.request(method, url, headers={**headers, **authorization}, timeout=30, **more)
            if answer.status_code == 401:  # another test may have let the tokens expire
                self._token = self._authenticate()
            elif answer.status_code == 409:
                time.sleep(float(answer.headers["Retry-After"]))
            else:
                break
        return answer

    def load(self, policy: str, branch: str = "", method: str = "POST") -> dict[str, Any]:
        """Load a policy, by default into the tests' branch; return the roles that it created."""
        answer = self.request(
            method, "policies", self.account, "policy", branch or self.branch, data=policy.encode()
        ).json()
        created: dict[str, Any] = answer["created_roles"]
        return created

    def variable(self, value: str | bytes | None = None, name: str = "") -> str:
        """Declare a variable in the branch, set it if there is a value, and return its id."""
        name = name or unique("variable")
        self.load(f"- !variable {_quoted(name)}\n")
        if value is not None:
            self.set(f"{self.branch}/{name}", value)
        return f"{self.branch}/{name}"

    def set(self, variable: str, value: str | bytes) -> None:
        """Set a value."""
        body = value.encode() if isinstance(value, str) else value
        self.request("POST", "secrets", self.account, "variable", variable, data=body)

    def get(self, variable: str) -> bytes:
        """Return a value."""
        return self.request("GET", "secrets", self.account, "variable", variable).content

    def host(self, permits: Mapping[str, Sequence[str]] | None = None, *, owns: str = "") -> tuple[str, str]:
        """Make a host with these privileges, by variable, and perhaps a branch of its own; return login and API key."""
        name = unique("host")
        policy = f"- !host {name}\n"
        if owns:
            policy += f"- !policy\n  id: {owns}\n  owner: !host {name}\n"
        for variable, privileges in (permits or {}).items():
            inside = _quoted(variable.removeprefix(f"{self.branch}/"))
            policy += f"- !permit\n  role: !host {name}\n  privileges: [{', '.join(privileges)}]\n"
            policy += f"  resource: !variable {inside}\n"
        created = self.load(policy)
        return f"host/{self.branch}/{name}", str(created[f"{self.account}:host:{self.branch}/{name}"]["api_key"])

    def settings(
        self, login: tuple[str, str] | None = None, secrets: Mapping[str, str] | None = None, **more: Any
    ) -> Settings:
        """Return settings for this server, by default with the administrator's login.

        `more` are fields of `ConjurSettings`, or of `VaultSettings` where those count for Conjur, too.
        """
        name, key = login or (self.login, self.api_key)
        conjur = {"enabled": True, "appliance_url": self.url, "account": self.account, "policy_branch": self.branch}
        conjur |= {"authn_login": name, "authn_api_key": key}
        shared = {field: more.pop(field) for field in ("access_mode", "timeout", "write_prefix") if field in more}
        return Settings.model_validate({"conjur": {**conjur, **more}, "vault": shared, "secrets": dict(secrets or {})})

    def environment(self, login: tuple[str, str] | None = None) -> dict[str, str]:
        """Return the variables of a service that uses this server."""
        name, key = login or (self.login, self.api_key)
        return {
            "CONJUR_ENABLED": "true",
            "CONJUR_APPLIANCE_URL": self.url,
            "CONJUR_ACCOUNT": self.account,
            "CONJUR_AUTHN_LOGIN": name,
            "CONJUR_AUTHN_API_KEY": key,
        }

    def _ids(self, kind: str) -> Iterator[str]:
        for offset in count(0, 1000):
            page = {"limit": "1000", "offset": str(offset)}
            resources = self.request("GET", "resources", self.account, kind, params=page).json()
            yield from (resource["id"].split(":", 2)[2] for resource in resources)
            if len(resources) < 1000:
                return

    def _authenticate(self) -> str:
        url = f"{self.url}/authn/{self.account}/{quote(self.login, safe='')}/authenticate"
        answer = requests.post(url, data=self.api_key, headers=OCTETS, timeout=30)
        assert answer.ok, answer.status_code
        return base64.b64encode(answer.content).decode()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _depth(found: tuple[str, str]) -> tuple[bool, int]:
    kind, identifier = found
    return kind == "policy", -identifier.count("/")
