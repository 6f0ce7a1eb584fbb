"""What is the token good for? Its life, its policies, and what it may do with itself."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

from app.core.errors import PermissionDenied
from app.core.transport.http import quoted
from app.core.vault.answers import checked_lookup
from app.core.vault.auth_methods.protocol import credential
from app.core.vault.kv import VaultKV
from app.core.vault.login import Login
from app.core.vault.session import VaultSession
from app.extras.doctor.findings import Finding, ok, warning

LOOKUP, RENEWAL, REVOCATION = (f"auth/token/{verb}-self" for verb in ("lookup", "renew", "revoke"))
CAPABILITIES = "sys/capabilities-self"
SHORT = 86400.0  # seconds; a token that nobody renews should at least live for a day


def examine_token(session: VaultSession, login: Login) -> Iterator[Finding]:
    """Look the token up (`GET auth/token/lookup-self`), and ask for its capabilities (`POST sys/capabilities-self`)."""
    missing = {}
    try:
        known = checked_lookup(session.call(LOOKUP, lambda client: client.auth.token.lookup_self()))
    except PermissionDenied:
        known, missing[LOOKUP] = {}, "read"
    role = str((known.get("meta") or {}).get("role_name", ""))  # of an AppRole
    secret_ids = path_of_secret_ids(session, role)
    is_ours = bool(login.auth.client_token)  # and not one that an Agent or Proxy adds
    needed = {RENEWAL: "update"} if known.get("renewable") and is_ours else {}
    needed |= {REVOCATION: "update"} if login.auth.obtained and login.auth.token_type != "batch" else {}  # noqa: S105
    try:
        held = VaultKV(session).capabilities([*needed, secret_ids])
    except PermissionDenied:
        held, missing[CAPABILITIES] = {}, "update"
    else:
        missing |= {path: what for path, what in needed.items() if not {what, "root"} & set(held[path])}

    if known:
        yield from _told_of(known, login)
    if missing:
        grants = " ".join(f'path "{path}" {{ capabilities = ["{what}"] }}' for path, what in missing.items())
        yield warning(f"the token may not use {', '.join(missing)}", f"Allow it in the policy: {grants}.")
    settings = session.settings
    if login.auth.obtained and role and not settings.secret_id_wrapped and settings.home == settings.place:
        yield from _secret_id_uses(session, secret_ids, allowed={"update", "root"} & set(held.get(secret_ids, ())))


def path_of_secret_ids(session: VaultSession, role: str) -> str:
    """Return where an AppRole's secret ids are looked up."""
    return f"auth/{session.settings.login_mount_point}/role/{role}/secret-id/lookup"


def look_up_secret_id(session: VaultSession, path: str, secret_id: str) -> Any:
    """Return what Vault knows of a secret id (`POST auth/<mount>/role/<role>/secret-id/lookup`); None: nothing."""
    return session.call(path, lambda client: client.adapter.post(f"/v1/{quoted(path)}", json={"secret_id": secret_id}))


def _told_of(known: dict[str, Any], login: Login) -> Iterator[Finding]:
    ttl, renewable, policies = float(known["ttl"]), bool(known.get("renewable")), known.get("policies") or ()
    life = f"expires in {dt.timedelta(seconds=int(ttl))}" if ttl else "never expires"
    text = f"a {known.get('type', 'service')} token with the policies {', '.join(policies) or 'none'}; it {life}"
    yield ok(f"{text}, and is{'' if renewable else ' not'} renewable")
    if "root" in policies:
        yield warning("a root token may do everything", "Log in with AppRole instead: VAULT_AUTH_METHOD=approle.")
    if not login.auth.client_token:
        yield ok("an Agent or Proxy adds it, and keeps it alive: this service neither renews nor revokes it")
    elif not login.auth.obtained and not renewable and 0 < ttl < SHORT:
        yield warning(f"nobody can renew the token, and it {life}", "Put another one into VAULT_TOKEN before.")
    if known.get("num_uses"):
        yield warning("the token is good for a few requests only", "Set token_num_uses=0 in the role.")


def _secret_id_uses(session: VaultSession, path: str, *, allowed: set[str]) -> Iterator[Finding]:
    """Tell how many logins the secret id is still good for, if the token may know."""
    settings = session.settings
    secret_id = credential(settings.secret_id, settings.secret_id_file, "VAULT_SECRET_ID")
    if secret_id is None:
        return
    if not allowed:
        text = "if it is good for a few logins only, one is used up now; how many are left, this token may not ask"
        yield ok(text, "secret id")
        return
    remedy = "Set secret_id_num_uses=0 in the role, or put a new one into VAULT_SECRET_ID in time."
    match look_up_secret_id(session, path, secret_id):
        case {"data": {"secret_id_num_uses": 0}}:
            yield ok("good for any number of logins", "secret id")
        case {"data": {"secret_id_num_uses": int(uses)}}:
            yield warning(f"good for {uses} more logins; each start takes one, and so did this", remedy, "secret id")
        case _:  # Vault has forgotten it
            yield warning("used up by this login: the next start needs a new one", remedy, "secret id")
