"""A call ends in its time, and takes in no more than it may, whatever comes and however slowly."""

import gzip
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from app.core.errors import BackendError, UnexpectedAnswer, VaultUnreachable
from app.core.settings.vault import VaultSettings
from app.core.transport import deadline
from app.core.transport.http import open_http, vault_client
from app.core.vault.errors import vault_errors
from tests.pki import Authority
from tests.support import DEADLINE
from tests.trickling import Script, answering, served, trickle

TIMEOUT = 0.3
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PACKED = CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
IN_TIME = "no answer within VAULT_TIMEOUT"


def ask(url: str, method: str = "GET", **more: object) -> None:
    """Send one request, as the service does."""
    settings = VaultSettings.model_validate({"url": url, "timeout": TIMEOUT, **more})
    with open_http(settings) as http, vault_errors(url, "a call"):
        vault_client(settings, http).adapter.request(method, "/v1/x")


def chunk(data: bytes) -> bytes:
    """Return it as a chunk of a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def packed_beginning() -> bytes:
    """Return the beginning of a packed answer."""
    packer = zlib.compressobj(wbits=31)
    return packer.compress(b'{"data": {') + packer.flush(zlib.Z_SYNC_FLUSH)


SLOW: dict[str, Script] = {
    "no head": answering(b"", then=b"H"),
    "an endless status line": answering(b"HTTP/1.1 200 ", then=b"O"),
    "headers without end": answering(OK, then=b"X-A: b\r\n"),
    "one header without end": answering(OK + b"X-A: ", then=b"b"),
    "continue, and continue": answering(then=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body": answering(OK + b"Content-Length: 1000000\r\n\r\n", then=b" "),
    "a body until the end of the connection": answering(OK + b"\r\n", then=b" "),
    "chunks": answering(CHUNKED, then=b"1\r\n \r\n"),
    "the size of a chunk": answering(CHUNKED, then=b"0"),
    "a trailer": answering(CHUNKED + b"0\r\n", then=b"X-A: b\r\n"),
    "a packed body": answering(PACKED + chunk(packed_beginning()), then=chunk(b"\0\0\0\xff\xff")),
    "the body of a fault": answering(b"HTTP/1.1 503 x\r\nContent-Length: 1000000\r\n\r\n", then=b" "),
    "the body of a redirect": answering(
        b"HTTP/1.1 307 x\r\nLocation: /y\r\nContent-Length: 1000000\r\n\r\n", then=b" "
    ),
    "nothing": answering(then=b""),
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("slow", SLOW)
def test_what_trickles_in_ends_with_the_time_of_the_call(slow: str, method: str) -> None:
    """A time-out of the socket would count for each byte; whatever is asked, and whatever comes slowly."""
    hold = threading.Event()

    def script(client: socket.socket, closing: threading.Event) -> None:
        SLOW[slow](client, closing)
        closing.wait()

    with served(script, hold) as url, pytest.raises(VaultUnreachable, match=IN_TIME) as caught:
        ask(url, method)
    assert "VAULT_URL" in caught.value.remedy


def test_a_tls_handshake_that_trickles_ends_with_the_time_of_the_call(tmp_path: Path) -> None:
    """Whatever of it comes."""
    authority = Authority(tmp_path / "ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("vault"))

    def script(client: socket.socket, closing: threading.Event) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(client.recv(65536))
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        trickle(client, outgoing.read(), closing)

    with served(script) as url, pytest.raises(VaultUnreachable, match=IN_TIME):
        ask(url.replace("http:", "https:"), cacert=authority.file)


@pytest.mark.parametrize("part", ["head", "body"])
def test_what_trickles_in_over_tls_ends_with_the_time_of_the_call(tmp_path: Path, part: str) -> None:
    """A record at a time."""
    authority = Authority(tmp_path / "ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("vault"))
    begun = OK if part == "head" else CHUNKED
    script = answering(begun, then=b"X-A: b\r\n" if part == "head" else b"1\r\n \r\n")

    def secured(client: socket.socket, closing: threading.Event) -> None:
        with context.wrap_socket(client, server_side=True) as tls:
            script(tls, closing)

    with served(secured) as url, pytest.raises(VaultUnreachable, match=IN_TIME):
        ask(url.replace("http:", "https:"), cacert=authority.file)


def test_a_server_that_does_not_read_ends_with_the_time_of_the_call() -> None:
    """A large value, and a receiver that takes a little of it now and then."""

    def script(client: socket.socket, closing: threading.Event) -> None:
        while not closing.wait(0.1):
            client.recv(1024)

    in_time = pytest.raises(VaultUnreachable, match=IN_TIME)
    with served(script) as url, open_http(VaultSettings()) as http, in_time, vault_errors(url, "a write"):
        http.post(url, data=b"x" * 50_000_000, timeout=TIMEOUT)


def test_a_name_service_that_does_not_answer_ends_with_the_time_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is named: nothing is wrong with the server then."""
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(DEADLINE) and [])
    with pytest.raises(VaultUnreachable, match="the name service does not answer within VAULT_TIMEOUT"):
        ask("http://vault.example.com:8200")
    released.set()


def test_of_several_addresses_each_gets_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is a black hole does not take the time of the next."""
    with (
        served(answering(OK + b"Content-Length: 12\r\n\r\n" + b'{"data": {}}')) as url,
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
    ):
        waiting = [socket.socket() for _ in range(3)]  # nobody accepts these, so that there is no room for another one
        for each in waiting:
            each.settimeout(0)
            each.connect_ex(full.getsockname())
        ports = full.getsockname()[1], int(url.rpartition(":")[2])
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        ask("http://vault.example.com:8200", timeout=2)
        for each in waiting:
            each.close()


def test_pauses_count_too() -> None:
    """The last answer counts where the time would not suffice for another one."""
    fault = b"HTTP/1.1 503 x\r\nRetry-After: 1\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n"
    start = time.monotonic()
    with served(answering(fault + b'{"errors": []}')) as url, pytest.raises(BackendError, match="HTTP 503"):
        ask(url)
    assert time.monotonic() - start < DEADLINE


# --- size ---


def endless(head: bytes, part: bytes) -> Script:
    """Return a script that sends the head, and then as much as the other side takes."""
    return answering(head, then=part, pause=0.0)


def bomb(size: int) -> bytes:
    """Return so many packed zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([packer.compress(bytes(2**20)) for _ in range(size // 2**20)]) + packer.flush()


LARGE: dict[str, Callable[[], Script]] = {
    "a body": lambda: endless(OK + b"\r\n", b" " * 2**18),
    "chunks": lambda: endless(CHUNKED, chunk(b" " * 2**18)),
    "the body of a fault": lambda: endless(b"HTTP/1.1 503 x\r\n\r\n", b" " * 2**18),
    "the body of a refusal": lambda: endless(b"HTTP/1.1 403 x\r\n\r\n", b" " * 2**18),
    "packed": lambda: answering(OK + b"Content-Encoding: gzip\r\n\r\n" + bomb(2**29)),
    "packed twice": lambda: answering(OK + b"Content-Encoding: gzip, gzip\r\n\r\n" + gzip.compress(bomb(2**29))),
    "a packed refusal": lambda: answering(b"HTTP/1.1 403 x\r\nContent-Encoding: gzip\r\n\r\n" + bomb(2**29)),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("large", LARGE)
def test_an_answer_that_is_too_large_is_not_taken_in(large: str, method: str) -> None:
    """As it comes, or once it is unpacked: neither into memory, nor for an answer."""
    script = LARGE[large]()
    with served(script) as url:
        tracemalloc.start()
        with pytest.raises(UnexpectedAnswer, match="it is larger than 32 MiB") as caught:
            ask(url, method, timeout=60)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 5 * deadline.LARGEST_ANSWER
    assert "VAULT_URL" in caught.value.remedy


def test_a_large_answer_is_taken_in() -> None:
    """Up to the bound."""
    body = b'{"data": {"x": "' + b"x" * (deadline.LARGEST_ANSWER - 10_000) + b'"}}'
    with (
        served(answering(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)) as url,
        open_http(VaultSettings()) as http,
    ):
        assert len(requests.Session.get(http, url, timeout=60).json()["data"]["x"]) > 30_000_000


def test_after_a_failed_call_no_connection_stays_open() -> None:
    """Not even while somebody holds the error, and with it all that was involved."""
    gone = threading.Event()

    def script(client: socket.socket, closing: threading.Event) -> None:
        while request := client.recv(65536):
            if b"/v1/slow" in request:
                closing.wait()
            client.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        if request == b"":
            gone.set()

    with served(script) as url, open_http(VaultSettings(url=url)) as http:
        with pytest.raises(VaultUnreachable) as held, vault_errors(url, "a call"):
            http.get(f"{url}/v1/slow", timeout=TIMEOUT)
        http.get(f"{url}/v1/quick", timeout=DEADLINE)
        assert not gone.is_set()
        http.close()
        assert gone.wait(DEADLINE)
        assert IN_TIME in str(held.value)
