"""When does a call end at the latest, and how large may its answer be? One bound each for a call as a whole.

The time-out of a socket counts for each read: a server that sends one byte a second never reaches it. So each read and
write gets only what is left of the call's time; finding the address, connecting and the TLS handshake do, too.
"""

import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import requests
from urllib3.util.connection import allowed_gai_family

from app.core import forks
from app.core.settings.types import is_ip_address
from app.core.threads import has_started

LARGEST_ANSWER = 32 * 2**20  # bytes, as they come and when they are unpacked; Vault takes no larger request either


class AnswerTooLarge(requests.RequestException):
    """An answer, or what is packed in it, goes beyond `LARGEST_ANSWER`."""


class _Call(threading.local):
    """The call that this thread is making."""

    end: float | None = None  # by the monotonic clock; None: no call
    received: int = 0  # bytes


_call = _Call()


@contextmanager
def call_within(seconds: float | None) -> Iterator[None]:
    """Let the block's network I/O take so many seconds in all; inside another such block, the earlier end counts."""
    outer = _call.end, _call.received
    if seconds is not None:
        end = time.monotonic() + seconds
        _call.end = end if _call.end is None else min(end, _call.end)
    if outer[0] is None:
        _call.received = 0
    try:
        yield
    finally:
        _call.end = outer[0]


def time_left() -> float | None:
    """Return the seconds that are left of the call, None without one; raise `TimeoutError` if none are left."""
    if _call.end is None:
        return None
    left = _call.end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time of the call is up")
    return left


def _take(size: int) -> None:
    _call.received += size
    if _call.end is not None and _call.received > LARGEST_ANSWER:
        raise AnswerTooLarge


def bounded(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Pass on the unpacked parts of an answer, as long as they are not too large together."""
    size = 0
    for part in parts:
        size += len(part)
        if size > LARGEST_ANSWER:
            raise AnswerTooLarge
        yield part


class _Bounded:
    """Gives each operation of a socket what is left of the call's time."""

    def _hurry(self) -> None:
        if (left := time_left()) is not None:
            self.settimeout(left)  # type: ignore[attr-defined] # a socket's

    def recv(self, *args: Any) -> bytes:
        self._hurry()
        data: bytes = super().recv(*args)  # type: ignore[misc]
        _take(len(data))
        return data

    def recv_into(self, *args: Any) -> int:
        self._hurry()
        size: int = super().recv_into(*args)  # type: ignore[misc]
        _take(size)
        return size

    def send(self, *args: Any) -> int:
        self._hurry()
        return super().send(*args)  # type: ignore[misc,no-any-return]

    def sendall(self, *args: Any) -> None:
        self._hurry()
        super().sendall(*args)  # type: ignore[misc]


class BoundedSocket(_Bounded, socket.socket):
    """A socket that keeps to the call's time."""


class BoundedTLSSocket(_Bounded, ssl.SSLSocket):
    """The same over TLS; Python gives a handshake, and each read, one time-out however many packets it takes."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl calls it
        """Shake hands, in time."""
        self._hurry()
        super().do_handshake(block)


def connected(host: str, port: int, options: Iterable[Any]) -> BoundedSocket:
    """Return a socket that is connected; of several addresses each gets its share of the time that is left."""
    found = _addresses(host.strip("[]"), port)
    problem: OSError = OSError("the host has no address")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        sock = BoundedSocket(family, kind, protocol)
        try:
            for option in options:
                sock.setsockopt(*option)
            left = time_left()
            sock.settimeout(None if left is None else left / (len(found) - number))
            sock.connect(address)
        except OSError as error:
            problem = error
            sock.close()
        else:
            return sock
    raise problem


def _addresses(host: str, port: int) -> list[Any]:
    """Look a name up in a thread of its own: nothing else bounds how long a name service is waited for."""

    def look_up() -> list[Any]:
        with forks.whole:
            return socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM)

    def run() -> None:
        try:
            found.set_result(look_up())
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            found.set_exception(error)

    if is_ip_address(host):
        return look_up()
    found: Future[list[Any]] = Future()
    if not has_started(threading.Thread(target=run, name="name-service", daemon=True)):
        return look_up()
    try:
        return found.result(time_left())
    except TimeoutError:
        raise socket.gaierror(socket.EAI_AGAIN, "the name service does not answer within VAULT_TIMEOUT") from None
