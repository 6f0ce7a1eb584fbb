"""The sample tokens through rotations in a real Vault: they stay good."""

import time
from pathlib import Path

import jwt
import pytest

from app import NAME
from app.routes.signing_keys import LEEWAY, TOKEN_LIFETIME
from tests.support import SECRETS, YOURS, Service, Vault, environment, unique, until


def secrets(n: int) -> dict[str, str]:
    """Return a complete set of secrets that belong together."""
    return {**SECRETS, "api_key": f"canary-api-key-{n}", "jwt_secret": f"canary-jwt-secret-{n}-0123456789-0123456789"}


@pytest.fixture
def path(vault: Vault) -> str:
    """Return the path of a complete secret of this test's own."""
    vault.write(path := unique("rotating"), secrets(1))
    return path


def token_of(service: Service, n: int) -> str | None:
    """Return a token, if the service knows the secrets of this number."""
    token: str | None = service.post("/token", headers={"X-API-Key": secrets(n)["api_key"]}).json().get("access_token")
    return token


def test_tokens_stay_good_through_rotations(vault: Vault, path: str, tmp_path: Path) -> None:
    """Those of all former keys, in a service that is not restarted."""
    variables = environment({**vault.app_role(path), "refresh_interval": "0.5"})
    with Service(tmp_path, variables, YOURS) as service:
        tokens = [until(lambda: token_of(service, 1), "a token")]
        for n in (2, 3):
            vault.write(path, secrets(n))
            tokens.append(until(lambda n=n: token_of(service, n), "a token for the new key"))  # type: ignore[misc]
            answers = [service.get("/me", headers={"Authorization": f"Bearer {token}"}) for token in tokens]
            assert [answer.status_code for answer in answers] == [200] * n
    assert "canary" not in service.output


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")  # the forger's key is a short one
def test_tokens_survive_a_restart_right_after_a_rotation(vault: Vault, path: str, tmp_path: Path) -> None:
    """The former version is read once more, and only if it is young enough to matter."""
    settings = environment({**vault.app_role(path), "refresh_interval": "0"})
    with Service(tmp_path, settings, YOURS) as service:
        token = service.post("/token", headers={"X-API-Key": secrets(1)["api_key"]}).json()["access_token"]
    vault.write(path, {**secrets(1), "api_key": "canary-other"})
    vault.write(path, {**secrets(1), "jwt_secret": "refused"})  # never in force
    vault.write(path, secrets(4))
    vault.client.secrets.kv.v2.delete_latest_version_of_secret(path)
    vault.write(path, secrets(2))
    forged = signed("refused", int(time.time()))
    with vault.audited() as calls, Service(tmp_path, settings, YOURS) as service:
        assert service.get("/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert service.get("/me", headers={"Authorization": f"Bearer {forged}"}).status_code == 401
    assert [where for _, where in calls].count(f"secret/data/{path}") == 5


def test_a_former_key_signs_nothing_after_its_successor(vault: Vault, path: str, tmp_path: Path) -> None:
    """Also right after a restart; and with its version destroyed in Vault, a restart drops it at once."""
    settings = environment({**vault.app_role(path), "refresh_interval": "0"})
    vault.write(path, {**secrets(1), "api_key": "canary-api-key-other"})  # the same key: no successor
    written = int(time.time())
    vault.write(path, secrets(2))
    stolen = secrets(1)["jwt_secret"]
    # as if all this had been a minute ago: nobody accepts a token of the future
    before, later = signed(stolen, written - 1), signed(stolen, written + LEEWAY + 2)
    until(lambda: time.time() > written + 4, "the later one to be no token of the future any more")

    def said(token: str) -> int:
        with Service(tmp_path, settings, YOURS) as service:
            return service.get("/me", headers={"Authorization": f"Bearer {token}"}).status_code

    assert said(before) == 200
    assert said(later) == 401
    vault.client.secrets.kv.v2.destroy_secret_versions(path, [1, 2])
    assert said(before) == 401


def signed(key: str, issued: int) -> str:
    """Return a token that looks like one of ours."""
    return jwt.encode({"iss": NAME, "sub": "x", "iat": issued, "exp": issued + TOKEN_LIFETIME}, key)
