"""Real things for tests to hold: a Vault server, the service as a process, conditions with a deadline."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import hvac
import pytest
import requests

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
DEADLINE = 30.0  # seconds; generous, since a wait ends as soon as its condition holds
SECRETS = {
    "database_url": "postgresql://app:canary-database@db.example.com/app",
    "api_key": "canary-api-key-0123456789",
    "jwt_secret": "canary-jwt-secret-0123456789-0123456789-0123456789",
}
READ_POLICY = """
path "secret/data/{path}" {{ capabilities = ["read"] }}
path "auth/token/lookup-self" {{ capabilities = ["read"] }}
path "auth/token/renew-self" {{ capabilities = ["update"] }}
path "auth/token/revoke-self" {{ capabilities = ["update"] }}
path "sys/capabilities-self" {{ capabilities = ["update"] }}
"""


def until(condition: Callable[[], T], what: str) -> T:
    """Return the first true result of `condition`; fail after the deadline."""
    end = time.monotonic() + DEADLINE
    while not (result := condition()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)
    return result


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def unique(prefix: str) -> str:
    """Return a name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


@dataclass
class Vault:
    """A running server, its root client, and ways to prepare it for one test."""

    url: str
    root_token: str
    audit_log: Path | None = None
    client: hvac.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = hvac.Client(url=self.url, token=self.root_token, timeout=10)

    def write(self, path: str, values: dict[str, Any]) -> int:
        """Write a secret; return its version."""
        answer = self.client.secrets.kv.v2.create_or_update_secret(path, values)
        version: int = answer["data"]["version"]
        return version

    def app_role(self, path: str, *, policy: str = READ_POLICY, **options: Any) -> dict[str, Any]:
        """Make an AppRole that may read the secret at `path`; return the settings that log in with it."""
        role = unique("role")
        self.client.sys.create_or_update_policy(role, policy.format(path=path))
        options = {"token_policies": [role], "token_no_default_policy": True, "token_ttl": "20m", **options}
        self.client.auth.approle.create_or_update_approle(role, **options)
        role_id = self.client.auth.approle.read_role_id(role)["data"]["role_id"]
        secret_id = self.client.auth.approle.generate_secret_id(role)["data"]["secret_id"]
        return {
            "enabled": "true",
            "url": self.url,
            "auth_method": "approle",
            "role_id": role_id,
            "secret_id": secret_id,
            "secret_path": path,
        }

    @contextmanager
    def audited(self) -> Iterator[list[tuple[str, str]]]:
        """Collect (operation, path) of the requests that reach the server during the block; readable after it."""
        if self.audit_log is None:
            pytest.skip("this server's audit log cannot be read from here")
        start = self.audit_log.stat().st_size
        calls: list[tuple[str, str]] = []
        yield calls
        with self.audit_log.open() as lines:
            lines.seek(start)
            requested = (entry["request"] for entry in map(json.loads, lines) if entry["type"] == "request")
            calls.extend((request["operation"], request["path"]) for request in requested)


def environment(settings: dict[str, Any]) -> dict[str, str]:
    """Return `VAULT_…` variables for fields of `VaultSettings`."""
    return {f"VAULT_{name.upper()}": str(value) for name, value in settings.items()}


class Service:
    """The service as a process of its own, as a user runs it."""

    def __init__(self, directory: Path, variables: dict[str, str]) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._output = directory / f"service-{port}.log"
        command = [sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(port), "--no-access-log"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "SECRET_"))}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                env={**kept, "PYTHONPATH": str(ROOT), "VAULT_TOKEN": "junk", **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        until(lambda: self.process.poll() is not None or self._answers(), "the service to answer")
        assert self.process.poll() is None, self.output
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def get(self, path: str, **more: Any) -> requests.Response:
        """Send a GET request."""
        return requests.get(self.url + path, timeout=DEADLINE, **more)

    def post(self, path: str, **more: Any) -> requests.Response:
        """Send a POST request."""
        return requests.post(self.url + path, timeout=DEADLINE, **more)

    def stop(self) -> int:
        """Ask the service to stop, wait for it, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)

    @property
    def output(self) -> str:
        """Everything that it wrote so far."""
        return self._output.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its log lines."""
        return [json.loads(line) for line in self.output.splitlines() if re.match(r"\{.*\}$", line)]

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/health/live", timeout=1).ok
        except requests.ConnectionError:
            return False
