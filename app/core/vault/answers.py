"""Is what Vault says well-formed? Types, ranges and characters are checked here, where an answer is read.

What is let through of a token is kept for its life: a malformed number would break every later call. What is malformed
is never repeated: it may be anything.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.core.errors import BadRequest, UnexpectedAnswer
from app.core.transport.network_errors import not_vault
from app.core.vault.errors import data_of, refuse_wrapped

LONGEST = 2**63 / 1e9  # seconds that fit into what Vault counts them in: 292 years
YEARS = range(1970, 9999)  # in which a moment can be


def checked_auth(answer: Any, subject: str) -> dict[str, Any]:
    """Return the `auth` part of the answer to a login or a renewal; raise `UnexpectedAnswer` if it is malformed.

    Raises `BadRequest` where Vault wants a second factor first (login MFA): its answer has an empty token.
    """
    refuse_wrapped(answer, subject)
    match answer:
        case {"auth": {"mfa_requirement": dict(wanted)}}:
            raise _wants_mfa(subject, wanted)
        case {"auth": {"client_token": str(token), "lease_duration": ttl, "renewable": bool()}} if token and _is_ttl(
            ttl
        ):
            auth: dict[str, Any] = answer["auth"]
        case {"auth": {"client_token": str(token)}} if token:
            raise malformed(subject, "lease_duration or renewable")
        case _:
            raise _no_token(subject)
    if not is_token(auth["client_token"]):
        raise malformed(subject, "client_token")
    uses, kind = auth.get("num_uses"), auth.get("token_type")
    if not (uses is None or (_is_whole(uses) and uses >= 0)):
        raise malformed(subject, "num_uses")
    if not (kind is None or isinstance(kind, str)):
        raise malformed(subject, "token_type")
    if not _are_texts(auth.get("policies")):
        raise malformed(subject, "policies")
    return auth


def checked_lookup(answer: Any, subject: str = "auth/token/lookup-self") -> dict[str, Any]:
    """Return what Vault knows of a token; raise `UnexpectedAnswer` if it is malformed."""
    refuse_wrapped(answer, subject)
    known = data_of(answer)
    well_formed = {
        "ttl": _is_ttl(known.get("ttl")),
        "renewable": isinstance(known.get("renewable", False), bool | None),
        "num_uses": _is_whole(known.get("num_uses", 0)),
        "policies": _are_texts(known.get("policies")),
        "type": isinstance(known.get("type", ""), str),
        "meta": isinstance(known.get("meta"), dict | None),
    }
    for name, is_good in well_formed.items():
        if not is_good:
            raise malformed(subject, name)
    return known


@dataclass(frozen=True, slots=True)
class Life:
    """For how long a lease is good."""

    duration: float  # seconds
    renewable: bool


def checked_life(answer: Any, subject: str) -> Life:
    """Return what an answer says of a lease, after its issue or a renewal; raise `UnexpectedAnswer` if malformed."""
    match answer:
        case {"lease_duration": duration, "renewable": bool(renewable)} if _is_ttl(duration):
            return Life(float(duration), renewable)
        case _:
            raise malformed(subject, "lease_duration or renewable")


def checked_version(answer: Any, subject: str) -> int:
    """Return the version that a write has made."""
    return _version_in(data_of(answer), subject)


def checked_time(text: Any, subject: str, name: str) -> float:
    """Return a moment (RFC 3339) in seconds since 1970."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise malformed(subject, name) from None
    if moment.tzinfo is None or moment.year not in YEARS:
        raise malformed(subject, name)
    return moment.timestamp()


def checked_state(about: dict[str, Any], subject: str) -> tuple[int, float]:
    """Return which version of a secret was read, and when it was written."""
    return _version_in(about, subject), checked_time(about.get("created_time"), subject, "created_time")


def checked_metadata(answer: Any, subject: str) -> dict[str, Any]:
    """Return what is known of a secret of KV version 2 and of its versions."""
    known = data_of(answer)
    versions, custom = known.get("versions", {}), known.get("custom_metadata")
    if not _is_whole(known.get("current_version")):
        raise malformed(subject, "current_version")
    if not (custom is None or (isinstance(custom, dict) and _are_texts([*custom.values()]))):
        raise malformed(subject, "custom_metadata")
    if not isinstance(versions, dict) or not all(_is_version(number, about) for number, about in versions.items()):
        raise malformed(subject, "versions")
    for about in versions.values():
        checked_time(about.get("created_time"), subject, "created_time")
        if deleted := about.get("deletion_time"):
            checked_time(deleted, subject, "deletion_time")
    return known


def checked_names(answer: Any, subject: str) -> list[str]:
    """Return the names in a folder."""
    names = data_of(answer).get("keys", [])
    if not isinstance(names, list) or not _are_texts(names):
        raise malformed(subject, "keys")
    return names


def checked_capabilities(answer: Any, subject: str, paths: Sequence[str]) -> dict[str, list[str]]:
    """Return what a token may do at each of these paths."""
    held = data_of(answer)
    for path in paths:
        if not _are_texts(held.get(path)):
            raise malformed(subject, "capabilities")
    return {path: list(held.get(path) or ()) for path in paths}


def checked_mounts(answer: Any, subject: str) -> dict[str, str]:
    """Return what is mounted where, of the secrets engines: the type by the path."""
    match data_of(answer).get("secret", {}):
        case dict(mounts) if all(
            isinstance(each, dict) and isinstance(each.get("type"), str) for each in mounts.values()
        ):
            return {str(path): mount["type"] for path, mount in mounts.items()}
        case _:
            raise malformed(subject, "secret")


def is_token(text: Any) -> bool:
    """Tell whether something can travel as a token: visible ASCII characters in one word."""
    return isinstance(text, str) and text.isascii() and text.isprintable() and text != "" and " " not in text


def _is_ttl(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and not (isinstance(value, float) and math.isnan(value)) and 0 <= value <= LONGEST


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -1 <= value < 2**63


def _version_in(about: dict[str, Any], subject: str) -> int:
    version: Any = about.get("version")
    if not _is_whole(version) or int(version) < 1:
        raise malformed(subject, "version")
    return int(version)


def _is_version(number: Any, about: Any) -> bool:
    is_number = isinstance(number, str) and number.isascii() and number.isdecimal()
    return is_number and isinstance(about, dict) and isinstance(about.get("destroyed", False), bool)


def _are_texts(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _wants_mfa(subject: str, wanted: dict[str, Any]) -> BadRequest:
    constraints = wanted.get("mfa_constraints")
    names = [str(name) for name in constraints] if isinstance(constraints, dict) else []
    named = ", ".join(name for name in names if re.fullmatch(r"[\w.-]{1,64}", name))
    rule = f" (the login enforcement {named})" if named else ""
    remedy = "A service has no second factor: leave this auth method out of the login enforcement"
    return BadRequest(
        subject,
        f"the login wants MFA{rule}",
        f"{remedy} (`vault list identity/mfa/login-enforcement`), or log in by another one (VAULT_AUTH_MOUNT_POINT).",
    )


def _no_token(subject: str) -> UnexpectedAnswer:
    return not_vault(subject, "no token in it")


def malformed(subject: str, what: str) -> UnexpectedAnswer:
    """Return the error for an answer of which one field is not what Vault sends."""
    remedy = "Check what stands between this service and Vault, and that VAULT_URL is Vault's address."
    return UnexpectedAnswer(subject, f"the answer is malformed: {what} is not what Vault sends", remedy)
