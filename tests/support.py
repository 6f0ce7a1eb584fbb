"""Real things for tests to hold: a Vault server, the service as a process, conditions with a deadline."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvac
import hvac.exceptions
import pytest

from app.config import PROVIDERS, Settings, get_settings
from app.core.store.loading import load_secrets
from app.core.store.secret_store import Snapshot
from infrastructure import processes
from infrastructure.processes import DEADLINE, ROOT, free_port, in_thread, until

__all__ = [
    "DEADLINE",
    "ROOT",
    "SECRETS",
    "YOURS",
    "Service",
    "Vault",
    "enable_kv",
    "environment",
    "free_port",
    "has_kv_2",
    "in_thread",
    "load_all",
    "unique",
    "until",
]

SECRETS = {
    "database_url": "postgresql://app:canary-database@db.example.com/app",
    "api_key": "canary-api-key-0123456789",
    "jwt_secret": "canary-jwt-secret-0123456789-0123456789-0123456789",
}
YOURS = "app.main:app"  # for `Service`, where a test is about what is yours
READ_POLICY = """
path "secret/data/{path}" {{ capabilities = ["read"] }}
path "auth/token/lookup-self" {{ capabilities = ["read"] }}
path "auth/token/renew-self" {{ capabilities = ["update"] }}
path "auth/token/revoke-self" {{ capabilities = ["update"] }}
path "sys/capabilities-self" {{ capabilities = ["update"] }}
"""


class Service(processes.Service):
    """The service of the tests, unless another one is named, as a process of its own."""

    def __init__(self, directory: Path, variables: dict[str, str], app: str = "tests.service:app") -> None:
        super().__init__(directory, variables, app)


def load_all(settings: Settings | None = None) -> Snapshot:
    """Read all that the settings want, as the service does, whatever is declared."""
    settings = settings or get_settings()
    return load_secrets(None, PROVIDERS.sources(settings), settings.secrets)


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
        start = self.audit_log.read_bytes().rfind(b"\n") + 1  # a line may be half written
        calls: list[tuple[str, str]] = []
        yield calls
        with self.audit_log.open() as lines:
            lines.seek(start)
            entries = (json.loads(line) for line in lines if line.endswith("\n"))
            requested = (entry["request"] for entry in entries if entry["type"] == "request")
            calls.extend((request["operation"], request["path"]) for request in requested)


def enable_kv(client: hvac.Client, mount_point: str, version: str = "2") -> str:
    """Mount a KV engine, wait until it is ready, and return where it is."""
    client.sys.enable_secrets_engine("kv", path=mount_point, options={"version": version})
    if version == "2":
        until(lambda: has_kv_2(client, mount_point), "the KV engine to be ready")
    return mount_point


def has_kv_2(client: hvac.Client, mount_point: str = "secret") -> bool:
    """Tell whether the KV engine is ready: it becomes version 2 a moment after it was mounted."""
    try:
        client.secrets.kv.v2.read_configuration(mount_point)
    except hvac.exceptions.InvalidRequest:
        return False
    return True


def environment(settings: dict[str, Any]) -> dict[str, str]:
    """Return `VAULT_…` variables for fields of `VaultSettings`."""
    return {f"VAULT_{name.upper()}": str(value) for name, value in settings.items()}
