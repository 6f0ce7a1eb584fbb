"""What is one login? A token with the connections that it travels over, from the login to the revocation."""

import math
import os
from dataclasses import dataclass, field

import hvac
import requests

from app.core.errors import BackendError, BadRequest, LoginRefused, PathMissing, PermissionDenied
from app.core.logs.logging_config import get_logger
from app.core.logs.redaction import mask_from_now_on
from app.core.not_serializable import NotSerializable
from app.core.settings.vault import MAIN_VAULT, SERVICE_ACCOUNT_TOKEN, VaultSettings
from app.core.transport.error_causes import (
    ASK_THE_CLUSTER,
    CHECK_CIDRS,
    CREDENTIALS_WRONG,
    DENIED,
    NO_REVIEW,
    NOT_FROM_HERE,
    NOT_MOUNTED,
)
from app.core.transport.http import open_http, vault_client
from app.core.vault.auth_methods import Auth, AuthMethod
from app.core.vault.auth_methods.oddities import look_of
from app.core.vault.auth_methods.protocol import BARE, look_of_credentials
from app.core.vault.consistency import Consistency
from app.core.vault.errors import data_of, vault_errors

log = get_logger(__name__)


@dataclass(eq=False, slots=True)
class Login(NotSerializable):
    """One token with the connections that it travels over, and how many calls are using it."""

    settings: VaultSettings
    auth: Auth
    since: float  # by the session's clock
    client: hvac.Client
    http: requests.Session
    users: int = 0
    uses: int = 0
    retired: bool = False
    dead: bool = False  # Vault does not know the token any more
    tls_failed: bool = False
    behind_proxy: bool = False  # an Agent or Proxy passed the login on
    process: int = field(default_factory=os.getpid)  # the one that logged in

    def is_spent(self, now: float) -> bool:
        """Tell whether the token has expired or used up its uses, as far as we know; each is good for one use."""
        expired = bool(self.auth.lease_duration) and now >= self.since + (self.auth.lease_duration or 0)
        used_up = 0 < self.auth.num_uses <= self.uses + 1  # the last use is kept for the revocation
        return self.auth.obtained and self.uses > 0 and (expired or used_up)

    @property
    def lifetime(self) -> float | None:
        """How long the token was to live when it was obtained or renewed, in seconds; 0: for ever; None: unknown."""
        return self.auth.lease_duration

    def seconds_left(self, now: float) -> float | None:
        """Return how long the token will live: infinity if it does not expire, None if nobody has said."""
        ttl = self.auth.lease_duration
        if self.dead:
            return 0.0
        if not ttl:
            return None if ttl is None else math.inf
        return max(0.0, self.since + ttl - now)

    def is_dead(self) -> bool:
        """Ask Vault whether it still knows the token (`GET auth/token/lookup-self`).

        A token whose policies forbid even that looks dead; one that a Proxy adds is no matter of ours.
        """
        if not self.auth.client_token:
            return False
        try:
            with vault_errors(self.settings.url, "auth/token/lookup-self"):
                data_of(self.client.auth.token.lookup_self())
        except PermissionDenied:
            return True
        return False


def log_in(
    settings: VaultSettings,
    method: AuthMethod,
    now: float,
    instead_of: Login | None,
    source: str = MAIN_VAULT,
    *,
    consistency: Consistency,
) -> Login:
    """Log in, over connections of its own; raise `LoginRefused` or another `BackendError`.

    `instead_of` is the login to be replaced: the same token again is no replacement for it. `source` is the Vault's
    name. `consistency` is what was seen of the cluster over former logins.
    """
    namespace = settings.home
    where = f"auth method {settings.auth_method} at auth/{settings.login_mount_point}"
    where += f" in namespace {namespace}" if namespace else ""
    remedy = "Check the credentials, the role, VAULT_AUTH_MOUNT_POINT and VAULT_LOGIN_NAMESPACE."
    http = open_http(settings, source)
    consistency.watch(http)
    marks: list[bool] = []  # of answers that an Agent or Proxy passed on
    http.hooks["response"].append(mark := lambda answer, **_: marks.append("X-Cache" in answer.headers))
    try:
        with vault_errors(settings.url, where, remedy):
            auth = method.login(vault_client(settings, http, namespace=namespace))
        mask_from_now_on((settings, "token"), [auth.client_token])
        if instead_of and not instead_of.tls_failed and auth.client_token == instead_of.auth.client_token:
            raise unusable(instead_of, now)
    except (PermissionDenied, PathMissing, BadRequest) as error:
        http.close()
        raise _refusal(settings, where, error) from None
    except BaseException:
        http.close()
        raise
    http.hooks["response"].remove(mark)
    client = vault_client(settings, http, auth.client_token, settings.place)
    return Login(settings, auth, now, client, http, behind_proxy=any(marks))


def _refusal(settings: VaultSettings, where: str, error: BackendError) -> LoginRefused:
    """Say why Vault refuses the login: what it says, and what the credentials look like if not like credentials."""
    cause, remedy = error.cause, error.remedy
    if cause == DENIED:  # that is all that Vault says of several things
        more = {
            "kubernetes": f": {NO_REVIEW}, or {NOT_FROM_HERE}",
            "jwt": f": {NOT_FROM_HERE}",
            "cert": f": {NOT_FROM_HERE}",
        }
        cause += f"{more.get(settings.auth_method, '')}, or {NOT_MOUNTED}"
        first = {"kubernetes": ASK_THE_CLUSTER, "jwt": CHECK_CIDRS, "cert": CHECK_CIDRS}
        remedy = f"{first.get(settings.auth_method, '')} {remedy}".strip()
    if look := look_of_credentials(settings) if error.cause in CREDENTIALS_WRONG else "":
        cause, remedy = f"{cause}; {look}", f"{BARE} {remedy}".strip()
    if settings.auth_method == "kubernetes" and settings.jwt is None and settings.jwt_file is None:
        remedy = remedy.replace("VAULT_JWT", str(SERVICE_ACCOUNT_TOKEN))
    return LoginRefused(
        where, f"Vault refuses the login: {cause}", remedy.replace("auth/MOUNT/", f"auth/{settings.login_mount_point}/")
    )


def unusable(login: Login, now: float) -> LoginRefused:
    """Say what is the matter with a token that was handed in, and that no other one has replaced."""
    file = login.settings.token_file
    subject = "VAULT_TOKEN" if file is None else f"VAULT_TOKEN_FILE={file}"
    left = login.since + (login.auth.lease_duration or 0.0) - now
    cause = f"the token expires in {left:.0f} s and cannot be renewed any more"
    if login.dead or not login.auth.lease_duration or left <= 0:
        cause = "Vault does not accept the token: wrong, expired or revoked"
        if look := look_of(login.auth.client_token, "VAULT_TOKEN"):
            return LoginRefused(subject, f"Vault does not accept the token: {look}", BARE)
    return LoginRefused(subject, cause, "Provide a new one: `vault token create`.")


def end_login(login: Login) -> None:
    """Revoke the token if this process obtained it; failing that, it expires by itself."""
    if login.process != os.getpid():  # a child's copy: the parent goes on with the token and its connections
        return
    if login.auth.obtained and login.auth.token_type != "batch":  # noqa: S105
        try:
            with vault_errors(login.settings.url, "auth/token/revoke-self"):
                is_ours = not login.behind_proxy or _is_passed_on(login)
                if is_ours:
                    login.client.auth.token.revoke_self()
        except BackendError as error:
            log.warning("token_revocation_failed", error=type(error).__name__, ttl=login.auth.lease_duration)
        else:
            log.info("token_revoked" if is_ours else "token_left_to_expire")
    login.http.close()


def _is_passed_on(login: Login) -> bool:
    """Tell whether a Proxy leaves our token in requests. One that forces its own upon them would have that revoked."""
    return bool(data_of(login.client.auth.token.lookup_self()).get("id") == login.auth.client_token)
