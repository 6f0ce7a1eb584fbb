"""What README and the pages show works as written in a fresh clone, and what they quote is what happens."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import requests

from app.config import Settings
from app.core.settings.vault import VaultSettings
from infrastructure.dev_vault import EmbeddedVault
from tests.pages import add_to, blocks, root_client, run, variables
from tests.support import DEADLINE, YOURS, Service, until
from tests.template.clone import Clone, about_our_readme, as_shipped


@about_our_readme
@as_shipped
def test_what_you_write_is_all_that_a_route_needs(clone: Clone) -> None:
    """As it stands in README: `make run` makes up the secret, the route answers, nothing complains of the code."""
    assert add_to(clone.directory, "README.md") == 4
    with clone.running() as service:
        assert requests.get(f"{service.url}/payments/mode", timeout=DEADLINE).text == '"test"'
    checks = (
        ["ruff", "format", "--check", "app"],
        ["ruff", "check", "--ignore", "I001", "app"],  # `make format` sorts the imports
    )
    for check in checks:
        done = subprocess.run(
            [sys.executable, "-m", *check], cwd=clone.directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@about_our_readme
@as_shipped
def test_the_tests_of_your_handlers_work(clone: Clone) -> None:
    """As they stand on the page about them, for the handler of README."""
    handler = blocks("docs/test-your-handlers.md", "python")[0]
    assert any(handler in block for block in blocks("README.md", "python"))
    add_to(clone.directory, "README.md")
    assert add_to(clone.directory, "docs/test-your-handlers.md") == 3
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/app/test_payments.py"],
        cwd=clone.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    for check in (["format", "--check"], ["check"]):
        command = [sys.executable, "-m", "ruff", *check, "tests/app/test_payments.py"]
        looked = subprocess.run(command, cwd=clone.directory, capture_output=True, text=True, check=False)
        assert looked.returncode == 0, looked.stdout


@pytest.mark.parametrize(
    "page", [pytest.param("README.md", marks=about_our_readme), "docs/secrets.md", "docs/writing.md"]
)
def test_the_calls_work(dev_vault: EmbeddedVault, page: str) -> None:
    """Reading and writing outside handlers."""
    (block,) = (block for block in blocks(page, "python") if block.startswith("from app.vault import"))
    run(dev_vault, sys.executable, "-c", block)


@as_shipped
def test_what_is_quoted_of_a_start_is_what_happens(dev_vault: EmbeddedVault, tmp_path: Path) -> None:
    """The log lines, and Vault's audit log; all but times."""
    audit, start = dev_vault.audit_log, dev_vault.audit_log.stat().st_size
    with Service(tmp_path, variables(dev_vault), YOURS) as service:
        service.stop()
    quoted = [json.loads(line) for line in blocks("docs/logs.md", "json")[0].splitlines()]
    happened = [event for event in service.events if event["logger"] in {line["logger"] for line in quoted}]
    assert in_any_order(happened) >= in_any_order(quoted)

    with audit.open() as lines:
        lines.seek(start)
        entries = [json.loads(line) for line in lines]
    calls = [entry["request"] for entry in entries if entry["type"] == "request"]
    (excerpt,) = blocks("docs/logs.md", "")
    assert sorted((call["operation"], call["path"]) for call in calls) == sorted(
        (operation, path) for operation, path in map(str.split, excerpt.splitlines())
    )


@as_shipped
def test_what_is_quoted_of_a_rotation_is_what_happens(dev_vault: EmbeddedVault, tmp_path: Path) -> None:
    """Two keys get new values; all but times."""
    quoted = [json.loads(line) for line in blocks("docs/rotation.md", "json")[0].splitlines()]
    names = {line["event"] for line in quoted}
    with Service(tmp_path, {**variables(dev_vault), "VAULT_REFRESH_INTERVAL": "1"}, YOURS) as service:
        client = root_client(dev_vault)
        at = "/v1/secret/data/python-production-blueprint"
        kept = client.adapter.get(at)["data"]["data"]
        client.adapter.post(at, json={"data": {**kept, "api_key": "k" * 32, "jwt_secret": "j" * 32}})
        client.adapter.close()
        until(lambda: names <= {event["event"] for event in service.events}, "the log lines")
        happened = [event for event in service.events if event["event"] in names]
    assert in_any_order(happened) == in_any_order(quoted)


@as_shipped
def test_what_ready_says_of_a_sealed_vault_is_what_happens(dev_vault: EmbeddedVault, tmp_path: Path) -> None:
    """All but the address."""
    client = root_client(dev_vault)
    client.sys.seal()
    client.adapter.close()
    with Service(tmp_path, variables(dev_vault), YOURS) as service:
        answer = service.get("/health/ready").text.replace(dev_vault.url, "http://127.0.0.1:8200")
    (unready,) = blocks("docs/outages.md", "json")
    assert answer == unready.strip()


def in_any_order(events: list[dict[str, object]]) -> set[str]:
    """Leave out when it was: two sources answer in any order."""
    return {json.dumps({**event, "timestamp": ""}, sort_keys=True) for event in events}


def test_each_example_of_a_login_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings take it as it stands, and every auth method has one."""
    monkeypatch.delenv("VAULT_TOKEN")
    shown = set()
    for line in "".join(blocks("docs/login.md", "sh")).splitlines():
        with monkeypatch.context() as patched:
            for name, value in (assignment.split("=", 1) for assignment in line.split()):
                patched.setenv(name, value)
            settings = Settings()
        shown.add(settings.vault.auth_method if settings.vault.enabled else None)
    assert shown == {None, *get_args(get_args(VaultSettings.__annotations__["auth_method"])[0])}
