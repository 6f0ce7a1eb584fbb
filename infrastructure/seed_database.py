"""How does the dev Vault come to issue credentials for the database? `make seed` does it, where a PostgreSQL runs.

It does what the administrators of a database and of a Vault do: an account for Vault that is no superuser, two group
roles that own and use the tables, and two roles in Vault that issue members of these groups.
"""

import asyncio
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import hvac
import hvac.exceptions

from app.core.settings.vault import VaultSettings
from app.core.vault.policy import hcl, issuing_grants
from infrastructure.dev_database import DevDatabase
from infrastructure.dev_vault import DevVaultError

DATABASE = "shop"
OWNERS, USERS = "shop_owner", "shop_app"  # groups, which nobody logs in as: who owns the tables, who uses their rows
ACCOUNT = "vault"  # as which Vault comes to the database
MOUNT = "database"
ISSUED = "v-%"  # how Vault names whom it issues

# `SET role`: tables belong to the group, and sessions of an issued user go on when that is dropped
CREATION = """\
CREATE ROLE "{{{{name}}}}" LOGIN PASSWORD '{{{{password}}}}' VALID UNTIL '{{{{expiration}}}}' IN ROLE {group};
ALTER ROLE "{{{{name}}}}" SET role {group};
"""
# explicit: Vault's own would fail for ever once an issued user owns something, a large object or a table that was made
# after RESET ROLE; and one that was dropped by hand must not stay a lease for ever. Vault splits statements at each
# semicolon, but not this block
REVOCATION = f"""\
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{{{{name}}}}') THEN
    REASSIGN OWNED BY "{{{{name}}}}" TO {OWNERS};
    DROP OWNED BY "{{{{name}}}}";
    DROP ROLE "{{{{name}}}}";
  END IF;
END $$;
"""


@dataclass(frozen=True)
class Role:
    """A role of Vault's database engine."""

    name: str
    group: str  # of which it issues members
    default_ttl: str
    max_ttl: str

    @property
    def policy(self) -> str:
        """Return what somebody may do who gets credentials of it."""
        own = VaultSettings.model_validate({"dynamic": {"database": f"{MOUNT}/creds/{self.name}"}})
        return hcl(issuing_grants(own))


SHOP = Role("shop", USERS, "1h", "24h")  # the service: rows
MIGRATE = Role("shop-migrate", OWNERS, "15m", "1h")  # migrations: tables


def seed_database(client: hvac.Client, database: DevDatabase) -> str:
    """Have Vault issue credentials for the database; return a line that says so.

    It can be repeated: Vault's account gets another password, and who was issued credentials keeps them.
    """
    password = secrets.token_hex(16)
    try:
        if f"{MOUNT}/" not in client.sys.list_mounted_secrets_engines()["data"]:
            client.sys.enable_secrets_engine("database", path=MOUNT)
        dropped = asyncio.run(prepare(database, password, is_new=not _is_configured(client)))
        _configure(client, database, password)
    except (asyncpg.PostgresError, OSError) as error:
        cause = f"{type(error).__name__} {str(error).partition(chr(10))[0]}".strip()
        raise DevVaultError(f"PostgreSQL at 127.0.0.1:{database.port} cannot be prepared: {cause}") from None
    except (hvac.exceptions.InvalidRequest, hvac.exceptions.InternalServerError) as error:
        raise DevVaultError(f"Vault cannot use PostgreSQL at {database.for_vault}: {error.errors}") from None
    left = f"; {dropped} users of an earlier Vault dropped" if dropped else ""
    return f"database: Vault issues credentials at {MOUNT}/creds/{SHOP.name} and {MOUNT}/creds/{MIGRATE.name}{left}"


def _configure(client: hvac.Client, database: DevDatabase, password: str) -> None:
    client.write_data(
        f"{MOUNT}/config/{DATABASE}",
        data={
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": [SHOP.name, MIGRATE.name],
            "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@{database.for_vault}/{DATABASE}?sslmode=disable",
            "username": ACCOUNT,
            "password": password,
            "password_authentication": "scram-sha-256",  # PostgreSQL is sent no password, so no log of it holds one
        },
    )
    for role in (SHOP, MIGRATE):
        client.write_data(
            f"{MOUNT}/roles/{role.name}",
            data={
                "db_name": DATABASE,
                "creation_statements": [CREATION.format(group=role.group)],
                "revocation_statements": [REVOCATION],
                "default_ttl": role.default_ttl,
                "max_ttl": role.max_ttl,
            },
        )


async def prepare(database: DevDatabase, password: str, *, is_new: bool) -> int:
    """Make the database, its groups and Vault's account, as far as they are missing, and give that account a password.

    For a Vault that is new nobody has credentials: whoever an earlier one issued is dropped. Returns how many were.
    """
    superuser = await asyncpg.connect(database.url("postgres"), timeout=10)
    try:
        if not await superuser.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", DATABASE):
            await superuser.execute(f"CREATE DATABASE {DATABASE}")
        # an issued user enters no other database
        await superuser.execute("REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC")
    finally:
        await superuser.close()
    superuser = await asyncpg.connect(database.url(DATABASE), timeout=10)
    try:
        async with superuser.transaction():
            for name in (OWNERS, USERS, ACCOUNT):
                if not await superuser.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", name):
                    await superuser.execute(f"CREATE ROLE {name}")
            for statement in statements(password):
                await superuser.execute(statement)
            return await _drop_issued(superuser) if is_new else 0
    finally:
        await superuser.close()


def statements(password: str) -> Sequence[str]:
    """Return what the superuser says; all of it can be said again."""
    tables = "SELECT, INSERT, UPDATE, DELETE"
    own = f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNERS} GRANT"
    return (
        f"ALTER ROLE {OWNERS} NOLOGIN",
        f"ALTER ROLE {USERS} NOLOGIN",
        # no superuser: it may make roles, and manage those that it made
        f"ALTER ROLE {ACCOUNT} LOGIN NOSUPERUSER CREATEROLE PASSWORD '{password}'",
        # before it drops them, it hands what they own to the owners: PostgreSQL wants it to inherit from both
        f"ALTER ROLE {ACCOUNT} SET createrole_self_grant = 'set, inherit'",
        f"GRANT {OWNERS} TO {ACCOUNT} WITH ADMIN TRUE, INHERIT TRUE, SET TRUE",
        f"GRANT {USERS} TO {ACCOUNT} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
        f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {DATABASE} TO {ACCOUNT}, {USERS}",
        f"GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {DATABASE} TO {OWNERS}",
        f"ALTER SCHEMA public OWNER TO {OWNERS}",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        f"GRANT USAGE ON SCHEMA public TO {USERS}",
        f"GRANT {tables} ON ALL TABLES IN SCHEMA public TO {USERS}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {USERS}",
        f"{own} {tables} ON TABLES TO {USERS}",
        f"{own} USAGE ON SEQUENCES TO {USERS}",
        f"{own} USAGE ON SCHEMAS TO {USERS}",
    )


async def _drop_issued(superuser: Any) -> int:
    """Drop whom an earlier Vault issued: it was in memory, so nobody revokes them."""
    query = """SELECT DISTINCT quote_ident(issued.rolname) FROM pg_roles issued
        JOIN pg_auth_members ON member = issued.oid JOIN pg_roles groups ON groups.oid = roleid
        WHERE issued.rolname LIKE $1 AND groups.rolname = ANY($2)"""
    names = [row[0] for row in await superuser.fetch(query, ISSUED, [OWNERS, USERS])]
    for name in names:
        await superuser.execute(f"REASSIGN OWNED BY {name} TO {OWNERS}; DROP OWNED BY {name}; DROP ROLE {name}")
    return len(names)


def _is_configured(client: hvac.Client) -> bool:
    there = client.list(f"{MOUNT}/config") or {"data": {"keys": []}}
    return DATABASE in there["data"]["keys"]


def with_dynamic(dotenv: str, port: int | None) -> str:
    """Return the text of `.env` with the two lines of the dynamic secret; without them where no PostgreSQL runs.

    What somebody has written there instead stays.
    """
    name = f"VAULT_DYNAMIC__DATABASE={MOUNT}/creds/{SHOP.name}"
    url = f"SECRET_DATABASE_URL=postgresql://{{dynamic://database/username}}:{{dynamic://database/password}}@127.0.0.1:%s/{DATABASE}"
    pattern = re.escape(url).replace("%s", "[0-9]+")
    ours = rf"^(?:{re.escape(name)}|{pattern})\n"
    whole = dotenv if dotenv.endswith("\n") else f"{dotenv}\n"
    theirs, found = re.subn(ours, "", whole, flags=re.MULTILINE)
    if re.search(r"^(?:export )?(?:VAULT_DYNAMIC__DATABASE|SECRET_DATABASE_URL(?:_FILE)?) *=", theirs, re.MULTILINE):
        return dotenv
    if port is None:
        return theirs if found else dotenv
    moved, urls = re.subn(rf"^{pattern}$", url % port, whole, flags=re.MULTILINE)
    return moved if (found, urls) == (2, 1) else f"{theirs}{name}\n{url % port}\n"
