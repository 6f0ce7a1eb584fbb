"""What was written is seen by the next read, whichever node answers, and nothing goes backwards. Three raft nodes."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import requests

from app.core.errors import NotCaughtUp, PathMissing, VaultRateLimited
from app.core.logs.event_log import journal
from app.core.settings.vault import VaultSettings
from app.core.transport.calls import Call
from app.core.vault.kv_writer import VaultKVWriter
from app.core.vault.never_backwards import TRIES
from app.core.vault.session import VaultSession
from infrastructure.faulty_proxy import Fault, FaultyProxy
from infrastructure.raft import Cluster, Node
from tests.support import ROOT, SECRETS, Vault, enable_kv, environment, unique, until

HEADERS = {"x-vault-index", "x-vault-inconsistent"}
MANY = [20, pytest.param(300, marks=pytest.mark.slow)]
ALL_MAY = 'path "secret/*" {{ capabilities = ["create", "read", "update", "patch", "delete", "list"] }}'

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.alone]  # one cluster for all of them, not one a process


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start three nodes, whose standbys answer reads themselves, each a moment late."""
    cluster = Cluster(tmp_path_factory.mktemp("raft"), size=3)
    client = cluster.client()
    enable_kv(client, "secret")
    client.sys.enable_auth_method("approle")
    client.adapter.close()
    for node in cluster.nodes:
        until(partial(_is_upgraded, node.url, cluster), "the KV engine at each node")
    yield cluster
    cluster.stop()


def _is_upgraded(url: str, cluster: Cluster) -> bool:
    answer = requests.get(f"{url}/v1/secret/data/nothing", headers={"X-Vault-Token": cluster.root_token}, timeout=10)
    return bool(answer.status_code == requests.codes.not_found)


def leader_of(cluster: Cluster) -> Node:
    """Wait for a leader."""
    found = until(cluster.leader, "a leader")
    assert found is not None
    return found


@contextmanager
def going_round(cluster: Cluster, *, dropped: set[str] | None = None) -> Iterator[FaultyProxy]:
    """Put a load balancer in front that sends each request to the next node."""
    nodes = itertools.cycle(node.url.removeprefix("http://") for node in cluster.nodes)
    proxy = FaultyProxy(cluster.nodes[0].url)

    def turn(_method: str, _path: str) -> Fault | None:
        proxy.target = next(nodes)
        return None

    proxy.fault = turn
    proxy.dropped = dropped or set()
    with proxy.running():
        yield proxy


def settings_of(cluster: Cluster, proxy: FaultyProxy, path: str, **more: Any) -> dict[str, Any]:
    """Return what logs in through the load balancer and may do all."""
    leader = leader_of(cluster)
    vault = Vault(leader.url, cluster.root_token)
    role = vault.app_role(path, policy=ALL_MAY)
    vault.client.adapter.close()
    return {**role, "url": proxy.url, "access_mode": "read_and_write", **more}


@contextmanager
def writing(cluster: Cluster, proxy: FaultyProxy, *, waits: bool = False, **more: Any) -> Iterator[VaultKVWriter]:
    """Log in through the load balancer."""
    session = VaultSession(VaultSettings.model_validate(settings_of(cluster, proxy, "app", **more)))
    if not waits:
        session.wait = lambda _seconds: None
    try:
        yield VaultKVWriter(session)
    finally:
        session.close()


@contextmanager
def root(cluster: Cluster) -> Iterator[Vault]:
    """Work at the leader, as somebody else."""
    leader = leader_of(cluster)
    vault = Vault(leader.url, cluster.root_token)
    yield vault
    vault.client.adapter.close()


def test_a_standby_lags_where_nothing_is_done_about_it(cluster: Cluster) -> None:
    """So the tests below show something."""
    leader = leader_of(cluster)
    standby = next(node for node in cluster.nodes if node is not leader)
    with root(cluster) as vault:
        path = unique("app")
        stale = sum(vault.write(path, {"n": str(n)}) > _version_at(standby.url, cluster, path) for n in range(20))
    assert stale > 0


@pytest.mark.parametrize("times", MANY)
def test_what_was_written_is_read(cluster: Cluster, times: int) -> None:
    """Each time, at whichever node, and no check-and-set is lost to nobody."""
    with going_round(cluster) as proxy, writing(cluster, proxy) as kv:
        path = unique("app")
        for n in range(times):
            version = kv.write(path, {"n": n}, cas=n)
            assert kv.read(path).data == {"n": n}
            assert kv.metadata(path)["current_version"] == version == n + 1
        kv.delete_metadata(path)
        with pytest.raises(PathMissing):
            kv.read(path)
        assert path not in kv.list()
        assert kv.write(path, {"n": "again"}, cas=0) == 1
        assert kv.read(path).version == 1


@pytest.mark.parametrize("times", [100, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dropped", [set(), HEADERS], ids=["headers known", "headers unknown"])
def test_nothing_goes_backwards_while_somebody_else_writes(cluster: Cluster, times: int, dropped: set[str]) -> None:
    """Not even where no node knows the headers."""
    with going_round(cluster, dropped=dropped) as proxy, writing(cluster, proxy) as kv, root(cluster) as vault:
        path, held = unique("app"), 0
        vault.write(path, {"n": "0"})
        until(lambda: _is_there(kv, path), "the first version at all nodes")
        for n in range(times):
            if n % 5 == 0:
                vault.write(path, {"n": str(n)})
            found = kv.read(path).version or 0
            assert found >= held
            held = found


def _is_there(kv: VaultKVWriter, path: str) -> bool:
    try:
        return kv.read(path).version == 1
    except PathMissing:
        return False


def test_a_token_is_good_at_once_at_every_node(cluster: Cluster) -> None:
    """A node that does not know it yet would refuse it, and cause a login storm."""
    with going_round(cluster) as proxy, root(cluster) as vault:
        vault.write(path := unique("app"), SECRETS)
        for _ in range(10):
            with writing(cluster, proxy) as kv:
                before = len(proxy.requests)
                assert kv.read(path).data == SECRETS
                assert [where for _, where in proxy.requests[before:]] == [
                    "/v1/auth/approle/login",
                    f"/v1/secret/data/{path}",
                ]


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", ["approle", "token"])
def test_what_one_process_wrote_another_one_reads(cluster: Cluster, method: str, times: int) -> None:
    """Each run of the command line has seen nothing before, but for its login."""
    with going_round(cluster) as proxy:
        path = unique("app")
        settings = settings_of(cluster, proxy, path)
        if method == "token":
            settings |= {"auth_method": "token", "token": cluster.root_token}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "BAO_"))}
        variables = {**kept, **environment(settings), "PYTHONPATH": str(ROOT)}

        def run(*arguments: str) -> str:
            command = [sys.executable, "-m", "tests.command_line", *arguments]
            done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        for n in range(times):
            run("put", path, f"n={n}", f"--cas={n}")
            assert run("get", f"vault://vault/{path}/n") == str(n)


@pytest.mark.parametrize("dropped", [set(), HEADERS], ids=["headers known", "headers unknown"])
def test_keys_are_issued_rotated_and_revoked_without_a_false_alarm(cluster: Cluster, dropped: set[str]) -> None:
    """Nobody else has written there; what was issued is listed, and what was revoked may be issued again."""
    api_keys = pytest.importorskip("app.extras.api_keys.keys")
    stores = pytest.importorskip("app.extras.api_keys.vault_store")
    with going_round(cluster, dropped=dropped) as proxy, writing(cluster, proxy, waits=True) as kv:
        keys = api_keys.ApiKeys(stores.VaultApiKeyStore(lambda: kv, unique("keys")))
        for name in ("one", "two", "three", "four", "five"):
            _, key = keys.issue(name)
            _, newer = keys.rotate(name, 60)
            keys.refresh()
            assert keys.caller(key) == keys.caller(newer) == f"api-key/{name}"
            keys.revoke(name)
            keys.refresh()
            assert keys.caller(newer) is None
            _, key = keys.issue(name)
            keys.refresh()
            assert keys.caller(key) == f"api-key/{name}"


def older(cluster: Cluster, restore: Callable[[Vault, str], None], dropped: set[str]) -> tuple[list[Any], list[str]]:
    """Read version 3, let somebody restore an older one, and read twice; return versions or errors, and notes."""
    found: list[Any] = []
    with going_round(cluster, dropped=dropped) as proxy, writing(cluster, proxy) as kv, root(cluster) as vault:
        path = unique("app")
        for n in range(3):
            kv.write(path, {"n": n})
        assert kv.read(path).version == 3
        notes = len(journal.events())
        restore(vault, path)
        for _ in range(2):
            try:
                found.append(kv.read(path).version)
            except NotCaughtUp as error:
                found.append(error)
        return found, [event.detail for event in list(journal.events())[notes:] if event.kind == "rotation"]


def written_again(vault: Vault, path: str) -> None:
    """Do what a backup that is restored does to one secret."""
    vault.client.adapter.delete(f"/v1/secret/metadata/{path}")
    vault.write(path, {"n": "old"})


def test_an_older_version_counts_once_the_leader_confirms_it(cluster: Cluster) -> None:
    """With a note; then it is what is held."""
    found, notes = older(cluster, written_again, set())
    assert found == [1, 1]
    (note,) = notes
    assert "the leader has version 1, after version 3" in note


def test_without_headers_a_leader_confirms_it_after_a_few_tries(cluster: Cluster) -> None:
    """Where the one who answers says that it is a leader."""
    leader = leader_of(cluster)
    proxy = FaultyProxy(leader.url)
    proxy.dropped = HEADERS
    with proxy.running(), writing(cluster, proxy) as kv, root(cluster) as vault:
        path = unique("app")
        kv.write(path, {"n": 0})
        kv.write(path, {"n": 1})
        written_again(vault, path)
        before = len(proxy.requests)
        assert kv.read(path).version == 1
        asked = [where for _, where in proxy.requests[before:]]
        assert asked == [*[f"/v1/secret/data/{path}"] * (1 + TRIES), "/v1/sys/leader"]
        assert kv.read(path).version == 1
        assert len(proxy.requests) == before + len(asked) + 1


def test_without_headers_a_standby_that_stays_behind_is_an_error(cluster: Cluster) -> None:
    """What is held stays held, and the error names the versions."""
    leader = leader_of(cluster)
    standby = next(node for node in cluster.nodes if node is not leader)
    proxy = FaultyProxy(leader.url)
    proxy.dropped = HEADERS
    with proxy.running(), writing(cluster, proxy) as kv, root(cluster) as vault:
        path = unique("app")
        kv.write(path, {"n": 0})
        kv.write(path, {"n": 1})
        written_again(vault, path)
        until(lambda: _version_at(standby.url, cluster, path) == 1, "the standby to have it")
        proxy.target = standby.url.removeprefix("http://")
        for _ in range(2):
            with pytest.raises(NotCaughtUp, match="has version 1 of it, after version 2, and is no leader"):
                kv.read(path)
        proxy.target = leader.url.removeprefix("http://")
        assert kv.read(path).version == 1


def _version_at(url: str, cluster: Cluster, path: str) -> int:
    answer = requests.get(f"{url}/v1/secret/data/{path}", headers={"X-Vault-Token": cluster.root_token}, timeout=10)
    return int(answer.json()["data"]["metadata"]["version"]) if answer.ok else 0


@pytest.mark.parametrize(("status", "body"), [(412, b'{"errors": []}'), (429, b'{"errors":[]}\n')])
def test_a_node_that_is_behind_is_no_rate_limit(status: int, body: bytes) -> None:
    """Neither as Vault says it, nor as OpenBao does."""
    behind, limited = Call("vault", "read"), Call("vault", "read")
    behind.answered(status, body)
    limited.answered(429, b'{"errors": ["rate limit quota exceeded"]}')
    assert (behind.outcome, limited.outcome) == ("failed", "limited")


@pytest.mark.parametrize(("status", "expected"), [(429, VaultRateLimited), (412, NotCaughtUp)])
def test_what_a_refusal_for_now_means(vault: Vault, status: int, expected: type[Exception]) -> None:
    """A quota, or a node that has not caught up."""
    proxy = FaultyProxy(vault.url, lambda _method, where: Fault(status) if "/secret/" in where else None)
    with proxy.running() as url:
        session = VaultSession(VaultSettings.model_validate({**vault.app_role(unique("app")), "url": url}))
        with pytest.raises(expected):
            VaultKVWriter(session).read("app")
        session.close()


def test_an_upgraded_mount_is_read_and_written_without_a_restart(vault: Vault) -> None:
    """With `VAULT_KV_VERSION=auto`: from version 1 to 2, and to a mount of version 1 in its place."""
    mount = enable_kv(vault.client, unique("kv"), "1")
    vault.client.adapter.post(f"/v1/{mount}/app", json={"n": "one"})
    policy = f'path "{mount}/*" {{{{ capabilities = ["create", "read", "update", "list"] }}}}'
    role = vault.app_role("app", policy=policy)
    more = {"mount_point": mount, "kv_version": "auto", "access_mode": "read_and_write"}
    session = VaultSession(VaultSettings.model_validate({**role, **more}))
    kv = VaultKVWriter(session)
    try:
        assert kv.read("app").version is None
        vault.client.adapter.post(f"/v1/sys/mounts/{mount}/tune", json={"options": {"version": "2"}})
        until(lambda: _has_version_2(vault, mount), "the upgrade")
        assert kv.read("app").version == 1
        assert kv.write("app", {"n": "two"}) == 2
        assert kv.list() == ["app"]
        vault.client.sys.disable_secrets_engine(mount)
        enable_kv(vault.client, mount, "1")
        vault.client.adapter.post(f"/v1/{mount}/app", json={"n": "three"})
        assert kv.list() == ["app"]
        assert kv.read("app").data == {"n": "three"}
        assert kv.write("app", {"n": "four"}) is None
        assert kv.read("app").data == {"n": "four"}
    finally:
        session.close()


def _has_version_2(vault: Vault, mount: str) -> bool:
    headers = {"X-Vault-Token": vault.root_token}
    return requests.get(f"{vault.url}/v1/{mount}/data/app", headers=headers, timeout=10).ok
