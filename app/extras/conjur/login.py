"""How do we log in to Conjur, and how long does the token live?

Rests on `POST /authn/<account>/<login>/authenticate` with the API key, on
`POST /authn-jwt/<service id>/<account>[/<login>]/authenticate` with a JWT, or on a token file that somebody else keeps
fresh. Credentials and TLS files are read again at every login, since they rotate. A token's `exp` can be read though
its signature cannot be checked here.
"""

import base64
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import requests

from app.core.errors import LoginRefused
from app.core.logs.redaction import mask_from_now_on
from app.core.not_serializable import NotSerializable
from app.core.settings.vault import SERVICE_ACCOUNT_TOKEN
from app.core.transport.calls import conjur_operation
from app.core.transport.http import open_connections
from app.core.transport.network_errors import network_errors
from app.core.transport.tls import TLSFiles
from app.core.vault.auth_methods.protocol import credential
from app.extras.conjur.errors import failed, not_conjur
from app.extras.conjur.login_errors import Attempt, login_error
from app.extras.conjur.settings import CONJUR, ConjurSettings

MARGIN = 1 / 6  # of its life before a token expires, it is replaced: of the usual 480 s, 80 s
SHORTEST_LIFE = 5.0  # seconds that a token is used at least, whatever it or our clock says: a 401 ends it anyway
# With every body that is no form: Rack, below Conjur, reads one without a type as a form, and stumbles over a `%`, or
# obeys a `_method`.
OCTETS = {"Content-Type": "application/octet-stream"}
LEGACY_LIFE = 480  # seconds that a token lives which does not say so: older servers


class Token(NamedTuple):
    """An access token, as it travels in the `Authorization` header, and what it says of itself."""

    encoded: str
    login: str
    issued_at: float  # by the server's clock, in seconds since 1970
    expires_at: float


@dataclass(eq=False, slots=True)
class ConjurLogin(NotSerializable):
    """One token with the connections that it travels over. It cannot be revoked; it expires by itself."""

    token: str = field(repr=False)
    login: str  # as whom, such as host/apps/my-service
    http: requests.Session
    since: float  # by the session's clock
    lifetime: float  # seconds from then on
    replace_at: float  # by the session's clock
    refused: bool = False  # Conjur does not accept the token any more


def api_url(settings: ConjurSettings, *segments: str) -> str:
    """Return an address of the API; each segment is percent-encoded whole, its slashes included."""
    return "/".join([settings.appliance_url or "", *(quote(segment, safe="") for segment in segments)])


def log_in(
    settings: ConjurSettings, timeout: float, now: float, today: float, instead_of: ConjurLogin | None
) -> ConjurLogin:
    """Log in, over connections of its own; raise `LoginRefused` or another `BackendError`.

    `now` is the time by the session's clock, `today` in seconds since 1970. `instead_of` is the login to be replaced: a
    token file that still holds its token does not help if Conjur refuses that.
    """
    http = open_connections(settings.appliance_url or "", tls_files(settings), CONJUR, conjur_operation)
    try:
        if settings.authn_token_file is None:
            token = _authenticate(settings, http, timeout, today)
            lifetime = token.expires_at - token.issued_at  # counted from now on: our clock may differ from the server's
        else:
            token = _read_token(settings.authn_token_file)  # which may be old, and our clock wrong: Conjur decides
            lifetime = min(token.expires_at - today, token.expires_at - token.issued_at)
        lifetime = max(lifetime, SHORTEST_LIFE)
        same = instead_of is not None and instead_of.token == token.encoded
        if settings.authn_token_file is not None and same and instead_of and instead_of.refused:
            subject = f"CONJUR_AUTHN_TOKEN_FILE={settings.authn_token_file}"
            cause = (
                "the token in it has expired" if token.expires_at <= today else "Conjur does not accept the token in it"
            )
            raise LoginRefused(subject, cause, "Check what should keep it fresh, such as the authenticator's sidecar.")
    except BaseException:
        http.close()
        raise
    mask_from_now_on((settings, "token"), [token.encoded, base64.b64decode(token.encoded).decode(errors="replace")])
    margin = 0.0 if same else lifetime * MARGIN  # a file that nobody renews is not read again at every call
    return ConjurLogin(token.encoded, token.login, http, now, lifetime, now + lifetime - margin)


def parse_token(text: bytes) -> Token:
    """Read an access token, as JSON or in base64; raise `ValueError` if it is none."""
    raw = text.strip()
    if not raw.startswith(b"{"):
        raw = _decoded(raw)
    try:
        token = json.loads(raw)
        payload = json.loads(_decoded(token["payload"].encode()))
        login, issued = payload["sub"], float(payload["iat"])
        expires = float(payload.get("exp", issued + LEGACY_LIFE))
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ValueError from None
    if not (math.isfinite(issued) and math.isfinite(expires)):
        raise ValueError
    return Token(base64.b64encode(raw).decode(), str(login), issued, expires)


def _decoded(encoded: bytes) -> bytes:
    """Decode either alphabet of base64, with or without padding."""
    return base64.b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=b"-_" if {*b"-_"} & {*encoded} else None)


def _authenticate(settings: ConjurSettings, http: requests.Session, timeout: float, today: float) -> Token:
    account, login, service = settings.account or "", settings.authn_login, settings.authn_jwt_service_id
    body: Any
    headers: dict[str, str] = {}
    jwt = ""
    if service is None:
        segments = ["authn", account, login or "", "authenticate"]
        body, headers = credential(settings.authn_api_key, settings.authn_api_key_file, "CONJUR_AUTHN_API_KEY"), OCTETS
    else:
        segments = ["authn-jwt", service, account, *([login] if login else []), "authenticate"]
        jwt = credential(None, settings.authn_jwt_file or SERVICE_ACCOUNT_TOKEN, "CONJUR_AUTHN_JWT") or ""
        body = {"jwt": jwt}
    address = settings.appliance_url or ""
    with network_errors(address, "Conjur", "CONJUR_APPLIANCE_URL"):
        url = api_url(settings, *segments)
        answer = http.post(url, data=body, headers=headers, timeout=timeout, allow_redirects=False)
    if failed(answer):
        raise login_error(answer, Attempt(settings, jwt, http, timeout, today))
    try:
        return parse_token(answer.content)
    except ValueError:
        raise not_conjur(address, "no token in it") from None


def _read_token(file: Path) -> Token:
    try:
        return parse_token((credential(None, file, "CONJUR_AUTHN_TOKEN") or "").encode())
    except ValueError:
        subject, remedy = f"CONJUR_AUTHN_TOKEN_FILE={file}", "Check what has been written there."
        raise LoginRefused(subject, "what it holds is not an access token of Conjur's", remedy) from None


def tls_files(settings: ConjurSettings) -> TLSFiles:
    """Return the PEM files, and the variables that name them."""
    ca = "CONJUR_CERT_FILE" if settings.ssl_certificate is None else "CONJUR_SSL_CERTIFICATE"
    pair = settings.client_cert, settings.client_key
    return TLSFiles(
        settings.cert_file, *pair, settings.ssl_certificate, (ca, "CONJUR_CLIENT_CERT", "CONJUR_CLIENT_KEY")
    )
