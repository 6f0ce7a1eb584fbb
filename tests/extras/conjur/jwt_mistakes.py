"""What may be wrong with a login by JWT? One mistake each, and what must be said of it."""
# ruff: noqa: D103 - the names say what the mistake is

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.config import Settings
from tests.extras.conjur.jwt_logins import JwtService, make_jwt
from tests.extras.conjur.standin import StandIn
from tests.extras.conjur.support import Conjur


@dataclass
class JwtWorld:
    """A service with a JWT that is good for the host that it stands for, for one mistake."""

    conjur: Conjur
    file: Path
    variable: str = ""
    login: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.variable = self.conjur.variable("value")
        self.login, _ = self.conjur.host({self.variable: ["read", "execute"]})
        self.issue("good", iss="https://issuer", aud="conjur", exp=time.time() + 600)
        self.standin.accept_jwt("kube", self.file.read_text(), self.login)

    @property
    def standin(self) -> StandIn:
        """The server, with its switches."""
        assert self.conjur.standin is not None
        return self.conjur.standin

    @property
    def service(self) -> JwtService:
        """The webservice."""
        return self.standin.jwt_service("kube")

    def issue(self, signature: str, **claims: Any) -> None:
        """Put a JWT into the file."""
        self.file.write_text(make_jwt(signature, **claims))
        self.file.chmod(0o600)

    def accept(self) -> None:
        """Let Conjur find no fault with the issuer of what is in the file."""
        self.service.hosts[self.file.read_text()] = self.login

    def settings(self) -> Settings:
        """Return settings with which all is well, but for the mistake."""
        jwt = {"authn_jwt_service_id": "kube", "authn_jwt_file": self.file, "authn_login": None, "authn_api_key": None}
        return self.conjur.settings(variables=f"a={self.variable}", **{**jwt, **self.more})


def expired(world: JwtWorld) -> None:
    world.issue("old", exp=1)
    world.accept()


def early(world: JwtWorld) -> None:
    world.issue("early", nbf=int(time.time()) + 3600)
    world.accept()


def no_jwt(world: JwtWorld) -> None:
    world.file.write_text("canary")


def strange_issuer(world: JwtWorld) -> None:
    world.issue("canary", iss="https://other", aud="somebody")


def unnamed_issuer(world: JwtWorld) -> None:
    world.issue("canary", iss="https://other\n", aud=["a"])


def unreadable(world: JwtWorld) -> None:
    world.file.write_text("a.canary.c")


def missing_host(world: JwtWorld) -> None:
    world.service.hosts[world.file.read_text()] = "host/nowhere"


def login_too_much(world: JwtWorld) -> None:
    world.more["authn_login"] = world.login


def login_missing(world: JwtWorld) -> None:
    world.service.token_app_property = False


def not_permitted(world: JwtWorld) -> None:
    world.login, _ = world.conjur.host()
    world.accept()


def not_permitted_by_login(world: JwtWorld) -> None:
    world.service.token_app_property = False
    world.more["authn_login"], _ = world.conjur.host()


def not_enabled(world: JwtWorld) -> None:
    world.service.enabled = False


def unknown_service(world: JwtWorld) -> None:
    world.more["authn_jwt_service_id"] = "other"


Mistake = Callable[[JwtWorld], None]
BOTH = r"CONJUR_AUTHN_LOGIN is {}\. .*With a token-app-property leave CONJUR_AUTHN_LOGIN out, without one set it"
MISTAKES: dict[Mistake, str] = {
    expired: r"the JWT has expired\. Check what should renew CONJUR_AUTHN_JWT_FILE=",
    early: r"the JWT is not valid yet \(nbf is [0-9]+\)\. Wait, or check the clocks",
    no_jwt: r"what CONJUR_AUTHN_JWT_FILE=.* holds is not a JWT\. Check what has been written there",
    strange_issuer: r"signature, issuer, audience \(it says iss https://other, aud somebody\) or another claim",
    unnamed_issuer: "signature, issuer, audience or another claim",
    unreadable: "signature, issuer, audience or another claim",
    missing_host: "the host that the JWT stands for does not exist",
    login_too_much: BOTH.format("set though the service has a token-app-property"),
    login_missing: BOTH.format("missing though the service has no token-app-property"),
    not_permitted: (
        "the JWT is good, but the host that the JWT stands for lacks the privilege authenticate on the webservice"
        r" conjur/authn-jwt/kube\. Permit it in a policy: role !host …, privileges \[read, authenticate\]"
    ),
    not_permitted_by_login: "the JWT is good, but host/.* lacks the privilege authenticate .* role !host blueprint-",
    not_enabled: r"the service authn-jwt/kube is not enabled in Conjur\. Enable it: add authn-jwt/kube to CONJUR_AUTH",
    unknown_service: r"there is no webservice conjur/authn-jwt/other in Conjur\. Check CONJUR_AUTHN_JWT_SERVICE_ID",
}
