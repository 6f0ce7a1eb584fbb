"""How fast is it? `make bench`, against a real server on this machine; ratios, since machines differ.

Each line has the figure and what the design aims for.
"""

import asyncio
import http.client
import multiprocessing as mp
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import hvac
import requests
import structlog

from app.core.settings.vault import VaultSettings
from app.core.store.refresh import Refresher
from app.core.store.secret_store import SecretStore
from app.core.store.source_refresher import SourceRefresher
from app.core.vault.kv import VaultKV
from app.core.vault.source import VaultSource
from app.vault import close_sessions, get_session
from infrastructure.dev_vault import EmbeddedVault, start_embedded
from infrastructure.faulty_proxy import Fault, FaultyProxy
from infrastructure.processes import LIMITS, ROOT, free_port, until
from tests.declared import DeclaredForTests

TOKEN = "root-of-the-benchmark"
VALUES = {"database_url": "postgresql://db/app", "api_key": "k" * 32, "jwt_secret": "s" * 48}
BARE = """
import structlog
from fastapi import FastAPI
from pydantic_settings import BaseSettings
class Settings(BaseSettings): name: str = "x"
Settings(); structlog.get_logger()
app = FastAPI()
@app.get("/health/live")
async def live() -> dict[str, str]: return {"status": "alive"}
"""


def settings_for(url: str, **more: object) -> VaultSettings:
    """Return settings with the root token."""
    return VaultSettings.model_validate({"enabled": True, "url": url, "token": TOKEN, "secret_path": "app", **more})


def _serve(target: str, fault: Fault, address: "mp.Queue[str]") -> None:
    proxy = FaultyProxy(target, lambda _method, _path: fault)
    address.put(proxy.url)
    proxy.serve_forever()


def proxied(target: str, fault: Fault) -> AbstractContextManager[str]:
    """Put a proxy in front of Vault."""
    return served(_serve, target, fault)


@contextmanager
def served(serve: Callable[..., None], *arguments: object) -> Iterator[str]:
    """Run a server in a process of its own, so that it does not share our interpreter's lock.

    The last argument that it gets is a queue for its address.
    """
    address: mp.Queue[str] = mp.Queue()
    process = mp.Process(target=serve, args=(*arguments, address), daemon=True)
    process.start()
    try:
        yield address.get(timeout=30)
    finally:
        process.kill()
        process.join()


def seconds(action: Callable[[], object], times: int) -> float:
    """Return the median duration of an action."""
    durations = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def fresh_read(vault: EmbeddedVault) -> None:
    """One read through the session, against a bare keep-alive request."""
    connection = http.client.HTTPConnection(urlsplit(vault.url).netloc)

    def raw() -> None:
        connection.request("GET", "/v1/secret/data/app", headers={"X-Vault-Token": TOKEN})
        connection.getresponse().read()

    kv = VaultKV(get_session(settings_for(vault.url)))
    ratios = [seconds(lambda: kv.read("app"), 200) / seconds(raw, 200) for _ in range(7)]
    print(f"one fresh read, against a bare keep-alive request: {statistics.median(ratios):.2f} (aim: at most 1.6)")


async def longest_gap(settings: VaultSettings, duration: float) -> float:
    """Refresh all the time, and return the longest time (ms) for which the event loop did nothing else."""
    store = SecretStore(DeclaredForTests, sources=["vault"])
    keeper = SourceRefresher("vault", VaultSource(settings).load, store, interval=0.05)
    longest = 0.0
    async with Refresher(store, [keeper]).running(fail_fast=False):
        end = time.perf_counter() + duration
        while (before := time.perf_counter()) < end:
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before - 0.001)
    return longest * 1000


def loop_gaps(vault: EmbeddedVault) -> None:
    """Watch the event loop while Vault is quick, slow and silent."""
    faults = {"10 ms": Fault(delay=0.01), "1 s": Fault(delay=1), "not at all": Fault(hang=True)}

    async def idle() -> float:
        longest = 0.0
        for _ in range(3000):
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before - 0.001)
        return longest * 1000

    print(f"longest gap of the event loop when idle: {asyncio.run(idle()):.1f} ms")
    for how, fault in faults.items():
        with proxied(vault.url, fault) as url:
            gap = asyncio.run(longest_gap(settings_for(url, timeout=2), 5))
            close_sessions()
        print(f"longest gap of the event loop while Vault answers after {how}: {gap:.1f} ms (aim: under 5)")


def start_up(vault: EmbeddedVault) -> None:
    """From the start of the process to the first 200, against the bare stack."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "bare.py").write_text(BARE)
        # as in production: PyJWT imports cryptography where it is there, and only the tests need it
        Path(directory, "cryptography.py").write_text("raise ModuleNotFoundError")
        variables = {"VAULT_ENABLED": "true", "VAULT_URL": vault.url, "VAULT_TOKEN": TOKEN, "VAULT_SECRET_PATH": "app"}

        def started(module: str) -> None:
            port = free_port()
            command = [sys.executable, "-m", "uvicorn", module, "--port", str(port), "--no-access-log", *LIMITS]
            environment = {**os.environ, "PYTHONPATH": f"{directory}:{ROOT}", **variables}
            with subprocess.Popen(command, env=environment, cwd=directory, stderr=subprocess.DEVNULL) as process:
                until(partial(_answers, f"http://127.0.0.1:{port}/health/live"), "the service")
                process.kill()

        for what, module in {"": "tests.service:app", ", with the sample database": "app.main:app"}.items():
            ratios = [seconds(partial(started, module), 1) / seconds(partial(started, "bare:app"), 1) for _ in range(9)]
            ratio = statistics.median(ratios)
            print(f"start to first 200, against the bare stack{what}: {ratio:.2f} (aim: at most 1.18)")


def command_line(vault: EmbeddedVault) -> None:
    """`get` and `--help`, against the least that somebody would need for them."""
    variables = {"VAULT_ENABLED": "true", "VAULT_URL": vault.url, "VAULT_TOKEN": TOKEN}

    def ran(*arguments: str) -> None:
        command = [sys.executable, *arguments]
        subprocess.run(command, env={**os.environ, **variables}, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)

    read = "secrets.kv.v2.read_secret_version('app', raise_on_deleted_version=True)"
    asked = f"import hvac; print(hvac.Client(url={vault.url!r}, token={TOKEN!r}).{read})"
    pairs: dict[str, tuple[list[str], list[str], float]] = {
        "`python -m app get`, against hvac alone": (
            ["-m", "app", "get", "{vault://vault/app/api_key}"],
            ["-c", asked],
            1.5,
        ),
        "`python -m app --help`, against an import of typer": (["-m", "app", "--help"], ["-c", "import typer"], 2),
    }
    for what, (ours, theirs, aim) in pairs.items():
        ratios = [seconds(partial(ran, *ours), 1) / seconds(partial(ran, *theirs), 1) for _ in range(9)]
        print(f"{what}: {statistics.median(ratios):.2f} (aim: at most {aim})")


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).ok
    except requests.ConnectionError:
        return False


def main() -> None:
    """Measure everything."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory() as directory:
        vault = start_embedded(free_port(), Path(directory), TOKEN)
        try:
            hvac.Client(url=vault.url, token=TOKEN).secrets.kv.v2.create_or_update_secret("app", VALUES)
            for measure in (fresh_read, loop_gaps, start_up, command_line):
                measure(vault)
        finally:
            close_sessions()
            vault.stop()


if __name__ == "__main__":
    main()
