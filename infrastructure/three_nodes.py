"""Two services on a cluster of three nodes, under load: what becomes of them while something is done to the cluster?

Both hold secrets, each behind a load balancer of its own: one takes the active node only, one takes any that is
unsealed. Callers use a secret, and ask for readiness, without pause.
"""

import http.client
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from infrastructure.drill import POLICY
from infrastructure.load_balancer import LoadBalancer
from infrastructure.partition import Wire
from infrastructure.processes import DEADLINE, Callers, Service, until
from infrastructure.raft import Cluster, Node
from infrastructure.seed import fresh_secrets

CHECKS = {"active": "/v1/sys/health", "any": "/v1/sys/health?standbyok=true"}
INTERVAL, TIMEOUT, TOKEN_TTL, LOGIN_PAUSE = 2, 1, 8, 5.0  # seconds
WAITS = 12.0  # seconds for a new version to arrive, before the fault is over


@dataclass
class Row:
    """What one fault did to one of the two services."""

    fault: str
    balancer: str
    requests: int
    failed: list[str]
    logins: int  # also those that failed
    written: float  # seconds from the fault to the first write that succeeded
    arrived: float | None  # seconds from the fault to that version in the service; None: not before it was over
    lasted: float  # seconds until all was as before
    went_back: int  # versions that were taken back

    @property
    def is_bad(self) -> bool:
        """Tell whether a promise was broken."""
        return bool(self.failed) or self.went_back > 0 or self.logins > 2 + self.lasted / LOGIN_PAUSE


class Load(Callers):
    """Callers that use a secret, and ask whether the service is ready."""

    def __init__(self, service: Service, path: str, key: str) -> None:
        self._address, self._path, self._key = urlsplit(service.url).netloc, path, key
        self.sent = 0
        self.failed: list[str] = []
        super().__init__(2)

    def call(self) -> None:
        """Send requests."""
        connection = http.client.HTTPConnection(self._address, timeout=DEADLINE)
        while not self.done.is_set():
            for method, path in (("POST", self._path), ("GET", "/health/ready")):
                try:
                    connection.request(method, path, headers={"X-API-Key": self._key})
                    answer = connection.getresponse()
                    said = answer.read().decode()
                    if answer.status != http.HTTPStatus.OK:
                        self.failed.append(f"{path}: {answer.status} {said}")
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    self.failed.append(f"{path}: {type(error).__name__}")
                self.sent += 1  # a count that is one too low now and then does no harm
        connection.close()


class Side:
    """One service, its load balancer, its callers and what its log has said."""

    def __init__(self, name: str, scene: "Scene", stack: ExitStack, app: str, path: str) -> None:
        self.name = name
        self.balancer = LoadBalancer([node.url for node in scene.cluster.nodes], CHECKS[name])
        url = stack.enter_context(self.balancer.running())
        directory = scene.directory / name
        directory.mkdir()
        self.service = stack.enter_context(Service(directory, {**scene.variables, "VAULT_URL": url}, app))
        self._log = stack.enter_context(next(directory.glob("service-*.log")).open())
        self.events: list[dict[str, Any]] = []
        self.load = Load(self.service, path, scene.key)
        until(lambda: self.service.get("/health/ready").ok, "the service to be ready")

    def look(self) -> list[dict[str, Any]]:
        """Read on in the log; return all events so far that are of interest."""
        while line := self._log.readline():
            if line.startswith("{") and line.endswith("\n") and "request_" not in line:
                self.events.append(json.loads(line))
        return self.events

    def since(self, start: int, *names: str) -> list[dict[str, Any]]:
        """Return the events of these names."""
        return [event for event in self.look()[start:] if event["event"] in names]

    def holds(self, version: int, start: int) -> bool:
        """Tell whether the service has taken in this version, or a newer one."""
        return any(event["new"] >= version for event in self.since(start, "vault_secrets_rotated"))


class Scene:
    """Three nodes that can be cut off from each other, and the two services."""

    def __init__(self, directory: Path, stack: ExitStack, app: str = "app.main:app", path: str = "/token") -> None:
        self.directory = directory
        self.cut_off: set[int] = set()
        self.wires: list[Wire] = []

        def advertise(port: int) -> int:
            self.wires.append(wire := Wire(port, self.cut_off))
            stack.enter_context(wire.running())
            return wire.port

        self.cluster = Cluster(directory / "vault", 3, advertise)
        stack.callback(self.cluster.stop)
        self.key = f"high-availability-{os.urandom(8).hex()}"
        self.variables = self._prepare()
        self.sides = [Side(name, self, stack, app, path) for name in CHECKS]
        for side in self.sides:
            stack.enter_context(side.load.running())

    def _prepare(self) -> dict[str, str]:
        root = self.cluster.client()
        root.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
        until(self._try_to_rotate, "a first version")
        root.sys.create_or_update_policy("app", POLICY)
        root.sys.enable_auth_method("approle")
        options = {"token_ttl": f"{TOKEN_TTL}s", "token_max_ttl": "1h", "token_no_default_policy": True}
        root.auth.approle.create_or_update_approle("app", token_policies=["app"], **options)
        role_id = root.auth.approle.read_role_id("app")["data"]["role_id"]
        secret_id = root.auth.approle.generate_secret_id("app")["data"]["secret_id"]
        root.adapter.close()
        until(self.is_whole, "the KV engine at each node")
        return {
            "VAULT_ENABLED": "true",
            "VAULT_AUTH_METHOD": "approle",
            "VAULT_ROLE_ID": role_id,
            "VAULT_SECRET_ID": secret_id,
            "VAULT_SECRET_PATH": "app",
            "VAULT_REFRESH_INTERVAL": str(INTERVAL),
            "VAULT_TIMEOUT": str(TIMEOUT),
        }

    def _try_to_rotate(self) -> int:
        """Write a new set of secrets to whoever takes it; return its version, or 0."""
        secret = f"high-availability-{os.urandom(32).hex()}"
        values = {
            **fresh_secrets(),
            "database_url": "postgresql://app@db/app",
            "api_key": self.key,
            "jwt_secret": secret,
        }
        headers = {"X-Vault-Token": self.cluster.root_token}
        for node in self.cluster.nodes:
            try:
                url = f"{node.url}/v1/secret/data/app"
                answer = requests.post(url, json={"data": values}, headers=headers, timeout=TIMEOUT)
                if answer.ok:
                    return int(answer.json()["data"]["version"])
            except requests.RequestException:
                continue
        return 0

    def rotate(self) -> int:
        """Write a new set of secrets; return its version."""
        return until(self._try_to_rotate, "a write")

    def go_through(self, fault: str, inject: Callable[[], None], heal: Callable[[], None]) -> Iterator[Row]:
        """Inject the fault, see whether a new version arrives, heal it, and see that again."""
        marks = {side.name: (len(side.look()), side.load.sent, len(side.load.failed)) for side in self.sides}
        begin = time.monotonic()
        inject()
        start = time.monotonic()
        version, arrived = self.rotate(), dict[str, float]()
        written = time.monotonic() - start
        while len(arrived) < len(self.sides) and time.monotonic() - start < WAITS:
            for side in self.sides:
                if side.name not in arrived and side.holds(version, marks[side.name][0]):
                    arrived[side.name] = time.monotonic() - start
            time.sleep(0.02)
        heal()
        until(self.is_whole, "all nodes to be well")
        version = self.rotate()
        for side in self.sides:
            until(partial(side.holds, version, marks[side.name][0]), "the newest version")
            alive = "token_renewed", "token_obtained"
            until(partial(side.since, len(side.events), *alive), "the token to be renewed or replaced")
        lasted = time.monotonic() - begin
        for side in self.sides:
            first, sent, failed = marks[side.name]
            logins = side.since(first, "token_obtained", "login_failed")
            back = sum(e["new"] < (e["old"] or 0) for e in side.since(first, "vault_secrets_rotated"))
            counts = side.load.sent - sent, side.load.failed[failed:], len(logins)
            yield Row(fault, side.name, *counts, written, arrived.get(side.name), lasted, back)

    def is_whole(self) -> bool:
        """Tell whether all nodes have what is written now: one leads, and the others follow it."""
        if self.cluster.leader() is None or not (version := self._try_to_rotate()):
            return False
        end = time.monotonic() + TIMEOUT
        while not (whole := all(self._version_at(node) >= version for node in self.cluster.nodes)):
            if time.monotonic() > end:
                break
        return whole

    def _version_at(self, node: Node) -> int:
        headers = {"X-Vault-Token": self.cluster.root_token}
        try:
            answer = requests.get(f"{node.url}/v1/secret/data/app", headers=headers, timeout=TIMEOUT)
            return int(answer.json()["data"]["metadata"]["version"])
        except (requests.RequestException, ValueError, KeyError, TypeError):
            return 0

    def partition(self, node: Node | None) -> None:
        """Cut a node off from the other nodes, or nobody any more; callers reach it all the same."""
        self.cut_off.clear()
        for wire, each in zip(self.wires, self.cluster.nodes, strict=True):
            wire.pid = each.process.pid if each.process else 0
            if each is node:
                self.cut_off.add(wire.pid)
        for wire in self.wires:
            wire.cut()
