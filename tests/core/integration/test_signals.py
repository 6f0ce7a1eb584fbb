"""SIGTERM at any moment: the service ends in time, in order, and gives back every token that it has obtained."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from infrastructure.dev_vault import start_embedded
from infrastructure.faulty_proxy import Fault, FaultyProxy
from infrastructure.processes import LIMITS
from tests.support import DEADLINE, ROOT, SECRETS, Service, Vault, environment, free_port, unique, until

APP = "tests.core.integration.signalled:app"
IN_TIME = 10.0  # seconds that an orchestrator gives
POLICY = """
path "secret/data/*" { capabilities = ["create", "read", "update"] }
path "secret/metadata/*" { capabilities = ["read"] }
path "auth/token/+" { capabilities = ["read", "update"] }
"""
Proxied = tuple[FaultyProxy, dict[str, str]]


@pytest.fixture
def proxied(vault: Vault) -> Iterator[Proxied]:
    """Return a proxy in front of Vault, and the variables of a service that reads through it."""
    vault.write(path := unique("app"), SECRETS)
    vault.write("at-import", {"value": "there"})
    proxy = FaultyProxy(vault.url)
    with proxy.running() as url:
        role = vault.app_role(path, policy=POLICY.replace("{", "{{").replace("}", "}}"))
        yield proxy, environment({**role, "url": url, "access_mode": "read_and_write", "refresh_interval": "0.5"})


@contextmanager
def every_token_is_given_back(vault: Vault, logins: int | None = None) -> Iterator[None]:
    """Count by Vault's own audit log."""
    with vault.audited() as calls:
        yield
    asked = Counter(path for _, path in calls)
    assert asked["auth/token/revoke-self"] == asked["auth/approle/login"]
    assert logins in {None, asked["auth/approle/login"]}


def ends_in_time(service: Service, *signals: int) -> int:
    """Send signals, one soon after the other; return the exit code."""
    start = time.monotonic()
    for number in signals:
        with suppress(ProcessLookupError):
            service.process.send_signal(number)
        time.sleep(0.05)  # the kernel merges what comes at once
    code = service.process.wait(DEADLINE)
    assert time.monotonic() - start < IN_TIME
    return code


def events(service: Service) -> list[str]:
    """Return the names of what it logged."""
    return [event["event"] for event in service.events]


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ((signal.SIGTERM,), -signal.SIGTERM),
        ((signal.SIGQUIT,), -signal.SIGTERM),
        ((signal.SIGINT,), None),
        ((signal.SIGTERM, signal.SIGTERM), -signal.SIGTERM),
        ((signal.SIGQUIT, signal.SIGTERM), -signal.SIGTERM),
        ((signal.SIGINT, signal.SIGINT), None),
        ((signal.SIGTERM, signal.SIGINT), None),
        ((signal.SIGINT, signal.SIGTERM, signal.SIGINT), None),
        ((signal.SIGHUP, signal.SIGTERM), -signal.SIGTERM),
    ],
    ids=lambda value: "+".join(map(str, value)) if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("delay", ["0", "1"])
def test_each_signal_that_ends_it_ends_it_in_order(
    vault: Vault, proxied: Proxied, tmp_path: Path, *, signals: tuple[int, ...], code: int | None, delay: str
) -> None:
    """Also several of them, at once or one after the other."""
    with every_token_is_given_back(vault, 1):
        service = Service(tmp_path, {**proxied[1], "SHUTDOWN_DELAY": delay}, APP)
        with service:
            found = ends_in_time(service, *signals)
    assert code in {None, found}
    assert "service_stopping" in events(service)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_is_imported_ends_it_before_it_serves(
    vault: Vault, proxied: Proxied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """With the token that it read a secret by; Vault may hang by then."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)  # it has a handler of its own
    proxy, variables = proxied
    proxy.fault = lambda _, path: Fault(hang=True) if "data/app" in path else None
    variables = {**variables, "VAULT_TIMEOUT": "60", "SIGNAL_AT_IMPORT": str(int(number))}
    with every_token_is_given_back(vault, 1):
        service = Service(tmp_path, variables, APP)
        until(lambda: any("data/at-import" in path for _, path in proxy.requests), "the signal that follows")
        ends_in_time(service)
    assert "Uvicorn running" not in service.output


EARLY = f"""import uvicorn; from app.core.run.serve import LIMITS
uvicorn.Server(uvicorn.Config('{APP}', port={{port}}, **LIMITS)).run()"""
SCRIPT = "import time; from app.vault import read_secret; read_secret('at-import', 'value'); print('r', flush=True); "


def test_a_signal_that_the_server_hears_before_the_start_ends_the_start(
    vault: Vault, proxied: Proxied, tmp_path: Path
) -> None:
    """As uvicorn does that reloads, or has several processes: it imports the service in its own time."""
    proxy, variables = proxied
    proxy.fault = lambda _, path: Fault(hang=True) if "data/app" in path else None
    variables = {**variables, "VAULT_TIMEOUT": "60", "SIGNAL_AT_IMPORT": str(int(signal.SIGTERM))}
    with every_token_is_given_back(vault, 1), running(EARLY.format(port=free_port()), tmp_path, variables) as process:
        until(lambda: any("data/at-import" in path for _, path in proxy.requests), "the signal that follows")
        start = time.monotonic()
        assert process.wait(DEADLINE) == -signal.SIGTERM
        assert time.monotonic() - start < IN_TIME


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)])
def test_a_script_that_is_ended_gives_its_token_back(
    vault: Vault, proxied: Proxied, tmp_path: Path, number: int, code: int
) -> None:
    """Without a word about it in the script."""
    script = SCRIPT + "time.sleep(60)"
    with every_token_is_given_back(vault, 1), running(script, tmp_path, proxied[1]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"r\n"
        process.send_signal(number)
        assert process.wait(DEADLINE) == code


@contextmanager
def running(code: str, directory: Path, variables: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python code in a process of its own."""
    left_out = ("VAULT_", "SECRET_", "COVERAGE_")  # coverage has a handler for SIGTERM
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    kept |= {"PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=directory, env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("fail_fast", ["true", "false"])
@pytest.mark.parametrize(
    ("where", "fault"),
    [("login", Fault(delay=1.0)), ("data/app", Fault(delay=1.0)), ("data/app", Fault(hang=True))],
    ids=["during the login", "during the first read", "while the first read hangs"],
)
def test_a_signal_during_the_start_ends_the_start(
    vault: Vault, proxied: Proxied, tmp_path: Path, *, where: str, fault: Fault, fail_fast: str
) -> None:
    """Without a wait for Vault, but for an answer that brings a token."""
    proxy, variables = proxied
    proxy.fault = lambda _, path: fault if where in path else None
    with every_token_is_given_back(vault, 1):
        service = Service(tmp_path, {**variables, "VAULT_TIMEOUT": "60", "VAULT_FAIL_FAST": fail_fast}, APP)
        try:
            until(lambda: any(where in path for _, path in proxy.requests), "the call")
        finally:
            code = ends_in_time(service, signal.SIGTERM)
    assert code == -signal.SIGTERM
    assert "Traceback" not in service.output


def in_a_round(proxy: FaultyProxy, _service: Service, _pool: ThreadPoolExecutor) -> None:
    """Have a round hang."""
    seen = len(proxy.requests)
    proxy.fault = lambda _, path: Fault(hang=True) if "data/app" in path else None
    until(lambda: len(proxy.requests) > seen, "the round")


def during_writes(proxy: FaultyProxy, service: Service, pool: ThreadPoolExecutor) -> None:
    """Have twelve writes hang."""
    proxy.fault = lambda _, path: Fault(hang=True) if "data/written" in path else None
    for _ in range(12):
        pool.submit(service.post, f"/write/{unique('written')}")
    until(lambda: sum("data/written" in path for _, path in proxy.requests) == 12, "the writes")


def with_a_blocked_loop(_proxy: FaultyProxy, service: Service, pool: ThreadPoolExecutor) -> None:
    """Have the event loop held up."""
    pool.submit(service.get, "/blocking")

    def is_blocked() -> bool:
        try:
            return not requests.get(f"{service.url}/health/live", timeout=0.5).ok
        except requests.Timeout:
            return True

    until(is_blocked, "the loop to be blocked")


@pytest.mark.parametrize("bring_about", [in_a_round, during_writes, with_a_blocked_loop], ids=lambda it: it.__name__)
def test_whatever_is_under_way_it_ends(
    vault: Vault,
    proxied: Proxied,
    tmp_path: Path,
    bring_about: Callable[[FaultyProxy, Service, ThreadPoolExecutor], None],
) -> None:
    """And the tokens are given back."""
    proxy, variables = proxied
    service = Service(tmp_path, {**variables, "VAULT_TIMEOUT": "60"}, APP)
    with every_token_is_given_back(vault, 1), ThreadPoolExecutor(12) as pool, service:
        bring_about(proxy, service, pool)
        ends_in_time(service, signal.SIGTERM)


def test_a_vault_that_has_stopped_holds_nothing_up_and_is_asked_again_when_it_goes_on(tmp_path: Path) -> None:
    """Twelve writes hang; the process ends all the same, and revokes as soon as Vault answers."""
    server = start_embedded(free_port(), tmp_path / "vault", "root-of-this-test")
    try:
        vault = Vault(server.url, "root-of-this-test")
        vault.client.sys.enable_auth_method("approle")
        vault.write(path := unique("app"), SECRETS)
        role = vault.app_role(path, policy=POLICY.replace("{", "{{").replace("}", "}}"))
        variables = environment({**role, "access_mode": "read_and_write", "timeout": "60"})
        known = set(vault.client.list("auth/token/accessors")["data"]["keys"])
        with Service(tmp_path, variables, APP) as service, ThreadPoolExecutor(12) as pool:
            assert set(vault.client.list("auth/token/accessors")["data"]["keys"]) > known
            os.kill(server.process.pid, signal.SIGSTOP)
            for _ in range(12):
                pool.submit(service.post, f"/write/{unique('written')}")
            time.sleep(0.5)
            going_on = threading.Timer(6.0, os.kill, (server.process.pid, signal.SIGCONT))
            going_on.start()
            ends_in_time(service, signal.SIGTERM)
            going_on.join()
        until(lambda: set(vault.client.list("auth/token/accessors")["data"]["keys"]) == known, "the token to be gone")
        vault.client.adapter.close()
    finally:
        with suppress(ProcessLookupError):
            os.kill(server.process.pid, signal.SIGCONT)
        server.stop()


@pytest.mark.slow
def test_sigterm_at_any_moment_of_the_start(vault: Vault, proxied: Proxied, tmp_path: Path) -> None:
    """Whether nothing has been imported yet, a login is under way, or all is there."""
    with every_token_is_given_back(vault):
        for tenths in range(25):
            service = Service(tmp_path, proxied[1], APP)
            time.sleep(tenths / 10)
            assert ends_in_time(service, signal.SIGTERM) == -signal.SIGTERM
            assert "Traceback" not in service.output


def test_readiness_drops_before_the_service_stops(proxied: Proxied, tmp_path: Path) -> None:
    """So that load balancers let it go first: it still serves, over new connections, too."""
    with Service(tmp_path, {**proxied[1], "SHUTDOWN_DELAY": "3"}, APP) as service:
        assert service.get("/health/ready").status_code == 200
        service.process.send_signal(signal.SIGTERM)
        until(lambda: service.get("/health/ready").status_code == 503, "readiness to drop")
        answer = service.get("/health/ready")
        assert "stopping" in answer.text
        assert service.get("/fingerprint").status_code == service.get("/health/live").status_code == 200
        assert service.process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_to_a_forked_child_is_the_childs(proxied: Proxied, tmp_path: Path, number: int) -> None:
    """It ends the child, as `Process.terminate()` expects, and the service hears nothing of it."""
    with Service(tmp_path, {**proxied[1], "PYTHONWARNINGS": "ignore"}, APP) as service:
        os.kill(service.post("/child").json(), number)
        ended = until(lambda: service.get("/children").json(), "the child to end")
        assert ended == [-number]
        assert service.get("/health/ready").ok
        assert "service_stopping" not in events(service)


def test_sighup_refreshes_now(vault: Vault, proxied: Proxied, tmp_path: Path) -> None:
    """As daemons do; it ends nothing."""
    variables = {**proxied[1], "VAULT_REFRESH_INTERVAL": "0"}
    with Service(tmp_path, variables, APP) as service:
        vault.write(variables["VAULT_SECRET_PATH"], {**SECRETS, "api_key": "canary-rotated-key-0123"})
        service.process.send_signal(signal.SIGHUP)
        until(lambda: "refresh_finished" in events(service), "the refresh")
        assert service.post("/caller", headers={"X-API-Key": "canary-rotated-key-0123"}).ok
        assert service.process.poll() is None


def test_a_terminal_that_is_closed_ends_it(vault: Vault, proxied: Proxied, tmp_path: Path) -> None:
    """It sends SIGHUP, too: nobody wants a service that goes on without its window."""
    with every_token_is_given_back(vault, 1):
        child, terminal = pty.fork()
        if child == 0:
            start_in_terminal(tmp_path, proxied[1])
        with closing(os.fdopen(terminal, "rb", buffering=0)) as screen:
            seen = b""
            while b"Uvicorn running" not in seen:
                seen += screen.read(4096)
        start = time.monotonic()
        until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT), "the service to end")
        assert time.monotonic() - start < IN_TIME
        os.waitpid(child, 0)


def test_a_terminal_that_is_closed_does_not_end_what_was_started_with_nohup(proxied: Proxied, tmp_path: Path) -> None:
    """It ignores SIGHUP before the service begins."""
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        start_in_terminal(tmp_path, proxied[1])
    with closing(os.fdopen(terminal, "rb", buffering=0)) as screen:
        seen = b""
        while b"Uvicorn running on " not in seen or b"(Press" not in seen:
            seen += screen.read(4096)
    url = seen.partition(b"Uvicorn running on ")[2].split()[0].decode()
    try:
        until(lambda: requests.get(f"{url}/health/ready", timeout=IN_TIME).ok, "the service to answer")
        assert os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    finally:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)


def start_in_terminal(directory: Path, variables: dict[str, Any]) -> None:
    """Become a service that writes to a terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "COVERAGE_"))}
    os.chdir(directory)
    command = [sys.executable, "-m", "uvicorn", APP, "--port", str(free_port()), *LIMITS]
    os.execve(command[0], command, {**kept, "PYTHONPATH": str(ROOT), **variables})
