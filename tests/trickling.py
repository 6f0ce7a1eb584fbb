"""What if a server, or what is in front of it, sends one byte at a time? A relay that does so, and scripted answers."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

REQUEST = re.compile(rb"^([A-Z]+) (\S+) HTTP/1\.[01]\r\n")
PAUSE = 0.1  # seconds between two bytes

Part = Literal["everything", "head", "body"]
Script = Callable[[socket.socket, threading.Event], None]


class Trickle:
    """Passes bytes on to a server, and back: of the answers to `is_slow` requests one byte at a time.

    With "everything" that is so from the first byte of a connection on, which then may be one of a TLS handshake.
    """

    def __init__(
        self, target: str, part: Part, is_slow: Callable[[str, str], bool] = lambda _method, _path: True
    ) -> None:
        parts = urlsplit(target)
        self._target = parts.hostname or "", parts.port or 0
        self._scheme = parts.scheme
        self.part = part
        self.is_slow = is_slow
        self.is_on = True
        self._closing = threading.Event()

    @contextmanager
    def running(self) -> Iterator[str]:
        """Relay in the background until the block ends; yield the address."""
        with served(self._relay, self._closing) as url:
            yield url.replace("http:", f"{self._scheme}:")

    def _relay(self, client: socket.socket, closing: threading.Event) -> None:
        with socket.create_connection(self._target) as server:
            slow = threading.Event()
            if self.part == "everything" and self.is_on:
                slow.set()
            back = threading.Thread(target=self._send_back, args=(server, client, slow, closing), daemon=True)
            back.start()
            with suppress(OSError):
                while data := client.recv(65536):
                    if asked := REQUEST.match(data):
                        method, path = (each.decode() for each in asked.groups())
                        (slow.set if self.is_on and self.is_slow(method, path) else slow.clear)()
                    server.sendall(data)
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            back.join()

    def _send_back(
        self, server: socket.socket, client: socket.socket, slow: threading.Event, closing: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if not slow.is_set():
                    client.sendall(data)
                    continue
                head, end, rest = data.partition(b"\r\n\r\n") if self.part == "body" else (b"", b"", data)
                client.sendall(head + end)
                trickle(client, rest, closing)


def trickle(client: socket.socket, data: bytes, closing: threading.Event) -> None:
    """Send one byte at a time."""
    for byte in data:
        if closing.wait(PAUSE):
            return
        client.sendall(bytes((byte,)))


@contextmanager
def served(script: Script, closing: threading.Event | None = None) -> Iterator[str]:
    """Listen until the block ends, and let `script` deal with each connection; yield the address.

    `script` gets the connection, and an event that tells it to end.
    """
    closing = closing or threading.Event()
    threads: list[threading.Thread] = []

    def deal_with(client: socket.socket) -> None:
        with client, suppress(OSError):
            script(client, closing)

    def accept() -> None:
        with suppress(OSError):
            while not closing.is_set():
                client, _ = listening.accept()
                thread = threading.Thread(target=deal_with, args=(client,), daemon=True)
                threads.append(thread)
                thread.start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            closing.set()
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            accepting.join(5)
    end = time.monotonic() + 5
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def answering(*parts: bytes, then: bytes = b"", pause: float = PAUSE) -> Script:
    """Return a script: read one request, send the parts at once, then `then` again and again, with pauses."""

    def script(client: socket.socket, closing: threading.Event) -> None:
        while b"\r\n\r\n" not in client.recv(65536):
            pass
        for part in parts:
            client.sendall(part)
        while then and not closing.wait(pause):
            client.sendall(then)

    return script
