"""Does the service stay up whatever becomes of one node of Vault's? This measures it.

It ends with a failure if a request failed, a version was taken back, or the service logged in again and again.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from infrastructure.drill import ROTATIONS
from infrastructure.processes import until
from infrastructure.raft import Node
from infrastructure.three_nodes import Row, Scene


def _kill(scene: Scene) -> None:
    leader_of(scene).stop(brutally=True)


def _lag(scene: Scene) -> None:
    """Have one of the services talk to standbys only, while secrets are rotated."""
    side = scene.sides[-1]
    leader = leader_of(scene)
    side.balancer.urls = [node.url for node in scene.cluster.nodes if node is not leader]
    for _ in range(ROTATIONS):
        scene.rotate()
        for each in scene.sides:
            each.service.post("/status/refresh")


def _end_of_lag(scene: Scene) -> None:
    scene.sides[-1].balancer.urls = [node.url for node in scene.cluster.nodes]


def _restart_one_after_the_other(scene: Scene) -> None:
    leader = leader_of(scene)
    for node in sorted(scene.cluster.nodes, key=lambda node: node is leader):  # the leader last
        node.stop()
        node.start()
        scene.cluster.unseal_one(node)
        until(scene.is_whole, "all nodes to be well")


def _restart_and_forget(scene: Scene) -> None:
    node = leader_of(scene)
    node.stop()
    node.start()


def _partition_leader(scene: Scene) -> None:
    scene.partition(leader_of(scene))


def _partition_standby(scene: Scene) -> None:
    leader = leader_of(scene)
    scene.partition(next(node for node in scene.cluster.nodes if node is not leader))


def _signal(node: Node, number: int) -> None:
    if node.process is not None:
        node.process.send_signal(number)


def _hang(scene: Scene) -> None:
    _signal(leader_of(scene), signal.SIGSTOP)


def _go_on(scene: Scene) -> None:
    for node in scene.cluster.nodes:
        _signal(node, signal.SIGCONT)


def _start(scene: Scene) -> None:
    scene.cluster.start()


def _nothing(_scene: Scene) -> None:
    pass


def leader_of(scene: Scene) -> Node:
    """Wait for a leader."""
    return until(scene.cluster.leader, "a leader") or scene.cluster.nodes[0]


Step = Callable[[Scene], None]
FAULTS: dict[str, tuple[Step, Step]] = {
    "leader killed (kill -9)": (_kill, _start),
    "leader hangs": (_hang, _go_on),
    "leader cut off from the others": (_partition_leader, lambda scene: scene.partition(None)),
    "standby cut off from the others": (_partition_standby, lambda scene: scene.partition(None)),
    f"standby lags, {ROTATIONS} rotations": (_lag, _end_of_lag),
    "all three restarted, one by one": (_restart_one_after_the_other, _nothing),
    "leader restarted, unseal forgotten": (_restart_and_forget, _start),
}


def walk(scene: Scene) -> Iterator[Row]:
    """Go through all faults."""
    for fault, (inject, heal) in FAULTS.items():
        yield from scene.go_through(fault, partial(inject, scene), partial(heal, scene))


def main() -> None:
    """Print what was measured."""
    argparse.ArgumentParser(description="Walk the service through faults of a cluster of three.").parse_args()
    print("| fault | balancer | requests | failed | logins | first write after | new version after |")
    bad = []
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        for row in walk(Scene(Path(directory), stack)):
            arrived = "once it was over" if row.arrived is None else f"{row.arrived:.1f} s"
            told = f"{row.requests:,} | {len(row.failed)} | {row.logins} | {row.written:.1f} s | {arrived}"
            print(f"| {row.fault} | {row.balancer} | {told} |", flush=True)
            bad += [f"{row.fault} ({row.balancer}): {row.failed[:3]}"] if row.is_bad else []
    if bad:
        sys.exit("\n".join(["error: a promise was broken:", *bad]))


if __name__ == "__main__":
    main()
