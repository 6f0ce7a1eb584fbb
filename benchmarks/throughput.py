"""How many requests a second does the whole service answer, against a bare FastAPI app? `make bench`; ratios.

Both are served by uvicorn with uvloop and httptools, and asked by `wrk` over 16 connections, in turns of two seconds.
The service logs each request to a file, counts it, and masks what it logs, with a hundred secrets held; its Vault is
then written to twice a second, and in the end it does not answer.
"""

import itertools
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import hvac

from benchmarks.capacity import TOKEN, VALUES, prepare, variables
from infrastructure.dev_vault import EmbeddedVault, start_embedded
from infrastructure.processes import LIMITS, ROOT, Callers, Service, free_port

CONNECTIONS, SECONDS, TURNS = 16, 2, 9
SECRETS = 100
SETTINGS = {"ENVIRONMENT": "production", "LOG_FORMAT": "json", "VAULT_REFRESH_INTERVAL": "1"}
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


class Bare(Service):
    """The bare app, served as it comes."""

    def command(self, app: str, port: int) -> list[str]:
        """Return what starts it: nothing of ours."""
        return super().command(app, port)[: -len(LIMITS)]


def asked(service: Service) -> tuple[float, float]:
    """Return requests a second and the 99th percentile of latency, in seconds."""
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency"]
    said = subprocess.run(["wrk", *options, f"{service.url}/one"], capture_output=True, text=True, check=True).stdout
    rate, late = re.search(r"Requests/sec: +([\d.]+)", said), re.search(r"99% +([\d.]+)(us|ms|s)", said)
    if rate is None or late is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    return float(rate[1]), float(late[1]) * _UNITS[late[2]]


class Rotation(Callers):
    """Writes new values twice a second."""

    def __init__(self, vault: EmbeddedVault) -> None:
        super().__init__(threads=1)
        self._write = hvac.Client(url=vault.url, token=TOKEN).secrets.kv.v2.create_or_update_secret

    def call(self) -> None:
        """Write until `done` is set."""
        for n in itertools.count():
            if self.done.wait(0.5):
                return
            self._write("app-0", {**VALUES, "database_url": f"postgresql://db/app{n}"})


def rotating(vault: EmbeddedVault) -> AbstractContextManager[None]:
    """Have it written to until the block ends."""
    return Rotation(vault).running()


@contextmanager
def silent(vault: EmbeddedVault) -> Iterator[None]:
    """Have the Vault answer nobody."""
    os.kill(vault.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(vault.process.pid, signal.SIGCONT)


def measure(directory: Path, vault: EmbeddedVault) -> None:
    """Print requests a second, and what a rotation and an outage do to the slowest."""
    given = {**variables(vault, 1, SECRETS), **SETTINGS}
    with Bare(directory, {}, "benchmarks.bare:app") as bare, Service(directory, given, "benchmarks.whole:app") as whole:
        turns = [(asked(bare), asked(whole)) for _ in range(TURNS)]
        ratio = statistics.median(ours[0] / theirs[0] for theirs, ours in turns)
        rates = [statistics.median(each[n][0] for each in turns) for n in range(2)]
        counts = f"{rates[1]:,.0f} of {rates[0]:,.0f}"
        print(f"requests a second, against a bare FastAPI app: {ratio:.2f} ({counts}; aim: at least 0.75)")
        for what, trouble in {"under rotation": rotating, "in an outage": silent}.items():
            ratios = []
            for _ in range(TURNS):
                calm = asked(whole)[1]
                with trouble(vault):
                    ratios.append(asked(whole)[1] / calm)
            print(f"p99 of latency {what}, against calm: {statistics.median(ratios):.2f} (aim: at most 1.3)")


def main() -> None:
    """Measure in process, then over HTTP."""
    with tempfile.TemporaryDirectory(prefix="throughput-") as directory:
        static = {f"SECRET_{name.upper()}": value for name, value in VALUES.items()}
        with Path(directory, "log").open("w") as log:
            command = [sys.executable, "-m", "benchmarks.in_process"]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "VAULT_ENABLED": "false", **static, **SETTINGS}
            subprocess.run(command, env=environment, cwd=directory, stderr=log, check=True)
        if shutil.which("wrk") is None:
            print("wrk is not here (Debian's package is called so): requests over HTTP are not measured")
            return
        vault = start_embedded(free_port(), Path(directory), TOKEN)
        try:
            prepare(vault)
            measure(Path(directory), vault)
        finally:
            vault.stop()


if __name__ == "__main__":
    main()
