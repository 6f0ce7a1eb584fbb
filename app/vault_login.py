"""What is one login? A token with the connections that it travels over, from the login to the revocation."""

import math
from dataclasses import dataclass

import hvac
import requests

from app.auth_methods import Auth, AuthMethod
from app.config import MAIN_VAULT, VaultSettings
from app.errors import BadRequest, LoginRefused, PathMissing, PermissionDenied, VaultError
from app.logging_config import get_logger
from app.redaction import hold
from app.vault_errors import data_of, vault_errors
from app.vault_http import open_http, vault_client

log = get_logger(__name__)


@dataclass(eq=False, slots=True)
class Login:
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

    def is_worn(self, now: float) -> bool:
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

        A token whose policies forbid even that looks dead.
        """
        try:
            with vault_errors(self.settings.url, "auth/token/lookup-self"):
                data_of(self.client.auth.token.lookup_self())
        except PermissionDenied:
            return True
        return False


def log_in(
    settings: VaultSettings, method: AuthMethod, now: float, instead_of: Login | None, source: str = MAIN_VAULT
) -> Login:
    """Log in, over connections of its own; raise `LoginRefused` or another `VaultError`.

    `instead_of` is the login to be replaced: the same token again is no replacement for it. `source` is the Vault's
    name.
    """
    namespace = settings.login_namespace or settings.namespace
    where = f"auth method {settings.auth_method} at auth/{settings.login_mount_point}"
    where += f" in namespace {namespace}" if namespace else ""
    remedy = "Check the credentials, the role, VAULT_AUTH_MOUNT_POINT and VAULT_LOGIN_NAMESPACE."
    http = open_http(settings, source)
    try:
        with vault_errors(settings.url, where, remedy):
            auth = method.login(vault_client(settings, http, namespace=namespace))
        hold((settings, "token"), [auth.client_token])
        if instead_of and not instead_of.tls_failed and auth.client_token == instead_of.auth.client_token:
            raise unusable(instead_of, now)
    except (PermissionDenied, PathMissing, BadRequest) as error:
        http.close()
        cause = f"{error.cause}, or nothing is mounted there" if isinstance(error, PermissionDenied) else error.cause
        raise LoginRefused(where, f"Vault refuses the login: {cause}", error.remedy) from None
    except BaseException:
        http.close()
        raise
    client = vault_client(settings, http, auth.client_token, settings.namespace)
    return Login(settings, auth, now, client, http)


def unusable(login: Login, now: float) -> LoginRefused:
    """Say what is the matter with a token that was handed in, and that no other one has replaced."""
    file = login.settings.token_file
    subject = "VAULT_TOKEN" if file is None else f"VAULT_TOKEN_FILE={file}"
    left = login.since + (login.auth.lease_duration or 0.0) - now
    cause = f"the token expires in {left:.0f} s and cannot be renewed any more"
    if login.dead or not login.auth.lease_duration or left <= 0:
        cause = "Vault does not accept the token: wrong, expired or revoked"
    return LoginRefused(subject, cause, "Provide a new one: `vault token create`.")


def end_login(login: Login) -> None:
    """Revoke the token if it is ours; failing that, it expires by itself."""
    if login.auth.obtained and login.auth.token_type != "batch":  # noqa: S105
        try:
            with vault_errors(login.settings.url, "auth/token/revoke-self"):
                login.client.auth.token.revoke_self()
        except VaultError as error:
            log.warning("token_revocation_failed", error=type(error).__name__, ttl=login.auth.lease_duration)
        else:
            log.info("token_revoked")
    login.http.close()
