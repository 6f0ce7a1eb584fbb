"""No caller holds a connection for ever: neither by what it does not send, nor by what it does not take."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.core.run.bounded_http import Bounds
from app.core.run.serve import LIMITS
from tests.support import until

BOUND = 0.4  # seconds
LARGE = 8 * 2**20  # bytes: more than the buffers of two sockets take
WHOLE = b"GET /small HTTP/1.1\r\nHost: testserver\r\n\r\n"


class Quick(Bounds):
    """The bounds of the service, so short that a test can wait for them."""

    head_timeout = BOUND
    taking_timeout = BOUND


class QuickH11(Quick, H11Protocol):
    """Over the protocol that uvicorn always has."""


class QuickHttpTools(Quick, HttpToolsProtocol):
    """Over the one that it prefers."""


async def answer(scope: object, receive: object, send: object) -> None:
    """Answer little, or much: in parts, or at once."""
    match Request(scope).url.path:  # type: ignore[arg-type]
        case "/parts":
            response: Response = StreamingResponse(b"x" * 2**16 for _ in range(LARGE // 2**16))
        case "/large":
            response = Response(b"x" * LARGE)
        case _:
            response = Response(b"ok")
    await response(scope, receive, send)  # type: ignore[arg-type]


@contextmanager
def serving(protocol: type[Bounds]) -> Iterator[tuple[uvicorn.Server, Callable[[], socket.socket]]]:
    """Serve at a port of its own; give the server, and how to connect to it."""
    options = {"http": protocol, "log_config": None, "lifespan": "off", "timeout_keep_alive": 20}
    config = uvicorn.Config(answer, port=0, **{**LIMITS, **options})
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    until(lambda: server.started, "the server to start")
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield server, lambda: socket.create_connection(("127.0.0.1", port), timeout=15)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module", params=[QuickH11, QuickHttpTools])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[uvicorn.Server, Callable[[], socket.socket]]]:
    """Serve with short bounds."""
    with serving(request.param) as both:
        yield both


def is_closed(caller: socket.socket) -> bool:
    """Wait until the server ends the connection; what else it says is read on the way."""
    try:
        while caller.recv(2**16):
            pass
    except ConnectionResetError:
        pass
    return True


def is_answered(caller: socket.socket) -> bool:
    """Take one answer to `WHOLE`."""
    answer = b""
    while not answer.endswith(b"\r\n\r\nok"):
        part = caller.recv(2**16)
        assert part, answer
        answer += part
    return answer.startswith(b"HTTP/1.1 200 OK")


def trickle(caller: socket.socket, text: bytes) -> None:
    """Send one byte after the other, until the server has had enough."""
    for byte in text:
        try:
            caller.sendall(bytes([byte]))
        except OSError:
            return
        time.sleep(0.02)  # what is tried is slowness itself


def test_a_caller_that_says_nothing_is_left(served: tuple[uvicorn.Server, Callable[[], socket.socket]]) -> None:
    """A connection takes one of the places, whether it is used or not."""
    _, connect = served
    with closing(connect()) as caller:
        begun = time.monotonic()
        assert is_closed(caller)
        assert time.monotonic() - begun > BOUND / 2


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_head_that_trickles_is_left(served: tuple[uvicorn.Server, Callable[[], socket.socket]], before: int) -> None:
    """However steadily it does, and whatever has been answered on the connection before."""
    _, connect = served
    with closing(connect()) as caller:
        for _ in range(before):
            caller.sendall(WHOLE)
            assert is_answered(caller)
        head = b"GET /small HTTP/1.1\r\nHost: testserver\r\nX-Slow: " + b"a" * 2000
        thread = threading.Thread(target=trickle, args=(caller, head))
        thread.start()
        assert is_closed(caller)
        thread.join()


@pytest.mark.parametrize("path", ["/parts", "/large"], ids=["while the handler waits", "when it has ended"])
@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"], ids=["keep-alive", "close"])
def test_a_caller_that_takes_nothing_is_left(
    served: tuple[uvicorn.Server, Callable[[], socket.socket]], path: str, more: bytes
) -> None:
    """Its handler ends, and its place is free: closing alone would wait for what nobody takes."""
    server, connect = served
    state = server.server_state
    until(lambda: not state.connections, "every place to be free")
    with closing(connect()) as caller:
        caller.sendall(b"GET %b HTTP/1.1\r\nHost: testserver\r\n%b\r\n" % (path.encode(), more))
        assert caller.recv(15) == b"HTTP/1.1 200 OK"
        until(lambda: not state.tasks and not state.connections, "its place to be free")
        assert is_closed(caller)


def test_what_arrives_in_time_is_answered(served: tuple[uvicorn.Server, Callable[[], socket.socket]]) -> None:
    """Idle connections may be used long after the bounds, and a slow caller that takes all gets all."""
    _, connect = served
    with closing(connect()) as caller:
        for _ in range(3):
            caller.sendall(WHOLE[:10])
            time.sleep(BOUND / 4)  # no wait for something: a pause within the bound
            caller.sendall(WHOLE[10:])
            assert is_answered(caller)
            time.sleep(BOUND * 2)  # and one that is longer, between two requests
        caller.sendall(WHOLE.replace(b"small", b"large"))
        taken = 0
        while taken < LARGE:
            taken += len(caller.recv(2**20))
            time.sleep(BOUND / 40)
