"""`python -m app serve` and `python -m app exec`, as processes, with a real Vault."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import requests

from infrastructure.processes import surroundings
from tests.support import DEADLINE, ROOT, SECRETS, Vault, environment, free_port, unique, until

SHOW = "import json, os; print(json.dumps({name: os.environ.get(name) for name in ('DATABASE_URL', 'API_KEY')}))"


def run(
    directory: Path, variables: dict[str, str], *arguments: str, root: Path = ROOT, module: str = "tests.command_line"
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m app`, for a service that declares what the tests write, and wait for its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=directory,
        env=surroundings(variables, root),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def test_a_command_gets_the_declared_secrets_and_no_token(vault: Vault, tmp_path: Path) -> None:
    """Each in a variable by its name; what `SECRET_<NAME>` overrides counts, and the token is revoked before."""
    vault.write(path := unique("app"), SECRETS)
    variables = environment(vault.app_role(path) | {"secret_path": path})
    with vault.audited() as calls:
        done = run(tmp_path, variables | {"SECRET_API_KEY": "another"}, "exec", "--", sys.executable, "-c", SHOW)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"DATABASE_URL": SECRETS["database_url"], "API_KEY": "another"}
    asked = Counter(called for _, called in calls)
    assert asked["auth/approle/login"] == asked["auth/token/revoke-self"] == 1


def test_the_exit_code_is_the_commands(vault: Vault, tmp_path: Path) -> None:
    """It has taken the place of the process: its signals and its end are its own."""
    vault.write(path := unique("app"), SECRETS)
    variables = environment(vault.app_role(path) | {"secret_path": path})
    assert run(tmp_path, variables, "exec", "sh", "-c", "exit 42").returncode == 42
    missing = run(tmp_path, variables, "exec", "--", "no-such-command")
    assert (missing.returncode, missing.stderr) == (127, "error: no-such-command: No such file or directory\n")
    assert run(tmp_path, variables, "exec", "--", str(tmp_path)).returncode == 126


@pytest.mark.parametrize(
    ("change", "command", "code", "said"),
    [
        ({"VAULT_URL": "nonsense"}, "true", 3, "VAULT_URL"),
        ({"VAULT_SECRET_PATH": "there-is-none"}, "true", 1, "there-is-none"),
        ({"SECRET_JWT_SECRET": "short"}, "true", 1, "jwt_secret"),
        ({}, "", 2, "give a command"),
    ],
)
def test_a_command_does_not_start_without_its_secrets(  # noqa: PLR0917 - parameters of the test
    vault: Vault, tmp_path: Path, change: dict[str, str], command: str, code: int, said: str
) -> None:
    """The error names what is wrong, and no value."""
    vault.write(path := unique("app"), SECRETS)
    done = run(
        tmp_path, environment(vault.app_role("*") | {"secret_path": path}) | change, "exec", "--", *command.split()
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "canary" not in done.stderr


def test_it_serves_until_it_is_told_to_end(vault: Vault, tmp_path: Path) -> None:
    """The token is revoked in the end."""
    vault.write(path := unique("app"), SECRETS)
    url = f"http://127.0.0.1:{(port := free_port())}"
    log = tmp_path / "serve.log"

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return requests.get(f"{url}/health/live", timeout=DEADLINE).ok
        except requests.ConnectionError:
            return False

    with vault.audited() as calls, log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--port", str(port)],
            cwd=tmp_path,
            env=surroundings(environment(vault.app_role(path) | {"secret_path": path})),
            stdout=output,
            stderr=output,
        )
        try:
            until(is_ready, "the service to answer")
            assert "server" not in requests.get(url, timeout=DEADLINE, allow_redirects=False).headers
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE) in {0, -signal.SIGTERM}, log.read_text()
    assert Counter(called for _, called in calls)["auth/token/revoke-self"] == 1


@pytest.mark.slow
def test_a_process_that_was_suspended_answers_what_has_arrived_meanwhile(tmp_path: Path) -> None:
    """It closes idle connections after that; its timers are long over when it goes on."""
    port = free_port()
    request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def connected() -> socket.socket | None:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        except ConnectionRefusedError:
            return None

    def answer(connection: socket.socket) -> bytes:
        received = b""
        while b"}" not in received:
            piece = connection.recv(4096)
            assert piece, received
            received += piece
        return received

    log = tmp_path / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--port", str(port)],
            cwd=tmp_path,
            env=surroundings({"VAULT_ENABLED": "false"}),
            stdout=output,
            stderr=output,
        )
    try:
        connections = [each for _ in range(20) if (each := until(connected, "the service to listen"))]
        for connection in connections:
            connection.sendall(request)
            assert answer(connection).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGSTOP)
        for connection in connections:
            connection.sendall(request)
        time.sleep(6)  # uvicorn closes idle connections after 5
        process.send_signal(signal.SIGCONT)
        for connection in connections:
            assert answer(connection).startswith(b"HTTP/1.1 200")
            connection.settimeout(DEADLINE)
            assert connection.recv(1) == b"", "idle for 5 s"
            connection.close()
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE)


def test_a_start_that_fails_has_an_exit_code(tmp_path: Path) -> None:
    """Also where nobody reads the log."""
    variables = {"VAULT_ENABLED": "true", "VAULT_URL": f"http://127.0.0.1:{free_port()}", "VAULT_TOKEN": unique("t")}
    failed = run(tmp_path, variables | {"VAULT_FAIL_FAST": "true"}, "serve", "--port", str(free_port()), module="app")
    assert failed.returncode == 3
    assert run(tmp_path, {"VAULT_URL": "nonsense"}, "serve", module="app").returncode not in {0, 3}


def test_what_comes_from_an_extra_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Instead of a traceback."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "app", clone / "app", ignore=shutil.ignore_patterns("__pycache__"))
    extras = clone / "app/extras"
    shutil.rmtree(extras / "doctor", ignore_errors=True)
    found = run(tmp_path, {}, "doctor", root=clone, module="app")
    assert (found.returncode, "comes with the extra doctor" in found.stderr) == (1, True)
    assert run(tmp_path, {}, "--help", root=clone, module="app").returncode == 0  # extra: cli
    shutil.rmtree(extras / "cli", ignore_errors=True)
    found = run(tmp_path, {}, "get", "x", root=clone, module="app")
    assert (found.returncode, "comes with the extra cli" in found.stderr) == (1, True)
    assert "serve | exec" in run(tmp_path, {}, root=clone, module="app").stderr
    assert run(tmp_path, {}, "exec", root=clone, module="app").returncode == 2
