"""The sample database: who is logged in, what is written, and what callers see when it does not play along."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
import requests
from fastapi import HTTPException
from fastapi.testclient import TestClient

from app.app_secrets import AppSecrets
from app.config import Settings
from app.main import create_app
from app.routes.database import Note, Session
from infrastructure.dev_postgres import EmbeddedPostgres
from infrastructure.seed import made_up
from tests.postgres import ask
from tests.support import DEADLINE, ROOT, SECRETS, YOURS, Service, Vault, environment, free_port, unique, until

KEY = {"X-API-Key": SECRETS["api_key"]}
PASSWORD = "p:ä/s@s%?#&"  # whatever a password may be


@dataclass
class Shop:
    """A database of one test's own, with what may happen to it."""

    server: EmbeddedPostgres
    name: str

    @property
    def url(self) -> str:
        """Return where its superuser finds it."""
        return self.server.url(self.name)

    def say(self, *queries: str) -> Any:
        """Say it as the superuser."""
        return ask(self.url, *queries)

    def user(self) -> str:
        """Make a user; return its name."""
        name = unique("user").replace("-", "_")
        self.say(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        self.say(f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {name}")
        return name

    def url_of(self, user: str) -> str:
        """Return with what a user logs in."""
        return f"postgresql://{user}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.server.port}/{self.name}"

    def drop(self, user: str) -> None:
        """Do what Vault does at the end of a lease; sessions go on."""
        self.say(f"DROP OWNED BY {user}", f"DROP ROLE {user}")

    def sessions(self, user: str) -> int:
        """Count the connections of a user, also of one that was dropped."""
        found: int = self.say(
            f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{self.name}' AND usesysid = {user}"
        )
        return found

    def id_of(self, user: str) -> str:
        """Return by what PostgreSQL remembers a user."""
        return str(self.say(f"SELECT oid FROM pg_roles WHERE rolname = '{user}'"))


def secrets_with(url: str) -> dict[str, str]:
    """Return something for every secret that your service declares, and this database."""
    made = {**made_up(AppSecrets), **SECRETS, "database_url": url}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in made.items()}


def alembic(directory: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Alembic in a folder with what the image has."""
    if not (directory / "app").exists():
        (directory / "app").symlink_to(ROOT / "app")
        shutil.copy(ROOT / "pyproject.toml", directory)
    program = str(Path(sys.executable).with_name("alembic"))  # as `python -m app exec` would start it
    return subprocess.run(
        [program, *words],
        cwd=directory,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )


def emptied(server: EmbeddedPostgres, template: str = "template1") -> Shop:
    """Return a database of one's own."""
    name = unique("shop").replace("-", "_")
    ask(server.url(), f"CREATE DATABASE {name} TEMPLATE {template}")
    return Shop(server, name)


@pytest.fixture(scope="session")
def migrated(postgres_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of a database with the tables, to be copied."""
    shop = emptied(postgres_server)
    done = alembic(tmp_path_factory.mktemp("migrating"), shop.url, "upgrade", "head")
    assert done.returncode == 0, done.stderr
    return shop.name


@pytest.fixture
def shop(postgres_server: EmbeddedPostgres, migrated: str) -> Shop:
    """Return a database with empty tables."""
    return emptied(postgres_server, migrated)


@contextmanager
def service(url: str) -> Iterator[TestClient]:
    """Call your service, with this secret."""
    settings = {"secrets": secrets_with(url), "log_format": "json"}
    with TestClient(
        create_app(Settings.model_validate(settings)), headers=KEY, raise_server_exceptions=False
    ) as client:
        yield client


def test_the_service_says_who_it_is(shop: Shop) -> None:
    """And since when; its password may be anything."""
    user, before = shop.user(), datetime.now(UTC)
    with service(shop.url_of(user)) as client:
        said = client.get("/database").json()
        assert said["session_user"] == user
        assert before <= datetime.fromisoformat(said["since"]) <= datetime.now(UTC)
        assert client.get("/database").json() == said


def test_notes_are_kept(shop: Shop) -> None:
    """The newest comes first."""
    with service(shop.url_of(shop.user())) as client:
        for text in ("one", "two", "Ω\n'; DROP TABLE notes"):
            written = client.post("/notes", json={"text": text})
            assert (written.status_code, written.json()["text"]) == (201, text)
        assert client.get("/notes?limit=2").json()[0] == written.json()
        assert [note["text"] for note in client.get("/notes?limit=2").json()] == ["Ω\n'; DROP TABLE notes", "two"]


def test_what_is_no_note_is_refused(shop: Shop) -> None:
    """And nobody gets all notes at once."""
    with service(shop.url_of(shop.user())) as client:
        for text in ("", "x" * 501, "a\0b", "\ud800", None, 1):
            assert client.post("/notes", content=json.dumps({"text": text})).status_code == 422
        for limit in ("0", "101", "x"):
            assert client.get(f"/notes?limit={limit}").status_code == 422
        assert client.get("/notes").json() == []


@pytest.mark.parametrize(("method", "path"), [("GET", "/database"), ("GET", "/notes"), ("POST", "/notes")])
def test_strangers_get_nothing(method: str, path: str) -> None:
    """Without a key there is no answer, and the body does not matter."""
    with service(SECRETS["database_url"]) as client:
        assert client.request(method, path, headers={"X-API-Key": "wrong"}).status_code == 401


def test_the_answer_comes_after_the_commit(shop: Shop) -> None:
    """What fails at COMMIT is not answered with 201, and no detail leaves the service."""
    shop.say("ALTER TABLE notes ADD UNIQUE (text) DEFERRABLE INITIALLY DEFERRED")
    with service(shop.url_of(shop.user())) as client:
        assert client.post("/notes", json={"text": "canary-twice"}).status_code == 201
        refused = client.post("/notes", json={"text": "canary-twice"})
        assert refused.status_code == 500
        assert "canary" not in refused.text
        assert len(client.get("/notes").json()) == 1


def test_what_a_refused_request_did_is_rolled_back(shop: Shop) -> None:
    """Also where a handler of yours refuses it."""
    settings = {"secrets": {**SECRETS, "database_url": shop.url_of(shop.user())}}
    app = create_app(Settings.model_validate(settings))

    @app.post("/refused")
    async def refused(session: Session) -> None:
        session.add(Note(text="x"))
        await session.flush()
        raise HTTPException(409)

    with TestClient(app, headers=KEY) as client:
        assert client.post("/refused").status_code == 409
        assert client.get("/notes").json() == []


def test_a_database_that_hangs_holds_nobody_for_ever(shop: Shop) -> None:
    """Who wants a connection is told after some seconds; the service starts meanwhile."""
    url = shop.url_of(shop.user())
    os.kill(shop.server.process.pid, signal.SIGSTOP)
    try:
        with service(url) as client:
            assert client.get("/health/ready").status_code == 200
            assert client.get("/database").status_code == 503
    finally:
        os.kill(shop.server.process.pid, signal.SIGCONT)


def test_a_database_that_hangs_later_is_told_in_time(shop: Shop) -> None:
    """A probe gives up after some seconds, and the driver takes two to hang up; afterwards all is well again."""
    with service(shop.url_of(user := shop.user())) as client:
        assert client.get("/database").status_code == 200
        found = f"SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE usename = '{user}'"
        frozen = [shop.server.process.pid, *map(int, shop.say(found).split())]
        try:
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(1.1)  # the last answer is not good any more
            begun = time.monotonic()
            unready = client.get("/health/ready")
            assert time.monotonic() - begun < 3.3  # it takes 1.5 s, and were 3.5 with the driver's two
            assert unready.json()["detail"] == "database: does not work (TimeoutError)"
        finally:
            for pid in reversed(frozen):
                os.kill(pid, signal.SIGCONT)
        until(lambda: client.get("/health/ready").status_code == 200, "it to be found again")
        assert client.get("/database").status_code == 200


@pytest.mark.slow
def test_a_statement_that_hangs_ends(shop: Shop) -> None:
    """The caller gets a 503; the connection is good afterwards."""

    async def held(client: TestClient) -> int:
        connection = await asyncpg.connect(shop.url)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE notes")
                return (await asyncio.to_thread(client.get, "/notes")).status_code
        finally:
            await connection.close()

    with service(shop.url_of(shop.user())) as client:
        assert asyncio.run(held(client)) == 503
        assert client.get("/notes").status_code == 200


def test_without_a_database_the_service_is_ready_and_says_503(capsys: pytest.CaptureFixture[str]) -> None:
    """Who only looks at the template has none."""
    with service(f"postgresql://app:canary@127.0.0.1:{free_port()}/app") as client:
        for _ in range(2):
            for method in ("GET", "HEAD"):
                assert "database: " not in client.request(method, "/health/ready").text, "it makes nothing unready"
        for answer in (client.get("/database"), client.post("/notes", json={"text": "x"})):
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            assert answer.json()["detail"] == "The database does not answer."
            assert answer.headers["retry-after"]
    assert "canary" not in capsys.readouterr().err


def test_a_database_that_goes_away_makes_unready_until_it_is_back(shop: Shop) -> None:
    """Nobody has to restart anything, and the first request on a connection that died works."""
    with service(shop.url_of(shop.user())) as client:
        assert client.get("/health/ready").status_code == 200
        shop.say(f"ALTER DATABASE {shop.name} CONNECTION LIMIT 0")
        ask(shop.server.url(), f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{shop.name}'")
        until(lambda: client.get("/health/ready").status_code == 503, "it to be missed")
        said = client.get("/health/ready").json()["detail"]
        assert said == "database: does not work (DBAPIError, SQLSTATE 53300)"
        assert client.get("/database").status_code == 503
        ask(shop.server.url(), f"ALTER DATABASE {shop.name} CONNECTION LIMIT -1")
        assert client.get("/database").status_code == 200
        until(lambda: client.head("/health/ready").status_code == 200, "it to be found again")
        ask(shop.server.url(), f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{shop.name}'")
        assert client.get("/database").status_code == 200


@pytest.mark.parametrize("how", ["DROP ROLE {}", "ALTER ROLE {} NOLOGIN", "ALTER ROLE {} PASSWORD 'other'"])
def test_who_is_refused_at_the_start_is_not_ready(shop: Shop, how: str) -> None:
    """Nobody sees a password."""
    user = shop.user()
    shop.say(f"DROP OWNED BY {user}", how.format(user))
    with service(shop.url_of(user)) as client:
        unready = client.get("/health/ready")
        assert unready.status_code == 503
        assert "database: could not be built (" in unready.json()["detail"]
        answer = client.get("/database")
        assert answer.status_code == 503
        assert quote(PASSWORD, safe="") not in unready.text + answer.text


def test_a_user_that_was_dropped_behind_its_back_costs_no_request(vault: Vault, shop: Shop, tmp_path: Path) -> None:
    """Its open connections are not used any more, and the new user is asked for at once, not at the next round."""
    path, old, new = unique("database"), shop.user(), shop.user()
    vault.write(path, {**SECRETS, "database_url": shop.url_of(old)})
    variables = environment(vault.app_role(path))
    with Service(tmp_path, variables, YOURS) as service:
        assert service.get("/database", headers=KEY).json()["session_user"] == old
        vault.write(path, {**SECRETS, "database_url": shop.url_of(new)})
        old_id = shop.id_of(old)
        shop.drop(old)
        assert shop.sessions(old_id) == 1
        assert service.post("/notes", headers=KEY, json={"text": "x"}).status_code == 201
        assert service.get("/database", headers=KEY).json()["session_user"] == new
        until(lambda: shop.sessions(old_id) == 0, "the old connections to go")
    assert quote(PASSWORD, safe="") not in service.output


def test_a_rotation_under_load_costs_no_request(vault: Vault, shop: Shop, tmp_path: Path) -> None:
    """Thousands of queries meanwhile; afterwards the old user has no connection."""
    path, old, new = unique("database"), shop.user(), shop.user()
    vault.write(path, {**SECRETS, "database_url": shop.url_of(old)})
    variables = environment({**vault.app_role(path), "refresh_interval": "0.5"})
    with Service(tmp_path, variables, YOURS) as service, ThreadPoolExecutor(4) as callers:

        def call(until_user: str) -> list[tuple[int, str]]:
            answers: list[tuple[int, str]] = []
            with requests.Session() as session:
                session.headers.update(KEY)
                while len(answers) < 300 or answers[-1][1] != until_user:
                    answer = session.get(f"{service.url}/database", timeout=DEADLINE)
                    answers.append((answer.status_code, answer.json().get("session_user", answer.text)))
            return answers

        loads = [callers.submit(call, new) for _ in range(4)]
        until(lambda: shop.sessions(shop.id_of(old)) > 0, "the load to begin")
        vault.write(path, {**SECRETS, "database_url": f"{shop.url_of(new)}_missing"})  # refused: the old one stays
        until(lambda: "rotation_failed" in service.output, "the bad one to be refused")
        vault.write(path, {**SECRETS, "database_url": shop.url_of(new)})
        answers = [answer for load in loads for answer in load.result(5 * DEADLINE)]
        assert {status for status, _ in answers} == {200}
        assert {user for _, user in answers} == {old, new}
        until(lambda: shop.sessions(shop.id_of(old)) == 0, "the old connections to go")
        shop.drop(old)
        assert service.get("/health/ready").status_code == 200


def test_migrations_go_forth_and_back(postgres_server: EmbeddedPostgres, tmp_path: Path) -> None:
    """And once more; who comes when all is done finds nothing to do."""
    shop = emptied(postgres_server)
    for words, there in (("upgrade head", True), ("downgrade base", False), ("upgrade head", True)):
        done = alembic(tmp_path, shop.url, *words.split())
        assert done.returncode == 0, done.stderr
        assert f"Running {words.split()[0]}" in done.stderr
        assert shop.say("SELECT to_regclass('notes') IS NOT NULL") is there
    again = alembic(tmp_path, shop.url, "upgrade", "head")
    assert (again.returncode, "Running" in again.stderr) == (0, False)
    compared = alembic(tmp_path, shop.url, "check")
    assert compared.returncode == 0, compared.stdout + compared.stderr


def test_tables_belong_to_the_group_of_who_migrates(postgres_server: EmbeddedPostgres, tmp_path: Path) -> None:
    """So the user that Vault issued for it can be dropped."""
    shop, group = emptied(postgres_server), unique("owner").replace("-", "_")
    user = shop.user()
    shop.say(f"CREATE ROLE {group}", f"GRANT {group} TO {user}", f"ALTER ROLE {user} SET role {group}")
    shop.say(f"GRANT CREATE ON SCHEMA public TO {group}")
    done = alembic(tmp_path, shop.url_of(user), "upgrade", "head")
    assert done.returncode == 0, done.stderr
    shop.say(f"DROP ROLE {user}")
    assert shop.say("SELECT tableowner FROM pg_tables WHERE tablename = 'notes'") == group


def test_a_migration_says_what_is_in_its_way(tmp_path: Path) -> None:
    """In one line, without a password."""
    done = alembic(tmp_path, f"postgresql://app:canary@127.0.0.1:{free_port()}/app", "upgrade", "head")
    assert (done.returncode, done.stderr) == (1, "error: the database does not answer (ConnectionRefusedError)\n")


def test_two_migrations_at_once(postgres_server: EmbeddedPostgres, tmp_path: Path) -> None:
    """One goes the steps, the other one waits for it."""
    shop = emptied(postgres_server)
    alembic(tmp_path, shop.url, "history")
    with ThreadPoolExecutor(2) as both:
        done = list(both.map(lambda _: alembic(tmp_path, shop.url, "upgrade", "head"), range(2)))
    assert [each.returncode for each in done] == [0, 0], done
    assert sum("Running upgrade" in each.stderr for each in done) == 1
