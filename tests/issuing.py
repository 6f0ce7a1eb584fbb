"""A Vault that issues credentials for a real PostgreSQL, with roles as each test needs them."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from infrastructure.dev_database import DevDatabase
from infrastructure.dev_postgres import EmbeddedPostgres
from infrastructure.seed_database import ACCOUNT, CREATION, REVOCATION, USERS, prepare
from tests.postgres import ask
from tests.support import READ_POLICY, Vault, unique

POLICY = (
    READ_POLICY
    + """
path "database/creds/{role}" {{ capabilities = ["read"] }}
path "database/static-creds/{role}" {{ capabilities = ["read"] }}
path "sys/leases/renew/database/creds/{role}/*" {{ capabilities = ["update"] }}
path "sys/leases/revoke/database/creds/{role}/*" {{ capabilities = ["update"] }}
"""
)


@dataclass
class Issuer:
    """A Vault with a database engine, and the database behind it."""

    vault: Vault
    postgres: EmbeddedPostgres
    database: DevDatabase

    def role(self, **options: Any) -> str:
        """Make a role that issues users; return its name."""
        name = unique("role")
        options = {"default_ttl": "1h", "max_ttl": "24h", **options}
        statements = {"creation_statements": [CREATION.format(group=USERS)], "revocation_statements": [REVOCATION]}
        self.vault.client.write_data(f"database/roles/{name}", data={"db_name": "shop", **statements, **options})
        return name

    def login(self, role: str, path: str = "", policy: str = POLICY, **options: Any) -> dict[str, Any]:
        """Return the settings of a service that may have this role issue credentials, and read the secret at `path`."""
        path = path or unique("unused")
        settings = self.vault.app_role(path, policy=policy.replace("{role}", role), **options)
        return {**settings, "dynamic": {"db": f"database/creds/{role}"}, "secret_path": ()}

    def users(self, role: str) -> list[str]:
        """Return the users that are issued by a role now."""
        found = ask(self.database.url("shop"), "SELECT array_agg(rolname::text) FROM pg_roles WHERE rolname LIKE 'v-%'")
        return [name for name in found or () if role[:8] in name]

    def leases(self, role: str) -> list[str]:
        """Return the leases of a role, as Vault lists them."""
        try:
            answer: Any = self.vault.client.sys.list_leases(f"database/creds/{role}/")
        except Exception:  # noqa: BLE001 - hvac's for a 404
            return []
        return list(answer["data"]["keys"])

    def ask(self, *queries: str) -> Any:
        """Say it as the superuser of the database."""
        return ask(self.database.url("shop"), *queries)

    def url(self, data: dict[str, Any]) -> str:
        """Return where PostgreSQL lets in whom these credentials are for."""
        return f"postgresql://{data['username']}:{data['password']}@127.0.0.1:{self.postgres.port}/shop"


@pytest.fixture(scope="session")
def issuing(vault_servers: Any, postgres_server: EmbeddedPostgres) -> Iterator[Issuer]:
    """Return an embedded Vault that issues users of the embedded PostgreSQL."""
    vault: Vault = vault_servers("embedded")
    database = DevDatabase("embedded", postgres_server.port, postgres_server.password)
    asyncio.run(prepare(database, "account-password", is_new=True))
    vault.client.sys.enable_secrets_engine("database", path="database")
    vault.client.write_data(
        "database/config/shop",
        data={
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": ["*"],
            "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{postgres_server.port}/shop?sslmode=disable",
            "username": ACCOUNT,
            "password": "account-password",
            "password_authentication": "scram-sha-256",
        },
    )
    yield Issuer(vault, postgres_server, database)
    vault.client.sys.disable_secrets_engine("database")


def let_in(url: str) -> bool:
    """Tell whether PostgreSQL lets somebody in."""
    try:
        return bool(ask(url, "SELECT 1") == 1)
    except asyncpg.InvalidAuthorizationSpecificationError:
        return False
