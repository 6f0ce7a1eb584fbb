"""What do Vault's failures mean? The only module that knows the errors of hvac and requests."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hvac
import hvac.exceptions
import requests

from app.errors import (
    BadRequest,
    PathMissing,
    PermissionDenied,
    UnexpectedAnswer,
    VaultError,
    VaultRateLimited,
    VaultSealed,
    VaultTLSFailed,
    VaultUnreachable,
)

# What Vault says, and what we say of it: its own words are not passed on, since they may repeat what was sent.
STALE_WRITE = "a newer version was written meanwhile"
KNOWN_CAUSES = {
    "request body too large": "it is larger than Vault takes (max_request_size of its listener)",
    "check-and-set parameter": STALE_WRITE,
    "no handler for route": "nothing is mounted there",
    "namespace not found": "there is no such namespace",
    "missing secret_id": "the role wants a secret id, and there is none",
    "cidr": "it may not be used from this machine's address",
    "invalid role or secret id": "the role id or the secret id is wrong, expired or used up",
    "invalid secret id": "the secret id is wrong, expired or used up",
    "invalid role id": "the role id is wrong",
    "invalid role name": "there is no such role",
    "could not be found": "there is no such role",
    "no client certificate found": "Vault saw no client certificate",
    "invalid certificate or no client certificate supplied": "Vault does not trust the client certificate",
    "certificate has expired": "the client certificate has expired",
    "failed to verify client's certificate": "Vault does not trust the client certificate",
    "no known key": "no key that Vault knows has signed the JWT",
    "service account name not authorized": "the role is not for this service account",
    "namespace not authorized": "the role is not for this Kubernetes namespace",
    "audience": "the JWT is meant for another audience",
    "issuer": "the JWT comes from another issuer",
    "expired": "the credential has expired",
}


@contextmanager
def vault_errors(address: str, subject: str) -> Iterator[None]:
    """Turn whatever hvac and requests raise into this project's errors, about `subject` (a path or a call).

    hvac's errors are not chained: they carry the server's text, which may repeat what was sent.
    """
    try:
        with network_errors(address):
            yield
    except hvac.exceptions.VaultError as error:
        raise _refusal(error, address, subject) from None
    except requests.exceptions.InvalidJSONError:
        raise BadRequest(subject, "the values cannot be written as JSON", "Write no NaN and no infinity.") from None


@contextmanager
def network_errors(address: str, server: str = "Vault", variable: str = "VAULT_URL") -> Iterator[None]:
    """Turn what requests raises into this project's errors; `variable` is the one that names the server's address."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        remedy = f"Check the CA, the host name in {variable}, and whether the port speaks TLS at all."
        raise VaultTLSFailed(address, f"the TLS handshake failed ({_tls_reason(error)})", remedy) from error
    except requests.exceptions.Timeout as error:
        remedy = f"Check {variable}, the network, and whether {server} is up."
        raise VaultUnreachable(address, "no answer within VAULT_TIMEOUT", remedy) from error
    except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        remedy = f"Check {variable}, and whether {server} is up."
        raise VaultUnreachable(address, f"no connection ({_network_reason(error)})", remedy) from error
    except requests.exceptions.InvalidJSONError:
        raise  # it is about what was to be sent
    except requests.exceptions.RequestException as error:  # too many redirects, a body that is not what it says
        raise not_vault(address, type(error).__name__, server, variable) from None


def not_vault(address: str, cause: str, server: str = "Vault", variable: str = "VAULT_URL") -> UnexpectedAnswer:
    """Return the error for an answer that no Vault gives."""
    remedy = f"Check that {variable} is {server}'s address."
    return UnexpectedAnswer(address, f"the answer is not {server}'s ({cause})", remedy)


_WITH_BODY = (hvac.exceptions.Forbidden, hvac.exceptions.InvalidPath, hvac.exceptions.InvalidRequest)


def data_of(answer: Any) -> dict[str, Any]:
    """Return the `data` part of an answer; raise `UnexpectedAnswer` if there is none."""
    match answer:
        case {"data": dict(data)}:
            return data
        case _:
            raise not_vault("the answer", "no data in it")


def _refusal(error: hvac.exceptions.VaultError, address: str, subject: str) -> VaultError:
    if error.json is None and isinstance(error, _WITH_BODY):  # Vault's own answers are JSON
        return not_vault(address, type(error).__name__)
    said = " ".join(error.errors).lower() if isinstance(error.errors, list) else ""
    cause = next((cause for phrase, cause in KNOWN_CAUSES.items() if phrase in said), None)
    match error:
        case hvac.exceptions.Forbidden():
            remedy = "Allow it in the policy of this service's role."
            return PermissionDenied(subject, cause or "permission denied", remedy)
        case hvac.exceptions.InvalidPath():
            remedy = "Check the path, the mount point and the namespace."
            return PathMissing(subject, cause or "there is nothing at this path", remedy)
        case hvac.exceptions.RateLimitExceeded():
            return VaultRateLimited(address, "too many requests", "Wait, or raise Vault's rate limit quota.")
        case hvac.exceptions.VaultNotInitialized():
            return VaultSealed(address, "Vault is not initialised", "Run `vault operator init`.")
        case _ if "sealed" in said:
            return VaultSealed(address, "Vault is sealed", "Unseal it: `vault operator unseal`.")
        case hvac.exceptions.InternalServerError() if cause is not None:  # some refused logins come as a 500
            return BadRequest(subject, cause, "Check the credentials.")
        case hvac.exceptions.InternalServerError() | hvac.exceptions.BadGateway() | hvac.exceptions.VaultDown():
            status = {"InternalServerError": 500, "BadGateway": 502}.get(type(error).__name__, 503)
            return VaultError(address, f"Vault has a fault of its own (HTTP {status})", "Look into Vault's log.")
        case _ if cause is not None or isinstance(error, hvac.exceptions.InvalidRequest):
            remedy = "Check the path, the mount point and what was sent."
            return BadRequest(subject, cause or "Vault does not accept this", remedy)
        case _:
            return not_vault(address, type(error).__name__)


def _tls_reason(error: BaseException) -> str:
    """Find OpenSSL's own word, such as CERTIFICATE_VERIFY_FAILED, below the layers that requests wraps around it."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return str(cause.reason)
    return str(error) if "redirected" in str(error) else "SSLError"


def _network_reason(error: BaseException) -> str:
    """Find the operating system's own word, such as "Connection refused"."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return "connection broken"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Walk down: requests puts urllib3's error into its own arguments, urllib3 keeps its cause in `reason`."""
    while error is not None:
        yield error
        nested = getattr(error, "reason", None) or next(iter(error.args), None)
        error = nested if isinstance(nested, BaseException) else error.__cause__ or error.__context__
