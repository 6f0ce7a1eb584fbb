"""Writes while the leader is killed: each says what became of it; repeated with a check, none is lost or doubled."""

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest
import requests

from app.core.errors import BackendError, LostRace
from app.core.settings.vault import VaultSettings
from app.core.vault.kv_writer import VaultKVWriter
from app.core.vault.session import VaultSession
from infrastructure.load_balancer import LoadBalancer
from infrastructure.processes import Callers
from infrastructure.raft import Cluster
from infrastructure.three_nodes import CHECKS
from tests.support import enable_kv, unique, until

WRITERS = 4
MORE = 20  # writes of each, after the election

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.alone]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start three nodes, whose KV engine keeps all versions."""
    cluster = Cluster(tmp_path_factory.mktemp("raft"), size=3)
    client = cluster.client()
    enable_kv(client, "secret")
    client.secrets.kv.v2.configure(max_versions=10_000)
    client.adapter.close()
    yield cluster
    cluster.stop()


class Writers(Callers):
    """Each writes numbers to a path of its own, one after the other, and keeps what it was told."""

    def __init__(self, kv: VaultKVWriter, *, checks: bool) -> None:
        super().__init__(WRITERS)
        self._kv, self._checks = kv, checks
        self.done_writes: dict[str, list[int]] = {}
        self.not_done: dict[str, list[int]] = {}
        self.unknown: dict[str, list[int]] = {}
        self.least = 0  # how many each has at least

    def call(self) -> None:
        """Write until the end."""
        path = unique("written")
        done = self.done_writes[path] = []
        refused = self.not_done[path] = []
        unknown = self.unknown[path] = []
        n = 0
        while not self.done.is_set():
            n += 1
            while not self._written(path, n, refused, unknown):
                n += 0 if self._checks else 1  # without a check the same would count twice
            done.append(n)
            self.least = min(map(len, self.done_writes.values()))

    def _written(self, path: str, n: int, refused: list[int], unknown: list[int]) -> bool:
        """Write a number; with check-and-set, it becomes the version of this number."""
        try:
            version = self._kv.write(path, {"n": n}, cas=n - 1 if self._checks else None)
            assert version == n or not self._checks
        except LostRace:
            assert n in unknown  # only one that may have been done
            return self._is_ours(path, n)
        except BackendError as error:
            (unknown if error.may_be_done else refused).append(n)
            time.sleep(0.05)
            return False
        return True

    def _is_ours(self, path: str, n: int) -> bool:
        with suppress(BackendError):
            held = self._kv.read(path)
            assert (held.version, held.data) == (n, {"n": n})
            return True
        return False


def numbers(cluster: Cluster, path: str) -> list[int]:
    """Return what all versions of a secret hold, in their order."""
    leader = until(cluster.leader, "a leader")
    assert leader is not None
    headers = {"X-Vault-Token": cluster.root_token}
    with requests.Session() as http:
        ask = partial(http.get, headers=headers, timeout=10)
        last = ask(f"{leader.url}/v1/secret/metadata/{path}").json()["data"]["current_version"]
        versions = (ask(f"{leader.url}/v1/secret/data/{path}?version={n}") for n in range(1, last + 1))
        return [int(answer.json()["data"]["data"]["n"]) for answer in versions]


@pytest.mark.parametrize("checks", [True, False], ids=["check-and-set", "without"])
def test_no_write_is_lost_doubled_or_told_wrong(cluster: Cluster, *, checks: bool) -> None:
    """What was told as done is there once, what was told as not done is not, and only the rest may be either.

    Behind a load balancer that takes the leader only: standbys that hand writes on do as they like at an election.
    """
    leader = until(cluster.leader, "a leader")
    assert leader is not None
    balancer = LoadBalancer([node.url for node in cluster.nodes], CHECKS["active"])
    with balancer.running() as url:
        raw = {"enabled": True, "url": url, "token": cluster.root_token, "access_mode": "read_and_write", "timeout": 1}
        session = VaultSession(VaultSettings.model_validate(raw))
        writers = Writers(VaultKVWriter(session), checks=checks)
        with writers.running():
            until(lambda: writers.least >= MORE, "writes before the election")
            leader.stop(brutally=True)
            until(lambda: cluster.leader() not in {None, leader}, "another leader")
            enough = writers.least + MORE
            until(lambda: writers.least >= enough, "writes after it")
        session.close()
    cluster.start()
    assert len(writers.done_writes) == WRITERS
    assert any(writers.not_done.values()) or any(writers.unknown.values())  # the election was noticed
    for path, done in writers.done_writes.items():
        found = numbers(cluster, path)
        if checks:
            assert found == list(range(1, len(done) + 1))
            continue
        assert sorted(set(found)) == found  # none twice, and in order
        assert set(done) <= set(found)
        assert set(found) <= set(done) | set(writers.unknown[path])
        assert not set(found) & set(writers.not_done[path])
