"""`python -m app exec` with credentials that a real Vault issues for a real PostgreSQL: kept while the command runs."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from app.core.settings.vault import VaultSettings
from app.core.vault.session import VaultSession
from app.core.vault.source import VaultSource
from infrastructure.processes import surroundings
from tests.issuing import Issuer
from tests.support import DEADLINE, SECRETS, environment, unique, until

LOG_IN = """
import asyncio, asyncpg, os, sys, time
time.sleep(float(sys.argv[1]))
async def ask():
    connection = await asyncpg.connect(os.environ["DATABASE_URL"], timeout=10)
    print(await connection.fetchval("SELECT session_user"))
    await connection.close()
asyncio.run(ask())
"""
WAIT = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"


def variables(issuing: Issuer, role: str, url: str = "", **options: Any) -> dict[str, str]:
    """Return the environment of a service whose database's user is issued."""
    issuing.vault.write(path := unique("app"), SECRETS)
    login = issuing.login(role, path, **options)
    dynamic = login.pop("dynamic")
    login |= {"url": url or login["url"], "secret_path": path}
    return surroundings(environment(login)) | {
        "VAULT_DYNAMIC__DB": dynamic["db"],
        "SECRET_DATABASE_URL": "postgresql://{dynamic://db/username}:{dynamic://db/password}@127.0.0.1:"
        f"{issuing.postgres.port}/shop",
    }


@contextmanager
def executing(directory: Path, surrounding: dict[str, str], *command: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `python -m app exec -- COMMAND` during the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.command_line", "exec", "--", *command],
        cwd=directory,
        env=surrounding,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # no terminal
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_credentials_are_kept_until_the_end_and_then_given_back(issuing: Issuer, tmp_path: Path) -> None:
    """A command that runs longer than its credentials are good for can log in at its end."""
    role = issuing.role(default_ttl="3s", max_ttl="60s")
    with executing(tmp_path, variables(issuing, role), sys.executable, "-c", LOG_IN, "8") as process:
        said, complaints = process.communicate(timeout=DEADLINE)
    assert (process.returncode, complaints) == (0, "")
    assert said.startswith("v-"), "it is the user that Vault has issued"
    assert not issuing.users(role), "nobody waits for the end of the lease"


def test_the_exit_code_is_passed_on(issuing: Issuer, tmp_path: Path) -> None:
    """And standard input and output are the command's own."""
    role = issuing.role()
    with executing(tmp_path, variables(issuing, role), "sh", "-c", "echo $VAULT_ROLE_ID; exit 7") as process:
        assert process.wait(DEADLINE) == 7
    assert not issuing.users(role)


@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("/", 126)])
def test_a_command_that_cannot_be_started_leaves_nothing(
    issuing: Issuer, tmp_path: Path, command: str, code: int
) -> None:
    """What was issued for it goes at once."""
    role = issuing.role()
    with executing(tmp_path, variables(issuing, role), command) as process:
        _, complaints = process.communicate(timeout=DEADLINE)
    assert (process.returncode, complaints.startswith(f"error: {command}: ")) == (code, True), complaints
    assert not issuing.users(role)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1])
def test_a_signal_ends_the_command_and_then_us(issuing: Issuer, tmp_path: Path, number: signal.Signals) -> None:
    """By the same signal, as a shell would see it without us; and the user goes."""
    role = issuing.role()
    wait = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL);" + WAIT
    with executing(tmp_path, variables(issuing, role), sys.executable, "-c", wait) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert len(issuing.users(role)) == 1
        process.send_signal(number)
        assert process.wait(DEADLINE) == -number
    assert not issuing.users(role)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_command_may_heed_a_signal_and_go_on(issuing: Issuer, tmp_path: Path) -> None:
    """We end when it does."""
    heed = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
        "signal.signal(signal.SIGUSR2, lambda *_: os.write(1, b'heard\\n'))\n"  # `print` is not reentrant
        "print('ready', flush=True)\nwhile True: signal.pause()"
    )
    with executing(tmp_path, variables(issuing, issuing.role()), sys.executable, "-c", heed) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR2)
        assert process.stdout.readline() == "heard\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 5


def test_a_signal_that_is_ignored_stays_so(issuing: Issuer, tmp_path: Path) -> None:
    """Of `nohup` one expects that a terminal may be closed."""
    show = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with executing(tmp_path, variables(issuing, issuing.role()), sys.executable, "-c", show) as process:
            assert process.communicate(timeout=DEADLINE)[0] == "True\n"
    finally:
        signal.signal(signal.SIGHUP, former)


def test_the_end_of_what_cannot_be_prolonged_is_told_once(issuing: Issuer, tmp_path: Path) -> None:
    """New credentials could not reach the command: none are issued."""
    role = issuing.role(default_ttl="3s", max_ttl="4s")
    with executing(tmp_path, variables(issuing, role), sys.executable, "-c", WAIT.replace("60", "6")) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(issuing.users(role)) == 1
        _, complaints = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    (told,) = [json.loads(line) for line in complaints.splitlines() if "lease_ends" in line]
    assert (told["dynamic"], told["path"]) == ("db", f"database/creds/{role}")
    assert "lease_issued" not in complaints


@pytest.mark.slow
def test_a_new_login_does_not_end_what_the_old_one_keeps(issuing: Issuer, tmp_path: Path) -> None:
    """The former token is revoked after the command, with its user; meanwhile the lease is renewed."""
    role = issuing.role(default_ttl="3s", max_ttl="60s")
    shown = variables(issuing, role, token_ttl="30s", token_max_ttl="30s")
    with executing(tmp_path, shown | {"LOG_LEVEL": "INFO"}, sys.executable, "-c", LOG_IN, "24") as process:
        said, told = process.communicate(timeout=DEADLINE)
    assert (process.returncode, said[:2]) == (0, "v-"), told
    assert told.count("token_obtained") == 1, "the second: the first was before the log began"
    assert told.count("token_revoked") == 2
    assert told.rindex("lease_renewed") > told.index("token_obtained"), "with the former token"
    assert not issuing.users(role)


def test_no_end_is_told_of_what_a_renewal_prolongs(issuing: Issuer) -> None:
    """Neither the lease's nor its token's; a token that nobody renews ends both."""
    settings = VaultSettings.model_validate(issuing.login(issuing.role(), token_ttl="20m"))
    late, real = 0.0, time.monotonic
    session = VaultSession(settings, lambda: real() + late)
    source = VaultSource(settings, session=session)
    source.load()
    renew_lease, renew_token = source.periodic()["leases of vault"], source.periodic()["token of vault"]
    with capture_logs() as logs:
        for _ in range(20):
            late += 240
            renew_token()
            assert renew_lease() <= 60
        assert "lease_ends" not in {line["event"] for line in logs}
        assert "lease_renewed" in {line["event"] for line in logs}
        for _ in range(4):
            late += 240
            renew_lease()
        until_told = renew_lease()
        assert 0 < until_told <= 60
        late += 60
        assert [renew_lease(), renew_lease()] == [60, 60]
    assert [line["dynamic"] for line in logs if line["event"] == "lease_ends"] == ["db"]
    session.close()


class Relay:
    """A way to Vault that can be cut."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self.is_cut = False

    @contextmanager
    def running(self) -> Iterator[str]:
        """Be there during the block; returns the address."""
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            self._loop.call_soon_threadsafe(server.close)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.run_until_complete(self._end())
            self._loop.close()

    def cut(self) -> None:
        """Let nobody through."""
        self.is_cut = True
        self._loop.call_soon_threadsafe(self._abort)

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _abort(self) -> None:
        for each in self._writers:
            each.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        to_reader, to_writer = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._writers |= {writer, to_writer}
        await asyncio.gather(_copy(reader, to_writer), _copy(to_reader, writer), return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
    writer.close()


@pytest.mark.slow
def test_an_outage_of_vault_does_not_disturb_the_command(issuing: Issuer, tmp_path: Path) -> None:
    """The renewal is made up for when Vault is back."""
    role = issuing.role(default_ttl="6s", max_ttl="60s")
    relay = Relay(issuing.vault.url)
    with relay.running() as url:
        shown = variables(issuing, role, url) | {"VAULT_MAX_RETRIES": "0"}
        with executing(tmp_path, shown, sys.executable, "-c", LOG_IN, "8") as process:
            until(lambda: issuing.users(role), "the user to be issued")
            relay.cut()
            time.sleep(4.3)
            relay.is_cut = False
            said, complaints = process.communicate(timeout=DEADLINE)
    assert (process.returncode, said[:2]) == (0, "v-"), complaints
    assert "lease_renewal_failed" in complaints
    until(lambda: not issuing.users(role), "the user to go")
