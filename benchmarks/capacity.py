"""What does one instance take? `make bench` counts memory, file descriptors, connections and requests to Vault.

A real service on a real Vault, once with each number of Vaults and of secrets; Linux only, which tells it in `/proc`.
What it costs the database is a matter of the pool, whose bounds are in `app/routes/database.py`.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import hvac
import requests

from infrastructure.dev_vault import EmbeddedVault, start_embedded
from infrastructure.processes import Service, free_port, until

TOKEN = "root-of-the-benchmark"
SERVICE = "tests.service:app"
VALUES = {"database_url": "postgresql://db/app", "api_key": "k" * 32, "jwt_secret": "s" * 48}
SIZES = ((1, 3), (1, 100), (1, 1_000), (1, 10_000), (4, 100), (16, 100))  # Vaults, and secrets in all
A_PATH = 100  # secrets
CALLERS, CALLS = 16, 2_000
HOUR = 3600 / 300  # rounds in an hour, with VAULT_REFRESH_INTERVAL at its default
POLICY = 'path "secret/data/*" { capabilities = ["read"] }\n'


def variables(vault: EmbeddedVault, vaults: int, secrets: int) -> dict[str, str]:
    """Return the environment of a service that reads so many secrets from so many Vaults, which are one here.

    The first one has all but one for each of the others, which references name.
    """
    client = hvac.Client(url=vault.url, token=TOKEN)
    write = client.secrets.kv.v2.create_or_update_secret
    more = [f"key_{n}" for n in range(secrets - len(VALUES) - (vaults - 1))]
    held = [dict.fromkeys(more[start : start + A_PATH], "v" * 32) for start in range(0, len(more), A_PATH)]
    paths = {f"app-{n}": values for n, values in enumerate([VALUES, *held])}
    for path, values in paths.items():
        write(path, values)
    found = {"VAULT_ENABLED": "true", "VAULT_SECRET_PATH": ",".join(paths)}
    for n in range(vaults):
        prefix = f"VAULTS__V{n}__" if n else "VAULT_"
        login = {"ENABLED": "true", "URL": vault.url, "AUTH_METHOD": "approle", **credentials(client)}
        found |= {f"{prefix}{name}": text for name, text in login.items()}
        if n:
            write(f"other-{n}", {"password": "p" * 32})
            found[f"SECRET_OTHER_{n}"] = f"{{vault://v{n}/other-{n}/password}}"
    return found


def credentials(client: hvac.Client) -> dict[str, str]:
    """Return role id and secret id."""
    approle = client.auth.approle
    return {
        "ROLE_ID": approle.read_role_id("app")["data"]["role_id"],
        "SECRET_ID": approle.generate_secret_id("app")["data"]["secret_id"],
    }


def prepare(vault: EmbeddedVault) -> None:
    """Set up the login."""
    client = hvac.Client(url=vault.url, token=TOKEN)
    client.sys.create_or_update_policy("app", POLICY)
    client.sys.enable_auth_method("approle")
    client.auth.approle.create_or_update_approle("app", token_policies=["app"], token_ttl="20m")


def memory(pid: int) -> float:
    """Return the memory of a process in MB, of which it shares nothing."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def connections(pid: int, port: int) -> int:
    """Return how many connections a process has open to a port."""
    own = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" and f"socket:[{row[9]}]" in own for row in rows)


def requests_to(vault: EmbeddedVault) -> int:
    """Return how many requests the Vault has answered."""
    return vault.audit_log.read_text().count('"type":"response"')


def call(service: Service) -> None:
    """Call a handler that reads a secret, from many connections at once."""

    def some(_: int) -> None:
        with requests.Session() as http:
            for _ in range(CALLS // CALLERS):
                http.get(f"{service.url}/health/ready", timeout=10).raise_for_status()

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(some, range(CALLERS)))


def measure(directory: Path) -> Iterator[str]:
    """Yield a line for each size."""
    with ExitStack() as stack:
        vault = start_embedded(free_port(), directory, TOKEN)
        stack.callback(vault.stop)
        prepare(vault)
        for vaults, secrets in SIZES:
            given = variables(vault, vaults, secrets)
            (own := directory / f"{vaults}-{secrets}").mkdir()
            before = requests_to(vault)
            with Service(own, given, SERVICE) as service:
                until(lambda service=service: service.get("/health/ready").ok, "the service")
                started = requests_to(vault) - before
                idle, port, pid = memory(service.process.pid), int(vault.url.rpartition(":")[2]), service.process.pid
                open_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
                there = connections(pid, port)
                call(service)
                busy = memory(pid)
                before = requests_to(vault)
                service.post("/status/refresh").raise_for_status()
                a_round = requests_to(vault) - before
            yield (
                f"{vaults:>6}  {secrets:>7,}  {idle:>8.0f}  {busy:>8.0f}  {open_files:>11}  {there:>11}"
                f"  {started:>5}  {a_round:>5}  {a_round * HOUR:>9.0f}"
            )


def main() -> None:
    """Print the table."""
    if sys.platform != "linux":
        sys.exit("error: only Linux tells what a process has open")
    print("Vaults  secrets  MB, idle  MB, used  descriptors  connections  start  round  in an hour")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="capacity-") as directory:
        for line in measure(Path(directory)):
            print(line, flush=True)
    took = time.monotonic() - begun
    print(f"one process each; {CALLS:,} requests over {CALLERS} connections between idle and used; {took:.0f} s")


if __name__ == "__main__":
    main()
