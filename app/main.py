"""How is the service put together? The only place where things are wired."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from app import TITLE, VERSION
from app.app_secrets import AppSecrets
from app.body_limit import LimitBody
from app.config import Settings, get_settings
from app.errors import BadSettings
from app.logging_config import configure_logging
from app.observability import ObserveRequests, PlainStartFailure
from app.refresh import Keeper, kept_fresh
from app.routes import health, home, tokens
from app.routes.problems import install_problems
from app.secret_store import SecretStore
from app.token_life import TokenKeeper
from app.vault import close_sessions, get_session, local_overrides, read_vault


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the secrets, keep them fresh while the service runs, and give the token back at the end."""
    settings: Settings = app.state.settings
    try:
        async with kept_fresh(
            app.state.vault_secrets,
            app.state.keepers,
            upkeep=[TokenKeeper(get_session(settings.vault)).tick] if settings.vault.enabled else [],
            fail_fast=settings.vault.fail_fast,
        ):
            yield
    finally:
        await asyncio.to_thread(close_sessions)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the service. Without `settings` they come from the environment; if they are wrong, the process ends."""
    try:
        settings = settings or get_settings()
    except BadSettings as error:
        raise SystemExit(str(error)) from None
    configure_logging(settings.log_level, settings.log_format)

    app = FastAPI(title=TITLE, version=VERSION, lifespan=lifespan)
    app.state.settings = settings
    app.state.vault_secrets = SecretStore(AppSecrets, sources=["vault"], overrides=local_overrides(settings))
    app.state.keepers = []
    if settings.vault.enabled:
        app.state.keepers.append(Keeper("vault", partial(read_vault, settings.vault), app.state.vault_secrets))

    install_problems(app)
    for middleware in (LimitBody, ObserveRequests, PlainStartFailure):  # the last one is the outermost
        app.add_middleware(middleware)
    for routes in (home, health, tokens):
        app.include_router(routes.router)
    return app


app = create_app()
