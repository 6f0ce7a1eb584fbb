"""Does the address lead anywhere? From the host name to the TLS handshake."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from app.core.errors import VaultTLSFailed, VaultUnreachable
from app.core.settings.types import is_loopback, socket_path
from app.core.transport.error_causes import HUNG_UP
from app.core.transport.network_errors import network_errors, proxy_failure, tls_failure
from app.core.transport.proxies import proxy_for, unusable_proxy
from app.core.transport.tls import TLSFiles, tls_context
from app.core.transport.unix_sockets import open_socket, unreachable
from app.extras.doctor.certificates import day, expiry_of, judged
from app.extras.doctor.findings import Finding, ok, warning


@dataclass(frozen=True, slots=True)
class Server:
    """Who is to be reached, and the variable that holds the address."""

    name: str
    url: str
    timeout: float  # seconds
    files: TLSFiles
    variable: str


def resolve(server: Server) -> Iterator[Finding]:
    """Look the host name up; a proxy that the environment names is looked up instead."""
    if socket_path(server.url):
        yield ok("a socket of this machine: nothing to look up", server.url)
        return
    host, port = _target(server.url)
    proxy = proxy_for(server.url)
    if proxy:
        there = urlsplit(server.url).hostname or ""
        if not proxy.is_usable:
            raise VaultUnreachable(server.url, *unusable_proxy(proxy, server.url))
        yield warning(f"requests go through {proxy}", f"If that is not meant, set NO_PROXY={there}.", there)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        variable = proxy.variable if proxy else server.variable
        remedy = f"Check the host in {variable}, and the name service: `getent hosts {host}`."
        raise VaultUnreachable(host, f"the host name does not resolve ({reason})", remedy) from None
    addresses = ", ".join(dict.fromkeys(str(address[0]) for *_, address in found))
    yield ok("an address: nothing to look up" if addresses == host else addresses, host)


def connect(server: Server) -> Iterator[Finding]:
    """Open a connection, and close it."""
    if path := socket_path(server.url):
        try:
            open_socket(path, server.timeout).close()
        except TimeoutError:
            remedy = "Look into the log of the Agent or Proxy that listens there."
            raise VaultUnreachable(server.url, "no answer within VAULT_TIMEOUT", remedy) from None
        except OSError as error:
            raise unreachable(server.url, error, server.variable) from None
        yield ok("accepts connections", server.url)
        return
    host, port = _target(server.url)
    proxy = proxy_for(server.url)
    try:
        socket.create_connection((host, port), server.timeout).close()
    except OSError as error:
        if proxy:
            told = proxy_failure(error, proxy, server.url, server.name, server.variable)
            raise VaultUnreachable(server.url, *told) from None
        if isinstance(error, TimeoutError):
            remedy = f"Check {server.variable}, and the firewalls and routes in between."
            raise VaultUnreachable(f"{host}:{port}", "no answer within VAULT_TIMEOUT", remedy) from None
        remedy = f"Check the port in {server.variable}, and whether {server.name} is up."
        raise VaultUnreachable(f"{host}:{port}", f"no connection ({error.strerror})", remedy) from None
    yield ok("accepts connections", f"{host}:{port}")


def shake_hands(server: Server, http: requests.Session, path: str, now: float) -> Iterator[Finding]:
    """Examine both certificates, with a request for `path` over the connections that the service would use.

    A request, since the server's word on the client certificate comes after the handshake (TLS 1.3).
    """
    _, client_cert, _ = server.files.variables
    file = server.files.client_cert
    if not server.url.startswith("https://"):
        yield from _in_the_clear(server)
        return
    expires = expiry_of(file.read_text("ascii", "replace")) if file else None
    if expires is not None and expires < now:
        cause = f"the client certificate has expired, on {day(expires)}"
        raise VaultTLSFailed(f"{client_cert}={file}", cause, "Renew it: write a new one to this file.")
    try:
        with (
            network_errors(server.url, server.name, server.variable),
            http.get(server.url + path, stream=True, timeout=server.timeout, allow_redirects=False) as answer,
        ):
            connection: Any = answer.raw.connection
            ends = ssl.cert_time_to_seconds(connection.sock.getpeercert()["notAfter"])
    except VaultUnreachable as error:
        told = isinstance(error, VaultTLSFailed) and HUNG_UP not in error.cause
        raise (None if told else _alert(server)) or error from None
    yield judged("the server's certificate", ends, now, f"Renew the certificate of {server.name}'s listener.")
    if expires is not None:
        yield judged("the client certificate", expires, now, f"Renew {client_cert}.")


def _alert(server: Server) -> VaultTLSFailed | None:
    """Listen for why the server hangs up after the handshake; its alert is not lost if nothing is sent meanwhile."""
    host, port = _target(server.url)
    if proxy_for(server.url):
        return None
    try:
        with (
            socket.create_connection((host, port), server.timeout) as raw,
            tls_context(server.files).wrap_socket(raw, server_hostname=host) as secured,
        ):
            secured.recv(1)
    except ssl.SSLError as error:
        return tls_failure(error, server.url, server.name, server.variable)
    except OSError:
        pass
    return None


def _in_the_clear(server: Server) -> Iterator[Finding]:
    ca, client_cert, _ = server.files.variables
    scheme = urlsplit(server.url).scheme
    if not is_loopback(server.url):
        remedy = f"Set {server.variable} to https://, and {ca} if the CA is a private one."
        yield warning("http:// sends credentials and secrets in the clear", remedy)
    elif server.files.client_cert:
        yield warning(f"{scheme}:// presents no client certificate", f"Set {server.variable} to https://.", client_cert)
    elif server.files.cacert and scheme == "unix":
        yield warning("it is ignored: there is no TLS over a socket of this machine", f"Unset {ca}.", ca)
    else:
        yield ok(f"none: {scheme}:// to this machine")


def _target(url: str) -> tuple[str, int]:
    """Return who is connected to: the host of the address, or the proxy in front of it."""
    if proxy := proxy_for(url):
        return proxy.target
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80)
