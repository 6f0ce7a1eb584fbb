"""The two roles for the database, on a real Vault and a real PostgreSQL: what they may, and that nothing is left."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import hvac
import pytest

from infrastructure.dev_database import DevDatabase
from infrastructure.dev_postgres import EmbeddedPostgres
from infrastructure.dev_vault import DevVaultError, start_embedded
from infrastructure.seed import seed_dotenv
from infrastructure.seed_database import MIGRATE, SHOP, Role, seed_database, with_dynamic
from tests.postgres import ask, running_postgres
from tests.support import READ_POLICY, free_port, unique

DENIED = asyncpg.InsufficientPrivilegeError
ISSUED = "select count(*) from pg_roles where rolname like 'v-%'"


class World:
    """A dev Vault of its own and a PostgreSQL of its own."""

    def __init__(self, client: hvac.Client, server: EmbeddedPostgres) -> None:
        self.client = client
        self.server = server
        self.database = DevDatabase("embedded", server.port, server.password, str(server.directory), server.process.pid)

    def seed(self) -> str:
        """Do what `make seed` does."""
        return seed_database(self.client, self.database)

    def issue(self, role: Role, client: hvac.Client | None = None) -> "User":
        """Return credentials."""
        answer = (client or self.client).read(f"database/creds/{role.name}")
        return User(self.server.port, answer["lease_id"], **answer["data"])

    def revoke(self, user: "User") -> None:
        """Take them back, and wait until it is done."""
        self.client.adapter.put("/v1/sys/leases/revoke", json={"lease_id": user.lease, "sync": True})

    def ask(self, query: str) -> Any:
        """Ask as the superuser."""
        return ask(self.database.url("shop"), query)


class User:
    """Somebody whom Vault issued."""

    def __init__(self, port: int, lease: str, username: str, password: str) -> None:
        self.lease, self.name = lease, username
        self.url = f"postgresql://{username}:{password}@127.0.0.1:{port}/shop"

    def ask(self, *queries: str) -> Any:
        """Log in, say it all, and return the one value that the last one gives."""
        return ask(self.url, *queries)


@pytest.fixture(scope="module")
def postgres_and_vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Start both."""
    with running_postgres(tmp_path_factory.mktemp("postgres") / "data") as server:
        vault = start_embedded(free_port(), tmp_path_factory.mktemp("vault"), "root")
        client = hvac.Client(url=vault.url, token="root", timeout=10)
        try:
            yield World(client, server)
        finally:
            client.adapter.close()
            vault.stop()


@pytest.fixture
def world(postgres_and_vault: World) -> Iterator[World]:
    """Return a database as new, and a Vault that knows nothing of it."""
    world = postgres_and_vault
    world.seed()
    yield world
    world.client.sys.revoke_prefix("database/creds")
    world.client.sys.disable_secrets_engine("database")
    ask(world.database.url("postgres"), "drop database shop with (force)")
    assert ask(world.database.url("postgres"), ISSUED) == 0


def test_the_service_uses_rows_and_changes_no_table(world: World) -> None:
    """Those of tables, and the sequences, that a migration makes later; the session shows whom Vault issued."""
    user = world.issue(SHOP)
    world.issue(MIGRATE).ask("create table product (id serial primary key, name text)")
    assert user.ask("insert into product (name) values ('tea') returning id") == 1
    assert user.ask("update product set name = 'mate'", "delete from product", "select count(*) from product") == 0
    assert user.ask("select session_user::text") == user.name
    assert user.ask("select current_user::text") == "shop_app"
    for refused in (
        "create table mine ()",
        "create temporary table mine ()",
        "create schema mine",
        "drop table product",
        "alter table product add column mine text",
        "truncate product",
        "create role mine",
        "set role shop_owner",
        "select pg_read_file('/etc/passwd')",
    ):
        for before in ("select 1", "reset role"):  # as the group, and as itself
            with pytest.raises(DENIED):
                user.ask(before, refused)
    with pytest.raises(DENIED):
        ask(user.url.replace("/shop", "/postgres"), "select 1")


def test_a_migration_changes_tables_and_is_no_administrator(world: World) -> None:
    """What it makes belongs to the group."""
    user = world.issue(MIGRATE)
    user.ask("create schema more", "create table more.product ()", "alter table more.product add column name text")
    assert world.issue(SHOP).ask("select count(*) from more.product") == 0
    assert user.ask("select tableowner::text from pg_tables where tablename = 'product'") == "shop_owner"
    for refused in ("create role mine", "set role vault", "alter role vault password 'x'", "drop database shop"):
        with pytest.raises((DENIED, asyncpg.ActiveSQLTransactionError)):
            user.ask(refused)


def test_credentials_are_replaced_again_and_again_and_nobody_is_left(world: World) -> None:
    """And the tables stay, whoever made them."""
    for number in range(20):
        migration, user = world.issue(MIGRATE), world.issue(SHOP)
        migration.ask(f"create table t{number} (id serial primary key)")
        assert user.ask(f"insert into t{number} default values returning id") == 1
        world.revoke(migration)
        world.revoke(user)
        with pytest.raises(asyncpg.InvalidPasswordError):
            user.ask("select 1")
    assert world.ask(ISSUED) == 0
    owners = "select count(*) from pg_tables where schemaname = 'public' and tableowner = 'shop_owner'"
    assert world.ask(owners) == 20


@pytest.mark.parametrize(
    "own",
    [
        "create table mine ()",
        "select lo_create(0)",
        "create schema mine",
        "alter default privileges grant select on tables to shop_app",
    ],
)
def test_what_an_issued_user_owns_itself_does_not_keep_it(world: World, own: str) -> None:
    """After RESET ROLE it is its own; revoking hands it to the group."""
    user = world.issue(MIGRATE)
    user.ask("reset role", own)
    world.revoke(user)
    assert world.ask(ISSUED) == 0


def test_a_user_that_somebody_dropped_is_revoked_all_the_same(world: World) -> None:
    """Its lease would stay for ever."""
    user = world.issue(SHOP)
    world.ask(f'drop role "{user.name}"')
    world.revoke(user)
    assert not world.client.list("sys/leases/lookup/database/creds/shop")


def test_an_open_session_goes_on_after_its_user_was_dropped(world: World) -> None:
    """So that requests which are under way end well."""
    world.issue(MIGRATE).ask("create table product (id serial primary key)")
    user = world.issue(SHOP)

    async def insert_and_be_revoked() -> Any:
        connection = await asyncpg.connect(user.url, timeout=10)
        try:
            await asyncio.to_thread(world.revoke, user)
            return await connection.fetchval("insert into product default values returning id")
        finally:
            await connection.close()

    assert asyncio.run(insert_and_be_revoked()) == 1


def test_seeding_again_resets_vaults_account_and_spares_who_is_there(world: World) -> None:
    """Whatever its password has become; who has credentials keeps them."""
    user = world.issue(SHOP)
    world.ask("alter role vault password 'somebody-changed-it'")
    world.ask("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'vault'")
    with pytest.raises(hvac.exceptions.VaultError):
        world.issue(SHOP)
    assert "dropped" not in world.seed()
    assert world.issue(SHOP).ask("select 1") == 1
    assert user.ask("select 1") == 1
    world.revoke(user)


def test_whom_a_vault_issued_that_is_gone_is_dropped(world: World, tmp_path: Path) -> None:
    """Nobody else would: it was in memory. What they own is handed over; other people's roles stay."""
    left = [world.issue(SHOP), world.issue(MIGRATE)]
    left[1].ask("reset role", "create table kept ()")
    world.ask('create role "v-somebody-else" login')
    vault = start_embedded(free_port(), tmp_path / "vault", "root")
    client = hvac.Client(url=vault.url, token="root", timeout=10)
    try:
        assert seed_database(client, world.database).endswith("; 2 users of an earlier Vault dropped")
    finally:
        client.adapter.close()
        vault.stop()
    assert world.ask(f"{ISSUED} and rolname <> 'v-somebody-else'") == 0
    assert world.ask("select count(*) from kept") == 0
    world.ask('drop role "v-somebody-else"')
    world.seed()


def test_vaults_account_is_no_superuser(world: World) -> None:
    """It makes roles, and manages those that it made."""
    assert world.ask("select rolsuper or rolcreatedb or rolreplication from pg_roles where rolname = 'vault'") is False


@pytest.mark.parametrize(("role", "other"), [(SHOP, MIGRATE), (MIGRATE, SHOP)], ids=["service", "migrations"])
def test_its_policy_is_enough_for_one_role_and_not_for_the_other(world: World, role: Role, other: Role) -> None:
    """Issue, renew and revoke."""
    name = unique("policy")
    world.client.sys.create_or_update_policy(name, READ_POLICY.format(path="x") + role.policy)
    token = world.client.auth.token.create(policies=[name], no_default_policy=True)["auth"]["client_token"]
    client = hvac.Client(url=world.client.url, token=token, timeout=10)
    try:
        user = world.issue(role, client)
        lease = user.lease.removeprefix(f"database/creds/{role.name}/")
        client.adapter.put(f"/v1/sys/leases/renew/database/creds/{role.name}/{lease}", json={"increment": 60})
        client.adapter.put(f"/v1/sys/leases/revoke/database/creds/{role.name}/{lease}", json={"sync": True})
        assert world.ask(ISSUED) == 0
        for path in (f"database/creds/{other.name}", "database/config/shop", f"database/roles/{role.name}"):
            with pytest.raises(hvac.exceptions.Forbidden):
                client.read(path)
    finally:
        client.adapter.close()


def test_a_database_that_does_not_answer_is_one_line(world: World) -> None:
    """Without a password."""
    nowhere = DevDatabase("embedded", free_port(), world.server.password)
    with pytest.raises(DevVaultError, match=rf"^PostgreSQL at 127.0.0.1:{nowhere.port} cannot be prepared: ") as caught:
        seed_database(world.client, nowhere)
    assert world.server.password not in str(caught.value)


LINES = """\
VAULT_DYNAMIC__DATABASE=database/creds/shop
SECRET_DATABASE_URL=postgresql://{dynamic://database/username}:{dynamic://database/password}@127.0.0.1:5433/shop
"""


def test_dotenv_names_the_dynamic_secret_where_a_database_runs() -> None:
    """It follows the port, and goes where none runs."""
    text = with_dynamic("# mine\nPORT=1", 5433)
    assert text == f"# mine\nPORT=1\n{LINES}"
    assert with_dynamic(text, 5433) == text
    assert with_dynamic(f"{text}LAST=1\n", 6000) == f"{text}LAST=1\n".replace("5433", "6000")
    assert with_dynamic(text, None) == "# mine\nPORT=1\n"
    assert with_dynamic("PORT=1", None) == "PORT=1"


@pytest.mark.parametrize("port", [None, 6000])
@pytest.mark.parametrize(
    "line",
    [
        "SECRET_DATABASE_URL=postgresql://app@db/app",
        "SECRET_DATABASE_URL_FILE=/run/secrets/url",
        "VAULT_DYNAMIC__DATABASE=database/creds/other",
        LINES.replace("127.0.0.1", "db.example.com").strip(),
    ],
)
def test_what_somebody_wrote_into_dotenv_stays(line: str, port: int | None) -> None:
    """It is a choice."""
    assert with_dynamic(f"{line}\n", port) == f"{line}\n"


def test_seeding_writes_dotenv_while_a_database_runs(tmp_path: Path) -> None:
    """Without one the service has the static value."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("VAULT_URL=http://127.0.0.1:8200\n")
    seed_dotenv("http://127.0.0.1:8200", None, 5433)
    assert dotenv.read_text() == f"VAULT_URL=http://127.0.0.1:8200\n{LINES}"
    seed_dotenv("http://127.0.0.1:8200")
    assert dotenv.read_text() == "VAULT_URL=http://127.0.0.1:8200\n"
