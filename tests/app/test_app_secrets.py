"""What your service declares, and what `make seed` writes for it."""

from pathlib import Path

import pytest

from app.app_secrets import AppSecrets
from infrastructure.seed import check, fresh_secrets
from tests.support import SECRETS, YOURS, Service, Vault, environment, unique


def test_what_is_seeded_is_as_declared() -> None:
    """Every required secret has a value that fits, so `make run` ends in a service that is ready."""
    check(AppSecrets, fresh_secrets())


@pytest.mark.parametrize("key", ["x", "fifteen-letters"])
def test_an_api_key_that_can_be_guessed_is_refused(vault: Vault, tmp_path: Path, key: str) -> None:
    """At the start nobody is let in by it, later the last good one stays; the reason says how long it must be."""
    vault.write(path := unique("short"), {**SECRETS, "api_key": key})
    variables = environment({**vault.app_role(path), "refresh_interval": "0"})
    good = {"X-API-Key": SECRETS["api_key"]}
    with Service(tmp_path, variables, YOURS) as service:
        assert "api_key: String should have at least 16 characters" in service.get("/health/ready").json()["detail"]
        assert service.post("/token", headers={"X-API-Key": key}).status_code == 503
        vault.write(path, SECRETS)
        service.post("/status/refresh", headers=good)
        assert service.post("/token", headers=good).status_code == 200
        vault.write(path, {**SECRETS, "api_key": key})
        service.post("/status/refresh", headers=good)
        assert service.post("/token", headers={"X-API-Key": key}).status_code == 401
        assert service.post("/token", headers=good).status_code == 200
