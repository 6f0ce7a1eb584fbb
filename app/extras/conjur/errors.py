"""What do Conjur's failures mean?

Conjur often says little: its 401, 403 and 500 have no body, and a 404 does not tell what is missing from what cannot be
seen. Its own words are passed on where they are about a policy, which holds no values, and nowhere else.
"""

import re
from http import HTTPStatus
from typing import Any

import requests

from app.core.errors import (
    BackendError,
    BadRequest,
    PathMissing,
    PermissionDenied,
    PolicyConflict,
    ServerFault,
    UnexpectedAnswer,
    VaultRateLimited,
)
from app.core.transport.network_errors import answered_in_front, moved_to, not_vault
from app.core.transport.redirects import is_moved, origin, target_of

LONGEST = 300  # characters of Conjur's own words
SERVER_ERROR = HTTPStatus.INTERNAL_SERVER_ERROR
NOT_CONJURS = {407, 429, 502, 503, 504}  # statuses that it does not give by itself


class TokenRefusedError(Exception):
    """Conjur does not accept the token; it does not say whether that has expired or is wrong."""


def failed(answer: requests.Response) -> bool:
    """Tell whether this is no answer of Conjur's that brings something; its API has no redirects."""
    return answer.status_code >= HTTPStatus.MULTIPLE_CHOICES


def not_conjur(address: str, cause: str) -> UnexpectedAnswer:
    """Return the error for an answer that no Conjur gives."""
    return not_vault(address, cause, "Conjur", "CONJUR_APPLIANCE_URL")


def branch_denied(where: str, whom: str, privilege: str) -> PermissionDenied:
    """Return the error for a policy branch that may be seen, but not changed."""
    cause = f"{whom} can see the policy branch, but lacks the privilege {privilege} on it"
    return PermissionDenied(where, cause, "Let it own the branch, as `python -m app policy --vault conjur` does.")


def branch_missing(where: str, whom: str) -> PathMissing:
    """Return the error for a policy branch that is not there, or that may not be seen."""
    remedy = "Load what `python -m app policy --vault conjur` prints, or set CONJUR_POLICY_BRANCH."
    return PathMissing(where, f"there is no such policy branch, or {whom} cannot see it", remedy)


def refusal(answer: requests.Response, address: str, subject: str) -> BackendError:
    """Return the error for an answer of 300 or above, about `subject` (a variable, a policy branch)."""
    status, error = answer.status_code, error_in(answer)
    if status < HTTPStatus.BAD_REQUEST:
        return _redirect(answer, address)
    # Conjur explains in JSON, or not at all; a fault of its own in JSON of another form
    is_page = error is None and bool(answer.content) and not (status == SERVER_ERROR and _is_json(answer))
    if (is_page and status != HTTPStatus.REQUEST_URI_TOO_LONG) or (error is None and status in NOT_CONJURS):
        return answered_in_front(address, status, "Conjur", "CONJUR_APPLIANCE_URL")  # 414: it may say so of a batch
    match status:
        case 403:
            remedy = "Permit it in the policy of this service's host."
            return PermissionDenied(subject, "it can be seen, but the privilege for this is lacking", remedy)
        case 404 if error is not None:
            return PathMissing(subject, "it is missing, or it cannot be seen", "Check the id and CONJUR_ACCOUNT.")
        case 404:
            return not_conjur(address, "there is no such route")
        case 409:
            pause = answer.headers.get("Retry-After", "")
            seconds = float(pause) if re.fullmatch(r"[1-9][0-9]{0,8}", pause) else 1.0
            return PolicyConflict(subject, "other policy loads are in progress", "Try again in a while.", seconds)
        case 429:
            return VaultRateLimited(address, "too many requests", "Wait, or ask less often.")
        case 400 | 406 | 414 | 422:
            cause = _policy_problem(error or {}) or "Conjur does not accept this"
            return BadRequest(subject, cause, "Check the id and what was sent.")
        case _ if status >= requests.codes.server_error:
            remedy = "Look into Conjur's log, and whether its database is up."
            return ServerFault(address, f"Conjur has a fault of its own (HTTP {status}) about {subject}", remedy)
        case _:
            return not_conjur(address, f"HTTP {status}")


def _redirect(answer: requests.Response, address: str) -> BackendError:
    """Say where an answer redirects to, if it does; nothing secret is sent after a redirect."""
    target = target_of(answer)
    if answer.is_redirect and is_moved(str(answer.url), target):
        return moved_to(target, address, "CONJUR_APPLIANCE_URL")
    where = f" to {origin(target)}" if answer.is_redirect else ""
    return not_conjur(address, f"HTTP {answer.status_code}, a redirect{where}, which nothing secret is sent after")


def _is_json(answer: requests.Response) -> bool:
    try:
        answer.json()
    except ValueError:
        return False
    return True


def error_in(answer: requests.Response) -> dict[str, Any] | None:
    """Return the explanation in an answer, if there is one of Conjur's form."""
    try:
        body = answer.json()
    except ValueError:
        return None
    match body:
        case {"error": dict(error)}:
            return error
        case _:
            return None


def _policy_problem(error: dict[str, Any]) -> str | None:
    """Return what Conjur says of a policy that it does not accept."""
    match error:
        case {"code": "policy_invalid" | "validation_failed", "message": str(message)}:
            said = " ".join(message.split())
            return f"Conjur does not accept the policy: {said if len(said) <= LONGEST else said[:LONGEST] + '…'}"
        case _:
            return None
