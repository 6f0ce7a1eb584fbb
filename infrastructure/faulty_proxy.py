"""How does the service behave when Vault misbehaves? A proxy in front of a real server that does so on demand."""

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from infrastructure.processes import in_thread

# without a word a 429 is no limit: so says an OpenBao that has not caught up
SILENT = b'{"errors": []}'
LIMITED = b'{"errors": ["request path \\"secret/data/app\\": rate limit quota exceeded"]}'


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a request; the fields combine."""

    status: int | None = None  # answer this instead of asking Vault
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None  # of such an answer (200 without a status); None: as Vault would say it
    delay: float = 0.0  # seconds before the answer
    hang: bool = False  # never answer
    reset: bool = False  # break the connection instead of answering
    unanswered: bool = False  # pass the request on, but break the connection instead of the answer
    cut: bool = False  # break the connection in the middle of the body


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on to `target`, but for the fault that `fault(method, path)` returns."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, target: str, fault: Callable[[str, str], Fault | None] = lambda _method, _path: None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target).netloc
        self.fault = fault
        self.dropped: set[str] = set()  # headers, in lower case, that are not passed on, in either direction
        self.closing = threading.Event()
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        """The proxy's own address."""
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve in the background until the block ends."""
        with in_thread(self):
            try:
                yield self.url
            finally:
                self.closing.set()

    def handle_error(self, *_: Any) -> None:
        """Say nothing: connections that break are the point."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or the body of an answer waits 40 ms for a word on its head
    server: FaultyProxy

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, self.path))
        self.server.headers.append(dict(self.headers))
        self.server.bodies.append(body)
        fault = self.server.fault(self.command, self.path) or Fault()
        if self.server.closing.wait(fault.delay) if fault.delay else False:
            fault = Fault(reset=True)
        if fault.hang:
            self.server.closing.wait()
        if fault.unanswered:
            self._forward(body)
        if fault.hang or fault.reset or fault.unanswered:
            self._break()
        elif fault.status is not None or fault.body is not None:
            told = LIMITED if fault.status == HTTPStatus.TOO_MANY_REQUESTS else SILENT
            self._answer(fault.status or 200, fault.headers, told if fault.body is None else fault.body, cut=fault.cut)
        else:
            self._answer(*self._forward(body), cut=fault.cut)

    def _forward(self, body: bytes) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
        upstream = http.client.HTTPConnection(self.server.target, timeout=60)
        try:
            dropped = {"connection", *self.server.dropped}
            headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            kept = tuple(
                (name, value)
                for name, value in answer.getheaders()
                if name.lower() not in {"transfer-encoding", "content-length", *dropped}
            )
            return answer.status, kept, answer.read()
        except OSError:
            return 502, (), b""
        finally:
            upstream.close()

    def _answer(self, status: int, headers: tuple[tuple[str, str], ...], body: bytes, *, cut: bool) -> None:
        self.send_response_only(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        if not any(name.lower() == "content-type" for name, _ in headers):
            self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self._break()

    def _break(self) -> None:
        """Close with a reset, as a crashed machine or a firewall does."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
