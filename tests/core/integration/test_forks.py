"""After a fork: no value, connection, token or lock of the parent's is the child's. Real processes, real servers."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from app.core import forks
from app.core.logs.event_log import Listeners
from app.core.store.writes import after_writes, notify
from infrastructure.dev_vault import start_embedded
from tests.pki import Authority
from tests.support import DEADLINE, ROOT, SECRETS, Vault, environment, free_port, unique, until

CHILDREN = 8
FORKS_BESIDE_THREADS = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # other tests' threads
WAYS = ["os", "multiprocessing", "threads", "libc", "spawn", "in a thread"]


def fork(how: str, variables: dict[str, str], references: list[str], directory: Path) -> list[dict[str, Any]]:
    """Fork while secrets are read; return what each process read."""
    found: list[dict[str, Any]] = json.loads(run_forking(how, variables, references, directory))
    return found


def run_forking(how: str, variables: dict[str, str], references: list[str], directory: Path) -> str:
    """Run `tests.core.integration.forking` and return what it prints."""
    left_out = ("VAULT_", "CONJUR_", "COVERAGE_")  # coverage has locks, which a child may inherit held
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    ended = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-m",
            "tests.core.integration.forking",
            how,
        ],  # of forking with threads
        cwd=directory,
        env={**kept, "PYTHONPATH": str(ROOT), **variables},
        input="\n".join(references),
        capture_output=True,
        text=True,
        timeout=3 * DEADLINE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def secrets_in(vault: Vault) -> dict[str, str]:
    """Write a secret for the parent and for each child; return references and the values that they stand for."""
    paths = [unique("fork") for _ in range(1 + CHILDREN)]
    for path in paths:
        vault.write(path, {"value": f"of-{path}"})
    return {f"{{vault://vault/{path}/value}}": f"of-{path}" for path in paths}


def each_read_its_own(found: list[dict[str, Any]], expected: list[str]) -> None:
    """Check that every process read its value and no other, by a login of its own, which the parent's outlived."""
    assert [each["values"] for each in found] == [[value] for value in [*expected, expected[0]]]
    before, *children, after = found
    assert before["login"] == after["login"]
    assert len({each["process"] for each in children} - {before["process"]}) == CHILDREN
    assert len({each["login"] for each in children} - {before["login"]}) == CHILDREN


@pytest.mark.parametrize("how", WAYS)
def test_a_child_reads_its_own_values_by_its_own_login(vault: Vault, tmp_path: Path, how: str) -> None:
    """And its end leaves the parent's token alone."""
    values = secrets_in(vault)
    variables = environment(vault.app_role("*") | {"secret_path": "unused"})
    each_read_its_own(fork(how, variables, list(values), tmp_path), list(values.values()))


@pytest.mark.slow
@pytest.mark.parametrize("how", WAYS)
def test_of_many_reads_none_brings_another_ones_value(vault: Vault, tmp_path: Path, how: str) -> None:
    """Some 5,000, over all ways together."""
    values = secrets_in(vault)
    variables = environment(vault.app_role("*") | {"secret_path": "unused"}) | {"READS": "110"}
    each_read_its_own(fork(how, variables, list(values), tmp_path), list(values.values()))


@pytest.mark.parametrize("how", WAYS)
def test_a_child_starts_tls_anew(tmp_path: Path, how: str) -> None:
    """Two processes in one TLS session would break it off."""
    authority = Authority(tmp_path / "pki")
    certificate, key = authority.issue("vault")
    listener = f'listener "tcp" {{ address = "127.0.0.1:{(port := free_port())}"\n'
    listener += f'  tls_cert_file = "{certificate}"\n  tls_key_file = "{key}"\n}}\n'
    server = start_embedded(free_port(), tmp_path / "vault", "root-of-this-test", listener)
    try:
        vault = Vault(server.url, "root-of-this-test")
        vault.client.sys.enable_auth_method("approle")
        values = secrets_in(vault)
        role = vault.app_role("*") | {"secret_path": "unused"}
        role |= {"url": f"https://127.0.0.1:{port}", "cacert": authority.file}
        each_read_its_own(fork(how, environment(role), list(values), tmp_path), list(values.values()))
        vault.client.adapter.close()
    finally:
        server.stop()


@pytest.mark.parametrize("preload", [True, False], ids=["--preload", "without"])
def test_workers_forked_from_a_process_that_has_logged_in_read_their_own_values(
    vault: Vault, tmp_path: Path, *, preload: bool
) -> None:
    """As `gunicorn --preload` does; every worker logs in for itself, and every token is revoked at the end."""
    vault.write("preloaded", {"value": "of-the-master"})
    values = {unique("fork"): unique("value") for _ in range(8)}
    for path, value in values.items():
        vault.write(path, {"value": value})
    path = unique("app")
    vault.write(path, SECRETS)
    variables = environment(vault.app_role("*") | {"secret_path": path})
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "gunicorn", "--workers", "4", "--bind", address]
    command += ["--preload"] if preload else []
    command += ["--worker-class", "uvicorn_worker.UvicornWorker", "--worker-tmp-dir", str(tmp_path)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VAULT_")}
    log = tmp_path / "gunicorn.log"

    def read(path: str) -> dict[str, str]:
        answer = requests.get(f"http://{address}/read/{path}", timeout=DEADLINE)
        answer.raise_for_status()
        found: dict[str, str] = answer.json()
        return found

    def is_ready() -> bool:
        try:
            return requests.get(f"http://{address}/health/ready", timeout=DEADLINE).ok
        except requests.ConnectionError:
            return False

    with vault.audited() as calls, log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "tests.core.integration.preloaded:app"],
            cwd=tmp_path,
            env={**kept, "PYTHONPATH": str(ROOT), **variables},
            stdout=output,
            stderr=output,
        )
        try:
            until(is_ready, "gunicorn to answer")
            accessors: set[str] = set()

            def every_worker_has_answered() -> bool:
                paths = list(values) * 50
                for path, found in zip(paths, pool.map(read, paths), strict=True):
                    assert found["value"] == values[path], log.read_text()
                    accessors.add(found["accessor"])
                return len(accessors) == 4

            with ThreadPoolExecutor(8) as pool:
                until(every_worker_has_answered, "each worker")
        finally:
            server.terminate()
            assert server.wait(DEADLINE) == 0, log.read_text()
    asked = Counter(path for _, path in calls)
    assert asked["auth/approle/login"] == asked["auth/token/revoke-self"] == (1 if preload else 0) + 4


@FORKS_BESIDE_THREADS
def test_a_lock_that_another_thread_holds_is_free_in_a_child() -> None:
    """It would never be released there."""
    lock = forks.Lock()
    with lock:
        child = os.fork()
        if child == 0:
            with lock:
                os._exit(8 if lock.acquire(0.01) else 7)
        assert ended(child) == 7


def test_the_settings_can_be_read_in_a_child_whatever_other_threads_do(tmp_path: Path) -> None:
    """Those that read them at the fork hold no lock that the child would wait for."""
    run_forking("settings", {"VAULT_URL": "http://127.0.0.1:1", "VAULT_TOKEN": unique("token")}, [], tmp_path)


def test_a_fork_waits_for_a_connection_that_is_being_made() -> None:
    """OpenSSL has locks of its own then, which nobody sets free in a child."""
    made, go_on, order = threading.Event(), threading.Event(), []

    def connect() -> None:
        with forks.whole:
            made.set()
            go_on.wait(DEADLINE)
            order.append("connected")

    def fork() -> None:
        forks.whole.before_fork()
        order.append("forked")
        forks.whole.after_fork()

    forks.whole.start_afresh()
    with ThreadPoolExecutor(2) as pool:
        connecting = pool.submit(connect)
        made.wait(DEADLINE)
        forking = pool.submit(fork)
        go_on.set()
        forking.result(DEADLINE)
        connecting.result(DEADLINE)
    assert order == ["connected", "forked"]


def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a connection, in the thread that forks or in another."""
    monkeypatch.setattr(forks, "FORK_TIMEOUT", 0.01)
    with forks.whole:
        forks.whole.before_fork()
        with forks.whole:  # while a fork is under way
            pass
        forks.whole.after_fork()


def ended(child: int) -> int:
    """Wait for a child and return its exit code; one that hangs is killed."""
    try:
        until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT), "the child to end")
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@FORKS_BESIDE_THREADS
def test_a_child_does_not_call_what_belongs_to_the_parents_background() -> None:
    """A write in a child must not start a round of the parent's, which has no event loop there."""
    heard: list[str] = []
    listeners: Listeners[str] = Listeners()
    leave = listeners.subscribe(heard.append)
    with after_writes(heard.append):
        child = os.fork()
        if child == 0:
            notify("vault")
            listeners.notify("event")
            leave()
            os._exit(len(heard))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        notify("vault")
    listeners.notify("event")
    assert heard == ["vault", "event"]
