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
    MountMissing,
    PathMissing,
    PermissionDenied,
    UnexpectedAnswer,
    VaultError,
    VaultRateLimited,
    VaultSealed,
    VaultTLSFailed,
    VaultUnreachable,
)
from app.known_causes import HUNG_UP, KNOWN_CAUSES, NO_NAMESPACE, NOT_MOUNTED, tls_cause


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
        raise _refusal(error, address, subject, remedy) from None
    except requests.exceptions.InvalidJSONError:
        raise BadRequest(subject, "the values cannot be written as JSON", "Write no NaN and no infinity.") from None


@contextmanager
def network_errors(address: str, server: str = "Vault", variable: str = "VAULT_URL") -> Iterator[None]:
    """Turn what requests raises into this project's errors; `variable` is the one that names the server's address."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise tls_failure(error, address, server, variable) from error
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


def tls_failure(
    error: BaseException, address: str, server: str = "Vault", variable: str = "VAULT_URL"
) -> VaultTLSFailed:
    """Turn OpenSSL's error into this project's, with what it is about in plain words."""
    cause, remedy = tls_cause(_tls_reason(error), server, variable)
    return VaultTLSFailed(address, f"the TLS handshake failed: {cause}", remedy)


def not_vault(address: str, cause: str, server: str = "Vault", variable: str = "VAULT_URL") -> UnexpectedAnswer:
    """Return the error for an answer that no Vault gives."""
    remedy = f"Check that {variable} is {server}'s address."
    return UnexpectedAnswer(address, f"the answer is not {server}'s ({cause})", remedy)


def sealed(address: str) -> VaultSealed:
    """Return the error for a Vault that is sealed."""
    return VaultSealed(address, "Vault is sealed", "Unseal it: `vault operator unseal`.")


def not_initialised(address: str) -> VaultSealed:
    """Return the error for a Vault that was never initialised."""
    return VaultSealed(address, "Vault is not initialised", "Run `vault operator init`, then unseal it.")


_WITH_BODY = (hvac.exceptions.Forbidden, hvac.exceptions.InvalidPath, hvac.exceptions.InvalidRequest)


def data_of(answer: Any) -> dict[str, Any]:
    """Return the `data` part of an answer; raise `UnexpectedAnswer` if there is none."""
    match answer:
        case {"data": dict(data)}:
            return data
        case _:
            raise not_vault("the answer", "no data in it")


def _refusal(error: hvac.exceptions.VaultError, address: str, subject: str, remedy: str) -> VaultError:
    if error.json is None and isinstance(error, _WITH_BODY):  # Vault's own answers are JSON
        return _not_json(error, address)
    said = " ".join(error.errors).lower() if isinstance(error.errors, list) else ""
    cause, better = next((known for phrase, known in KNOWN_CAUSES.items() if phrase in said), ("", ""))
    remedy = better or remedy
    match error:
        case hvac.exceptions.Forbidden():
            remedy = remedy or "Allow it in the policy of this service's role."
            return PermissionDenied(subject, cause or "permission denied", remedy)
        case hvac.exceptions.InvalidPath():
            remedy = remedy or "Check the path, the mount point and the namespace."
            kind = MountMissing if cause in {NOT_MOUNTED, NO_NAMESPACE} else PathMissing
            return kind(subject, cause or "there is nothing at this path", remedy)
        case hvac.exceptions.RateLimitExceeded():
            return VaultRateLimited(address, "too many requests", "Wait, or raise Vault's rate limit quota.")
        case hvac.exceptions.VaultNotInitialized():
            return not_initialised(address)
        case _ if "sealed" in said:
            return sealed(address)
        case hvac.exceptions.InternalServerError() if cause:  # some refused logins come as a 500
            return BadRequest(subject, cause, remedy or "Check the credentials.")
        case hvac.exceptions.InternalServerError() | hvac.exceptions.BadGateway() | hvac.exceptions.VaultDown():
            status = {"InternalServerError": 500, "BadGateway": 502}.get(type(error).__name__, 503)
            return VaultError(address, f"Vault has a fault of its own (HTTP {status})", "Look into Vault's log.")
        case _ if cause or isinstance(error, hvac.exceptions.InvalidRequest):
            remedy = remedy or "Check the path, the mount point and what was sent."
            return BadRequest(subject, cause or "Vault does not accept this", remedy)
        case _:
            return not_vault(address, type(error).__name__)


def _not_json(error: hvac.exceptions.VaultError, address: str) -> UnexpectedAnswer:
    if "HTTP request" in str(error.text) and "HTTPS" in str(error.text):  # what Go's server says, and nginx
        return UnexpectedAnswer(
            address, "VAULT_URL says http://, but the port speaks TLS", "Set VAULT_URL to https://."
        )
    return not_vault(address, type(error).__name__)


def _tls_reason(error: BaseException) -> str:
    """Find OpenSSL's own word, such as CERTIFICATE_VERIFY_FAILED, below the layers that requests wraps around it."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLEOFError):
            return HUNG_UP
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
