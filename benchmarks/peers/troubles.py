"""What is measured in trouble? Rotations, outages, the end of a token's life, and standbys that lag."""

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from subprocess import Popen
from threading import Thread

import hvac

from benchmarks.peers.arena import INTERVAL, Access, Found, write
from benchmarks.peers.environments import Column
from benchmarks.peers.scenes import Row
from infrastructure.dev_vault import EmbeddedVault
from infrastructure.faulty_proxy import Fault, FaultyProxy
from infrastructure.load_balancer import Address, Relay
from infrastructure.processes import DEADLINE, Callers, free_port, until
from infrastructure.raft import Cluster

OUTAGE, ROTATION, MAX_TTL, LAG = 20.0, 15.0, 20.0, 10.0  # seconds that each is watched for
BETWEEN = "0.5"  # seconds between two reads


class Watched:
    """A peer that reads again and again."""

    def __init__(self, process: "Popen[str]") -> None:
        self.found: list[Found] = []
        self._process = process
        self._thread = Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            self.found.append(json.loads(line))

    def within(self, begun: float, ended: float) -> list[Found]:
        """Return the reads that were under way in this time."""
        return [each for each in [*self.found] if begun - each["took"] <= each["begun"] <= ended]

    def first(self, value: str, since: float) -> float | None:
        """Return after how many seconds a read brought this value; None if none has."""
        ends = (each["begun"] + each["took"] for each in [*self.found] if each.get("value") == value)
        return next((end - since for end in ends if end >= since), None)


@contextmanager
def watched(access: Access, columns: Sequence[Column], path: str, *scene: str) -> Iterator[list[Watched]]:
    """Have all peers read until the block ends; it begins when each has read something."""
    with ExitStack() as stack:
        processes = [stack.enter_context(access.process(each, access.variables(path), *scene)) for each in columns]
        found = [Watched(process) for process in processes]
        until(lambda: all(each.found for each in found), "each peer to read")
        yield found


def good(reads: list[Found], values: set[str]) -> str:
    """Tell how many reads brought one of these values, and how long the longest took."""
    right = sum(each.get("value") in values for each in reads)
    longest = max((each["took"] for each in reads), default=0.0)
    return f"{right} of {len(reads)} good" + (f", longest {longest:.1f} s" if longest > 1 else "")


def rotations_and_outages(
    access: Access, proxy: FaultyProxy, vault: EmbeddedVault, columns: Sequence[Column]
) -> Iterator[Row]:
    """Have all of them read as handlers do, while Vault gets a new value, hangs, and cannot be reached."""
    write(access.root, "live", "old")
    with watched(access, columns, "live", "hold", "held", BETWEEN) as peers:
        begun = time.time()
        write(access.root, "live", "new")
        _wait(lambda: all(peer.first("new", begun) is not None for peer in peers), ROTATION)
        seen = [peer.first("new", begun) for peer in peers]
        yield (
            f"a handler sees a new value (rounds of the blueprint: {INTERVAL} s)",
            [
                f"not within {ROTATION:.0f} s: at the next start" if each is None else f"after {each:.1f} s"
                for each in seen
            ],
        )
        for what, (break_it, mend_it) in _outages(proxy, vault).items():
            begun = time.time()
            break_it()
            try:
                _wait(lambda: False, OUTAGE)
            finally:
                mend_it()
            ended = time.time()
            _wait(partial(_go_on, peers, ended), DEADLINE)
            yield (
                f"a handler's reads, each {BETWEEN} s, while {what} for {OUTAGE:.0f} s",
                [good(peer.within(begun, ended), {"old", "new"}) for peer in peers],
            )


def _outages(proxy: FaultyProxy, vault: EmbeddedVault) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    def send(number: signal.Signals) -> None:
        os.kill(vault.process.pid, number)

    def set_fault(fault: Fault | None) -> None:
        proxy.fault = lambda _method, _path: fault

    return {
        "Vault hangs": (lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT)),
        "Vault cannot be reached": (lambda: set_fault(Fault(reset=True)), lambda: set_fault(None)),
    }


def starts_in_vain(access: Access, columns: Sequence[Column]) -> Iterator[Row]:
    """Start where nobody listens."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    told = [{**access.variables("live"), "PEER_URL": nowhere} for _ in columns]
    found = [access.played(column, each, "start", "1")[-1] for column, each in zip(columns, told, strict=True)]
    yield "a start while Vault cannot be reached", [_outcome(each) for each in found]


def _outcome(found: Found) -> str:
    what = found.get("error") or found.get("value") or "goes on with None"
    return f"{what} after {found['took']:.1f} s"


def _go_on(peers: list[Watched], since: float) -> bool:
    return all(each.found[-1]["begun"] > since for each in peers)


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition, or for so long."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


def max_ttl(access: Access, columns: Sequence[Column]) -> Iterator[Row]:
    """Read from Vault for longer than a token lives."""
    write(access.root, "short", "here")
    with watched(access, columns, "short", "hold", "fresh", BETWEEN) as peers:
        _wait(lambda: False, MAX_TTL)
        ended = time.time()
    life = access.life["max_ttl"]
    yield (
        f"reads from Vault, each {BETWEEN} s for {MAX_TTL:.0f} s, with tokens of at most {life}",
        [good(peer.within(0, ended), {"here"}) for peer in peers],
    )


class Slow(Relay):
    """What leads to a node from the others: a standby that is told late answers with what was."""

    delay = 0.03  # more, and a busy leader is taken for dead

    def __init__(self, port: int) -> None:
        super().__init__()
        self._to = ("127.0.0.1", port)

    def route(self, _caller: Address) -> Address:
        """Lead to the node."""
        return self._to


class Rotation(Callers):
    """Writes ever higher numbers."""

    numbers = itertools.count(1)

    def __init__(self, access: Access) -> None:
        super().__init__(threads=1)
        self._root = access.root

    def call(self) -> None:
        """Write until `done` is set."""
        while not self.done.wait(0.02):
            with suppress(hvac.exceptions.VaultError):  # the others may have chosen another leader
                write(self._root, "lag", str(next(self.numbers)))


def standbys(directory: Path, columns: Sequence[Column]) -> Iterator[Row]:
    """Read from three nodes in turn, whose standbys answer themselves, each a moment late, while another writes."""
    with ExitStack() as stack:

        def advertise(port: int) -> int:
            relay = Slow(port)
            stack.enter_context(relay.running())
            return relay.port

        cluster = Cluster(directory, 3, advertise)
        stack.callback(cluster.stop)
        root = cluster.client()
        root.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
        nodes = itertools.cycle(node.url.removeprefix("http://") for node in cluster.nodes)
        proxy = FaultyProxy(cluster.nodes[0].url)

        def turn(_method: str, _path: str) -> None:
            proxy.target = next(nodes)

        proxy.fault = turn
        access = Access.through(root, stack.enter_context(proxy.running()), directory, "20m", "20m")
        until(lambda: _is_ready(access), "the KV engine")
        cells = []
        for column in columns:
            with watched(access, [column], "lag", "hold", "fresh", "0") as (peer,), Rotation(access).running():
                begun = time.time()
                _wait(lambda: False, LAG)
            cells.append(_backwards(peer.within(begun, begun + LAG)))
        yield f"reads from three nodes in turn for {LAG:.0f} s, while another writes", cells


def _is_ready(access: Access) -> bool:
    try:
        write(access.root, "lag", "0")
    except Exception:  # noqa: BLE001 - whatever it says until then
        return False
    return True


def _backwards(reads: list[Found]) -> str:
    """Tell how many reads brought an older value than one before, and how many none."""
    highest = older = failed = 0
    for each in reads:
        if each.get("value") is None:
            failed += 1
            continue
        older += int(each["value"]) < highest
        highest = max(highest, int(each["value"]))
    return f"{older} older than before, {failed} failed, of {len(reads)}"
