"""How is the service put together? The only place where things are wired."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module

from fastapi import FastAPI

from app import TITLE, VERSION
from app.app_secrets import AppSecrets
from app.body_limit import LimitBody
from app.config import MAIN_VAULT, Settings, get_settings
from app.config_conjur import CONJUR
from app.errors import BadSettings
from app.key_storage import open_api_keys
from app.logging_config import configure_logging
from app.metrics import install_metrics
from app.observability import PlainStartFailure
from app.resolution import local_overrides
from app.rotating import Rotating
from app.routes import api_keys, health, home, status, tokens
from app.routes.problems import install_problems
from app.secret_store import SecretStore
from app.signing_keys import signing_keys_builder
from app.sources import refresher_of
from app.vault import close_sessions, recent_values
from app.vault_writing import after_writes


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the secrets, keep them fresh while the service runs, and give the token back at the end."""
    settings: Settings = app.state.settings
    try:
        async with app.state.metrics.counting(), app.state.refresher.running(fail_fast=settings.vault.fail_fast):
            with after_writes(app.state.refresher.catch_up):
                yield
    finally:
        await asyncio.to_thread(close_sessions)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the service. Without `settings` they come from the environment; if they are wrong, the process ends."""
    try:
        settings = settings or get_settings()
        issued_keys = open_api_keys(settings)
    except BadSettings as error:
        raise SystemExit(str(error)) from None
    configure_logging(settings.log_level, settings.log_format)

    store = SecretStore(AppSecrets, [MAIN_VAULT, *settings.vaults, CONJUR], overrides=local_overrides(settings))
    history = partial(recent_values, settings.vault, store)
    signing_keys = Rotating(
        "signing keys", ("jwt_secret",), signing_keys_builder(history, settings.vault.refresh_interval)
    )

    app = FastAPI(title=TITLE, version=VERSION, lifespan=lifespan)
    app.state.settings = settings
    app.state.vault_secrets = store
    app.state.rotating = {signing_keys.name: signing_keys}
    app.state.api_keys = issued_keys
    app.state.refresher = refresher_of(settings, store, app.state.rotating, app.state.api_keys)

    install_problems(app)
    observing = install_metrics(app, settings, app.state.refresher)
    for middleware in (LimitBody, observing, PlainStartFailure):  # the last one is the outermost
        app.add_middleware(middleware)
    for routes in (home, health, tokens, api_keys, status):
        app.include_router(routes.router)
    if settings.third_party_url:  # imported only then: an HTTP client takes its time
        import_module("app.third_party").install(app, settings.third_party_url)
    return app


app = create_app()
