"""Do requests go through while credentials of the database change? `make drill` has Vault and PostgreSQL do it.

The promise: not one request fails, whatever Vault does with the credentials; while the database is away they get a 503,
and 2 s after its return they succeed again. At least 200 queries a second go through the pool meanwhile.
"""

import argparse
import asyncio
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import hvac

from infrastructure.database_load import DATABASE_RESTARTED, LEAST_QUERIES, QUERIES_A_REQUEST, Load, Row
from infrastructure.dev_database import DevDatabase
from infrastructure.dev_postgres import start_embedded, usable_directory
from infrastructure.processes import Service, free_port, until
from infrastructure.raft import Cluster
from infrastructure.seed import fresh_secrets
from infrastructure.seed_database import ACCOUNT, CREATION, DATABASE, OWNERS, REVOCATION, SHOP, USERS, prepare

HOLD = 4.0  # seconds that a fault lasts, and that is looked on after it
STATIC = "shop_static"  # the user, and the role, whose password Vault changes
NOTES = """
CREATE TABLE notes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  text varchar NOT NULL,
  written_at timestamptz DEFAULT now() NOT NULL
)"""  # as the migration makes it
OWN_POLICY = """
path "secret/data/app" { capabilities = ["read"] }
path "database/static-creds/*" { capabilities = ["read"] }
path "auth/token/+" { capabilities = ["read", "update"] }
"""
SHORT = ("at max TTL", "revoked by an operator", DATABASE_RESTARTED)


@dataclass
class Fault:
    """What happens, to which credentials, and what shows in the log that it did."""

    name: str
    inject: Callable[["DatabaseDrill"], object]
    mark: str
    role: dict[str, str] = field(default_factory=lambda: {"default_ttl": "1h", "max_ttl": "24h"})
    token: dict[str, str] = field(default_factory=lambda: {"token_ttl": "1h", "token_max_ttl": "24h"})
    path: str = "database/creds/shop"
    interval: str = "60"  # of the rounds: so that none helps by chance


class DatabaseDrill:
    """A Vault that issues credentials, and the database that they are for; both keep their data."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.cluster = Cluster(directory / "vault")
        stack.callback(self.cluster.stop)
        self.root: hvac.Client = self.cluster.client()
        data = usable_directory(directory / "postgres")
        stack.callback(shutil.rmtree, data, ignore_errors=True)
        self.postgres = start_embedded(free_port(), data, durable=False)
        stack.callback(self.stop_database)
        self.password, self.secrets = secrets.token_hex(16), fresh_secrets()
        asyncio.run(self._prepare())
        self._configure()

    async def _prepare(self) -> None:
        database = DevDatabase("embedded", self.postgres.port, self.postgres.password)
        await prepare(database, self.password, is_new=True)
        superuser = await asyncpg.connect(database.url(DATABASE), timeout=10)
        await superuser.execute(
            f"SET ROLE {OWNERS}; {NOTES}; RESET ROLE;"
            f"CREATE ROLE {STATIC} LOGIN PASSWORD 'before' IN ROLE {USERS};"
            f"GRANT {STATIC} TO {ACCOUNT} WITH ADMIN OPTION"
        )
        await superuser.close()

    def _configure(self) -> None:
        url = (
            f"postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{self.postgres.port}/{DATABASE}?sslmode=disable"
        )
        self.root.sys.enable_secrets_engine("database", path="database")
        self.write(
            f"database/config/{DATABASE}",
            plugin_name="postgresql-database-plugin",
            allowed_roles=["*"],
            connection_url=url,
            username=ACCOUNT,
            password=self.password,
            password_authentication="scram-sha-256",
        )
        static = {"db_name": DATABASE, "username": STATIC, "rotation_period": "24h"}
        self.write(f"database/static-roles/{STATIC}", **static)
        self.root.sys.create_or_update_policy("app", SHOP.policy + OWN_POLICY)
        self.root.sys.enable_auth_method("approle")
        self.root.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
        until(self._has_secret, "the KV engine")

    def _has_secret(self) -> bool:
        try:
            self.root.secrets.kv.v2.create_or_update_secret("app", self.secrets)
        except hvac.exceptions.VaultError:  # it is being set up
            return False
        return True

    def write(self, path: str, **data: Any) -> None:
        """Write to Vault as an operator."""
        self.root.write_data(path, data=data)

    def service(self, fault: Fault) -> Service:
        """Return the service, with credentials that live as the fault wants it."""
        statements = {"creation_statements": [CREATION.format(group=USERS)], "revocation_statements": [REVOCATION]}
        self.write("database/roles/shop", db_name=DATABASE, **statements, **fault.role)
        approle = self.root.auth.approle
        approle.create_or_update_approle("app", token_policies=["app"], token_no_default_policy=True, **fault.token)
        variables = {
            "VAULT_ENABLED": "true",
            "VAULT_URL": self.cluster.nodes[0].url,
            "VAULT_AUTH_METHOD": "approle",
            "VAULT_ROLE_ID": approle.read_role_id("app")["data"]["role_id"],
            "VAULT_SECRET_ID": approle.generate_secret_id("app")["data"]["secret_id"],
            "VAULT_SECRET_PATH": "app",
            "VAULT_REFRESH_INTERVAL": fault.interval,
            "VAULT_DYNAMIC__DATABASE": fault.path,
            "SECRET_DATABASE_URL": "postgresql://{dynamic://database/username}:{dynamic://database/password}@"
            f"127.0.0.1:{self.postgres.port}/{DATABASE}",
        }
        return Service(self.directory, variables, "app.main:app")

    def go_through(self, fault: Fault) -> Row:
        """Inject the fault under load, look on, and measure what it did."""
        with self.service(fault) as service:
            until(lambda: service.get("/health/ready").ok, "the service to be ready")
            load, start, logged = Load(service.url, self.secrets["api_key"]), time.monotonic(), len(service.output)
            with load.running():
                time.sleep(1)
                fault.inject(self)
                over = time.monotonic()
                time.sleep(HOLD)
            seconds = time.monotonic() - start
        failed: dict[str, int] = {}
        for _, said in load.failures:
            failed[said] = failed.get(said, 0) + 1
        healed = max([0.0, *(at - over for at, _ in load.failures)])
        seen = re.search(fault.mark, service.output[logged:]) is not None
        return Row(fault.name, load.sent, load.sent * QUERIES_A_REQUEST / seconds, failed, healed, seen)

    def restart_vault(self) -> None:
        """Stop Vault, and start and unseal it; its data have stayed."""
        self.cluster.stop()
        time.sleep(HOLD)
        self.cluster.start()

    def stop_database(self) -> None:
        """Stop the one that runs now."""
        self.postgres.stop()

    def restart_database(self) -> None:
        """Stop the database, and start it."""
        self.postgres.stop()
        time.sleep(HOLD / 2)
        before = self.postgres
        self.postgres = start_embedded(before.port, before.directory, password=before.password, durable=False)

    def rotate_root(self) -> None:
        """Change the password of Vault's own account, and have users issued with the new one."""
        self.write(f"database/rotate-root/{DATABASE}")
        time.sleep(2 * HOLD)

    def rotate_password(self) -> None:
        """Change the password of the static role."""
        for _ in range(3):
            self.write(f"database/rotate-role/{STATIC}")
            time.sleep(HOLD / 4)


def _wait(_drill: DatabaseDrill) -> None:
    time.sleep(2 * HOLD)


BRIEF = {"default_ttl": "3s", "max_ttl": "1h"}
FAULTS = (
    Fault("renewed", _wait, "lease_renewed", role=BRIEF),
    Fault("at max TTL", _wait, "lease_replaced", role={"default_ttl": "3s", "max_ttl": "4s"}),
    Fault(
        "revoked by an operator",
        lambda drill: drill.root.sys.revoke_prefix("database/creds/shop"),
        "credentials_refused",
    ),
    Fault("token at max TTL", _wait, "lease_replaced", token={"token_ttl": "4s", "token_max_ttl": "6s"}),
    Fault(
        "Vault restarted",
        DatabaseDrill.restart_vault,
        "vault_secrets_load_failed",
        role={"default_ttl": "15s", "max_ttl": "1h"},
        interval="2",
    ),
    Fault(DATABASE_RESTARTED, DatabaseDrill.restart_database, ""),
    Fault(
        "password of a static role rotated",
        DatabaseDrill.rotate_password,
        "lease_replaced",
        path=f"database/static-creds/{STATIC}",
    ),
    Fault(
        "root credential rotated",
        DatabaseDrill.rotate_root,
        "lease_replaced",
        role={"default_ttl": "3s", "max_ttl": "4s"},
    ),
)


def walk(*, short: bool = False) -> list[Row]:
    """Walk through all faults, or a few; return a row each, and print it."""
    rows: list[Row] = []
    print(f"   {'fault':<34} {'requests':>8} {'queries/s':>9} {'failed':>7} {'healed':>8}")
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        drill = DatabaseDrill(Path(directory), stack)
        for fault in FAULTS:
            if not short or fault.name in SHORT:
                rows.append(row := drill.go_through(fault))
                failed = ", ".join(f"{count} x {said}" for said, count in row.failed.items()) or "0"
                note = "" if row.seen else "  left no mark"
                mark = "!!" if row.is_bad else "  "
                print(
                    f"{mark} {row.fault:<34} {row.requests:>8} {row.rate:>9.0f} {failed:>7} {row.healed:>6.1f} s{note}",
                    flush=True,
                )
    return rows


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Walk the service through changes of the database's credentials.")
    parser.add_argument("--short", action="store_true", help="only a few faults")
    rows = walk(short=parser.parse_args().short)
    bad = [row.fault for row in rows if row.is_bad]
    if sum(row.rate for row in rows) / len(rows) < LEAST_QUERIES:
        bad.append(f"less than {LEAST_QUERIES} queries a second")
    if bad:
        sys.exit(f"error: the promise was broken by: {', '.join(bad)}")
    print("every promise was kept")


if __name__ == "__main__":
    main()
