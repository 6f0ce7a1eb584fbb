"""Why does Vault refuse the login, and what does one cost? Asked without using up what is good only once."""

from collections.abc import Iterator, Mapping

import hvac
import requests

from app.core.errors import BackendError, LoginRefused, PermissionDenied
from app.core.settings.vault import VaultSettings
from app.core.transport.error_causes import ASK_THE_CLUSTER, NO_REVIEW, NOT_FROM_HERE, NOT_MOUNTED, WRONG_PAIR
from app.core.transport.http import vault_client
from app.core.vault.answers import checked_lookup
from app.core.vault.auth_methods.approle import AppRoleMethod
from app.core.vault.auth_methods.none import ADD_ONE, UNSEEN
from app.core.vault.auth_methods.protocol import NOT_BARE, credential, login_with
from app.core.vault.errors import vault_errors
from app.core.vault.kv import VaultKV
from app.core.vault.login import Login, unusable
from app.core.vault.session import VaultSession
from app.extras.doctor.findings import Finding, HaltError, ok, warning

ANOTHER_WAY = "`python -m app doctor --login` logs in all the same; the service then needs a new one."


class OneLogin(VaultSession):
    """Does not log in again after a 403, as the service would: a secret id may be good for one login only."""

    def _is_dead(self, login: Login) -> bool:  # noqa: ARG002 - whatever Vault would say of it
        return False


def log_in(session: VaultSession, http: requests.Session, *, wanted: bool | None) -> Iterator[Finding]:
    """Log in, and make sure that Vault accepts the token.

    Unless it is `wanted` (None: where it uses nothing up), the steps after it are not reached.
    """
    settings = session.settings
    if wanted is False and settings.auth_method not in {"token", "none"}:
        raise HaltError(Finding("not reached", "not tried, because of --no-login"))
    if settings.secret_id_wrapped and not wanted:
        AppRoleMethod(settings).look_up(_without_token(settings, http))
        text = "the wrapping token holds a secret id; not unwrapped, since that works once"
        raise HaltError(warning(text, ANOTHER_WAY, "VAULT_SECRET_ID"))
    if settings.auth_method == "token":
        _spare(session)
    try:
        mounts = VaultKV(session).usable_mounts()  # open to every token that Vault accepts, whatever its policies
        if settings.auth_method == "none" and not mounts:  # open to requests without a token, too, but then empty
            session.call("auth/token/lookup-self", lambda client: client.auth.token.lookup_self())
    except PermissionDenied:
        raise _not_accepted(session) from None
    except LoginRefused as refused:
        raise _narrowed_down(settings, http, refused) from None
    if settings.auth_method in {"token", "none"}:
        adds = settings.auth_method == "none"
        yield ok(f"Vault accepts the token that {'the Agent or Proxy adds' if adds else 'was handed in'}")
        return
    role = f", role {settings.role}" if settings.role else ""
    namespace = settings.home
    where = f"auth/{settings.login_mount_point}{role}" + (f", namespace {namespace}" if namespace else "")
    yield ok(f"logged in with {settings.auth_method} at {where}")
    if settings.secret_id_wrapped:
        yield warning("the wrapping token is used up now", "Deliver a new one before the service starts.")


def _spare(session: VaultSession) -> None:
    """Go no further with a token that is good for a limited number of requests (`GET auth/token/lookup-self`).

    Asking takes one of them. Where its policies forbid that, nobody can know.
    """
    try:
        known = checked_lookup(session.call("auth/token/lookup-self", lambda client: client.auth.token.lookup_self()))
    except PermissionDenied:
        return  # or Vault does not accept it at all: the next request tells
    if uses := int(known.get("num_uses", 0)):  # -1: that was the last one
        text = f"the token is good for {max(uses, 0)} more requests, which are not used up here; this one took one"
        remedy = "Put one without a limit into VAULT_TOKEN: `vault token create` without -use-limit."
        raise HaltError(warning(text, remedy))


def _not_accepted(session: VaultSession) -> LoginRefused:
    """Say what is the matter with a token that may not even be used for what all may do."""
    login = session.current()
    if session.settings.auth_method == "none":
        return LoginRefused("VAULT_AUTH_METHOD=none", UNSEEN, ADD_ONE)
    if login is not None and not login.auth.obtained:
        return unusable(login, session.clock())
    return LoginRefused(
        f"auth/{session.settings.login_mount_point}",
        "Vault does not accept the token that it has just given",
        "Check token_bound_cidrs of the role, which must include this machine's address, and VAULT_NAMESPACE, which "
        "must be VAULT_LOGIN_NAMESPACE or below it.",
    )


def _narrowed_down(settings: VaultSettings, http: requests.Session, refused: LoginRefused) -> LoginRefused:
    """Find out which of the causes that Vault throws together it was, by a login that cannot succeed."""
    mount = settings.login_mount_point
    role = f"auth/{mount}/role/ROLE"
    is_odd = NOT_BARE in refused.cause  # which says what they look like
    if is_odd and NOT_MOUNTED not in refused.cause:
        return refused
    if WRONG_PAIR in refused.cause:
        role_id = credential(settings.role_id, settings.role_id_file, "VAULT_ROLE_ID")
        if WRONG_PAIR in _refused_with(settings, http, {"role_id": role_id}).cause:  # it would ask for a secret id
            cause = "the role id is wrong"
            remedy = f"Check VAULT_ROLE_ID (`vault read {role}/role-id`), and VAULT_LOGIN_NAMESPACE."
        else:
            cause = "the secret id is wrong, expired or used up; the role id is right"
            remedy = f"Put a new one into VAULT_SECRET_ID: `vault write -f {role}/secret-id`."
    elif NOT_MOUNTED in refused.cause:
        # a role that is not there, so that no certificate matches; without a role, no other method goes on
        body = {"name": "a-role-that-is-not-there"} if settings.auth_method == "cert" else {}
        where = "login/a-user-who-is-not-there" if settings.auth_method == "userpass" else "login"
        if isinstance(_refused_with(settings, http, body, where), PermissionDenied):
            cause = NOT_MOUNTED
            remedy = "Check VAULT_AUTH_MOUNT_POINT (`vault auth list`) and VAULT_LOGIN_NAMESPACE."
        elif is_odd:
            return refused
        elif settings.auth_method == "userpass":
            cause = "the user is locked out after too many wrong passwords, or may not log in from this address"
            remedy = "Wait (15 minutes, unless configured otherwise), or `vault write -f sys/locked-users/…/unlock/…`."
        elif settings.auth_method == "kubernetes":
            cause, remedy = f"{NO_REVIEW}, or {NOT_FROM_HERE}", ASK_THE_CLUSTER.replace("auth/MOUNT/", f"auth/{mount}/")
        else:
            cause, remedy = NOT_FROM_HERE, f"Check token_bound_cidrs: `vault read {role}`."
    else:
        return refused
    return LoginRefused(refused.subject, f"Vault refuses the login: {cause}", remedy)


def _refused_with(
    settings: VaultSettings, http: requests.Session, credentials: Mapping[str, str | None], where: str = "login"
) -> BackendError:
    try:
        with vault_errors(settings.url, "login"):
            login_with(_without_token(settings, http), settings, credentials, where)
    except BackendError as error:
        return error
    raise AssertionError  # what proves who we are was left out


def _without_token(settings: VaultSettings, http: requests.Session) -> hvac.Client:
    return vault_client(settings, http, namespace=settings.home)
