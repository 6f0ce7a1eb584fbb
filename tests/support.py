"""Real things for tests to hold: a Vault server, the service as a process, conditions with a deadline."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import hvac
import pytest

from infrastructure import compose
from infrastructure.processes import DEADLINE, ROOT, Service, free_port, until

__all__ = ["DEADLINE", "ROOT", "SECRETS", "Service", "Vault", "environment", "free_port", "unique", "until"]

docker_answers = cache(compose.docker_answers)

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


def environment(settings: dict[str, Any]) -> dict[str, str]:
    """Return `VAULT_…` variables for fields of `VaultSettings`."""
    return {f"VAULT_{name.upper()}": str(value) for name, value in settings.items()}
