"""Does the service keep its promise when Vault does its worst? `make drill` puts load on it and finds out.

The promise: while secrets are held, no fault of Vault's fails a single request; and what is broken heals by itself,
within one refresh interval plus the longest pause plus one time-out plus a second. The drill ends with a table and with
a failure if a promise was broken, if a fault left no mark, or if a secret appeared in the service's log.
"""

import argparse
import itertools
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac
import requests

from infrastructure.faulty_proxy import Fault, FaultyProxy
from infrastructure.processes import DEADLINE, Callers, Service, until
from infrastructure.raft import Cluster
from infrastructure.seed import fresh_secrets

INTERVAL, TIMEOUT = 2.0, 1.0  # seconds: the service's refresh interval and VAULT_TIMEOUT
TOKEN_TTL, TOKEN_MAX_TTL = 6, 10  # seconds
HEALS_WITHIN = INTERVAL * 1.1 + INTERVAL + TIMEOUT + 1.0  # the last second is for a busy machine
# what must be seen (a pattern) while a fault lasts, in /health/ready or as an event in the log: that it took place
SEEN = {
    "KV rotation": "vault_secrets_rotated",
    "rotation to a broken value": "jwt_secret",
    "path deleted": "was deleted",
    "token revoked": "token_rejected|token_renewal_refused",  # whoever meets it first
    "max TTL": "token_renewed",
    "policy removed": "permission denied",
    "secret id": "token_obtained",
    "Vault stopped": "HTTP 502",
    "Vault sealed": "Vault is sealed",
    "slow": "delayed",
    "429": "too many requests",
    "500": "HTTP 500",
    "503": "HTTP 503",
    "no answer": "no answer within VAULT_TIMEOUT",
    "connections reset": "no connection",
    "bodies cut": "no connection",
    "time jumps": "token_obtained",
    "leader": "another leads",
    "lagging": "none taken back",
}
ROTATIONS = 20  # while standbys lag
HOLD = 2 * INTERVAL  # how long a fault lasts
SHORT = ("KV rotation", "rotation to a broken value", "token revoked", "Vault sealed", "no answer at all")
POLICY = """
path "secret/data/app" { capabilities = ["read"] }
path "auth/token/+" { capabilities = ["read", "update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
"""


@dataclass
class Row:
    """What one fault did."""

    fault: str
    requests: int
    failed: int
    healed: float | None  # seconds after the fault was over; None: not in time
    said: str
    seen: bool = True  # the fault left its mark

    @property
    def is_bad(self) -> bool:
        """Whether a promise was broken."""
        return bool(self.failed) or not self.seen or self.healed is None or self.healed > HEALS_WITHIN


class Served(Service):
    """The service as it runs in production."""

    def command(self, _app: str, port: int) -> list[str]:
        """Return what starts it; one that was suspended then answers what has arrived before it closes connections."""
        return [sys.executable, "-m", "app", "serve", "--port", str(port)]


class Load(Callers):
    """Callers that use the secrets without pause: with a token that was signed before the fault, and with the key."""

    def __init__(self, service: Service, keys: list[str], threads: int = 4) -> None:
        self._service = service
        self.keys = keys  # those that may be in force; during a rotation either is right
        self.sent = self.failed = 0
        self.failures: list[str] = []
        self.row = 0  # counts the faults: each thread takes one token for each
        self._lock = threading.Lock()
        super().__init__(threads)

    def call(self) -> None:
        """Send requests."""
        with requests.Session() as http:
            token, row = "", -1
            for n in itertools.count():
                if self.done.is_set():
                    return
                try:
                    if n % 10 == 0 or row != self.row:
                        fresh = self._token(http)
                        token, row = (fresh or token, self.row) if row != self.row else (token, row)
                    headers = {"Authorization": f"Bearer {token}"}
                    self._count(http.get(f"{self._service.url}/me", headers=headers, timeout=DEADLINE))
                except requests.RequestException as error:
                    self._count(None, type(error).__name__)

    def _token(self, http: requests.Session) -> str | None:
        for attempt in range(3):  # the key in force may change between choosing and sending it
            for key in reversed(self.keys):
                answer = http.post(f"{self._service.url}/token", headers={"X-API-Key": key}, timeout=DEADLINE)
                if answer.ok:
                    self._count(answer)
                    token: str = answer.json()["access_token"]
                    return token
            if attempt == 2 or answer.status_code != requests.codes.unauthorized:  # noqa: PLR2004
                self._count(answer)
        return None

    def _count(self, answer: requests.Response | None, why: str = "") -> None:
        with self._lock:
            self.sent += 1
            if answer is None or not answer.ok:
                self.failed += 1
                self.failures.append(why or f"{answer.status_code} {answer.text}" if answer is not None else why)


class Drill:
    """A Vault with data that lasts, a proxy in front of it, the service, and load on the service."""

    def __init__(self, directory: Path, stack: ExitStack, nodes: int = 1) -> None:
        self.directory = directory
        self.cluster = Cluster(directory / "vault", nodes)
        stack.callback(self.cluster.stop)
        self.root = self.cluster.client()
        self.version = 0
        self.marks = ""  # what the drill itself has seen of a fault
        self.values: list[str] = []  # every secret that there ever was: none may appear in the log
        self._prepare()
        # with three nodes, the service talks to one that does not lead, so that the leader can be killed
        self.proxy = FaultyProxy(self.cluster.nodes[-1].url)
        url = stack.enter_context(self.proxy.running())
        self.variables = {
            "VAULT_ENABLED": "true",
            "VAULT_URL": url,
            "VAULT_AUTH_METHOD": "approle",
            "VAULT_ROLE_ID": self.root.auth.approle.read_role_id("app")["data"]["role_id"],
            "VAULT_SECRET_ID_FILE": str(directory / "secret-id"),
            "VAULT_SECRET_PATH": "app",
            "VAULT_REFRESH_INTERVAL": str(INTERVAL),
            "VAULT_TIMEOUT": str(TIMEOUT),
            "VAULT_MAX_STALENESS": "60",
            "LOG_LEVEL": "DEBUG",
        }
        self.service = stack.enter_context(Served(directory, self.variables))
        self.load = Load(self.service, [self.values[-1]])

    def _prepare(self) -> None:
        self.root.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
        until(self._writable, "the KV engine")
        self.root.sys.create_or_update_policy("app", POLICY)
        self.root.sys.enable_auth_method("approle")
        ttl = {"token_ttl": f"{TOKEN_TTL}s", "token_max_ttl": f"{TOKEN_MAX_TTL}s"}
        self.root.auth.approle.create_or_update_approle(
            "app", token_policies=["app"], token_no_default_policy=True, **ttl
        )
        self.new_secret_id()

    def _writable(self) -> bool:
        try:
            self.rotate()
        except (hvac.exceptions.VaultError, requests.RequestException):  # it is being set up, or led by another node
            self.root = self.cluster.client()
            return False
        return True

    def rotate(self, **broken: Any) -> None:
        """Write a new set of secrets, or a broken one."""
        n = self.version + 1
        self.values += [f"drill-api-key-{n}-{os.urandom(8).hex()}", f"drill-jwt-secret-{n}-{os.urandom(32).hex()}"]
        values = {
            **fresh_secrets(),
            "database_url": f"postgresql://app:{self.values[-1]}@db/app",
            "jwt_secret": self.values[-1],
            "api_key": self.values[-2],
        }
        self.root.secrets.kv.v2.create_or_update_secret("app", {**values, **broken})
        self.version = n
        self.values[-2:] = [self.values[-1], self.values[-2]]  # the API key last
        if hasattr(self, "load") and not broken:
            self.load.keys = [*self.load.keys[-2:], values["api_key"]]

    def new_secret_id(self) -> None:
        """Put a new secret id into the file, and destroy the old one."""
        file = self.directory / "secret-id"
        if file.exists():
            self.root.auth.approle.destroy_secret_id("app", file.read_text())
        secret_id: str = self.root.auth.approle.generate_secret_id("app")["data"]["secret_id"]
        self.values.append(secret_id)
        self.values[-2:] = [self.values[-1], self.values[-2]]
        file.write_text(secret_id)

    def go_through(self, fault: str, inject: Callable[[], None], heal: Callable[[], None]) -> Row:
        """Inject the fault, hold it, heal it, and measure what it did."""
        self.load.row += 1
        self.marks = ""
        sent, failed, logged = self.load.sent, self.load.failed, len(self.service.output)
        inject()
        said = self._hold()
        heal()
        until(self._writable, "a write")  # what was written after the fault is the proof that all is well again
        healed = self._time_to_heal()
        mark = next(mark for name, mark in SEEN.items() if name in fault)
        seen = re.search(mark, said + self.marks + self.service.output[logged:]) is not None
        return Row(fault, self.load.sent - sent, self.load.failed - failed, healed, said, seen)

    def _hold(self) -> str:
        said, end = "ready", time.monotonic() + HOLD
        while time.monotonic() < end:
            answer = self.service.get("/health/ready")
            words = answer.json().get("warnings") or ([] if answer.ok else [answer.json()["detail"]])
            if words:
                said = ("ready, but: " if answer.ok else "not ready: ") + words[0]
            time.sleep(0.05)
        return said

    def _time_to_heal(self) -> float | None:
        """Wait for the newest secrets to be in force, without a warning, and a login that is good."""
        start = time.monotonic()
        while time.monotonic() - start < HEALS_WITHIN + 2:
            answer = self.service.get("/health/ready")
            if answer.ok and not answer.json().get("warnings"):
                key = {"X-API-Key": self.load.keys[-1]}
                if self.service.post("/token", headers=key).ok:
                    return time.monotonic() - start
            time.sleep(0.02)
        return None

    # --- the faults ---

    def faults(self) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
        """Return what to do for each fault, and how to heal it."""
        kv, sys_api = self.root.secrets.kv.v2, self.root.sys

        def nothing() -> None:
            pass

        def revoke() -> None:
            self.root.adapter.put("/v1/sys/leases/revoke-prefix/auth/approle", json={})

        def new_secret_id() -> None:
            self.new_secret_id()
            revoke()

        def restart() -> None:
            self.cluster.start()
            self.proxy.target = self.cluster.nodes[-1].url.removeprefix("http://")

        def faulty(fault: Fault | None) -> Callable[[], None]:
            def answer(_method: str, _path: str) -> Fault | None:
                if fault is not None and fault.delay:
                    self.marks = "delayed"
                return fault

            return lambda: setattr(self.proxy, "fault", answer)

        def suspend() -> None:
            self.service.process.send_signal(signal.SIGSTOP)
            time.sleep(TOKEN_MAX_TTL + 1)  # the token dies meanwhile; for the service, time jumps
            self.service.process.send_signal(signal.SIGCONT)

        well = faulty(None)
        return {
            "KV rotation": (self.rotate, nothing),
            "rotation to a broken value": (lambda: self.rotate(jwt_secret="short"), self.rotate),
            "path deleted, undeleted": (
                lambda: kv.delete_latest_version_of_secret("app"),
                lambda: kv.undelete_secret_versions("app", [kv.read_secret_metadata("app")["data"]["current_version"]]),
            ),
            "token revoked": (revoke, nothing),
            "max TTL reached, twice": (lambda: time.sleep(2 * TOKEN_MAX_TTL), nothing),
            "policy removed, restored": (
                lambda: sys_api.delete_policy("app"),
                lambda: sys_api.create_or_update_policy("app", POLICY),
            ),
            "secret id rotated": (new_secret_id, nothing),
            "Vault stopped, started": (self.cluster.stop, restart),
            "Vault sealed, unsealed": (sys_api.seal, self.cluster.unseal),
            "slow: 0.8 s an answer": (faulty(Fault(delay=0.8)), well),
            "429 for everything": (faulty(Fault(429)), well),
            "500 for everything": (faulty(Fault(500)), well),
            "503 for everything": (faulty(Fault(503)), well),
            "no answer at all": (faulty(Fault(hang=True)), well),
            "connections reset": (faulty(Fault(reset=True)), well),
            "bodies cut in the middle": (faulty(Fault(cut=True)), well),
            "time jumps forward (suspended)": (suspend, nothing),
        }

    def restarts_during_an_outage(self) -> Iterator[Row]:
        """Start a second instance while Vault is down, with `VAULT_FAIL_FAST` false and true."""
        self.proxy.fault = lambda _method, _path: Fault(reset=True)
        strict = Served(self.directory, {**self.variables, "VAULT_FAIL_FAST": "true"})
        code = strict.process.wait(DEADLINE)
        yield Row("restart in an outage, fail fast", 0, int(code == 0), 0.0, f"did not start: exit code {code}")
        with Served(self.directory, self.variables) as lenient:
            alive = lenient.get("/health/live").ok
            said = lenient.get("/health/ready").json()["detail"]
            self.proxy.fault = lambda _method, _path: None
            start = time.monotonic()
            until(lambda: lenient.get("/health/ready").ok, "the second instance to heal")
            healed = time.monotonic() - start
        yield Row("restart in an outage, lenient", 1, int(not alive), healed, f"not ready: {said}")


def kill_the_leader(drill: Drill) -> Row:
    """Kill the leader of three nodes with `kill -9`, and let it come back."""
    leader = until(drill.cluster.leader, "a leader") or drill.cluster.nodes[0]

    def kill() -> None:
        leader.stop(brutally=True)
        until(lambda: drill.cluster.leader() not in {None, leader}, "another leader")
        drill.marks = "another leads"

    return drill.go_through("leader of three killed (kill -9)", kill, drill.cluster.start)


def lagging_standbys(drill: Drill) -> Row:
    """Send each request to the next of three nodes, which lag behind their leader, while secrets are rotated."""
    nodes = itertools.cycle(node.url.removeprefix("http://") for node in drill.cluster.nodes)

    def turn(_method: str, _path: str) -> Fault | None:
        drill.proxy.target = next(nodes)
        return None

    def go_round() -> None:
        drill.proxy.fault = turn
        for _ in range(ROTATIONS):
            drill.rotate()
            drill.service.post("/status/refresh")
        taken = [event for event in drill.service.events if event["event"] == "vault_secrets_rotated"]
        if not any(event["new"] < event["old"] for event in taken):
            drill.marks = f"{ROTATIONS} rotations, none taken back"

    def settle() -> None:
        drill.proxy.fault = lambda _method, _path: None

    return drill.go_through("reads on a lagging standby", go_round, settle)


def walk(*, short: bool = False) -> list[Row]:
    """Walk through all faults, or a few; return a row each, and print it."""
    rows: list[Row] = []

    def note(row: Row) -> None:
        rows.append(row)
        healed = "never" if row.healed is None else f"{row.healed:.1f} s"
        mark = "!!" if row.is_bad else "  "
        print(f"{mark} {row.fault:<34} {row.requests:>8} {row.failed:>7} {healed:>8}  {row.said[:100]}", flush=True)

    print(f"   {'fault':<34} {'requests':>8} {'failed':>7} {'healed':>8}  what /health/ready said")
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        drill = Drill(Path(directory), stack)
        with drill.load.running():
            for fault, (inject, heal) in drill.faults().items():
                if not short or fault.startswith(SHORT):
                    note(drill.go_through(fault, inject, heal))
        for row in drill.restarts_during_an_outage():
            note(row)
        drill.service.stop()
        note(leaks(drill))
        sys.stderr.writelines(f"{failure}\n" for failure in drill.load.failures[:5])
    if not short:
        with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
            drill = Drill(Path(directory), stack, nodes=3)
            with drill.load.running():
                note(kill_the_leader(drill))
                note(lagging_standbys(drill))
            drill.service.stop()
            note(leaks(drill))
    return rows


def leaks(drill: Drill) -> Row:
    """Look for every secret that there ever was in all that the service wrote, at DEBUG level."""
    written = "".join(file.read_text() for file in drill.directory.glob("service-*.log"))
    found = sum(value in written for value in drill.values)
    found += len(
        re.findall(r"\b(?:hvs|hvb|s|b)\.[A-Za-z0-9_-]{20,}|\beyJ[A-Za-z0-9_-]{10,}\.", written)
    )  # tokens, JWTs
    lines = written.count("\n")
    return Row("secrets in the log", len(drill.values), found, 0.0, f"{lines} lines of log searched")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Walk the service through faults of Vault, under load.")
    parser.add_argument("--short", action="store_true", help="only a few faults")
    rows = walk(short=parser.parse_args().short)
    bad = [row.fault for row in rows if row.is_bad]
    print(f"\n{sum(row.requests for row in rows)} requests; healing promised within {HEALS_WITHIN:.1f} s")
    if bad:
        sys.exit(f"error: the promise was broken by: {', '.join(bad)}")
    print("every promise was kept")


if __name__ == "__main__":
    main()
