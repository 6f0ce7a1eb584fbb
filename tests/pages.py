"""What do the pages of the documentation show? Their code blocks, for tests that do what a reader does."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hvac
import pytest

from infrastructure.dev_vault import EmbeddedVault, start_embedded
from infrastructure.seed import POLICIES, SECRET_PATH, seed_credentials, seed_dotenv, seed_engine, seed_role
from tests.support import ROOT, SECRETS, free_port

ROOT_TOKEN = "root-for-the-examples"


def blocks(page: str, language: str, heading: str = "") -> list[str]:
    """Return the code blocks of a page, or of one of its sections."""
    text = (ROOT / page).read_text()
    if heading:
        text = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for its_language, block in found if its_language == language]


def script(block: str) -> str:
    """Return what a person would type, to be run by a shell that stops at the first failure."""
    lines = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    assert lines
    return "\n".join(["set -eu", *lines]).replace("python -m app", f"{sys.executable} -m tests.command_line")


@pytest.fixture
def dev_vault(tmp_path: Path) -> Iterator[EmbeddedVault]:
    """Start a dev Vault and prepare it as `make run` does, with the secrets of the tests.

    The working directory becomes like a fresh clone's.
    """
    shutil.copy(ROOT / ".env.example", tmp_path)
    (tmp_path / POLICIES.relative_to(ROOT)).mkdir(parents=True)
    server = start_embedded(free_port(), tmp_path / "vault", ROOT_TOKEN)
    try:
        client = root_client(server)
        seed_engine(client)
        client.secrets.kv.v2.create_or_update_secret(SECRET_PATH, SECRETS)
        seed_role(client)
        seed_credentials(client)
        seed_dotenv(server.url)
        client.adapter.close()
        yield server
    finally:
        server.stop()


def root_client(server: EmbeddedVault) -> hvac.Client:
    """Return a client that may do everything; close its adapter."""
    return hvac.Client(url=server.url, token=ROOT_TOKEN, timeout=10)


def variables(server: EmbeddedVault) -> dict[str, str]:
    """Return what differs from `.env`."""
    return {"VAULT_URL": server.url, "VAULT_TOKEN": "", "LOG_FORMAT": "json"}


def run(server: EmbeddedVault, *command: str, code: int = 0) -> str:
    """Run a command in the working directory, and return what it wrote; it must end with this exit code."""
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables(server)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def add_to(clone: Path, page: str) -> int:
    """Put each Python block of a page whose first line says where it belongs into a copy; return how many."""
    found = [re.match(r"# (\w+/\S+), ([^\n]+)\n(.*)", block, re.DOTALL) for block in blocks(page, "python")]
    placed = [match.groups() for match in found if match]
    for path, where, code in placed:
        file = clone / path
        if where == "a new file":
            assert not file.exists()
            file.write_text(code)
            continue
        text = file.read_text()
        place = _place(text, where)
        file.write_text(text[:place] + code + text[place:])
    return len(placed)


def _place(text: str, where: str) -> int:
    if where == "at its end":
        return len(text)
    if where == "with the imports":
        return text.index("from app.")
    if where == "in create_app(), before its return":
        return text.index("    return app\n")
    name = where.removeprefix("in ")
    body = next(node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == name)
    fields = [node for node in body.body if isinstance(node, ast.AnnAssign)] or body.body
    return sum(len(line) for line in text.splitlines(keepends=True)[: fields[-1].end_lineno])
