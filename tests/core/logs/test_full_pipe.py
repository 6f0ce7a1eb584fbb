"""A pipe that is full takes no line, is not waited for twice, and goes on whole once somebody reads."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.core.logs import pipe
from app.core.logs.pipe import Pipe, pipe_of

LINE = "x" * 70_000 + "\n"


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Return what is read from, and what is written to; nobody waits for a reader."""
    monkeypatch.setattr(pipe, "READER_WAITS", 0.0)
    monkeypatch.setattr(pipe, "AT_END", 0.0)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def all_of(file: int) -> bytes:
    """Read what is there."""
    found = b""
    with suppress(BlockingIOError):
        while piece := os.read(file, 2**20):
            found += piece
    return found


def test_a_line_that_has_begun_is_ended_first(ends: tuple[int, int]) -> None:
    """And those in between are counted."""
    reading, writing = ends
    full = Pipe(writing)
    while not full.dropped:
        full.write(LINE)
    found = b""
    while not found.endswith(b"last\n"):
        found += all_of(reading)
        full.dropped = 0
        full.finish()
        if full.is_writable:
            full.write("last\n")
    assert set(found.decode().splitlines()) <= {LINE.strip(), "last"}
    full.start_afresh()
    assert (full.dropped, full.is_writable) == (0, True)


def test_what_does_not_fill_up_is_no_pipe(tmp_path: Path) -> None:
    """Files, and what is no stream at all."""
    with (tmp_path / "log").open("w") as file:
        assert pipe_of(file) is None
    assert pipe_of(file) is pipe_of(object()) is None
