"""How do requests get to Vault, and what do its failures mean?

The only module that knows the errors of hvac and requests.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import certifi
import hvac
import hvac.exceptions
import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, ReadTimeoutError
from urllib3.util import Retry

from app.config import VaultSettings
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

POOL_SIZE = 16  # connections kept; at least as many as threads that read at once


class _Retry(Retry):
    """Does not repeat what timed out: who has waited for VAULT_TIMEOUT waits no second time."""

    def increment(self, *args: Any, **context: Any) -> Any:
        match context.get("error"):
            case ReadTimeoutError() as timeout:
                raise timeout
            case ConnectTimeoutError() as timeout:
                raise MaxRetryError(context["_pool"], args[1], timeout)
            case _:
                return super().increment(*args, **context)


# Only what is safe to repeat (reads) is repeated after an answer; a connection that never came about always is.
# 412: a replica has not caught up; 472 and 473: a standby that cannot serve.
RETRIES = _Retry(
    total=3,
    connect=1,
    read=1,
    redirect=None,
    status_forcelist=(412, 429, 472, 473, 500, 502, 503),
    allowed_methods=("GET", "HEAD", "LIST"),
    backoff_factor=0.1,
    backoff_jitter=0.1,
    backoff_max=1.0,
    retry_after_max=1,
    raise_on_status=False,
)


class _Transport(HTTPAdapter):
    """Gives every connection the same TLS context: building one costs 15 to 30 ms, and connections come and go."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(pool_maxsize=POOL_SIZE, max_retries=RETRIES)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the context has the CA already, and requests would load its own again for each connection."""

    def build_connection_pool_key_attributes(self, request: Any, *_: Any) -> Any:
        """Leave out what hvac picked up from `VAULT_CACERT` and the like at import: the context is what counts."""
        return super().build_connection_pool_key_attributes(request, verify=True, cert=None)


def open_http(settings: VaultSettings) -> requests.Session:
    """Return a session of keep-alive connections, with a TLS context of its own, built from what the files say now."""
    session = requests.Session()
    session.auth = lambda request: request  # or requests would look for the host in ~/.netrc
    context = _tls_context() if settings.url.startswith("https://") else None
    session.mount("https://", _Transport(context))
    session.mount("http://", _Transport(None))
    return session


def vault_client(settings: VaultSettings, http: requests.Session, token: str = "") -> hvac.Client:
    """Return an hvac client over `http`. The token is always explicit: hvac would take one from the environment."""
    return hvac.Client(url=settings.url, token=token, timeout=settings.timeout, session=http, verify=True)


def _tls_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certifi.where())


@contextmanager
def vault_errors(address: str, subject: str) -> Iterator[None]:
    """Turn whatever hvac and requests raise into this project's errors, about `subject` (a path or a call).

    hvac's errors are not chained: they carry the server's text, which may repeat what was sent.
    """
    try:
        yield
    except hvac.exceptions.VaultError as error:
        raise _refusal(error, address, subject) from None
    except requests.exceptions.SSLError as error:
        remedy = "Check the CA, the host name in VAULT_URL, and whether the port speaks TLS at all."
        raise VaultTLSFailed(address, f"the TLS handshake failed ({_tls_reason(error)})", remedy) from error
    except requests.exceptions.Timeout as error:
        raise VaultUnreachable(
            address, "no answer within VAULT_TIMEOUT", "Check VAULT_URL, the network, and whether Vault is up."
        ) from error
    except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        raise VaultUnreachable(
            address, f"no connection ({_network_reason(error)})", "Check VAULT_URL, and whether Vault is up."
        ) from error
    except requests.exceptions.RequestException as error:  # too many redirects, a body that is not what it says
        raise not_vault(address, type(error).__name__) from None


def not_vault(address: str, cause: str) -> UnexpectedAnswer:
    """Return the error for an answer that no Vault gives."""
    return UnexpectedAnswer(address, f"the answer is not Vault's ({cause})", "Check that VAULT_URL is Vault's address.")


def _refusal(error: hvac.exceptions.VaultError, address: str, subject: str) -> VaultError:
    said = " ".join(error.errors).lower() if isinstance(error.errors, list) else ""
    match error:
        case hvac.exceptions.Forbidden():
            return PermissionDenied(subject, "permission denied", "Allow it in the policy of this service's role.")
        case hvac.exceptions.InvalidPath():
            return PathMissing(subject, "there is nothing at this path", "Check the path and the mount point.")
        case hvac.exceptions.RateLimitExceeded():
            return VaultRateLimited(address, "too many requests", "Wait, or raise Vault's rate limit quota.")
        case hvac.exceptions.VaultNotInitialized():
            return VaultSealed(address, "Vault is not initialised", "Run `vault operator init`.")
        case _ if "sealed" in said:
            return VaultSealed(address, "Vault is sealed", "Unseal it: `vault operator unseal`.")
        case hvac.exceptions.InternalServerError() | hvac.exceptions.BadGateway() | hvac.exceptions.VaultDown():
            status = {"InternalServerError": 500, "BadGateway": 502}.get(type(error).__name__, 503)
            return VaultError(address, f"Vault has a fault of its own (HTTP {status})", "Look into Vault's log.")
        case hvac.exceptions.InvalidRequest():
            return BadRequest(subject, "Vault cannot make sense of this request", "Check the path and mount point.")
        case _:
            return not_vault(address, type(error).__name__)


def _tls_reason(error: BaseException) -> str:
    """Find OpenSSL's own word, such as CERTIFICATE_VERIFY_FAILED, below the layers that requests wraps around it."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return str(cause.reason)
    return "SSLError"


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
