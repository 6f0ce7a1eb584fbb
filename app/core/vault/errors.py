"""What do Vault's failures mean? The only module that knows the errors of hvac."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import hvac
import hvac.exceptions
import requests

from app.core.errors import (
    BackendError,
    BadRequest,
    MountMissing,
    NotCaughtUp,
    PathMissing,
    PermissionDenied,
    UnexpectedAnswer,
    VaultRateLimited,
    VaultSealed,
)
from app.core.transport.error_causes import DENIED, NO_NAMESPACE, NOT_MOUNTED, cause_of
from app.core.transport.network_errors import answered_in_front, network_errors, not_vault


@contextmanager
def vault_errors(address: str, subject: str, remedy: str = "") -> Iterator[None]:
    """Turn whatever hvac and requests raise into this project's errors, about `subject` (a path or a call).

    `remedy` is what to check if Vault refuses, unless its answer tells better.
    hvac's errors are not chained: they carry the server's text, which may repeat what was sent.
    """
    try:
        with network_errors(address):
            yield
    except hvac.exceptions.VaultError as error:
        raise _lagging(error, address) or _refusal(error, address, subject, remedy) from None
    except requests.exceptions.InvalidJSONError:
        raise BadRequest(subject, "the values cannot be written as JSON", "Write no NaN and no infinity.") from None


def is_own_fault(error: BackendError) -> bool:
    """Tell whether Vault has answered with a 5xx of its own, which no class of ours is about."""
    return type(error) is BackendError and "HTTP 5" in error.cause


def sealed(address: str) -> VaultSealed:
    """Return the error for a Vault that is sealed."""
    return VaultSealed(address, "Vault is sealed", "Unseal it: `vault operator unseal`.")


def not_initialised(address: str) -> VaultSealed:
    """Return the error for a Vault that was never initialised."""
    return VaultSealed(address, "Vault is not initialised", "Run `vault operator init`, then unseal it.")


TOO_MANY = HTTPStatus.TOO_MANY_REQUESTS  # which OpenBao says, without a word, of an index that is ahead of it
_STATUS = {"InvalidRequest": 400, "Forbidden": 403, "InvalidPath": 404, "RateLimitExceeded": 429}
_NOT_NOW = {412, 472, 473}  # a replica that lags, a standby
_STATUS |= {"InternalServerError": 500, "BadGateway": 502, "VaultDown": 503}


def refuse_wrapped(answer: Any, subject: str) -> None:
    """Raise `UnexpectedAnswer` for an answer that holds a wrapping token instead of what was asked for."""
    match answer:
        case {"wrap_info": {"token": _}}:
            cause = "the answer is response-wrapped, and nobody here asked for that"
            remedy = "Find what adds X-Vault-Wrap-TTL to requests between this service and Vault (an Agent, a proxy)."
            raise UnexpectedAnswer(subject, cause, f"{remedy} Leave it out.")


def data_of(answer: Any) -> dict[str, Any]:
    """Return the `data` part of an answer; raise `UnexpectedAnswer` if there is none."""
    match answer:
        case {"data": dict(data)}:
            return data
        case _:
            raise not_vault("the answer", "no data in it")


def _lagging(error: hvac.exceptions.VaultError, address: str) -> NotCaughtUp | None:
    status = getattr(error, "status", None)
    if status != HTTPStatus.PRECONDITION_FAILED and (status != TOO_MANY or error.json != {"errors": []}):
        return None
    cause = f"the node that answers has not caught up with what was written (HTTP {status})"
    return NotCaughtUp(address, cause, "Look whether the cluster has a leader, and how far its standbys are.")


def _refusal(error: hvac.exceptions.VaultError, address: str, subject: str, remedy: str) -> BackendError:
    status = getattr(error, "status", None) or _STATUS.get(type(error).__name__)
    if error.json is None and status is not None:  # Vault's own answers are JSON
        return _not_json(error, address, status)
    said = " ".join(map(str, error.errors)) if isinstance(error.errors, list) else ""
    cause, better = cause_of(said)
    remedy = better or remedy
    match error:
        case hvac.exceptions.Forbidden():
            remedy = remedy or "Allow it in the policy of this service's role."
            return PermissionDenied(subject, cause or DENIED, remedy)
        case hvac.exceptions.InvalidPath():
            remedy = remedy or "Check the path, the mount point and the namespace."
            kind = MountMissing if cause in {NOT_MOUNTED, NO_NAMESPACE} else PathMissing
            return kind(subject, cause or "there is nothing at this path", remedy)
        case hvac.exceptions.InternalServerError() if cause and "sealed" not in said:  # some refused logins are a 500
            return BadRequest(subject, cause, remedy or "Check the credentials.")
        case _ if of_vault := _of_vault_itself(error, address, status, said):
            return of_vault
        case _ if cause or status is not None:
            remedy = remedy or "Check the path, the mount point and what was sent."
            return BadRequest(subject, cause or "Vault does not accept this", remedy)
        case _:
            return not_vault(address, type(error).__name__)


def _of_vault_itself(
    error: hvac.exceptions.VaultError, address: str, status: int | None, said: str
) -> BackendError | None:
    """Return the error if the state of Vault is what is wrong, whatever was asked."""
    match error:
        case hvac.exceptions.RateLimitExceeded():
            return VaultRateLimited(address, "too many requests", "Wait, or raise Vault's rate limit quota.")
        case hvac.exceptions.VaultNotInitialized():
            return not_initialised(address)
        case _ if "sealed" in said.lower():
            return sealed(address)
        case _ if status is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return BackendError(address, f"Vault has a fault of its own (HTTP {status})", "Look into Vault's log.")
        case _ if status in _NOT_NOW:
            cause = f"this node of Vault's cannot serve it now (HTTP {status}): it lags behind, or is a standby"
            return BackendError(address, cause, "Look at the state of its nodes (`vault status`).")
        case _:
            return None


def _not_json(error: hvac.exceptions.VaultError, address: str, status: int) -> BackendError:
    if "HTTP request" in str(error.text) and "HTTPS" in str(error.text):  # what Go's server says, and nginx
        return UnexpectedAnswer(
            address, "VAULT_URL says http://, but the port speaks TLS", "Set VAULT_URL to https://."
        )
    return answered_in_front(address, status, redirected_to=getattr(error, "redirected_to", None))
