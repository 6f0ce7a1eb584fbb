"""What every test may ask for.

`vault` is a real server: by default the embedded one, started once a process on a free port; the same tests run a
second time on HashiCorp's image where a Docker engine answers (`tests/servers.py`). `VAULT_TEST_URL` and
`VAULT_TEST_TOKEN` point the suite at a server that is running already, instead of the embedded one.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

import hvac.exceptions
import hypothesis
import pytest

from app.config import Settings
from app.core.logs import redaction
from app.core.logs.event_log import journal
from app.core.logs.secret_search import Matcher
from app.vault import close_sessions
from infrastructure.dev_vault import start_embedded
from tests.extras.conjur.fixtures import conjur, conjur_servers  # extra: conjur
from tests.support import Vault, free_port, has_kv_2, until

__all__ = ["conjur", "conjur_servers"]  # extra: conjur

pytest_plugins = ["tests.servers", "tests.output", "tests.postgres", "tests.issuing"]

ROOT_TOKEN = "root-token-of-the-tests"
EXTERNAL = os.environ.get("VAULT_TEST_URL"), os.environ.get("VAULT_TEST_TOKEN", ROOT_TOKEN)
IMAGE = os.environ.get("VAULT_IMAGE", "hashicorp/vault:1.21")

# how long an example takes says nothing where a machine is busy
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

STEERING = ("VAULT_", "VAULTS__", "BAO_", "SECRET_", "CONJUR_", "LOG_", "STATUS_", "ALLOWED_", "CORS_")  # a service

Servers = Callable[[str], Vault]


@pytest.fixture(autouse=True)
def _clean_environment(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """Hide the developer's variables and `.env`, leave a token that must never be used, and forget sessions."""
    if "caplog" in request.fixturenames:  # another test may have had its service log nothing
        logging.getLogger().setLevel(logging.INFO)
    for name in list(os.environ):
        if name.startswith(STEERING) or name in {"ENVIRONMENT", "API_DOCS"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("VAULT_TOKEN", "junk-from-the-shell")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(redaction, "_held", {})  # what one test holds must not mask what another one logs
    monkeypatch.setattr(redaction, "_matcher", Matcher(()))
    Settings.settings_clear_cache()
    journal.clear()
    yield
    close_sessions()
    Settings.settings_clear_cache()


@pytest.fixture(scope="session")
def vault_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Start each kind of server when it is first asked for; all end with the test run."""
    with ExitStack() as stack:

        def embedded() -> Vault:
            url, token = EXTERNAL
            if url:
                return Vault(url, token)
            server = start_embedded(free_port(), tmp_path_factory.mktemp("vault"), ROOT_TOKEN)
            stack.callback(server.stop)
            return Vault(server.url, ROOT_TOKEN, server.audit_log)

        def docker() -> Vault:
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of its own decorator
                from testcontainers.community.vault import VaultContainer  # noqa: PLC0415 - slow, and only needed here

            container = VaultContainer(IMAGE, root_token=ROOT_TOKEN).with_env("BAO_DEV_ROOT_TOKEN_ID", ROOT_TOKEN)
            container.with_env("BAO_DEV_LISTEN_ADDRESS", "0.0.0.0:8200")
            stack.enter_context(container)
            return Vault(container.get_connection_url(), ROOT_TOKEN)

        @cache
        def server(runtime: str) -> Vault:
            vault = embedded() if runtime == "embedded" else docker()
            stack.callback(vault.client.adapter.close)
            with suppress(hvac.exceptions.InvalidRequest):  # it is enabled already
                vault.client.sys.enable_auth_method("approle")
            until(lambda: has_kv_2(vault.client), "the KV engine to be ready")
            return vault

        yield server


@pytest.fixture
def vault(vault_server: str, vault_servers: Servers) -> Vault:
    """Return a real server: each in turn that `tests/servers.py` finds."""
    return vault_servers(vault_server)
