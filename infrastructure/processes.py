"""Real processes to try things with: the service as a user runs it, and conditions with a deadline."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from socketserver import BaseServer
from typing import Any, Self, TypeVar

import requests

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
# as in the Makefile and README: requests get 4 s to end, the service 4 s more; half of the usual 1,024 descriptors
LIMITS = ["--timeout-graceful-shutdown", "4", "--limit-concurrency", "512"]
LIMITS += ["--http", "app.core.run.bounded_http:BoundedHTTP"]  # no caller is waited for for ever
NO_ROUND = {"VAULT_REFRESH_INTERVAL": "40000"}  # seconds; the first one comes within it, so it might be in a count
DEADLINE = 120.0  # seconds; generous, since a wait ends as soon as its condition holds


def until(condition: Callable[[], T], what: str, seconds: float | None = None) -> T:
    """Return the first true result of `condition`; fail after so many seconds, or at the deadline."""
    end = time.monotonic() + (DEADLINE if seconds is None else seconds)
    while not (result := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited in vain for {what}")
        time.sleep(0.02)
    return result


def _own_ports() -> list[int]:
    first = 12_000 + os.getpid() % 90 * 200
    ports = range(first, first + 200, 2)  # two apart: a Vault takes the next one for its cluster
    start = secrets.randbelow(len(ports))
    return [*ports[start:], *ports[:start]]


_ports = cycle(_own_ports())


def free_port() -> int:
    """Return a port that nobody listens on, and that no system gives to who asks for any: it is used a moment later.

    Processes that test beside each other have ports of their own, and take them in turn: who starts slowly keeps its.
    """
    while True:
        port = next(_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def in_thread(server: BaseServer) -> Iterator[None]:
    """Have a server answer until the block ends."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def surroundings(variables: dict[str, str], root: Path = ROOT) -> dict[str, str]:
    """Return the environment of a command: nothing of the shell's that would steer it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "BAO_", "SECRET_"))}
    return {**kept, "PYTHONPATH": str(root), **variables}


class Callers(ABC):
    """Threads that call something without pause; `call` says what, until `done` is set."""

    def __init__(self, threads: int) -> None:
        self.done = threading.Event()
        self._threads = [threading.Thread(target=self.call, daemon=True) for _ in range(threads)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Call until the block ends."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self.done.set()
            for thread in self._threads:
                thread.join()

    @abstractmethod
    def call(self) -> None:
        """Call until `done` is set."""


class Service:
    """The service as a process of its own, as a user runs it."""

    def __init__(self, directory: Path, variables: dict[str, str], app: str = "app.main:app") -> None:
        """Start it in `directory`, with these variables and none of the shell's that steer it."""
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._output = directory / f"service-{port}.log"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                self.command(app, port),
                cwd=directory,
                env=surroundings({"VAULT_TOKEN": "junk", **NO_ROUND, **variables}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def command(self, app: str, port: int) -> list[str]:
        """Return what starts it."""
        return [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--no-access-log", *LIMITS]

    def __enter__(self) -> Self:
        try:
            until(lambda: self.process.poll() is not None or self._answers(), "the service to answer")
        except BaseException:
            self.process.kill()  # nobody else would: it would go on asking Vault, beside what runs next
            self.process.wait()
            raise
        if self.process.poll() is not None:
            raise RuntimeError(f"the service did not start:\n{self.output}")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def get(self, path: str, **more: Any) -> requests.Response:
        """Send a GET request."""
        return requests.get(self.url + path, timeout=DEADLINE, **more)

    def post(self, path: str, **more: Any) -> requests.Response:
        """Send a POST request."""
        return requests.post(self.url + path, timeout=DEADLINE, **more)

    def stop(self) -> int:
        """Ask the service to stop, wait for it, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)

    @property
    def output(self) -> str:
        """Everything that it wrote so far."""
        return self._output.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its log lines."""
        return [json.loads(line) for line in self.output.splitlines() if re.match(r"\{.*\}$", line)]

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/health/live", timeout=1).ok
        except requests.RequestException:
            return False
