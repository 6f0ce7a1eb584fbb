"""What do failures on the way to a server mean? Those of requests, in this project's words."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError, ReadTimeoutError

from app.core.errors import (
    BackendError,
    ServerFault,
    UnexpectedAnswer,
    VaultRateLimited,
    VaultTLSFailed,
    VaultUnreachable,
)
from app.core.settings.types import socket_path
from app.core.transport.deadline import LARGEST_ANSWER, AnswerTooLarge
from app.core.transport.error_causes import HUNG_UP, VERIFY_FAILED, tls_cause
from app.core.transport.proxies import Proxy, proxy_for, unusable_proxy, without_proxy
from app.core.transport.redirects import KEEPING_THE_METHOD, RedirectFailed, RedirectRefused, origin
from app.core.transport.unix_sockets import unreachable

IN_TIME = "within VAULT_TIMEOUT"
OF_OTHER_SERVERS = {501, 505}  # statuses of what does not know the request, not of what passes it on


@contextmanager
def network_errors(address: str, server: str = "Vault", variable: str = "VAULT_URL") -> Iterator[None]:
    """Turn what requests raises into this project's errors; `variable` is the one that names the server's address."""
    try:
        yield
    except requests.exceptions.InvalidJSONError:
        raise  # it is about what was to be sent
    except requests.exceptions.RequestException as error:
        found = _meaning(error, address, server, variable)
        raise found from (error if isinstance(found, VaultUnreachable) else None)


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


def answered_in_front(
    address: str, status: int, server: str = "Vault", variable: str = "VAULT_URL", redirected_to: str | None = None
) -> BackendError:
    """Return the error for a status that comes with an answer that the server itself would not give."""
    proxy = None if address.startswith("https:") else proxy_for(address)  # in a tunnel it cannot answer
    who = f"{proxy}, or something behind it," if proxy else f"something in front of {server}, such as a load balancer,"
    subject = f"{address}, redirected to {redirected_to}" if redirected_to else address
    match status:
        case HTTPStatus.PROXY_AUTHENTICATION_REQUIRED if proxy:
            return VaultUnreachable(address, *_refused_by(proxy, status, address, server, variable))
        case HTTPStatus.TOO_MANY_REQUESTS:
            cause = f"too many requests (HTTP 429), says {who} not {server} itself"
            return VaultRateLimited(subject, cause, "Wait, or raise its limit.")
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in OF_OTHER_SERVERS:
            remedy = (
                f"Check whether {server} is up behind it, and its log; or whether {variable} is {server}'s address."
            )
            return ServerFault(subject, f"{who} answers with HTTP {status}, not {server} itself", remedy)
        case _:
            remedy = (
                f"Check that {variable} is {server}'s address, and what is in front of it: {who} may have answered."
            )
            return UnexpectedAnswer(subject, f"the answer is not {server}'s (HTTP {status})", remedy)


def moved_to(target: str, address: str, variable: str) -> UnexpectedAnswer:
    """Return the error for an address that leads to another one, whatever is asked."""
    there = f"{origin(target)}{urlsplit(address).path}"
    return UnexpectedAnswer(address, f"{variable} redirects to {there}", f"Set {variable} to {there}.")


def refused_redirect(
    refused: RedirectRefused, address: str, server: str = "Vault", variable: str = "VAULT_URL"
) -> BackendError:
    """Return the error for a redirect that nothing secret is sent after."""
    target = refused.target
    told = f"Check api_addr of {server}'s nodes: the address that they tell of themselves."
    if refused.is_downgrade:
        return VaultTLSFailed(address, f"redirected from https to http ({target})", told)
    if refused.was_followed:
        cause = f"it redirects to {refused.origin}, and that redirects again, to {target}"
        return UnexpectedAnswer(address, cause, told)
    if refused.has_moved:
        return moved_to(target, address, variable)
    if refused.status in KEEPING_THE_METHOD:
        cause = f"it redirects to {target}, where nothing secret is sent: neither https nor the same host"
        return UnexpectedAnswer(address, cause, told)
    return not_vault(address, f"HTTP {refused.status}, a redirect to {target}", server, variable)


def _meaning(error: requests.RequestException, address: str, server: str, variable: str) -> BackendError:
    proxy = proxy_for(address)
    through = f" through {proxy}" if proxy else ""
    remedy = f"Check {variable}, {'the proxy, ' if proxy else ''}the network, and whether {server} is up."
    if any(isinstance(cause, AnswerTooLarge) for cause in _causes(error)):
        size = f"it is larger than {LARGEST_ANSWER // 2**20} MiB"
        return not_vault(address, size, server, variable)
    match error:
        case RedirectFailed():
            return _failed_elsewhere(error, address, server, variable)
        case RedirectRefused():
            return refused_redirect(error, address, server, variable)
        case requests.exceptions.ProxyError() if proxy:
            return VaultUnreachable(address, *proxy_failure(error, proxy, address, server, variable))
        case requests.exceptions.InvalidSchema() | requests.exceptions.InvalidURL() if proxy:
            return VaultUnreachable(address, *unusable_proxy(proxy, address))
        case requests.exceptions.SSLError():
            return tls_failure(error, address, server, variable)
        case _ if _has_timed_out(error):
            return VaultUnreachable(address, f"no answer {IN_TIME}{through}", remedy)
        case requests.exceptions.ConnectionError() | requests.exceptions.ChunkedEncodingError():
            return _no_connection(error, proxy, address, server, variable)
        case _:  # a body that is not what it says
            return not_vault(address, type(error).__name__, server, variable)


def _no_connection(
    error: requests.RequestException, proxy: Proxy | None, address: str, server: str, variable: str
) -> VaultUnreachable:
    if socket_path(address):
        return unreachable(address, _system_error(error), variable)
    cause = f"no connection ({_network_reason(error)})"
    if proxy:
        remedy = f"Check {variable}, the proxy, the network, and whether {server} is up."
        return VaultUnreachable(address, f"{cause} through {proxy}", remedy)
    return VaultUnreachable(address, cause, f"Check {variable}, and whether {server} is up.")


def _failed_elsewhere(failed: RedirectFailed, address: str, server: str, variable: str) -> BackendError:
    """Name both addresses; what is wrong is not the one that the settings name."""
    target, cause = failed.target, failed.__cause__
    found = _meaning(cause, target, server, variable) if isinstance(cause, requests.RequestException) else None
    told = (
        f"Check api_addr of {server}'s nodes (the address that they tell of themselves), and whether that node is up."
    )
    if isinstance(found, VaultTLSFailed):
        told = f"{found.remedy} It is api_addr of {server}'s nodes that leads there."
    reason = found.cause if found else "no answer"
    if failed.has_moved:
        there = moved_to(target, address, variable)
        return type(found or there)(address, f"{there.cause}: {reason}", there.remedy)
    return type(found or VaultUnreachable(address, reason, told))(address, f"it redirects to {target}: {reason}", told)


def proxy_failure(error: BaseException, proxy: Proxy, address: str, server: str, variable: str) -> tuple[str, str]:
    """Tell a proxy that is not there from one that refuses; return cause and remedy."""
    for cause in _causes(error):
        if refused := re.search(r"Tunnel connection failed: (\d{3})", str(cause)):
            return _refused_by(proxy, int(refused[1]), address, server, variable)
    if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
        return f"no TLS connection to {proxy} ({_tls_reason(error)})", without_proxy(address, proxy)
    if _has_timed_out(error):
        return f"{proxy} does not answer {IN_TIME}", without_proxy(address, proxy)
    return f"no connection to {proxy} ({_network_reason(error)})", without_proxy(address, proxy)


def _refused_by(proxy: Proxy, status: int, address: str, server: str, variable: str) -> tuple[str, str]:
    host = urlsplit(address).netloc
    match status:
        case HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            remedy = f"Put a user and a password that it accepts into {proxy.variable} (http://USER:PASSWORD@…)."
            return f"{proxy} wants to know who asks (HTTP 407)", remedy
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            remedy = f"Check {variable}, whether {server} is up, and whether the proxy may reach {host}."
            return f"{proxy} does not get through to {host} (HTTP {status})", remedy
        case _:
            remedy = f"Have it let this service through to {host}, or set NO_PROXY={urlsplit(address).hostname}."
            return f"{proxy} refuses (HTTP {status})", remedy


def _tls_reason(error: BaseException) -> str:
    """Find OpenSSL's own word, such as CERTIFICATE_VERIFY_FAILED, below the layers that requests wraps around it."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return VERIFY_FAILED + cause.verify_message
        if isinstance(cause, ssl.SSLEOFError):
            return HUNG_UP
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return str(cause.reason)
    return "SSLError"


def _has_timed_out(error: BaseException) -> bool:
    timeouts = TimeoutError, ReadTimeoutError, requests.exceptions.Timeout
    return any(isinstance(cause, timeouts) for cause in _causes(error))  # urllib3 calls a refused connection one, too


def _network_reason(error: BaseException) -> str:
    """Find the operating system's own word, such as "Connection refused"."""
    return getattr(_system_error(error), "strerror", None) or "connection broken"


def _system_error(error: BaseException) -> OSError | None:
    return next((cause for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Walk down: requests puts urllib3's error into its own arguments, urllib3 keeps its cause in `reason`."""
    while error is not None:
        yield error
        nested = getattr(error, "reason", None), *error.args
        inner = next((each for each in nested if isinstance(each, BaseException)), None)
        error = inner or error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def was_sent(error: BaseException) -> bool:
    """Tell whether a request may have reached the server: not if no connection to it came about."""
    never = ConnectTimeoutError, NewConnectionError, NameResolutionError, ssl.SSLCertVerificationError
    return not any(isinstance(cause, never) for cause in _causes(error))
