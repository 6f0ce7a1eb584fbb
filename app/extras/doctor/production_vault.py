"""Does everything hold that must before production? Here what a Vault tells of the token and of the secret id."""

import datetime as dt
import secrets
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from app.core.errors import PermissionDenied
from app.core.settings.app import AppSettings
from app.core.settings.vault import MAIN_VAULT, VaultSettings
from app.core.vault.answers import checked_lookup
from app.core.vault.auth_methods.protocol import credential
from app.core.vault.kv import VaultKV
from app.core.vault.policy import Grants, granted_paths
from app.core.vault.session import VaultSession
from app.extras.doctor.findings import Check, Finding, broken, ok, reminder, warning
from app.extras.doctor.token import CAPABILITIES, LOOKUP, look_up_secret_id, path_of_secret_ids

LONGEST_LIFE = 86400.0  # seconds; Vault's own default is 32 days, for which a stolen token would be good
NOTHING = {"deny"}  # what the capabilities are where there are none
# what no service needs, and what would make a token worth stealing
OTHERS = (
    "sys/mounts/{name}",
    "sys/mounts",
    "sys/auth/{name}",
    "sys/policies/acl/{name}",
    "sys/audit/{name}",
    "sys/seal",
    "auth/token/create",
    "auth/token/create-orphan",
    "auth/token/accessors",
    "identity/entity",
)


def what_vault_tells(session: VaultSession, settings: AppSettings, name: str) -> dict[str, Check]:
    """Return the steps; they read, and change nothing."""
    return {
        "policy": partial(_policy, session, settings, name),
        "token life": partial(_token_life, session),
        "secret id": partial(_secret_id, session),
    }


def _policy(session: VaultSession, settings: AppSettings, name: str) -> Iterator[Finding]:
    """Compare what the token may do with what the printed policy grants (`POST sys/capabilities-self`).

    Vault does not list all that a token may do, so the paths are asked for that matter.
    """
    own, grants = session.settings, granted_paths(settings, name)
    command = f"python -m app policy{'' if name == MAIN_VAULT else f' --vault {name}'}"
    remedy = f"Give the role only the policy that `{command}` prints: `vault policy write` takes it."
    known = _looked_up(session)
    policies = (known or {}).get("policies") or ()
    if "root" in policies:
        yield broken("a root token may do everything", f"Log in with AppRole instead. {remedy}")
        return
    others = _others(own, grants, str(((known or {}).get("meta") or {}).get("role_name", "")))
    try:
        held = VaultKV(session).capabilities([*grants, *others])
    except PermissionDenied:
        yield broken("what the token may do cannot be asked", _allow(CAPABILITIES, "update"))
        return
    wider = [
        f"{', '.join(more)} at {others.get(path, path)}"
        for path, capabilities in held.items()
        if (more := sorted({*capabilities} - {*grants.get(path, ())} - NOTHING))
    ]
    if wider:
        yield broken(f"the token may do more than the service needs: {'; '.join(wider)}", remedy)
    else:
        yield ok(f"no more than `{command}` prints, at the {len(held)} paths that were asked for")
    if "default" in policies:
        text = "the token has Vault's default policy, too, which the service does not need"
        yield warning(text, "Set token_no_default_policy=true in the role.")


def _others(own: VaultSettings, grants: Grants, role: str) -> dict[str, str]:
    """Return paths at which the token should be able to do nothing, and how to name them."""
    name = f"none-{secrets.token_hex(8)}"  # nobody has a policy for just this
    mount, by = own.mount_point, own.login_mount_point
    kinds = ["data", "metadata"] if own.kv_version != "1" else []
    folders = [f"{mount}/{kind}/" for kind in kinds] + ([f"{mount}/"] if own.kv_version != "2" else [])
    paths = dict.fromkeys(f"{folder}{name}" for folder in folders)
    for granted in grants:
        if granted.startswith(f"{mount}/") and not granted.endswith("*"):
            paths |= dict.fromkeys(f"{granted}{between}{name}" for between in ("", "/"))
    paths |= dict.fromkeys(each.format(name=name) for each in OTHERS)
    if role:
        paths |= dict.fromkeys((f"auth/{by}/role/{role}", f"auth/{by}/role/{role}/secret-id"))
    covered = tuple(path.removesuffix("*") for path in grants if path.endswith("*"))
    return {path: path.replace(name, "…") for path in paths if not path.startswith(covered or ("\0",))}


def _token_life(session: VaultSession) -> Iterator[Finding]:
    """Say for how long a token that is stolen would be good (`GET auth/token/lookup-self`)."""
    known = _looked_up(session)
    if known is None:
        yield broken("how long the token lives cannot be looked up", _allow(LOOKUP, "read"))
        return
    ttl, most, period = (_seconds(known, each) for each in ("ttl", "explicit_max_ttl", "period"))
    life = max(ttl, _seconds(known, "creation_ttl"))
    if not ttl:
        yield broken("the token never expires", "Set token_ttl=20m and token_max_ttl=1h in the role.")
        return
    if life > LONGEST_LIFE:
        text = f"the token lives for {_told(life)}; who steals it has it for as long"
        yield broken(text, "Set token_ttl=20m in the role: the service renews it.")
    else:
        yield ok(f"the token lives for {_told(life)} at a time")
    where = f"`vault read auth/{session.settings.login_mount_point}/role/ROLE`"
    if most:
        yield ok(f"it ends after {_told(most)}, whoever renews it")
    elif not known.get("renewable"):
        yield ok("nobody can renew it")
    elif period:
        text = "the token can be renewed for ever: it is periodic, and has no explicit_max_ttl"
        yield broken(text, "Set token_explicit_max_ttl in the role, or token_max_ttl instead of token_period.")
    else:
        text = "how long it can be renewed is not said of the token: up to 32 days, unless token_max_ttl is set"
        yield reminder(text, f"Look at token_max_ttl: {where}.")


def _secret_id(session: VaultSession) -> Iterator[Finding]:
    """Say for how long, or how often, a stolen secret id would be good, if the token may know."""
    own = session.settings
    if own.auth_method != "approle":
        yield ok(f"not needed: the auth method is {own.auth_method}")
        return
    by_hand = f"Set secret_id_ttl or secret_id_num_uses: `vault read auth/{own.login_mount_point}/role/ROLE`."
    if own.secret_id_wrapped:
        yield reminder("it came wrapped; how long it is good cannot be looked up any more", by_hand)
        return
    secret_id = credential(own.secret_id, own.secret_id_file, "VAULT_SECRET_ID")
    if secret_id is None:
        remedy = "Set bind_secret_id=true in the role, or bind its tokens and logins to addresses."
        yield reminder("there is none: the role id alone is enough to log in", remedy)
        return
    role = str(((_looked_up(session) or {}).get("meta") or {}).get("role_name", ""))
    path = path_of_secret_ids(session, role)
    try:
        may_look = bool({"update", "root"} & {*VaultKV(session).capabilities([path])[path]}) if role else False
    except PermissionDenied:
        may_look = False
    if not may_look or own.home != own.place:
        yield reminder("how long it is good could not be looked up: this token may not", by_hand)
        return
    match look_up_secret_id(session, path, secret_id):
        case {"data": {"secret_id_ttl": 0, "secret_id_num_uses": 0}}:
            yield broken("the secret id is good for ever: neither its time nor its uses are bounded", by_hand)
        case {"data": {"secret_id_ttl": int(ttl), "secret_id_num_uses": int(uses)}}:
            bounds = [f"for {_told(ttl)}"] * bool(ttl) + [f"for {uses} more logins"] * bool(uses)
            yield ok(f"good {', '.join(bounds)}")
        case _:
            yield ok("it was good for one login, and is used up")


def _looked_up(session: VaultSession) -> dict[str, Any] | None:
    try:
        return checked_lookup(session.call(LOOKUP, lambda client: client.auth.token.lookup_self()))
    except PermissionDenied:
        return None


def _seconds(known: Mapping[str, Any], name: str) -> float:
    value = known.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _told(seconds: float) -> str:
    return str(dt.timedelta(seconds=int(seconds)))


def _allow(path: str, capability: str) -> str:
    return f'Allow it in the policy: path "{path}" {{ capabilities = ["{capability}"] }}.'
