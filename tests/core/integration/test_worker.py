"""`running`: live secrets without HTTP, from a real Vault that issues users of a real PostgreSQL."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from app.config import PROVIDERS, Settings
from app.core.errors import BackendError, SecretUnavailable
from app.core.run.worker import running
from app.core.store.provider import Blueprint
from app.core.store.rotating import Rotating
from tests.declared import DeclaredForTests, fingerprint_of
from tests.issuing import Issuer, let_in
from tests.support import SECRETS, Vault, free_port, unique

BLUEPRINT = Blueprint(DeclaredForTests, Settings, PROVIDERS)
OTHER = "another-" * 5


async def seen(secrets: Mapping[str, Any], name: str, value: str) -> None:
    """Wait until a secret has a value."""
    async with asyncio.timeout(30):
        while secrets[name] != value:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def build(secrets: Mapping[str, Any], _old: object) -> str:
    """Build what follows a secret."""
    return fingerprint_of(secrets["jwt_secret"])


def test_a_worker_and_its_objects_follow_a_rotation(vault: Vault) -> None:
    """Without a restart; in the end its token is revoked."""
    vault.write(path := unique("worker"), SECRETS)
    settings = Settings.model_validate({"vault": {**vault.app_role(path), "refresh_interval": "0.3"}})
    follower = Rotating("fingerprint", ("jwt_secret",), build)

    async def work() -> None:
        async with running(BLUEPRINT, settings, {"fingerprint": follower}) as secrets:
            assert secrets["jwt_secret"] == SECRETS["jwt_secret"]
            async with follower.borrow() as held:
                assert held == fingerprint_of(SECRETS["jwt_secret"])
            await asyncio.to_thread(vault.write, path, {**SECRETS, "jwt_secret": OTHER})
            await seen(secrets, "jwt_secret", OTHER)
            async with asyncio.timeout(30):
                while True:
                    async with follower.borrow() as held:
                        if held == fingerprint_of(OTHER):
                            return
                    await asyncio.sleep(0.05)

    with vault.audited() as calls:
        asyncio.run(work())
    assert [called for _, called in calls].count("auth/token/revoke-self") == 1


def test_a_cancelled_worker_gives_back_what_was_issued(issuing: Issuer) -> None:
    """Tokens and leases; meanwhile the credentials are renewed."""
    role = issuing.role(default_ttl="3s", max_ttl="60s")
    issuing.vault.write(path := unique("worker"), SECRETS)
    url = "postgresql://{dynamic://db/username}:{dynamic://db/password}@127.0.0.1:" + f"{issuing.postgres.port}/shop"
    login = {**issuing.login(role, path), "secret_path": path}
    settings = Settings.model_validate({"vault": login, "secrets": {"database_url": url}})
    found: list[str] = []
    enough = asyncio.Event()

    async def work() -> None:
        async with running(BLUEPRINT, settings) as secrets:
            found.append(secrets["database_url"])
            await asyncio.sleep(4)
            assert await asyncio.to_thread(let_in, secrets["database_url"])
            found.append(secrets["database_url"])
            enough.set()
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.wait((task, asyncio.create_task(enough.wait())), return_when=asyncio.FIRST_COMPLETED, timeout=30)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert len(found) == 2, "after the lease's first end they were good: renewed or replaced"
    assert not issuing.users(role)


@pytest.mark.parametrize("fail_fast", [True, False])
def test_a_worker_without_its_vault(*, fail_fast: bool) -> None:
    """It starts and waits, or raises why it cannot."""
    vault = {"enabled": True, "url": f"http://127.0.0.1:{free_port()}", "token": unique("t"), "fail_fast": fail_fast}
    settings = Settings.model_validate({"vault": vault})

    async def work() -> None:
        async with running(BLUEPRINT, settings) as secrets:
            with pytest.raises(SecretUnavailable):
                secrets["api_key"]
            raise SecretUnavailable("the work", "it has begun", "")

    with pytest.raises(BackendError if fail_fast else SecretUnavailable):
        asyncio.run(work())
