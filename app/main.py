"""What is this service? The place where your routes, and your objects that are built from secrets, come in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from pydantic import BaseModel

from app.app_secrets import AppSecrets
from app.config import PROVIDERS, Settings, get_settings
from app.core.store.rotating import Rotating
from app.core.vault.former_values import recent_values
from app.core.web.service import build_service, running, settings_of_environment
from app.extras import (
    api_docs,  # extra: api_docs
    api_keys,  # extra: api_keys
    metrics,  # extra: metrics
    status,  # extra: status
)
from app.routes import database, home, tokens
from app.routes.signing_keys import signing_keys_builder
from app.vault import load_vault_secrets


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep the secrets fresh while the service runs; what you open at the start goes inside."""
    async with running(app):
        yield


def create_app(settings: Settings | None = None, *, declared: type[BaseModel] = AppSecrets) -> FastAPI:
    """Build the service. Without `settings` they come from the environment; if they are wrong, the process ends."""
    settings = settings or settings_of_environment(get_settings)
    app = build_service(
        settings, declared, PROVIDERS, load=load_vault_secrets, admin_key="api_key", lifespan=lifespan
    )  # fills app.state.vault_secrets, at the start and whenever it is due
    api_docs.install(app)  # extra: api_docs
    metrics.install(app)  # extra: metrics
    api_keys.install(app)  # extra: api_keys
    status.install(app)  # extra: status

    history = partial(recent_values, settings.vault, app.state.vault_secrets)
    build_keys = signing_keys_builder("jwt_secret", history, settings.vault.refresh_interval)
    app.state.rotating["signing keys"] = Rotating("signing keys", ("jwt_secret",), build_keys)

    database.install(app)
    app.state.tags["tokens"] = "A short-lived token for an API key, and what it says of its bearer."
    for routes in (home, tokens):
        app.include_router(routes.router)
    return app


app = create_app()
