"""A log that nobody reads holds nothing up: lines are dropped, with a count, and whole."""

import json
import os
import pty
import socket
import subprocess
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

from infrastructure.processes import LIMITS
from tests.support import DEADLINE, ROOT, free_port, until

LINES = 3000
LOGGING = """
import sys
from app.core.logs import pipe
pipe.AT_END = 60
from app.core.logs.logging_config import configure_logging, get_logger
configure_logging("INFO", "json")
log = get_logger("test")
for n in range({lines}):
    log.info("line", n=n, padding="x" * {size})
print("done", flush=True)
sys.stdin.readline()
log.info("last", padding="y" * {size})
"""


@contextmanager
def started(
    kind: str, command: list[str], directory: Path
) -> Iterator[tuple["subprocess.Popen[bytes]", Callable[[list[bytes]], None]]]:
    """Start a process whose standard error is a pipe or a socket; yield what reads all of it until it is closed."""
    if kind == "pipe":
        reading, writing = os.pipe()
    elif kind == "terminal":
        reading, writing = pty.openpty()
        tty.setraw(writing)  # it would write \r\n
    else:
        ends = socket.socketpair()
        reading, writing = (end.detach() for end in ends)
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=directory, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writing
    )
    os.close(writing)

    def read(pieces: list[bytes]) -> None:
        with suppress(OSError):  # how a terminal says that nobody has it open any more
            while piece := os.read(reading, 65536):
                pieces.append(piece)

    try:
        with process:
            try:
                yield process, read
            finally:
                process.kill()
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("kind", "size", "count"),
    [
        *(
            (kind, size, count)
            for kind in ("pipe", "socket")
            for size, count in ((10, LINES), (3000, 300), (100_000, 30))
        ),
        ("terminal", 100_000, 60),  # which holds hundreds of KiB
    ],
)
def test_what_nobody_reads_is_dropped_and_counted(kind: str, size: int, count: int, tmp_path: Path) -> None:
    """No line is torn, none is missing without being counted, and the process never waits for a reader."""
    script = LOGGING.format(lines=count, size=size)
    with started(kind, [sys.executable, "-c", script], tmp_path) as (process, read):
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        found: list[bytes] = []
        reader = threading.Thread(target=read, args=(found,))
        reader.start()
        until(lambda: found, "the reader to begin")
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.wait(DEADLINE) == 0
        reader.join(DEADLINE)
    lines = [json.loads(line) for line in b"".join(found).splitlines()]
    dropped = sum(line["count"] for line in lines if line["event"] == "log_lines_dropped")
    assert dropped > 0
    assert sum(line["event"] in {"line", "last"} for line in lines) + dropped == count + 1
    assert lines[-1]["event"] in {"last", "log_lines_dropped"}


def test_a_reader_who_is_only_slow_misses_nothing(tmp_path: Path) -> None:
    """The pipe holds some hundred lines; a burst of more waits a moment."""
    script = "from app.core.logs import pipe; pipe.READER_WAITS = 60\n" + LOGGING.format(lines=LINES, size=10)
    found: list[bytes] = []
    with started("pipe", [sys.executable, "-c", script], tmp_path) as (process, read):
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        read(found)
    lines = [json.loads(line) for line in b"".join(found).splitlines()]
    assert [line["event"] for line in lines] == ["line"] * LINES + ["last"]


@pytest.mark.server
@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_a_service_whose_log_nobody_reads_goes_on_serving(tmp_path: Path, kind: str) -> None:
    """It ended after 267 requests."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.service:app", "--port", str(port), *LIMITS]
    with started(kind, command, tmp_path) as (process, _), requests.Session() as http:

        def answers() -> bool:
            try:
                return http.get(f"http://127.0.0.1:{port}/health/live", timeout=DEADLINE).ok
            except requests.ConnectionError:
                return False

        until(answers, "the service to answer")
        for _ in range(2000):
            assert http.get(f"http://127.0.0.1:{port}/health/live", timeout=DEADLINE).ok
        process.terminate()
        assert process.wait(DEADLINE) == -15
