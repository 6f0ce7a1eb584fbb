"""What does Conjur answer to a login with a JWT? As its source has it, in its order; nothing of this was recorded.

Nearly every refusal is a 401 without a word. Only that a JWT has expired is said; and a 403 comes last, where the JWT
is good and the host is known, but lacks `authenticate` on the service.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tests.extras.conjur import wire
from tests.extras.conjur.records import Record, Records
from tests.extras.conjur.wire import Refused, Request


@dataclass
class JwtService:
    """A webservice `conjur/authn-jwt/<id>`."""

    id: str
    enabled: bool = True
    token_app_property: bool = True  # or the login comes with the address
    hosts: dict[str, str] = field(
        default_factory=dict
    )  # JWT: login; only of those whose signature and issuer are right


def authenticate(records: Records, service: JwtService, in_url: str, request: Request, now: float) -> Record:
    """Return the host that a JWT stands for; raise Refused."""
    jwt = parse_qs(request.body.decode(errors="replace")).get("jwt", [""])[-1].strip()
    if not service.enabled:
        raise Refused(wire.bare(401))
    if not jwt:
        raise Refused(wire.bare(400))
    if not re.fullmatch(r"[-\w=]+\.[-\w=]+\.[-\w=]+", jwt, re.ASCII) or jwt not in service.hosts:
        raise Refused(wire.bare(401))
    claims = _claims(jwt)
    if claims.get("exp", now + 1) <= now:
        raise Refused(wire.error(401, "unauthorized", "CONJ00016E Token expired"))
    if claims.get("nbf", now) > now or service.token_app_property == bool(in_url):
        raise Refused(wire.bare(401))
    login = in_url or service.hosts[jwt]
    host = records.find("host", login.removeprefix("host/")) if login.startswith("host/") else None
    webservice = records.find("webservice", f"conjur/authn-jwt/{service.id}")
    if host is None or webservice is None:
        raise Refused(wire.bare(401))
    if not records.is_allowed(host.id, "authenticate", webservice):
        raise Refused(wire.bare(403))
    return host


def _claims(jwt: str) -> dict[str, Any]:
    payload = jwt.split(".")[1].rstrip("=")
    try:
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:  # such as the tests write where it does not matter
        return {}
    return claims


def make_jwt(signature: str = "signature", **claims: Any) -> str:
    """Return a JWT that says this; the stand-in compares it whole instead of checking its signature."""
    head, payload = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "RS256"}, claims)
    )
    return f"{head}.{payload}.{signature}"
