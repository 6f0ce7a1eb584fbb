"""A real Agent that writes a new token into a file every few seconds: the service goes on, and takes what is new."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from infrastructure.processes import Callers
from tests.auto_auth import logging_in, started
from tests.declared import fingerprint_of
from tests.support import DEADLINE, READ_POLICY, SECRETS, Service, Vault, environment, unique, until

TOKENS = 5  # that follow the first one
CONFIG = 'vault {{ address = "{vault}" }}\n'
SINK = """sink "file" {{ config = {{
    path = "{sink}"
    mode = 384
  }} }}"""


class Load(Callers):
    """Callers that use a secret without pause."""

    def __init__(self, service: Service) -> None:
        super().__init__(4)
        self._url = f"{service.url}/fingerprint"
        self.answers: dict[str, int] = {}

    def call(self) -> None:
        """Count the answers, by their text."""
        with requests.Session() as http:
            while not self.done.is_set():
                try:
                    answer = http.get(self._url, timeout=DEADLINE)
                    said = answer.json() if answer.ok else f"{answer.status_code} {answer.text}"
                except requests.RequestException as error:
                    said = type(error).__name__
                self.answers[said] = self.answers.get(said, 0) + 1


@contextmanager
def agent(vault: Vault, directory: Path, login: dict[str, Any]) -> Iterator[Path]:
    """Run one, and return its sink once a token is in it."""
    sink = directory / "token"
    config = CONFIG.format(vault=vault.url) + logging_in(login, directory, SINK.format(sink=sink))
    process = started("agent", config, directory)
    try:
        until(lambda: sink.exists() and sink.read_text(), "the Agent to have logged in")
        yield sink
    finally:
        process.terminate()
        process.wait(DEADLINE)


@pytest.mark.slow
def test_a_token_that_changes_every_few_seconds_costs_no_request(vault: Vault, tmp_path: Path) -> None:
    """Each is good for 3 s and renewed by nobody but the Agent; a rotation arrives, and no token of its is revoked."""
    vault.write(path := unique("sink"), SECRETS)
    login = vault.app_role(path, policy=READ_POLICY, token_ttl="3s", token_max_ttl="3s")
    with agent(vault, tmp_path, login) as sink:
        settings = {"enabled": "true", "url": vault.url, "secret_path": path, "auth_method": "token"}
        variables = environment({**settings, "token_file": sink, "refresh_interval": "0.5"})
        with Service(tmp_path, variables) as service:
            until(lambda: service.get("/health/ready").ok, "the service")
            load, seen = Load(service), {sink.read_text()}

            def has_seen(number: int) -> bool:
                seen.add(sink.read_text())
                return len(seen) - 1 >= number

            with load.running(), vault.audited() as calls:
                until(lambda: has_seen(TOKENS), "tokens to follow each other")
                vault.write(path, {**SECRETS, "jwt_secret": (rotated := "rotated-" * 5)})
                until(lambda: fingerprint_of(rotated) in load.answers, "the rotation to arrive")
    assert {*load.answers} == {fingerprint_of(SECRETS["jwt_secret"]), fingerprint_of(rotated)}
    assert "auth/token/revoke-self" not in [where for _, where in calls]
