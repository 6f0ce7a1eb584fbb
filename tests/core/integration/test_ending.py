"""The service ends in time, and gives its token back, whatever hangs; and nobody can hold it up, or fill it up."""

import asyncio
import errno
import json
import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hvac.exceptions
import pytest
import requests
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.core.web.loop_errors import bounded_loop_errors
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.core.integration import limited
from tests.support import DEADLINE, SECRETS, Service, Vault, environment, unique, until

IN_TIME = 10.0  # seconds that an orchestrator gives


def variables_for(vault: Vault) -> dict[str, str]:
    """Put the declared secrets into Vault; return the variables of a service that reads them."""
    vault.write(path := unique("app"), SECRETS)
    return environment(vault.app_role(path))


def accessor_of(vault: Vault, known: set[str]) -> str:
    """Return the accessor of the token that has come."""
    return next(iter(accessors(vault) - known))


def accessors(vault: Vault) -> set[str]:
    """Return those of all tokens."""
    return set(vault.client.list("auth/token/accessors")["data"]["keys"])


def is_gone(vault: Vault, accessor: str) -> bool:
    """Tell whether the token has been revoked."""
    try:
        vault.client.auth.token.lookup_accessor(accessor)
    except (hvac.exceptions.InvalidPath, hvac.exceptions.Forbidden, hvac.exceptions.InvalidRequest):
        return True
    return False


@contextmanager
def connected(service: Service, request: str) -> Iterator[socket.socket]:
    """Send the beginning of a request."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=DEADLINE) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode())
        yield connection


def answer(connection: socket.socket) -> str:
    """Return all that comes until the other side closes; if it has not read all that came, that is a reset."""
    received = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received.decode()


# extra: api_keys
def head_of_a_body(service: Service) -> str:
    """Return the beginning of a request whose body is waited for."""
    who = f"Host: {urlsplit(service.url).netloc}\nX-API-Key: {SECRETS['api_key']}"
    return f"POST /api-keys HTTP/1.1\n{who}\nContent-Type: application/json\nContent-Length: 9\n"


@pytest.mark.slow
def test_a_body_has_ten_seconds(vault: Vault, tmp_path: Path) -> None:
    """In the service as it is."""
    with Service(tmp_path, variables_for(vault)) as service, connected(service, f"{head_of_a_body(service)}\n") as late:
        assert "within 10 s" in answer(late)


def test_half_a_body_does_not_hold_up_the_end(vault: Vault, tmp_path: Path) -> None:
    """The request is broken off, and the token revoked."""
    known = accessors(vault)
    with Service(tmp_path, variables_for(vault)) as service:
        accessor = accessor_of(vault, known)
        with connected(service, f"{head_of_a_body(service)}Expect: 100-continue\n\n") as connection:
            assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")  # it waits for the body now
            connection.sendall(b"{")
            start = time.monotonic()
            service.stop()
            assert time.monotonic() - start < IN_TIME
        assert "timeout graceful shutdown exceeded" in service.output
    assert is_gone(vault, accessor)


# /extra


@pytest.mark.parametrize("way", ["close", "stubborn close", "blocking close", "task", "busy workers"])
def test_what_does_not_end_does_not_hold_up_the_end(vault: Vault, tmp_path: Path, way: str) -> None:
    """Nor the revocation, which is carried out beside it."""
    known = accessors(vault)
    with Service(tmp_path, {**variables_for(vault), "UNENDING": way}, "tests.core.integration.unending:app") as service:
        accessor = accessor_of(vault, known)
        start = time.monotonic()
        service.stop()
        assert time.monotonic() - start < IN_TIME
    assert is_gone(vault, accessor)
    given_up = [event["of"] for event in service.events if event["event"] == "closing_given_up"]
    assert given_up == (["unending"] if way in {"close", "stubborn close"} else [])


def test_a_vault_that_does_not_take_its_token_back_is_named(vault: Vault, tmp_path: Path) -> None:
    """It expires by itself; who wants to be sure can revoke it."""
    proxy = FaultyProxy(vault.url)
    with proxy.running() as url:
        variables = {**variables_for(vault), "VAULT_URL": url, "VAULT_TIMEOUT": str(DEADLINE)}
        with Service(tmp_path, variables) as service:
            proxy.fault = lambda *_: Fault(hang=True)
            start = time.monotonic()
            service.stop()
            assert time.monotonic() - start < IN_TIME
    told = [(event["event"], event.get("source")) for event in service.events if "given_up" in event["event"]]
    assert told == [("token_revocation_given_up", "vault")]


class OnLoop(Service):
    """The service on one of the event loops."""

    def __init__(self, directory: Path, loop: str) -> None:
        self._loop = loop
        super().__init__(directory, {})

    def command(self, app: str, port: int) -> list[str]:
        """Return what starts it."""
        return [*super().command(app, port), "--loop", self._loop]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_without_file_descriptors_it_says_so_once_a_second_and_recovers(tmp_path: Path, loop: str) -> None:
    """Whoever comes then is turned away at once; asyncio would try, and log, thousands of times a second."""
    with OnLoop(tmp_path, loop) as service:
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        start = time.monotonic()
        lines: list[dict[str, Any]] = []
        while len(lines) < 3:
            with ExitStack() as idle:
                for _ in range(100):
                    idle.enter_context(connected(service, ""))
                time.sleep(0.1)
            assert time.monotonic() - start < DEADLINE
            lines = [event for event in service.events if event["event"] == "connections_not_accepted"]
        assert len(lines) <= 2 + time.monotonic() - start
        assert loop == "uvloop" or any(line["closed"] > 0 for line in lines)
        assert "socket.accept()" not in service.output
        until(lambda: is_alive(service), "the recovery")


def is_alive(service: Service) -> bool:
    """Tell whether it answers."""
    try:
        return service.get("/health/live").ok
    except requests.ConnectionError:
        return False


def test_other_errors_of_the_event_loop_are_logged_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    """And a handler that somebody has set stays."""
    told: list[str] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        with bounded_loop_errors():
            loop.call_exception_handler({"message": "something else", "exception": OSError(errno.EMFILE, "full")})
        loop.set_exception_handler(lambda _, context: told.append(context["message"]))
        with bounded_loop_errors():
            loop.call_exception_handler({"message": "for the other one"})

    asyncio.run(run())
    assert "something else" in caplog.text
    assert told == ["for the other one"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service with a short deadline for bodies."""
    with Service(tmp_path_factory.mktemp("limited"), {}, "tests.core.integration.limited:app") as service:
        yield service


POST = "POST /x HTTP/1.1\nHost: x\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(f"{POST}Content-Length: 10\n\nxxxxxxxxx", 408, id="the last byte is withheld"),
        pytest.param(f"{POST}Content-Length: 10\n\n", 408, id="all is withheld"),
        pytest.param(f"{POST}Transfer-Encoding: chunked\n\n3\nxxx\n", 408, id="the last chunk is withheld"),
        pytest.param(
            f"{POST}Expect: 100-continue\nContent-Length: 10\n\n", 408, id="it was asked for, and does not come"
        ),
        pytest.param(f"{POST}Content-Length: 16385\n\n", 413, id="too large, as announced"),
        pytest.param(f"{POST}Content-Length: {'9' * 19}\n\n", 413, id="a huge number"),
        pytest.param(f"{POST}Transfer-Encoding: chunked\n\n8000\n{'x' * 0x8000}\n", 413, id="too large, unannounced"),
        pytest.param("GET /health/live HTTP/1.1\nHost: x\nContent-Length: 10\n\n", 200, id="nobody reads it"),
        pytest.param("PUT /x HTTP/1.1\nHost: x\nContent-Length: 10\n\n", 405, id="there is no such route"),
    ],
)
def test_a_body_that_does_not_come_ends_the_connection(service: Service, request_: str, status: int) -> None:
    """With an answer, and nothing is held for whoever goes on waiting."""
    with connected(service, request_) as connection:
        head, _, body = answer(connection).removeprefix("HTTP/1.1 100 Continue\r\n\r\n").partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert "\r\nconnection: close" in head.lower()
    if status in {408, 413}:
        assert json.loads(body)["status"] == status


def test_a_body_that_trickles_has_no_more_time(service: Service) -> None:
    """The deadline is for all of it."""
    with connected(service, f"{POST}Content-Length: 1000\n\n") as connection:
        start = time.monotonic()
        connection.settimeout(0.05)
        received = b""
        while b"408" not in received and time.monotonic() - start < DEADLINE:
            connection.sendall(b"x")
            try:
                received += connection.recv(65536)
            except TimeoutError:
                continue
        assert received.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("how", ["at once", "in pieces"])
@pytest.mark.parametrize(("method", "size", "status"), [("POST", 10_000_000, 413), ("PUT", 10_000, 405)])
def test_a_caller_who_is_still_sending_gets_the_answer(
    service: Service, how: str, method: str, size: int, status: int
) -> None:
    """To close the connection at once would take it away from whoever sends first and reads then."""
    address = urlsplit(service.url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=DEADLINE)

    def pieces() -> Iterator[bytes]:
        for _ in range(4):
            time.sleep(0.02)  # the answer is there before them
            yield b"x" * (size // 4)

    body = b"x" * size if how == "at once" else pieces()
    with closing(connection):
        connection.request(method, "/x", body, {"Content-Length": str(size)})
        assert connection.getresponse().status == status


@pytest.mark.parametrize(
    ("second", "echoed"),
    [
        pytest.param("1\nb\n0\n\n", "ab", id="the body ends"),
        pytest.param("1\nb\n", "ab", id="the last chunk is withheld"),
        pytest.param(f"8000\n{'b' * 0x8000}\n", "a", id="too large"),
    ],
)
def test_an_answer_that_begins_before_the_body_has_come_is_bounded_too(
    service: Service, second: str, echoed: str
) -> None:
    """No status can say so any more: the answer is broken off."""
    with connected(service, "POST /echo/ HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n1\na\n") as connection:
        begun = connection.recv(65536).decode()
        connection.sendall(second.replace("\n", "\r\n").encode())
        head, _, body = (begun + answer(connection)).partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200")
    assert "".join(re.findall("[ab]", body)) == echoed
    assert body.endswith("0\r\n\r\n") is second.endswith("0\n\n")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_body_that_has_come_leaves_the_connection_open(service: Service, method: str) -> None:
    """Also if nobody reads it. Another request may follow, and an answer may take longer than a body."""
    request = f"{method} /x HTTP/1.1\nHost: x\nContent-Length: 3\n\nxxx"
    with connected(service, request) as connection:
        first = connection.recv(65536)
        assert b"connection: close" not in first.lower()
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert "0123456789" in "".join(re.findall(r"\r\n1\r\n(\d)", answer(connection)))


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/uploads", 100_000), ("/uploads/a", 100_000), ("/uploads/small/x", 10), ("/uploadsx", 16_384), ("/", 16_384)],
)
def test_a_route_may_take_more(service: Service, path: str, limit: int) -> None:
    """If it is named; the longest beginning counts, segment by segment."""
    assert service.post(path, data=b"x" * limit).json() == {"bytes": limit}
    assert service.post(path, data=b"x" * (limit + 1)).status_code == 413


def test_a_route_may_take_more_also_where_the_service_is_mounted() -> None:
    """Its paths begin where it is mounted."""
    outer = FastAPI()
    outer.mount("/api", limited.app)
    with TestClient(outer) as client:
        assert client.post("/api/uploads", content=b"x" * 100_000).json() == {"bytes": 100_000}
        assert client.post("/api/other", content=b"x" * 100_000).status_code == 413
