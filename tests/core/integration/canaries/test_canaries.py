"""The service, driven through all its faults at DEBUG level, shows none of its secrets and credentials to anybody."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests

from infrastructure.faulty_proxy import Fault
from tests.core.integration.canaries.arrangement import Arrangement
from tests.support import (
    DEADLINE,
    ROOT,  # extra: cli
    Service,
    until,
)

APP = "tests.core.integration.canaries.careless:app"
BAD_BODIES = [b"%s", b'"%s"', b'{"name": {"%s": 1}}', b'{"%s": "%s"', b"\xff%s"]


class Watched:
    """A running service, and everything that can be seen of it."""

    def __init__(self, directory: Path, variables: dict[str, str]) -> None:
        directory.mkdir()
        self.directory = directory
        self.variables = variables
        self.service = Service(directory, {**variables, "HOME": str(directory), "TMPDIR": str(directory)}, APP)
        self.answers: list[bytes] = []
        self.processes: dict[str, bytes] = {}

    def ask(self, method: str, path: str, *, shown: bool = True, timeout: float = DEADLINE, **more: Any) -> Any:
        """Send a request and keep the answer, unless it is to hold a secret, or to repeat what was sent."""
        answer = requests.request(method, self.service.url + path, timeout=timeout, allow_redirects=False, **more)
        if shown:
            head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
            self.answers.append(f"{method} {path} {answer.status_code}\n{head}\n\n".encode() + answer.content)
        return answer

    def look_at_processes(self) -> None:
        """Keep the command line of the service, and command line and environment of every process that it started."""
        for pid, is_child in [(self.service.process.pid, False), *((pid, True) for pid in self.children())]:
            with suppress(OSError):
                until(partial(_has_begun, pid), "its program to be there")
                self.processes[f"command line of {pid}"] = Path(f"/proc/{pid}/cmdline").read_bytes()
                if is_child:  # what the operator has put into the service's own environment is there by intention
                    self.processes[f"environment of {pid}"] = Path(f"/proc/{pid}/environ").read_bytes()

    def children(self) -> list[int]:
        """Return the processes that the service has started."""
        tasks = Path(f"/proc/{self.service.process.pid}/task").glob("*/children")
        return [int(pid) for children in tasks for pid in children.read_text().split()]

    def channels(self) -> dict[str, bytes]:
        """Return everything that the service wrote, sent or exposed, by channel."""
        files = (file for file in self.directory.rglob("*") if file.is_file() and not file.name.startswith(".coverage"))
        written = {f"file {file.name}": file.read_bytes() for file in files if file.suffix != ".log"}
        answers = {f"answer {n}: {answer[:60]!r}": answer for n, answer in enumerate(self.answers)}
        return {"output": self.service.output.encode(), **written, **answers, **self.processes}


def _has_begun(pid: int) -> bool:
    """Tell whether its program is there, or over: for a moment after the start, the kernel shows nothing of it."""
    process = Path(f"/proc/{pid}")
    return bool(process.joinpath("cmdline").read_bytes()) or ") Z " in process.joinpath("stat").read_text()


@contextmanager
def watched(arrangement: Arrangement, log_format: str, **more: str) -> Iterator[Watched]:
    """Start a service with a credential of every kind; only asyncio's loop tells of what is slow."""
    more["UVICORN_LOOP"] = "asyncio" if log_format == "json" else "uvloop"
    name = f"{log_format}-{'-'.join(more) or 'plain'}".lower()
    watched = Watched(arrangement.directory / name, {**arrangement.variables(log_format), **more})
    try:
        yield watched
    finally:
        for pid in watched.children():
            os.kill(pid, signal.SIGKILL)
        watched.service.process.kill()
        watched.service.process.wait(DEADLINE)


def refresh(watched: Watched) -> Any:
    """Have everything read again now."""
    return watched.ask("POST", "/status/refresh").json()


def call_all_handlers(watched: Watched, secrets: dict[str, Any]) -> None:
    """Call every route, and every careless handler."""
    schema = watched.ask("GET", "/openapi.json").json()
    found = [path for path, operations in schema["paths"].items() if "get" in operations and "{" not in path]
    for path in [*found, "/", "/docs", "/redoc", "/metrics", "/status", "/status.json"]:
        if path != "/careless/hang":
            watched.ask("GET", path, headers={"X-API-Key": secrets["api_key"]})
            watched.ask("PUT", path)
        if "careless" not in path:
            watched.ask("GET", path)


def send_nonsense(watched: Watched, secrets: dict[str, Any]) -> None:
    """Send secrets where they do not belong, and what is no request at all."""
    key, token = secrets["api_key"], watched.ask("POST", "/caller", headers={"X-API-Key": "wrong"}).text
    for wrong in (key[:-1], key + "x", key.upper(), token[:40].encode("latin-1", "replace")):
        watched.ask("POST", "/caller", headers={"X-API-Key": wrong})
        watched.ask("GET", "/fingerprint", headers={"Authorization": b"Bearer " + _bytes(wrong)})
    for body in BAD_BODIES:
        filled = body.replace(b"%s", key.encode())
        for path in ("/caller", "/api-keys", "/api-keys/x/rotate"):
            watched.ask("POST", path, data=filled, headers={"X-API-Key": key, "Content-Type": "application/json"})
    watched.ask("POST", "/caller", data=key.encode() * 50_000)
    plain = secrets["database_url"].split(":")[2].split("@")[0]
    watched.ask("GET", f"/nowhere/{plain}?token={plain}", shown=False, headers={"X-Request-ID": plain})
    watched.ask("DELETE", f"/api-keys/{plain}", shown=False)
    watched.ask("GET", "/fingerprint", headers={"Cookie": f"session={plain}", "Authorization": f"Basic {plain}"})


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def use_what_is_allowed(watched: Watched, secrets: dict[str, Any]) -> None:
    """Call the handlers as they are meant to be called."""
    headers = {"X-API-Key": secrets["api_key"]}
    assert watched.ask("POST", "/caller", headers=headers).status_code == 200
    assert watched.ask("GET", "/fingerprint").status_code == 200


# extra: api_keys
def issue_a_key(watched: Watched, arrangement: Arrangement, secrets: dict[str, Any]) -> None:
    """Which becomes a canary itself: the log must not show it."""
    headers = {"X-API-Key": secrets["api_key"]}
    issued = watched.ask("POST", "/api-keys", shown=False, headers=headers, json={"name": f"k{time.time_ns()}"})
    arrangement.canaries.watch("key that was issued", issued.json()["key"])
    assert watched.ask("POST", "/caller", shown=False, headers={"X-API-Key": issued.json()["key"]}).status_code == 200
    assert watched.ask("GET", "/api-keys", headers=headers).status_code == 200


# /extra


def go_through_rotations(watched: Watched, arrangement: Arrangement) -> None:
    """Rotate, then offer what is refused."""
    arrangement.secrets()
    assert refresh(watched)["changed"]
    plant = arrangement.canaries.plant
    refused: list[dict[str, Any]] = [
        {"jwt_secret": plant("too short")[:24]},
        {"api_key": plant("with blanks", " \t")},
        {"database_url": plant("no URL")},
        {"database_url": {"not": plant("no string")}, "api_key": 7},
    ]
    for changes in refused:
        arrangement.secrets(**changes)
        assert refresh(watched)["faults"]["vault"]
        watched.ask("GET", "/health/ready")
    arrangement.secrets()
    assert refresh(watched)["faults"] == {}


def go_through_faults(watched: Watched, arrangement: Arrangement, *, thoroughly: bool) -> None:
    """Let Vault do its worst."""
    proxy, root, kv = arrangement.proxy, arrangement.root, arrangement.root.secrets.kv.v2

    def hold(inject: Callable[[], object], heal: Callable[[], object], seen: str) -> None:
        inject()
        assert seen in str(refresh(watched)["faults"])
        watched.ask("GET", "/health/ready")
        assert watched.ask("GET", "/careless/partner").json() == requests.codes.ok
        heal()

    def misbehave(fault: Fault | None) -> Callable[[], None]:
        return lambda: setattr(proxy, "fault", lambda _method, _path: fault)

    well = misbehave(None)
    # extra: conjur
    broken, whole = (lambda _method, _path: Fault(reset=True)), (lambda _method, _path: None)
    hold(lambda: setattr(arrangement.conjur_proxy, "fault", broken), lambda: None, "no connection")
    arrangement.conjur_proxy.fault = whole
    # /extra
    hold(misbehave(Fault(reset=True)), well, "no connection")
    hold(misbehave(Fault(hang=True)), well, "no answer within VAULT_TIMEOUT")
    hold(misbehave(Fault(400)), well, "does not accept this")
    hold(lambda: kv.delete_latest_version_of_secret("app"), arrangement.secrets, "was deleted")
    hold(lambda: kv.delete_metadata_and_all_versions("shop"), lambda: None, "there is no secret")
    arrangement.write("shop", {"user": "shop", "password": arrangement.canaries.plant("referred, in a URL")})
    hold(lambda: arrangement.allow('path "nothing" {}'), arrangement.allow, "permission denied")
    root.adapter.put("/v1/sys/leases/revoke-prefix/auth/approle", json={})
    refresh(watched)
    if thoroughly:
        hold(misbehave(Fault(cut=True)), well, "no connection")
        hold(misbehave(Fault(500)), well, "HTTP 500")
        hold(root.sys.seal, arrangement.cluster.unseal, "sealed")
        hold(arrangement.cluster.stop, arrangement.cluster.start, "HTTP 502")
        root.adapter.close()
    until(
        lambda: watched.ask("GET", "/health/ready").ok and not refresh(watched)["faults"].get("vault"), "all to be well"
    )


def end(watched: Watched, how: signal.Signals) -> None:
    """End the service while a handler holds secrets, and another request waits."""
    for _ in range(2):
        Thread(target=_ignore_errors, args=(watched.ask, "GET", "/careless/hang"), daemon=True).start()
    until(lambda: watched.ask("GET", "/health/live").ok, "an answer")
    watched.service.process.send_signal(how)
    until(lambda: watched.service.process.poll() is not None or "to force quit" in watched.service.output, "the end")
    watched.service.process.send_signal(signal.SIGINT)  # the second one does not wait for anybody
    watched.service.process.wait(DEADLINE)


def _ignore_errors(ask: Callable[..., Any], *arguments: Any) -> None:
    with suppress(requests.RequestException):
        ask(*arguments)


@pytest.mark.parametrize(("log_format", "how"), [("json", signal.SIGABRT), ("console", signal.SIGTERM)])
def test_nothing_shows_a_secret(arrangement: Arrangement, log_format: str, how: signal.Signals) -> None:
    """Output, answers, files, process list; through rotations, faults of Vault, bugs of handlers, and a rough end."""
    secrets = arrangement.secrets()
    with watched(arrangement, log_format) as it:
        until(lambda: _is_ready(it), "the service to be ready")
        call_all_handlers(it, secrets)
        send_nonsense(it, secrets)
        use_what_is_allowed(it, secrets)
        issue_a_key(it, arrangement, secrets)  # extra: api_keys
        it.look_at_processes()
        go_through_rotations(it, arrangement)
        go_through_faults(it, arrangement, thoroughly=log_format == "json")
        assert it.ask("GET", "/careless/children").json() == [], "the service starts no process"
        it.look_at_processes()
        end(it, how)
        output = it.service.output
        arrangement.watch_what_was_sent()
        assert arrangement.canaries.found_anywhere(it.channels()) == {}
    for mark in (
        "ConnectionError", "KeyError", "ExceptionGroup", "ResponseValidationError", "pool_refused", "log_line_lost",
        "DeprecationWarning", "was never awaited", "exception_uncaught", "Task exception was never retrieved",
        "took 0.", "credential_file_exposed", "vault_secrets_rotated", "vault_secrets_refused", "token_rejected", "***",
        "partner_asked", "Fatal Python error: Aborted" if how is signal.SIGABRT else "Shutting down",
    ):  # fmt: skip
        assert mark in output, f"the run did not get as far as {mark}"
    assert len({name for name, _ in arrangement.canaries.values}) > 20
    assert len(it.answers) > 100


def _is_ready(watched: Watched) -> bool:
    assert watched.service.process.poll() is None, watched.service.output
    with suppress(requests.RequestException):
        return bool(requests.get(f"{watched.service.url}/health/ready", timeout=1).ok)
    return False


def test_a_start_that_fails_shows_no_secret(arrangement: Arrangement) -> None:
    """The server prints the traceback of a failure in the lifespan as one text."""
    arrangement.secrets()
    with watched(arrangement, "json", CARELESS_START="1") as it:
        assert it.service.process.wait(DEADLINE) != 0
        arrangement.watch_what_was_sent()
        assert "RuntimeError: cannot migrate ***" in it.service.output
        assert arrangement.canaries.found_anywhere(it.channels()) == {}


# extra: cli
def test_the_command_line_shows_no_secret(arrangement: Arrangement, tmp_path: Path) -> None:
    """Where all is well, and where Vault is out of reach."""
    arrangement.secrets()
    shown = {}
    for command, address in (
        (["doctor"], arrangement.proxy.url),  # extra: doctor
        (["doctor", "--json"], "http://127.0.0.1:9"),  # extra: doctor
        (["policy"], arrangement.proxy.url),
        (["get", "{vault://vault/nowhere/key}"], arrangement.proxy.url),
    ):
        variables = {**os.environ, **arrangement.variables("json"), "PYTHONPATH": str(ROOT), "VAULT_URL": address}
        command_line = [sys.executable, "-m", "app", *command]
        ended = subprocess.run(
            command_line, cwd=tmp_path, env=variables, capture_output=True, check=False, timeout=DEADLINE
        )
        shown[" ".join(command)] = ended.stdout + ended.stderr
    assert b"VAULT_URL" in shown["doctor --json"]  # extra: doctor
    assert b"capabilities" in shown["policy"]
    arrangement.watch_what_was_sent()
    assert arrangement.canaries.found_anywhere(shown) == {}


# /extra


def test_the_search_finds_a_leak_in_every_channel(arrangement: Arrangement) -> None:
    """With the masking switched off, everything that was hidden comes to light; and what no mask covers does anyhow."""
    arrangement.secrets()
    with watched(arrangement, "json", CARELESS_UNMASKED="1") as it:
        until(lambda: _is_ready(it), "the service to be ready")

        def shown_by(path: str) -> tuple[set[str], set[str]]:
            """Return which channels show something after a request, and what the new output shows."""
            it.answers.clear()
            before = len(it.service.output)
            it.ask("GET", path)
            it.look_at_processes()
            found = arrangement.canaries.found_anywhere(it.channels())
            in_output = arrangement.canaries.found_in(it.service.output[before:])
            return {channel.split()[0] for channel in found}, set(in_output)

        for handler, expected in {
            "message": {"database password"},
            "everything": {"api_key", "jwt_secret", "nested", "SECRET_ override", "referred, of another Vault"},
            "group": {"api_key", "jwt_secret"},
            "pydantic": {"jwt_secret"},
            "answer": {"database password"},
            "loggers": {"api_key", "database password", "nested in text", "referred, in a URL", "referred, nested"},
            "spellings": {"api_key", "jwt_secret", "referred, of a third Vault"},
            "warning": {"api_key"},
            "thread": {"jwt_secret"},
            "task": {"database password"},
            "slow": {"jwt_secret"},
            "unraisable": {"database password"},
            "partner": {"partner_key"},
        }.items():
            _, in_output = shown_by(f"/careless/{handler}")
            assert expected <= in_output, handler
        assert "answer" in shown_by("/careless/detail")[0]

        for channel in ("body", "header", "problem", "metric"):
            assert "answer" in shown_by(f"/leaks/{channel}")[0], channel
        assert shown_by("/leaks/standard output")[1] == {"api_key"}
        assert "file" in shown_by("/leaks/file")[0]
        for channel in ("environment", "command line") if Path("/proc/self/cmdline").exists() else ():
            assert not {each for each in shown_by("/health/live")[0] if each in channel}
            assert channel.split()[0] in shown_by(f"/leaks/{channel}")[0]
        assert "subprocess.Popen" in it.ask("GET", "/careless/children").json()
