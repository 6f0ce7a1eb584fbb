"""What does each peer do in a scene? The same for all: `python tutorial.py SCENE …`, with what `PEER_…` variables say.

Runs in the environment of a peer, so it needs nothing but Python. Each line of standard output is JSON.
"""

import json
import os
import select
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

URL, PATH = os.environ["PEER_URL"], os.environ["PEER_PATH"]
ROLE_ID, SECRET_ID, TOKEN = (os.environ[f"PEER_{name}"] for name in ("ROLE_ID", "SECRET_ID", "TOKEN"))
FIRST = "field_0"  # the value that is read again and again
FORKS, READS, PATIENCE = 6, 4, 10  # how often children are forked, what each process reads then, in how many seconds


@dataclass(frozen=True)
class Peer:
    """What a program does with a package, in the way that its documentation shows."""

    start: Callable[[Sequence[str]], dict[str, str | None]]  # get these fields of the secret at PATH
    fresh: Callable[[str], str | None]  # get FIRST of a path from Vault
    held: Callable[[], str | None] | None = None  # use FIRST of what the start has brought; None: nothing is held
    alive: Callable[[], AbstractContextManager[None]] = nullcontext  # what a process that stays does beside


class Unanswered(BaseException):
    """No `except Exception` may swallow it."""


def tell(**what: object) -> None:
    """Write a line, at once: several processes may."""
    os.write(1, (json.dumps(what) + "\n").encode())


def attempt(read: Callable[[], str | None]) -> dict[str, Any]:
    """Read; return when that began, how long it took, and the value or the error."""
    found: dict[str, Any] = {"begun": time.time()}
    start = time.perf_counter()
    try:
        found["value"] = read()
    except Exception as error:  # noqa: BLE001 - whatever comes out of it
        found["error"] = type(error).__name__
    return {**found, "took": time.perf_counter() - start}


def start(peer: Peer, fields: str) -> None:
    """Get so many fields, and end."""
    names = [f"field_{n}" for n in range(int(fields))]
    found = attempt(lambda: "".join(str(value or "") for value in peer.start(names).values()) or None)
    tell(**found)


def reads(peer: Peer) -> None:
    """Tell how long a read of what is held takes, and one that asks Vault."""
    peer.start([FIRST])
    with peer.alive():
        tell(held=duration(peer.held, 1_000, 9) if peer.held else None, fresh=duration(lambda: peer.fresh(PATH), 1, 60))


def duration(action: Callable[[], object], at_once: int, times: int) -> float:
    """Return the median of so many measurements."""
    action()
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        for _ in range(at_once):
            action()
        found.append((time.perf_counter() - begun) / at_once)
    return statistics.median(found)


def hold(peer: Peer, what: str, interval: str) -> None:
    """Read each so many seconds, as a handler would (`held`) or from Vault (`fresh`), until standard input ends."""
    peer.start([FIRST])
    read = peer.held if peer.held and what == "held" else lambda: peer.fresh(PATH)
    with peer.alive():
        while True:
            tell(**attempt(read))
            if select.select([sys.stdin], [], [], float(interval))[0]:
                return


def fork(peer: Peer, *paths: str) -> None:
    """Fork a child for each path after a read, again and again; all read at once, each its own path."""
    peer.start([FIRST])
    for _ in range(FORKS):
        attempt(lambda: peer.fresh(PATH))  # so that there is a connection
        gate, opened = os.pipe()
        children = [os.fork() or read_own(peer, path, gate, opened) for path in paths]
        os.close(opened)  # the children go on when nobody has it open
        read_many(peer, PATH)
        for child in children:
            os.waitpid(child, 0)
    tell(after=attempt(lambda: peer.fresh(PATH)))


def read_own(peer: Peer, path: str, gate: int, opened: int) -> int:
    """Read in a child once all are there; it then ends as a program does."""
    os.close(opened)
    os.read(gate, 1)
    read_many(peer, path)
    sys.exit()


def read_many(peer: Peer, path: str) -> None:
    """Read a path many times, and tell what came."""
    right = wrong = failed = 0
    signal.signal(signal.SIGALRM, impatient)
    signal.alarm(PATIENCE)
    try:
        for _ in range(READS):
            found = attempt(lambda: peer.fresh(path))
            value = found.get("value")
            right, wrong = right + (value == f"of-{path}"), wrong + (value not in {f"of-{path}", None})
            failed += value is None
    except Unanswered:
        pass
    signal.alarm(0)
    tell(right=right, wrong=wrong, failed=failed, unanswered=READS - right - wrong - failed)


def impatient(*_: object) -> None:
    """End a read that takes too long."""
    raise Unanswered


def run(peer: Peer) -> None:
    """Play the scene that the command line names."""
    scenes: dict[str, Callable[..., None]] = {"start": start, "reads": reads, "hold": hold, "fork": fork}
    scenes[sys.argv[1]](peer, *sys.argv[2:])
