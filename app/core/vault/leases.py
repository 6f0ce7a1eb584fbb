"""What does Vault issue, and how is a lease renewed and revoked?

Rests on `GET <path>`, or `POST <path>` where there are parameters, and on `POST sys/leases/renew/<id>` and
`POST sys/leases/revoke/<id>`, whose URLs a policy can bound to the path.
"""

import math
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import hvac

from app.core.errors import BackendError, BadRequest, ServerFault, UnexpectedAnswer
from app.core.logs.redaction import mask_from_now_on
from app.core.not_serializable import NotSerializable
from app.core.settings.dynamic import DynamicSecret
from app.core.settings.problems import variable_name
from app.core.settings.vault import MAIN_VAULT
from app.core.store.source import Secret, TokenLife
from app.core.transport.http import quoted
from app.core.transport.repetitions import once
from app.core.vault.answers import checked_life, malformed
from app.core.vault.errors import data_of, is_own_fault, refuse_wrapped, vault_errors
from app.core.vault.login import Login
from app.core.vault.session import VaultSession


@dataclass(eq=False, slots=True)
class Lease(NotSerializable):
    """Credentials that Vault has issued, for how long they are good, and what keeps them."""

    secret: DynamicSecret
    data: Mapping[str, Any] = field(repr=False)
    login: Login  # whose token asked for them: a lease dies with it
    lease_id: str  # "": there is none, as for a static role or a certificate
    renewable: bool
    issued_at: float  # seconds since 1970
    since: float  # by the session's clock: when they were issued or renewed
    duration: float  # seconds that they were good for then
    full: float  # seconds that they were good for at first
    rotated: object = None  # of a static role: when Vault last changed the password
    due: float = 0.0  # when they are to be renewed or replaced
    replace: bool = False  # they are to be, now
    is_first: bool = False  # the first ones since the start
    refused: bool = False  # a consumer was turned away with them
    is_drained: Callable[[], bool] | None = None  # tells whether nothing built from them is in use; None: not replaced
    retired_at: float = 0.0

    def seconds_left(self, now: float) -> float:
        """Return how long they are good for: a lease no longer than its token, whatever it says."""
        left = self.since + self.duration - now
        if self.lease_id and (token := self.login.seconds_left(now)) is not None:
            left = min(left, token)
        return max(0.0, left)

    def ends_with_token(self, now: float) -> bool:
        """Whether its token's end is theirs too: then renewing does not help, and a new token brings new ones."""
        token = self.login.seconds_left(now) if self.lease_id else None
        return token is not None and token <= (self.since + self.duration - now) * 1.02 + 1.0

    def life(self, now: float) -> TokenLife:
        """Return what people may know of it; where its token ends first, the token's time is the whole of it."""
        whole = self.login.lifetime or self.duration if self.ends_with_token(now) else self.duration
        left: float | None = self.seconds_left(now)
        if left == 0 and self.rotated is not None:
            left = None  # a static role's password is good until Vault changes it, which is due
        return TokenLife(min(whole, self.duration), left, self.renewable and bool(self.lease_id))

    def as_secret(self) -> Secret:
        """Return them as what was read at one place."""
        return Secret(self.secret.address, self.data, created_at=self.issued_at)


def variable_of(secret: DynamicSecret, vault: str) -> str:
    """Return the variable that names a dynamic secret of the Vault of this name."""
    return variable_name((*((MAIN_VAULT,) if vault == MAIN_VAULT else ("vaults", vault)), "dynamic", secret.name))


def issue(session: VaultSession, secret: DynamicSecret, wall: float) -> Lease:
    """Have Vault issue credentials, with one request that is never repeated; raise a `BackendError` if it does not.

    Each request has a nonce in its query: a Proxy or Agent with a cache would answer with what it has already.
    """
    subject = _subject(session, secret)
    url, nonce = f"/v1/{quoted(secret.path)}", {"n": secrets.token_hex(8)}

    def ask(login: Login) -> tuple[Any, Login]:
        with once():
            if secret.parameters:
                answer = login.client.adapter.post(url, params=nonce, json=dict(secret.parameters))
            else:
                answer = login.client.adapter.get(url, params=nonce)
        session.hold(login)
        return answer, login

    try:
        answer, login = session.call_with_login(subject, ask)
    except BadRequest as error:
        raise _refused(error, secret) from None
    except BackendError as error:
        if is_own_fault(error):
            raise _engine_failed(subject, secret) from None
        raise
    try:
        lease = _lease(session, secret, answer, login, wall=wall)
    except BaseException:
        session.give_back(login)
        raise
    if not lease.lease_id:  # it outlives the token
        session.give_back(login)
    return lease


def _subject(session: VaultSession, secret: DynamicSecret) -> str:
    return f"{variable_of(secret, session.name)}={secret.path}"


def renew(session: VaultSession, lease: Lease) -> float:
    """Have Vault prolong a lease; return for how many seconds it is good now."""
    subject = f"sys/leases/renew/{lease.secret.path}/*"
    answer = _about(session, lease, subject, lambda client: client.adapter.post(_url("renew", lease), json={}))
    told = checked_life(answer, subject)
    lease.since, lease.duration, lease.renewable = session.clock(), told.duration, told.renewable
    return told.duration


def revoke(session: VaultSession, lease: Lease) -> None:
    """Have Vault take credentials back, over the connections and with the token that they came by."""
    subject = f"sys/leases/revoke/{lease.secret.path}/*"
    _about(session, lease, subject, lambda client: client.adapter.post(_url("revoke", lease), json={}))


def _about(session: VaultSession, lease: Lease, subject: str, ask: Callable[[hvac.Client], Any]) -> Any:
    with vault_errors(session.settings.url, subject), once():
        return ask(lease.login.client)


def _url(what: str, lease: Lease) -> str:
    return f"/v1/sys/leases/{what}/{quoted(lease.lease_id)}"


def _lease(session: VaultSession, secret: DynamicSecret, answer: Any, login: Login, *, wall: float) -> Lease:
    """Read what Vault has issued; an answer without an end is none."""
    subject = _subject(session, secret)
    refuse_wrapped(answer, subject)
    data = data_of(answer)
    mask_from_now_on((id(session), subject), [data])
    now = session.clock()
    match answer:
        case {"lease_id": str(lease_id)} if lease_id:
            told = checked_life(answer, subject)
            where, _, tail = lease_id.rpartition("/")
            if where != secret.path or not re.fullmatch(r"[\w.-]+", tail, re.ASCII):
                raise malformed(subject, "lease_id")
            duration, renewable = told.duration, told.renewable
        case {"data": {"last_vault_rotation": rotated, "ttl": int(ttl) | float(ttl)}} if ttl >= 0:
            return Lease(secret, data, login, "", False, wall, now, float(ttl), float(ttl), rotated)  # noqa: FBT003
        case {"data": {"expiration": int(end) | float(end)}}:
            lease_id, duration, renewable = "", end - wall, False
        case {"data": {"data": _, "metadata": _}} | {"data": {"keys": _}}:
            raise _no_end(subject, "it is a secret of the KV engine, or a folder: a path for VAULT_SECRET_PATH")
        case _:
            raise _no_end(subject, "the answer has neither a lease nor an expiry, so nobody knows how long it is good")
    if duration <= 0 or not math.isfinite(duration):
        cause = f"what Vault issues there is good for {duration:g} s"
        raise UnexpectedAnswer(subject, cause, "Give the role a TTL (default_ttl), and compare the clocks.")
    return Lease(secret, data, login, lease_id, renewable, wall, now, duration, duration)


def _no_end(subject: str, cause: str) -> UnexpectedAnswer:
    remedy = "Name a path that issues credentials, such as database/creds/ROLE or database/static-creds/ROLE."
    return UnexpectedAnswer(subject, cause, remedy)


def _refused(error: BadRequest, secret: DynamicSecret) -> BadRequest:
    mount = secret.path.partition("/")[0]
    known = f"Check the role in the path: `vault list {mount}/roles`."
    if secret.parameters:
        known += f" Check the parameters, too: {', '.join(name for name, _ in secret.parameters)}."
    else:
        known += " Where it wants POST, it needs a parameter behind the path: ?ttl=1h."
    return BadRequest(error.subject, f"Vault does not issue it: {error.cause}", known)


def _engine_failed(subject: str, secret: DynamicSecret) -> ServerFault:
    mount = secret.path.partition("/")[0]
    cause = "Vault could not have it issued: what it stands for (a database, say) is out of reach, or refuses Vault"
    return ServerFault(
        subject, cause, f"Vault's log says which; look at the configuration below {mount}/ and the role."
    )
