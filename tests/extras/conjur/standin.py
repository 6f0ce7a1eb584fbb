"""A stand-in for a Conjur server: it listens on a real socket and answers as the recordings of a real one do.

    with StandIn() as conjur:
        requests.post(f"{conjur.url}/authn/{conjur.account}/admin/authenticate", data=conjur.admin_api_key)

What it answers is decided in `api.py`; here are the server and the switches by which a test makes things go wrong.
`test_standin.py` proves it against the recordings.
"""

import socket
import ssl
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from infrastructure.processes import DEADLINE
from tests.extras.conjur import wire
from tests.extras.conjur.api import Api
from tests.extras.conjur.jwt_logins import JwtService
from tests.extras.conjur.wire import Answer, Request

REASONS = {**{int(status): phrase for status, phrase in responses.items()}, 422: "Unprocessable Entity"}


class Call(NamedTuple):
    """A request that was answered."""

    method: str
    path: str  # raw, with its query
    status: int


class StandIn:
    """A Conjur server with one account, in threads of this process; with `tls` it speaks HTTPS."""

    def __init__(self, account: str = "default", tls: ssl.SSLContext | None = None) -> None:
        self.account = account
        self.requests: list[Call] = []
        self._api = Api(account)
        self._tls = tls
        self._faults: list[_Fault] = []
        self._held: tuple[str, threading.Event, threading.Event] | None = None
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._port = 0
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """What goes into `CONJUR_APPLIANCE_URL`."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def admin_api_key(self) -> str:
        """The key of user `admin`, who may do everything."""
        return self._api.admin_api_key

    def start(self) -> None:
        """Listen, on the same port as before if it was stopped; what it holds is kept."""
        self._server = _Server(self._port, self.answer, self._tls)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Stop listening and cut off every connection."""
        if self._server:
            self._server.end()
            self._server = None

    def advance(self, seconds: float) -> None:
        """Let time pass for the server."""
        self._api.clock.advance(seconds)

    def set_token_lifetime(self, seconds: int) -> None:
        """Let tokens that are issued from now on live so long."""
        self._api.tokens.ttl = seconds

    def expire_tokens(self) -> None:
        """Make every token that was issued so far invalid."""
        self._api.tokens.expire_all()

    def accept_jwt(self, service_id: str, jwt: str, login: str) -> None:
        """Let `authn-jwt/<service id>` take this JWT for this host, which may log in there."""
        self.jwt_service(service_id).hosts[jwt] = login
        self._api.permit_login(service_id, login)

    def jwt_service(self, service_id: str) -> JwtService:
        """Return the webservice `conjur/authn-jwt/<service id>`, made where there is none."""
        return self._api.jwt_service(service_id)

    def set_retry_after(self, seconds: int) -> None:
        """Let the 409s ask for this pause."""
        self._api.retry_after = seconds

    def set_load_seconds(self, seconds: float) -> None:
        """Let a policy load take so long."""
        self._api.load_seconds = seconds

    def set_write_seconds(self, seconds: float) -> None:
        """Let a write take so long; another one of the same variable in this time is answered with 500."""
        self._api.write_seconds = seconds

    @property
    def policy_lock(self) -> threading.Lock:
        """While a test holds it, another policy load is in progress: every load gets a 409."""
        return self._api.policy_lock

    def fail_next(
        self, status: int, *, times: int = 1, method: str = "", path: str = "", answer: Answer | None = None
    ) -> None:
        """Answer the next requests with this method, and with `path` in their raw path, with a failure.

        The failure is the one that a real server gives with this status (a 401 is about the token), or `answer`. The
        request has no effect.
        """
        match status:
            case 401:
                failure = wire.unauthorized("Unauthorized: Invalid token")
            case 403:
                failure = wire.bare(403)
            case 409:
                failure = wire.conflict(self._api.retry_after)
            case _:
                failure = wire.unrouted(status)
        self._faults += [_Fault(method, path, answer or failure)] * times

    @contextmanager
    def hold(self, path: str) -> Iterator[threading.Event]:
        """Let requests with `path` in their raw path wait until the block ends; the event tells that one has come."""
        came, released = threading.Event(), threading.Event()
        self._held = (path, came, released)
        try:
            yield came
        finally:
            self._held = None
            released.set()

    def answer(self, request: Request) -> Answer:
        """Answer a request: with a failure that a test asked for, or as Conjur does."""
        if (held := self._held) and held[0] in request.target:
            held[1].set()
            held[2].wait(DEADLINE)
        with self._lock:
            planned = next((fault for fault in self._faults if fault.meets(request)), None)
            if planned:
                self._faults.remove(planned)
        answer = planned.answer if planned else self._api.answer(request)
        self.requests.append(Call(request.method, request.target, answer.status))
        return answer


class _Fault(NamedTuple):
    method: str
    path: str
    answer: Answer

    def meets(self, request: Request) -> bool:
        return self.method in {"", request.method} and self.path in request.target


class _Server(ThreadingHTTPServer):
    """A thread for each connection; the end cuts off connections that are kept alive."""

    daemon_threads = False  # `server_close` waits for them
    request_queue_size = 128  # connections that tests open at once; the system drops what is more

    def __init__(self, port: int, answer: Callable[[Request], Answer], tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.answer = answer
        self._tls = tls
        self._connections: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        if self._tls:  # the handshake comes with the first read, in the connection's own thread
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where a client hung up or a handshake failed: such is what tests try. Show what is a fault."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def end(self) -> None:
        self.shutdown()
        for connection in list(self._connections):
            with suppress(OSError):  # it is closed already
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # wakes the thread that reads from it
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"  # keeps connections alive
    disable_nagle_algorithm = True  # or the body of an answer waits 40 ms for a word on its head

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path, self.headers, body, self.client_address[0])
        answer = self.server.answer(request)
        headers, body = dict(answer.headers), answer.body
        headers["X-Request-Id"] = self.headers.get("X-Request-Id") or str(uuid.uuid4())
        if self.command == "HEAD":
            headers.pop("Transfer-Encoding", None)
            body = b""
        elif "Transfer-Encoding" in headers:
            body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
        lines = [
            f"HTTP/1.1 {answer.status} {REASONS[answer.status]}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode() + body)  # at once: no pause of Nagle's algorithm

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _respond  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Keep quiet; `StandIn.requests` tells."""
