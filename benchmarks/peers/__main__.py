"""What does each peer cost, and what becomes of it in trouble? One table; `make bench-peers` prints it."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import hvac

from benchmarks.peers.arena import Access
from benchmarks.peers.environments import Column, columns
from benchmarks.peers.scenes import Row, forks, reads, starts
from benchmarks.peers.troubles import max_ttl, rotations_and_outages, standbys, starts_in_vain
from infrastructure.dev_vault import start_embedded
from infrastructure.faulty_proxy import FaultyProxy
from infrastructure.processes import free_port

TOKEN = "root-of-the-benchmark"


def measure(directory: Path, peers: list[Column]) -> Iterator[Row]:
    """Yield the rows of the table."""
    with ExitStack() as stack:
        vault = start_embedded(free_port(), directory / "vault", TOKEN)
        stack.callback(vault.stop)
        root = hvac.Client(url=vault.url, token=TOKEN)
        access = Access.through(root, vault.url, directory, "20m", "20m")
        yield from starts(access, vault, peers)
        yield from reads(access, peers)
        yield from forks(access, peers)
        proxy = FaultyProxy(vault.url)
        url = stack.enter_context(proxy.running())
        yield from rotations_and_outages(Access.through(root, url, directory, "20m", "20m"), proxy, vault, peers)
        yield from starts_in_vain(access, peers)
        yield from max_ttl(Access.through(root, vault.url, directory, "5s", "10s"), peers)
    yield from standbys(directory / "raft", peers)


def main() -> None:
    """Print the table."""
    peers = columns()
    print("| what |", *[f"{peer.title} |" for peer in peers])
    print("| --- |", *["--- |" for _ in peers])
    with tempfile.TemporaryDirectory(prefix="peers-") as directory:
        for what, cells in measure(Path(directory), peers):
            print(f"| {what} |", *[f"{cell} |" for cell in cells], flush=True)


if __name__ == "__main__":
    main()
