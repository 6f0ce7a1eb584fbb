"""What do many secrets cost? `make bench`: a thousand paths, ten thousand secrets, and rounds over all of them.

Each line has the figure and what the design aims for.
"""

import asyncio
import gc
import json
import multiprocessing as mp
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import hvac
import structlog

from app.core.store.refresh import Refresher
from app.core.store.secret_store import SecretStore
from app.core.store.source import Secret
from app.core.store.source_refresher import SourceRefresher
from app.core.vault.kv import VaultKV
from app.core.vault.source import VaultSource
from app.vault import close_sessions, get_session, read_paths
from benchmarks.speed import TOKEN, VALUES, served, settings_for
from infrastructure.dev_vault import EmbeddedVault, start_embedded
from infrastructure.processes import free_port
from tests.declared import DeclaredForTests

PATHS, A_PATH = 200, 5  # 1,000 secrets
DELAY = 0.01  # seconds
TURNS = 11


def texts(count: int, seed: int = 0) -> dict[str, str]:
    """Return so many secrets of 32 letters; another seed has others under the same names."""
    chosen = random.Random(seed)
    return {f"key_{n}": f"{chosen.getrandbits(128):032x}" for n in range(count)}


def by_path(values: dict[str, str], a_path: int, version: int = 1) -> tuple[Secret, ...]:
    """Return them as a load would bring them, with those that are declared."""
    keys = [*values]
    parts = [keys[start : start + a_path] for start in range(0, len(keys), a_path)]
    held = [{key: values[key] for key in part} for part in parts]
    return tuple(Secret(f"secret/{n}", data, version, 0.0) for n, data in enumerate([VALUES, *held]))


_SECRET = {"data": VALUES, "metadata": {"version": 1, "created_time": "2026-01-01T00:00:00Z"}}
_BODY = json.dumps({"data": _SECRET}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


class _Slow(asyncio.Protocol):
    """Answers each request after `DELAY`, with hardly any work: it shares the machine with what is measured."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = transport.write  # type: ignore[attr-defined] # a socket's

    def data_received(self, _data: bytes) -> None:
        asyncio.get_running_loop().call_later(DELAY, self._write, ANSWER)


def _serve_slowly(address: "mp.Queue[str]") -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Slow, "127.0.0.1", 0)
        address.put(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    asyncio.run(serve())


def many_paths() -> None:
    """Read a thousand paths side by side, against one after the other."""
    paths = [f"many/{n}" for n in range(1000)]
    with served(_serve_slowly) as url:
        settings = settings_for(url)
        kv = VaultKV(get_session(settings))
        start = time.perf_counter()
        for path in paths:
            kv.read(path)
        one_by_one = time.perf_counter() - start
        durations = []
        for _ in range(5):
            start = time.perf_counter()
            read_paths(settings, paths)
            durations.append(time.perf_counter() - start)
        close_sessions()
    ratio = statistics.median(durations) / one_by_one
    print(f"1,000 paths at 10 ms of delay, against one after the other: {ratio:.3f} (aim: at most 0.06)")


def memory() -> None:
    """Hold ten thousand secrets, against the plain dict of their texts; and what masks them in logs."""

    def sizes(make: Callable[[], object]) -> tuple[int, int]:
        """Return how many bytes something takes, and how many of them masking does."""
        gc.collect()
        tracemalloc.start()
        held = make()
        gc.collect()
        found = tracemalloc.take_snapshot().statistics("filename")
        tracemalloc.stop()
        del held
        masking = sum(each.size for each in found if "/app/core/logs/" in each.traceback[0].filename)
        return sum(each.size for each in found) - masking, masking

    def store() -> SecretStore:
        made = SecretStore(DeclaredForTests, sources=["vault"])
        made.publish("vault", by_path(texts(10_000), 100))
        return made

    plain, _ = sizes(lambda: texts(10_000))
    held, masking = sizes(store)
    print(f"memory of 10,000 secrets, against the plain dict of their texts: {held / plain:.2f} (aim: at most 1.5)")
    print(f"what masks them in logs, against the same: {masking / plain:.1f}")


def unchanged_round(vault: EmbeddedVault) -> None:
    """Read a thousand secrets in 200 paths again, against the same reads by hvac and json: CPU time, in turns."""
    client = hvac.Client(url=vault.url, token=TOKEN)
    write, read = client.secrets.kv.v2.create_or_update_secret, client.secrets.kv.v2.read_secret_version
    secrets = {f"scale/{n}": dict(each.data) for n, each in enumerate(by_path(texts(PATHS * A_PATH), A_PATH))}
    for path, values in secrets.items():
        write(path, values)
    store = SecretStore(DeclaredForTests, sources=["vault"])
    source = VaultSource(settings_for(vault.url, secret_path=",".join(secrets)))
    keeper = SourceRefresher("vault", source.load, store, interval=1)

    def plainly() -> list[str]:
        return [json.dumps(read(path=path, raise_on_deleted_version=True)["data"]["data"]) for path in secrets]

    def cpu(action: Callable[[], object]) -> float:
        start = time.process_time()
        action()
        return time.process_time() - start

    keeper.round()
    plainly()
    ratio = statistics.median(cpu(keeper.round) / cpu(plainly) for _ in range(TURNS))
    print(f"CPU of an unchanged round, 1,000 secrets in 200 paths, against plain hvac: {ratio:.2f} (aim: at most 1.3)")


async def gap_during(action: Callable[[], Awaitable[object]]) -> float:
    """Return the longest time (ms) for which the event loop did nothing else meanwhile."""
    task, longest = asyncio.ensure_future(action()), 0.0
    while not task.done():
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - before - 0.001)
    task.result()
    return longest * 1000


async def swap() -> None:
    """Swap a thousand secrets for others, all of them at once."""
    loads = iter(range(TURNS + 1))

    def load() -> tuple[Secret, ...]:
        turn = next(loads)
        return by_path(texts(PATHS * A_PATH, seed=turn), A_PATH, version=turn + 1)

    store = SecretStore(DeclaredForTests, sources=["vault"])
    refresher = Refresher(store, [SourceRefresher("vault", load, store, interval=3600)])
    async with refresher.running(fail_fast=True):
        gaps = [
            (await gap_during(refresher.refresh), await gap_during(lambda: asyncio.sleep(0.1))) for _ in range(TURNS)
        ]
    longest, idle = (statistics.median(each) for each in zip(*gaps, strict=True))
    what = f"longest gap of the event loop while 1,000 secrets change (idle: {idle:.1f} ms)"
    print(f"{what}: {longest:.1f} ms (aim: at most 5)")


def main() -> None:
    """Measure everything."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    asyncio.run(swap())  # the first: what masks former secrets would be built again with the new ones
    many_paths()
    memory()
    with tempfile.TemporaryDirectory() as directory:
        vault = start_embedded(free_port(), Path(directory), TOKEN)
        try:
            unchanged_round(vault)
        finally:
            close_sessions()
            vault.stop()


if __name__ == "__main__":
    main()
