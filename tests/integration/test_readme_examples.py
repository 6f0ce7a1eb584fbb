"""What the README shows works as written in a fresh clone, and what it quotes is what happens."""

import json
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
from infrastructure.seed import seed
from tests.support import ROOT, Service, free_port

ROOT_TOKEN = "root-for-the-examples"
README = (ROOT / "README.md").read_text()
POLICY = Path("infrastructure/policies/python-production-blueprint.hcl")


def blocks(heading: str, language: str) -> list[str]:
    """Return the code blocks of a section."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return [block for its_language, block in found if its_language == language]


@pytest.fixture
def dev_vault(tmp_path: Path) -> Iterator[EmbeddedVault]:
    """Start and seed a dev Vault as `make run` does; the working directory is like a fresh clone's."""
    shutil.copy(ROOT / ".env.example", tmp_path)
    (tmp_path / POLICY.parent).mkdir(parents=True)
    server = start_embedded(free_port(), tmp_path / "vault", ROOT_TOKEN)
    try:
        seed(server.url, ROOT_TOKEN)
        yield server
    finally:
        server.stop()


def variables(server: EmbeddedVault) -> dict[str, str]:
    """Return what differs from `.env`."""
    return {"VAULT_URL": server.url, "VAULT_TOKEN": "", "LOG_FORMAT": "json"}


def run(server: EmbeddedVault, *command: str) -> str:
    """Run a command in the clone, and return what it wrote; it must succeed."""
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables(server)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def script(block: str) -> str:
    """Return what a person would type, to be run by a shell that stops at the first failure."""
    lines = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    assert lines
    return "\n".join(["set -eu", *lines]).replace("python -m app", f"{sys.executable} -m app")


def test_the_commands_work(dev_vault: EmbeddedVault) -> None:
    """All of them, one after the other; and the policy that they print is the one that is in force."""
    (block,) = blocks("The command line", "console")
    written = run(dev_vault, "/bin/sh", "-c", script(block))
    assert "/tls: version 2\n" in written
    assert POLICY.read_text() == (ROOT / POLICY).read_text()


def test_the_calls_work(dev_vault: EmbeddedVault) -> None:
    """Reading and writing outside handlers."""
    found = [block for block in blocks("This is all you write", "python") if block.startswith("from app.vault import")]
    assert len(found) == 2
    for block in found:
        run(dev_vault, sys.executable, "-c", block)


def test_api_keys_work(dev_vault: EmbeddedVault, tmp_path: Path) -> None:
    """Issued, listed, rotated and revoked."""
    if not shutil.which("curl"):
        pytest.skip("there is no curl here")
    with Service(tmp_path, variables(dev_vault)) as service:
        (block,) = blocks("API keys", "console")
        text = script(block).replace("localhost:8000", service.url).replace("curl ", "curl -fsS ")
        written = run(dev_vault, "/bin/sh", "-c", text)
    assert '"name":"alice"' in written


def test_what_is_quoted_of_a_start_is_what_happens(dev_vault: EmbeddedVault, tmp_path: Path) -> None:
    """The log lines, Vault's audit log, and what ready says while Vault is sealed; all but times and addresses."""
    audit, start = dev_vault.audit_log, dev_vault.audit_log.stat().st_size
    with Service(tmp_path, variables(dev_vault)) as service:
        service.stop()
    unready, log = blocks("When Vault is down", "json")
    quoted = [json.loads(line) for line in log.splitlines()]
    happened = [event for event in service.events if event["logger"] in {line["logger"] for line in quoted}]
    assert in_any_order(happened) >= in_any_order(quoted)

    with audit.open() as lines:
        lines.seek(start)
        entries = [json.loads(line) for line in lines]
    calls = [entry["request"] for entry in entries if entry["type"] == "request"]
    (excerpt,) = (block for block in blocks("When Vault is down", "") if block.startswith("update"))
    assert sorted((call["operation"], call["path"]) for call in calls) == sorted(
        (operation, path) for operation, path in map(str.split, excerpt.splitlines())
    )

    client = hvac.Client(url=dev_vault.url, token=ROOT_TOKEN)
    client.sys.seal()
    client.adapter.close()
    with Service(tmp_path, variables(dev_vault)) as service:
        answer = service.get("/health/ready").text.replace(dev_vault.url, "http://127.0.0.1:8200")
    assert answer == unready.strip()


def in_any_order(events: list[dict[str, object]]) -> set[str]:
    """Leave out when it was: two sources answer in any order."""
    return {json.dumps({**event, "timestamp": ""}, sort_keys=True) for event in events}
