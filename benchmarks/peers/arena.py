"""What do the peers meet? A real OpenBao server, whose requests and tokens are counted, and their processes."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac

from benchmarks.peers.environments import HERE, Column
from infrastructure.dev_vault import EmbeddedVault
from infrastructure.processes import DEADLINE

FIELDS = 6
POLICY = 'path "secret/data/*" { capabilities = ["read"] }\n'
INTERVAL = "5"  # seconds between the blueprint's rounds; a service has 300, unless it is told
Found = dict[str, Any]


def write(client: hvac.Client, path: str, value: str) -> None:
    """Give all fields of a secret a value, wherever a peer looks for them."""
    values = {f"field_{n}": value for n in range(FIELDS)}
    for where, what in {path: values, f"{path}/supersecrets": values, f"{path}/secrets": {}}.items():
        client.secrets.kv.v2.create_or_update_secret(where, what)


@dataclass(frozen=True)
class Access:
    """How the peers get in: by AppRole, or with a token where one knows no login."""

    root: hvac.Client
    url: str
    home: Path
    life: dict[str, str]  # of tokens

    @classmethod
    def through(cls, root: hvac.Client, url: str, home: Path, ttl: str, max_ttl: str) -> "Access":
        """Set up policy and AppRole; tokens live so long."""
        life = {"ttl": ttl, "max_ttl": max_ttl}
        root.sys.create_or_update_policy("peers", POLICY)
        with suppress(hvac.exceptions.InvalidRequest):  # it is there
            root.sys.enable_auth_method("approle")
        options = {f"token_{name}": text for name, text in life.items()}
        root.auth.approle.create_or_update_approle("peers", token_policies=["peers"], **options)
        return cls(root, url, home, life)

    def variables(self, path: str) -> dict[str, str]:
        """Return what a peer's process is told."""
        approle, life = self.root.auth.approle, self.life
        token = self.root.auth.token.create(
            policies=["peers"], ttl=life["ttl"], explicit_max_ttl=life["max_ttl"], no_parent=True
        )
        return {
            "PEER_URL": self.url,
            "PEER_PATH": path,
            "PEER_ROLE_ID": approle.read_role_id("peers")["data"]["role_id"],
            "PEER_SECRET_ID": approle.generate_secret_id("peers")["data"]["secret_id"],
            "PEER_TOKEN": token["auth"]["client_token"],
            "VAULT_REFRESH_INTERVAL": INTERVAL,
        }

    @contextmanager
    def process(self, column: Column, told: dict[str, str], *scene: str) -> Iterator["subprocess.Popen[str]"]:
        """Have a peer play a scene; its input ends with the block."""
        given = column.variables(told, self.home)
        with (self.home / f"{column.name}.log").open("a") as log:
            process = subprocess.Popen(
                [column.python, HERE / f"{column.name}.py", *scene],
                cwd=self.home,
                env=given,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        finally:
            if process.stdin:
                process.stdin.close()
            process.wait(DEADLINE)

    def played(self, column: Column, told: dict[str, str], *scene: str) -> list[Found]:
        """Return what a peer says of a scene."""
        with self.process(column, told, *scene) as process:
            lines = process.stdout.readlines() if process.stdout else []
        if process.returncode or not lines:
            raise RuntimeError(f"{column.name} {scene}: {(self.home / f'{column.name}.log').read_text()[-2000:]}")
        return [json.loads(line) for line in lines]


def requests_to(vault: EmbeddedVault, since: int = 0) -> list[str]:
    """Return the paths that the server was asked for, without the first so many."""
    entries = (json.loads(line) for line in vault.audit_log.read_text().splitlines()[since:])
    return [entry["request"]["path"] for entry in entries if entry["type"] == "request"]


def lines_of(vault: EmbeddedVault) -> int:
    """Return how many lines its audit log has."""
    return vault.audit_log.read_text().count("\n")


def tokens_of(client: hvac.Client) -> int:
    """Return how many tokens there are."""
    return len(client.auth.token.list_accessors()["data"]["keys"])
