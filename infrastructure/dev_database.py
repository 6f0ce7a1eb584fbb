"""How does a PostgreSQL come to run beside the dev Vault? `python -m infrastructure.dev_database up|down|clean`.

In Docker where the dev Vault is there, and else embedded. It is a convenience: where none can run, one line says why,
and the service has the static `database_url` of the KV secret. Its data outlive it, until `clean`.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from infrastructure.compose import ComposeError, compose
from infrastructure.dev_postgres import SUPERUSER, DevPostgresError, in_wheel, start_embedded, usable_directory
from infrastructure.dev_state import STATE, is_ours, is_taken, write_private
from infrastructure.dev_vault import COMPOSE_FILE, runs_in_docker

DEFAULT_PORT = 5433  # 5432 is often somebody else's
STATE_FILE = STATE / "postgres.json"
STOP_DEADLINE = 30.0  # seconds
START_DEADLINE = 60.0  # seconds; an image has to be prepared
SERVICE = "postgres"  # its name in the compose file, under which the Vault in a container finds it
# data that are older than `.dev` have another password: who is in the container may change it
SET_PASSWORD = f"""printf '%s\\n' '\\getenv new POSTGRES_PASSWORD' "ALTER ROLE {SUPERUSER} PASSWORD :'new';" |
psql --quiet --host 127.0.0.1 --username {SUPERUSER} --set ON_ERROR_STOP=1"""


@dataclass(frozen=True)
class DevDatabase:
    """What `.dev/postgres.json` remembers of it, running or not."""

    runtime: str  # embedded or docker
    port: int
    password: str = field(repr=False)  # the superuser's
    directory: str = ""  # embedded: data and log
    pid: int | None = None  # embedded, while it runs

    @property
    def is_running(self) -> bool:
        """Tell whether it is there, and is ours."""
        if self.runtime == "docker":
            return self.pid is not None and is_taken(self.port)
        return self.pid is not None and is_ours(self.pid, f"{self.directory}/data")

    @property
    def for_vault(self) -> str:
        """Host and port as the dev Vault reaches it."""
        return f"{SERVICE}:5432" if self.runtime == "docker" else f"127.0.0.1:{self.port}"

    def url(self, database: str) -> str:
        """Return where the superuser finds a database."""
        return f"postgresql://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/{database}"


def running() -> DevDatabase | None:
    """Return the PostgreSQL of this clone, if it runs."""
    known = remembered()
    return known if known and known.is_running else None


def up(port: int) -> str:
    """Bring it up, unless it is; return a line that says what there is now."""
    known, runtime = remembered(), "docker" if runs_in_docker() else "embedded"
    if known and known.is_running and (known.runtime, known.port) == (runtime, port):
        return f"dev PostgreSQL: running already at 127.0.0.1:{port}"
    try:
        if known:
            down()  # a clone has one: one on another port would never be stopped
        if is_taken(port):
            raise DevPostgresError(
                f"port {port} is taken by something else, choose another with POSTGRES_PORT={port + 1}"
            )
        start = _start_container if runtime == "docker" else _start_embedded
        database = start(port, known if known and known.runtime == runtime else None)
    except (DevPostgresError, ComposeError, OSError, subprocess.SubprocessError) as error:
        return f"dev PostgreSQL: none ({error}); the service has the static database_url"
    where = "in Docker" if runtime == "docker" else f"embedded, pid {database.pid}, data in {database.directory}"
    return f"dev PostgreSQL: started at 127.0.0.1:{port} ({where})"


def down() -> str:
    """Stop it and keep its data; return a line that says what was done."""
    known = remembered()
    if known is None or not known.is_running:
        return "dev PostgreSQL: not running"
    if known.runtime == "docker":
        compose(COMPOSE_FILE, "rm", "--stop", "--force", SERVICE)
    elif known.pid is not None:
        _stop(known.pid, known)
    _remember(replace(known, pid=None))
    return "dev PostgreSQL: stopped (its data stay)"


def clean() -> None:
    """Stop it and remove its data."""
    down()
    known = remembered()
    if known and known.runtime == "docker":
        compose(COMPOSE_FILE, "down", "--volumes")
    elif known and (Path(known.directory) / "data/PG_VERSION").exists():
        shutil.rmtree(known.directory)
    STATE_FILE.unlink(missing_ok=True)


def remembered() -> DevDatabase | None:
    """Return what is known of the PostgreSQL that `up` started last."""
    try:
        return DevDatabase(**json.loads(STATE_FILE.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _remember(database: DevDatabase) -> None:
    write_private(STATE_FILE, json.dumps(asdict(database)))  # the Makefile reads the port in it


def _start_embedded(port: int, known: DevDatabase | None) -> DevDatabase:
    in_wheel()  # before a folder is made
    is_there = known is not None and known.directory and Path(known.directory).is_dir()
    directory = Path(known.directory) if known and is_there else usable_directory(STATE / "postgres")
    password = known.password if known else ""
    # before it starts, so that what a failed start leaves is found again
    _remember(DevDatabase("embedded", port, password, str(directory)))
    server = start_embedded(port, directory, password=password or None)
    database = DevDatabase("embedded", port, server.password, str(directory), server.process.pid)
    _remember(database)
    return database


def _start_container(port: int, known: DevDatabase | None) -> DevDatabase:
    password = known.password if known else secrets.token_hex(16)
    database = DevDatabase("docker", port, password, pid=0)
    _remember(database)  # before it starts: `down` removes what a failed start leaves, too
    compose(COMPOSE_FILE, "up", "-d", SERVICE, POSTGRES_PORT=str(port), POSTGRES_PASSWORD=password)
    deadline = time.monotonic() + START_DEADLINE
    while True:
        try:
            compose(COMPOSE_FILE, "exec", "-T", SERVICE, "sh", "-c", SET_PASSWORD)
        except ComposeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return database


def _stop(pid: int, known: DevDatabase) -> None:
    os.kill(pid, signal.SIGINT)  # SIGTERM would wait until all have gone
    deadline = time.monotonic() + STOP_DEADLINE
    while known.is_running:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGQUIT)  # it recovers at the next start
            deadline += STOP_DEADLINE
        time.sleep(0.02)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Start or stop the PostgreSQL beside the dev Vault.")
    parser.add_argument("action", choices=["up", "down", "clean"])
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, choices=range(1, 65536), metavar="PORT")
    arguments = parser.parse_args()
    try:
        match arguments.action:
            case "up":
                print(up(arguments.port))
            case "down":
                print(down())
            case _:
                clean()
    except (ComposeError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
