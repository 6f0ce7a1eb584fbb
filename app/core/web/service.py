"""How is a service put together? Everything that each service made from the template has; `main.py` adds yours."""

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TypeVar

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from app.core.errors import BadSettings
from app.core.logs.logging_config import configure_logging
from app.core.settings.app import AppSettings
from app.core.store.provider import Providers
from app.core.store.refresh import Refresher
from app.core.store.refreshers import refresher_of
from app.core.store.rotating import Rotating
from app.core.store.source import Secret, Source, read_source
from app.core.store.writes import after_writes
from app.core.web import health, refresh
from app.core.web.body_limit import LimitBody
from app.core.web.ending import Ending
from app.core.web.foreign import RefuseForeign
from app.core.web.loop_errors import bounded_loop_errors
from app.core.web.problems import install_problems
from app.core.web.quick_router import QuickRouter
from app.core.web.readiness_checks import ReadinessChecks
from app.core.web.refusals import Refusals
from app.core.web.requests import ObserveRequests, PlainStartFailure

S = TypeVar("S", bound=AppSettings)
Layer = Callable[[ASGIApp], ASGIApp]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

TAGS = {"health": "Is the service alive and ready?", "status": "What does it hold, and how fresh is that?"}


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[None]:
    """Load the secrets, keep them fresh while the service runs, and give the token back at the end."""
    settings: AppSettings = app.state.settings
    refresher: Refresher = app.state.refresher
    ending = Ending(refresher, settings.seconds_until_stop)
    async with AsyncExitStack() as stack:
        stack.enter_context(bounded_loop_errors())
        stack.enter_context(ending.on_signals())
        for context in app.state.contexts:
            await stack.enter_async_context(context())
        await stack.enter_async_context(
            refresher.running(fail_fast=settings.vault.fail_fast, at_end=ending.close),
        )
        stack.enter_context(after_writes(refresher.catch_up))
        ending.serving()
        yield


def settings_of_environment(get_settings: Callable[[], S]) -> S:
    """Return the settings that the environment makes; if they are wrong, the process ends (a test gets the error)."""
    try:
        return get_settings()
    except BadSettings as error:
        if "pytest" in sys.modules:  # which takes the end of the process for a fault of its own, and runs no test
            raise
        raise SystemExit(str(error)) from None


def build_service(
    settings: AppSettings,
    declared: type[BaseModel],
    providers: Providers,
    *,
    load: Callable[[Source], tuple[Secret, ...]] = read_source,
    admin_key: str | None = None,
    larger_bodies: Mapping[str, int] = MappingProxyType({}),
    lifespan: Lifespan = running,
) -> FastAPI:
    """Build a service that holds the secrets `declared`; the one named `admin_key` is the administrator's API key.

    `load` reads one source: at the start, and then as often as it is due.

    `larger_bodies` are the limits, in bytes, of routes that take more than 16 KiB, by the beginning of their path.
    """
    configure_logging(settings.log_level, settings.log_format)
    sources = providers.sources(settings)
    rotating: dict[str, Rotating[Any]] = {}
    refresher = refresher_of(declared, sources, settings.secrets, load, rotating)

    about = settings.service
    app = FastAPI(
        title=about.title,
        version=about.version,
        description=about.description,
        generate_unique_id_function=attrgetter("name"),  # a generated client calls its functions as ours are called
        lifespan=lifespan,
        redirect_slashes=False,  # it would lead to the Host that was sent, by http://: a client takes its key there
        openapi_url="/openapi.json" if settings.shows_api_docs else None,
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.providers = providers
    app.state.sources = sources
    app.state.vault_secrets = refresher.store
    app.state.admin_key = admin_key
    app.state.rotating = rotating
    app.state.readiness_checks = ReadinessChecks()  # of what else has to answer: databases, partners
    app.state.refresher = refresher
    # what extras add: who is told of each request, who knows callers by their key, and what else runs meanwhile
    app.state.observers = []
    app.state.callers = []
    app.state.contexts = []
    app.state.tags = dict(TAGS)  # what the groups of routes are for, as OpenAPI tells it
    app.state.refusals = Refusals()

    install_problems(app)
    limiting = partial(LimitBody, larger=larger_bodies)
    refusing = partial(RefuseForeign, settings=settings)
    observing = partial(
        ObserveRequests, observers=app.state.observers, https_only=settings.environment != "development"
    )
    layers: list[Layer] = [*_sharing(settings), refusing, limiting, observing, PlainStartFailure]
    for layer in layers:  # the outermost is the last
        app.add_middleware(layer)
    app.state.routes = QuickRouter()  # the template's own, together: passed over at once for yours
    app.include_router(app.state.routes)
    for routes in (health, refresh):
        app.state.routes.include_router(routes.router)
    return app


def _sharing(settings: AppSettings) -> list[Layer]:
    """Return what lets pages of other origins read answers, where any may; keys go in headers, never in cookies."""
    if not settings.cors_origins:
        return []
    exposed = ("Location", "Retry-After", "X-Request-ID")
    return [
        partial(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("*",),
            allow_headers=("*",),
            expose_headers=exposed,
        )
    ]
