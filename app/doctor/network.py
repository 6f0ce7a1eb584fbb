"""Does the address lead anywhere? From the host name to the TLS handshake."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from app.config_types import is_loopback
from app.doctor.certificates import day, expiry_of, judged
from app.doctor.findings import Finding, ok, warning
from app.errors import VaultTLSFailed, VaultUnreachable
from app.known_causes import HUNG_UP
from app.vault_errors import network_errors, tls_failure
from app.vault_http import TLSFiles, proxy_for, tls_context


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
    host, port = _target(server.url)
    if proxy_for(server.url):
        there = urlsplit(server.url).hostname or ""
        text = f"requests go through the proxy {host}:{port}"
        yield warning(text, f"If that is not meant, set NO_PROXY={there}.", there)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        remedy = f"Check the host in {server.variable}, and the name service: `getent hosts {host}`."
        raise VaultUnreachable(host, f"the host name does not resolve ({reason})", remedy) from None
    addresses = ", ".join(dict.fromkeys(str(address[0]) for *_, address in found))
    yield ok("an address: nothing to look up" if addresses == host else addresses, host)


def connect(server: Server) -> Iterator[Finding]:
    """Open a TCP connection, and close it."""
    host, port = _target(server.url)
    try:
        socket.create_connection((host, port), server.timeout).close()
    except TimeoutError:
        remedy = f"Check {server.variable}, and the firewalls and routes in between."
        raise VaultUnreachable(f"{host}:{port}", "no answer within VAULT_TIMEOUT", remedy) from None
    except OSError as error:
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
            http.get(server.url + path, stream=True, timeout=server.timeout) as answer,
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
    if not is_loopback(server.url):
        remedy = f"Set {server.variable} to https://, and {ca} if the CA is a private one."
        yield warning("http:// sends credentials and secrets in the clear", remedy)
    elif server.files.client_cert:
        yield warning("http:// presents no client certificate", f"Set {server.variable} to https://.", client_cert)
    else:
        yield ok("none: http:// to this machine")


def _target(url: str) -> tuple[str, int]:
    """Return who is connected to: the host of the address, or the proxy in front of it."""
    parts = urlsplit(proxy_for(url) or url)
    return parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80)
