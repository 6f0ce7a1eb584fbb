"""Why did a login to Conjur bring no token? The answer mostly does not say, so this looks at what is known beside it.

Conjur's 401 has a body only where a JWT has expired; its log has a code for every reason (`CONJ00035E`). What can be
seen from here: the JWT itself, which authenticators are enabled (`GET /authenticators`, open to all), and a 403, which
comes after everything else was found to be in order. None of this may look like an error about a variable.
"""

import base64
import json
import re
from http import HTTPStatus
from typing import Any, NamedTuple

import requests

from app.core.errors import BackendError, BadRequest, LoginRefused, PathMissing, PermissionDenied, PolicyConflict
from app.core.settings.vault import SERVICE_ACCOUNT_TOKEN
from app.extras.conjur.errors import error_in, not_conjur, refusal
from app.extras.conjur.settings import ConjurSettings

JWT = re.compile(r"[\w=-]+\.[\w=-]+\.[\w=-]+", re.ASCII)  # what Conjur takes for one
FAR = 10**11  # seconds since 1970, beyond which a time is a slip
LONGEST_CLAIM = 100  # characters
CODES = {  # of Conjur's; all but the first are in its log only, unless a server says more than those that we know
    "CONJ00016E": "the JWT has expired",
    "CONJ00004E": "the service is not enabled",
    "CONJ00005E": "there is no such service",
    "CONJ00006E": "the host lacks the privilege authenticate on the service",
    "CONJ00007E": "there is no such host",
    "CONJ00010E": "Conjur cannot reach the issuer of the JWT",
    "CONJ00011E": "Conjur cannot reach the issuer of the JWT",
    "CONJ00012E": "Conjur cannot fetch the keys of the JWT's issuer",
    "CONJ00015E": "the JWT does not pass: Conjur cannot check it",
    "CONJ00035E": "the JWT does not pass: a wrong signature, issuer or audience, or it is not valid yet",
    "CONJ00087E": "Conjur cannot fetch the keys of the JWT's issuer",
    "CONJ00098E": "CONJUR_AUTHN_LOGIN is set, and the service has a token-app-property; or neither is set",
    "CONJ00123E": "Conjur cannot fetch the keys of the JWT's issuer",
}


class Attempt(NamedTuple):
    """A login that was tried, and what else could be asked."""

    settings: ConjurSettings
    jwt: str  # empty if it was with an API key
    http: requests.Session
    timeout: float  # seconds
    today: float  # seconds since 1970

    @property
    def subject(self) -> str:
        """As whom and where."""
        own = self.settings
        service = f", service {own.authn_jwt_service_id}" if own.authn_jwt_service_id else ""
        return f"{own.authn_login or 'authn-jwt'} in account {own.account}{service}"


def login_error(answer: requests.Response, attempt: Attempt) -> BackendError:
    """Return the error for an answer of 300 or above to a login."""
    address, said = attempt.settings.appliance_url or "", error_in(answer)
    if answer.status_code == HTTPStatus.UNAUTHORIZED and answer.content and said is None:
        # the token check spoke, which stands in front of every route but the logins
        return not_conjur(address, "HTTP 401 with text: perhaps a prefix such as /api lacks, or is too much")
    if answer.status_code == HTTPStatus.UNAUTHORIZED or (
        answer.status_code in {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN} and not answer.content
    ):
        return _refused(answer.status_code, said, attempt)
    error = refusal(answer, address, attempt.subject)
    if isinstance(error, BadRequest | PathMissing | PermissionDenied | PolicyConflict):  # it is about no variable
        return LoginRefused(error.subject, f"Conjur refuses the login: {error.cause}", error.remedy)
    return error


def _refused(status: int, said: dict[str, Any] | None, attempt: Attempt) -> LoginRefused:
    own = attempt.settings
    code = re.search("CONJ[0-9]{5}E", str((said or {}).get("message", "")))
    if code:
        cause = CODES.get(code[0], f"Conjur refuses the login ({code[0]})")
        return LoginRefused(attempt.subject, cause, _remedy(code[0], own))
    if own.authn_jwt_service_id:
        return _jwt_refused(status, own.authn_jwt_service_id, attempt)
    wrong = "wrong key, login or account, or it may not be used from this machine's address"
    remedy = "Check CONJUR_AUTHN_LOGIN (hosts: host/…), CONJUR_AUTHN_API_KEY, CONJUR_ACCOUNT and restricted_to."
    return LoginRefused(attempt.subject, f"Conjur refuses the login, and does not say why: {wrong}", remedy)


def _jwt_refused(status: int, service: str, attempt: Attempt) -> LoginRefused:
    own, webservice = attempt.settings, f"conjur/authn-jwt/{service}"
    host = own.authn_login or "the host that the JWT stands for"
    if status == HTTPStatus.FORBIDDEN:
        cause = f"the JWT is good, but {host} lacks the privilege authenticate on the webservice {webservice}"
        remedy = (
            f"Permit it in a policy: role {_role(own)}, privileges [read, authenticate], resource !webservice"
            f" {webservice}; `python -m app policy --vault conjur` prints it."
        )
        return LoginRefused(attempt.subject, cause, remedy)
    if not JWT.fullmatch(attempt.jwt):
        return LoginRefused(
            attempt.subject, f"what {_file(own)} holds is not a JWT", "Check what has been written there."
        )
    claims = _claims(attempt.jwt)
    if isinstance(early := claims.get("nbf"), int | float) and early > attempt.today:
        remedy = "Wait, or check the clocks of this machine, of the JWT's issuer and of Conjur."
        when = f" (nbf is {early:.0f})" if early < FAR else ""
        return LoginRefused(attempt.subject, f"the JWT is not valid yet{when}", remedy)
    if known := _unknown_service(service, attempt):
        return LoginRefused(attempt.subject, *known)
    return LoginRefused(attempt.subject, *_any_reason(own, claims, host))


def _unknown_service(service: str, attempt: Attempt) -> tuple[str, str] | None:
    """Return cause and remedy if Conjur does not know the service, or has it not enabled."""
    name = f"authn-jwt/{service}"
    try:
        url = f"{attempt.settings.appliance_url}/authenticators"
        found = attempt.http.get(url, timeout=attempt.timeout, allow_redirects=False).json()
        configured, enabled = [str(each) for each in found["configured"]], [str(each) for each in found["enabled"]]
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return None
    if name in enabled:
        return None
    if name not in configured:
        return (
            f"there is no webservice conjur/{name} in Conjur",
            "Check CONJUR_AUTHN_JWT_SERVICE_ID, or load its policy.",
        )
    remedy = (
        f"Enable it: add {name} to CONJUR_AUTHENTICATORS of the server, or `conjur authenticator enable --id {name}`."
    )
    return f"the service {name} is not enabled in Conjur", remedy


def _any_reason(own: ConjurSettings, claims: dict[str, Any], host: str) -> tuple[str, str]:
    """Return what is left where nothing can be seen from here."""
    shown = [f"{name} {claims[name]}" for name in ("iss", "aud") if _is_shown(claims.get(name))]
    said = f" (it says {', '.join(shown)})" if shown else ""
    if own.authn_login:
        login = "CONJUR_AUTHN_LOGIN is set though the service has a token-app-property"
    else:
        login = "CONJUR_AUTHN_LOGIN is missing though the service has no token-app-property"
    cause = (
        f"Conjur refuses the login, and does not say why: the JWT's signature, issuer, audience{said} or another claim"
        f" is wrong for the service, Conjur cannot fetch its issuer's keys, {host} does not exist, or {login}"
    )
    remedy = "Look into Conjur's log, which has the reason (a code such as CONJ00035E; docs/conjur.md lists them)."
    return cause, f"{remedy} With a token-app-property leave CONJUR_AUTHN_LOGIN out, without one set it (host/…)."


def _remedy(code: str, own: ConjurSettings) -> str:
    if code == "CONJ00016E":
        return f"Check what should renew {_file(own)}, and the clocks of its issuer and of Conjur."
    return "Check CONJUR_AUTHN_JWT_SERVICE_ID, CONJUR_AUTHN_LOGIN and the JWT; docs/conjur.md lists the codes."


def _file(own: ConjurSettings) -> str:
    return f"CONJUR_AUTHN_JWT_FILE={own.authn_jwt_file or SERVICE_ACCOUNT_TOKEN}"


def _role(own: ConjurSettings) -> str:
    return f"!host {(own.authn_login or 'host/…').removeprefix('host/')}"


def _claims(jwt: str) -> dict[str, Any]:
    """Return what a JWT says, unchecked; nothing of what cannot be read."""
    try:
        payload = jwt.split(".")[1].rstrip("=")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _is_shown(claim: object) -> bool:
    return isinstance(claim, str) and 0 < len(claim) <= LONGEST_CLAIM and claim.isprintable()
