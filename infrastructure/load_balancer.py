"""How is a load balancer to treat several servers? This one does as HAProxy does, with a health check and TCP.

It asks each server for a path; 200 is healthy. A new connection goes to the next healthy server. The connections of one
that is not healthy any more are broken off, or left to end by themselves.
"""

import itertools
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

import requests

from infrastructure.processes import in_thread

Address = tuple[str, int]
CHECK_EVERY, CHECK_TIMEOUT = 0.2, 1.0  # seconds
CHUNK = 65536


def address_of(url: str) -> Address:
    """Return host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


class Relay(ThreadingTCPServer, ABC):
    """Passes bytes on, in both directions, to where `route` says; None: the connection is closed."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    delay = 0.0  # seconds that bytes are on their way, in either direction

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.open: dict[socket.socket, tuple[Address, Address]] = {}  # by the caller's side: who called, and whom

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @abstractmethod
    def route(self, caller: Address) -> Address | None:
        """Say where a connection leads."""

    def break_off(self, connection: socket.socket) -> None:
        """End a connection; both its threads notice."""
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Relay until the block ends."""
        try:
            with in_thread(self):
                yield self.url
        finally:
            for connection in list(self.open):
                self.break_off(connection)


class _Connection(BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        called = self.server.route(self.client_address)
        if called is None:
            return
        with suppress(OSError), socket.create_connection(called, CHECK_TIMEOUT) as upstream:
            upstream.settimeout(None)
            for each in (self.request, upstream):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.server.open[self.request] = (self.client_address, called)
            back = threading.Thread(target=_pump, args=(upstream, self.request, self.server.delay), daemon=True)
            back.start()
            _pump(self.request, upstream, self.server.delay)
            back.join()
        self.server.open.pop(self.request, None)


def _pump(source: socket.socket, target: socket.socket, delay: float) -> None:
    with suppress(OSError):
        while piece := source.recv(CHUNK):
            if delay:
                time.sleep(delay)
            target.sendall(piece)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class LoadBalancer(Relay):
    """Spreads connections over the healthy ones of several servers."""

    def __init__(self, urls: Sequence[str], path: str, *, breaks_off: bool = True) -> None:
        super().__init__()
        self.urls = list(urls)
        self.healthy: list[Address] = []
        self._path, self._breaks_off = path, breaks_off
        self._turn = itertools.count()
        self._over = threading.Event()

    def route(self, _caller: Address) -> Address | None:
        """Take the next healthy server."""
        healthy = self.healthy
        return healthy[next(self._turn) % len(healthy)] if healthy else None

    def check(self) -> None:
        """Ask each server once, all at a time."""
        found: dict[str, bool] = {}
        urls = list(self.urls)
        threads = [threading.Thread(target=self._ask, args=(url, found)) for url in urls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.healthy = [address_of(url) for url in urls if found[url]]
        if self._breaks_off:
            for connection, (_, called) in list(self.open.items()):
                if called not in self.healthy:
                    self.break_off(connection)

    def _ask(self, url: str, found: dict[str, bool]) -> None:
        try:
            answer = requests.get(url + self._path, timeout=CHECK_TIMEOUT, allow_redirects=False)
            found[url] = answer.status_code == requests.codes.ok
        except requests.RequestException:
            found[url] = False

    @contextmanager
    def running(self) -> Iterator[str]:
        """Check and balance until the block ends."""

        def keep_checking() -> None:
            while not self._over.wait(CHECK_EVERY):
                self.check()

        self.check()
        thread = threading.Thread(target=keep_checking, daemon=True)
        thread.start()
        try:
            with super().running() as url:
                yield url
        finally:
            self._over.set()
            thread.join()
