"""How does a worker without HTTP hold live secrets? `async with running(…) as secrets:`, as fresh as in the service."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from app.core.settings.app import AppSettings
from app.core.store.provider import Blueprint
from app.core.store.refreshers import refresher_of
from app.core.store.rotating import Rotating
from app.core.store.secret_store import SecretStore
from app.core.store.sessions import close_sessions
from app.core.store.source import Secret, Source, read_source
from app.core.store.writes import after_writes

Objects = Mapping[str, Rotating[Any]]  # built from secrets, by their names
Live = AbstractAsyncContextManager[SecretStore]


@asynccontextmanager
async def running(
    blueprint: Blueprint,
    settings: AppSettings | None = None,
    rotating: Objects | None = None,
    *,
    load: Callable[[Source], tuple[Secret, ...]] = read_source,
) -> AsyncIterator[SecretStore]:
    """Load the secrets, keep them and what is built from them fresh, and give tokens and leases back at the end.

    However the block ends, be it by a cancellation. Raises a `BlueprintError` if the settings are wrong, and with
    `VAULT_FAIL_FAST` if not all secrets are there; without it, reading one that is not raises `SecretUnavailable`.
    """
    settings = settings or blueprint.settings.of_environment()
    sources = blueprint.providers.sources(settings)
    refresher = refresher_of(blueprint.declared, sources, settings.secrets, load, {} if rotating is None else rotating)
    async with refresher.running(fail_fast=settings.vault.fail_fast, at_end=close_sessions):
        with after_writes(refresher.catch_up):
            yield refresher.store
