"""The table of docs/operate.md, walked: with a Vault that sends a byte at a time, and with callers that are slow."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.core.errors import VaultUnreachable
from app.core.logs.logging_config import configure_logging
from app.core.settings.vault import VaultSettings
from app.core.vault.kv import VaultKV
from app.core.vault.kv_writer import VaultKVWriter
from app.core.vault.session import VaultSession
from infrastructure.processes import LIMITS
from tests.core.integration.test_auth_methods import TLSVault, server  # noqa: F401 - a fixture
from tests.support import DEADLINE, ROOT, SECRETS, Service, Vault, environment, free_port, unique, until
from tests.trickling import Trickle

TIMEOUT = 1.0
IN_TIME = "no answer within VAULT_TIMEOUT"
MAY_ALL = """
path "secret/*" {{ capabilities = ["create", "read", "update", "delete", "list", "patch"] }}
path "auth/token/*" {{ capabilities = ["read", "update"] }}
path "sys/capabilities-self" {{ capabilities = ["update"] }}
# {path}
"""


class Call:
    """One call, and which request it is that comes slowly."""

    def __init__(
        self, slow: str, make: Callable[[VaultSession, str], object], method: str = "", **settings: str
    ) -> None:
        self.slow, self.make, self.method, self.settings = slow, make, method, settings


def renew(session: VaultSession, _path: str) -> object:
    """Prolong the token's life."""
    login = session.current()
    assert login is not None
    return session.renew(login)


CALLS = {
    "login": Call("/auth/approle/login", lambda session, _: session.client()),
    "unwrap, look up": Call("/sys/wrapping/lookup", lambda session, _: session.client(), secret_id_wrapped="true"),
    "unwrap": Call("/sys/wrapping/unwrap", lambda session, _: session.client(), secret_id_wrapped="true"),
    "look up": Call("/auth/token/lookup-self", lambda session, _: session.learn(session.current())),  # type: ignore[arg-type]
    "renew": Call("/auth/token/renew-self", renew),
    "mount": Call("/sys/internal/ui/mounts", lambda session, path: VaultKV(session).read(path), kv_version="auto"),
    "read": Call("/secret/data/", lambda session, path: VaultKV(session).read(path)),
    "list": Call("/secret/metadata", lambda session, _: VaultKVWriter(session).list()),
    "metadata": Call("/secret/metadata/", lambda session, path: VaultKVWriter(session).metadata(path)),
    "write": Call("/secret/data/", lambda session, path: VaultKVWriter(session).write(path, {"x": "y"}), "POST"),
    "patch": Call("/secret/data/", lambda session, path: VaultKVWriter(session).patch(path, {"x": "y"}), "PATCH"),
    "delete": Call("/secret/data/", lambda session, path: VaultKVWriter(session).delete(path), "DELETE"),
    "capabilities": Call("/sys/capabilities-self", lambda session, _: VaultKV(session).capabilities(["secret/x"])),
}


@pytest.fixture
def path(vault: Vault) -> str:
    """Return the path of a secret."""
    path = unique("app")
    vault.write(path, SECRETS)
    return path


def settings_for(vault: Vault, path: str, url: str, **more: str) -> VaultSettings:
    """Return settings that log in at `url`."""
    settings = vault.app_role(path, policy=MAY_ALL)
    if more.get("secret_id_wrapped"):
        role = vault.client.auth.approle.list_roles()["data"]["keys"]
        (name,) = [
            each
            for each in role
            if vault.client.auth.approle.read_role_id(each)["data"]["role_id"] == settings["role_id"]
        ]
        wrapped = vault.client.auth.approle.generate_secret_id(name, wrap_ttl="5m")
        settings["secret_id"] = wrapped["wrap_info"]["token"]
    more = {"access_mode": "read_and_write", "timeout": str(TIMEOUT), "url": url, **more}
    return VaultSettings.model_validate({**settings, **more})


@pytest.mark.parametrize(
    ("call", "part"),
    [(call, part) for call in CALLS for part in ("head", "body") if (call, part) != ("delete", "body")],  # it has none
)
def test_every_call_ends_in_its_time(vault: Vault, path: str, call: str, part: Any) -> None:
    """However slowly the answer comes: without a deadline for the whole, these would succeed after half a minute."""
    given = CALLS[call]
    trickle = Trickle(vault.url, part, lambda method, where: given.slow in where and method.startswith(given.method))
    trickle.is_on = False
    with trickle.running() as url:
        session = VaultSession(settings_for(vault, path, url, **given.settings))
        if "login" not in call and "unwrap" not in call:
            session.client()
        trickle.is_on = True
        start = time.monotonic()
        with pytest.raises(VaultUnreachable, match=IN_TIME):
            given.make(session, path)
        assert time.monotonic() - start < DEADLINE
        trickle.is_on = False
        session.close()


def test_a_revocation_ends_in_its_time(vault: Vault, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And says that the token is still there."""
    configure_logging(form="json")
    trickle = Trickle(vault.url, "head", lambda _, where: "revoke-self" in where)
    with trickle.running() as url:
        session = VaultSession(settings_for(vault, path, url))
        session.client()
        session.close()
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    failed = [event["error"] for event in events if event["event"] == "token_revocation_failed"]
    assert failed == ["VaultUnreachable"]


@pytest.mark.parametrize("settings", ["tls", "mutual_tls"])
def test_a_handshake_ends_in_its_time(server: TLSVault, settings: str) -> None:  # noqa: F811 - the fixture
    """Also one in which the client shows a certificate."""
    given = getattr(server, settings)
    with Trickle(given["url"], "everything").running() as url:
        token = {"auth_method": "token", "token": "canary", "timeout": TIMEOUT, "url": url}
        with pytest.raises(VaultUnreachable, match=IN_TIME):
            VaultSession(VaultSettings.model_validate({**given, **token})).client()


# --- the service ---


def variables_for(vault: Vault, path: str, url: str, **more: str) -> dict[str, str]:
    """Return the environment of a service."""
    own = {"url": url, "timeout": str(TIMEOUT), "refresh_interval": "1", **more}
    return environment({**vault.app_role(path), **own})


@pytest.mark.parametrize("part", ["everything", "head", "body"])
def test_the_start_is_bounded_and_the_end_too(vault: Vault, path: str, tmp_path: Path, part: Any) -> None:
    """With a Vault that trickles the service starts, says so, and heals by itself; SIGTERM ends it in any case."""
    trickle = Trickle(vault.url, part)
    with trickle.running() as url, Service(tmp_path, variables_for(vault, path, url)) as service:
        assert service.get("/health/live").status_code == 200
        assert IN_TIME in service.get("/health/ready").json()["detail"]
        trickle.is_on = False
        until(lambda: service.get("/health/ready").status_code == 200, "the service to heal")
        trickle.is_on = True
        until(lambda: IN_TIME in service.get("/health/ready").text, "the fault to be seen")
        start = time.monotonic()
        service.stop()
        assert time.monotonic() - start < 10


def test_a_signal_during_a_slow_start_ends_the_process(vault: Vault, path: str, tmp_path: Path) -> None:
    """As soon as the call is over that the start waits for."""
    with Trickle(vault.url, "everything").running() as url:
        variables = {**os.environ, **variables_for(vault, path, url, timeout="3"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "uvicorn", "tests.service:app", "--port", str(free_port()), *LIMITS]
        with subprocess.Popen(command, cwd=tmp_path, env=variables, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:  # until the start has begun
                if "Waiting for application startup" in line:
                    break
            process.terminate()
            process.communicate(timeout=DEADLINE)
            assert process.returncode == -signal.SIGTERM


@contextmanager
def holding(service: Service, request: str, number: int) -> Iterator[list[socket.socket]]:
    """Open connections that send this, and then neither send nor read."""
    address = urlsplit(service.url)
    with ExitStack() as stack:
        held = []
        for _ in range(number):
            connection = stack.enter_context(socket.create_connection((address.hostname or "", address.port or 0)))
            connection.sendall(request.replace("\n", "\r\n").encode())
            held.append(connection)
        yield held


SLOW_CALLERS = {
    "nothing": "",
    "half a head": "GET /health/live HTTP/1.1\nHost: x\nX-",
    "half a body": "POST /caller HTTP/1.1\nHost: x\nContent-Length: 9\n\n{",
    "answers that nobody reads": "GET /metrics HTTP/1.1\nHost: x\n\n" * 200,
}


@pytest.mark.parametrize("caller", SLOW_CALLERS)
def test_a_slow_caller_holds_up_neither_the_others_nor_the_end(
    vault: Vault, path: str, tmp_path: Path, caller: str
) -> None:
    """In the head, in the body, in reading the answer: a connection, and nothing else."""
    variables = variables_for(vault, path, vault.url)
    with Service(tmp_path, variables) as service, holding(service, SLOW_CALLERS[caller], 20):
        for _ in range(5):
            assert service.get("/health/ready").status_code == 200
        start = time.monotonic()
        service.stop()
        assert time.monotonic() - start < 10
