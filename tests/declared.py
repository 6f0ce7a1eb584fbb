"""Which service do the tests look at? One with secrets, routes and an object of its own, whatever yours has."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ConfigDict, StringConstraints

from app.config import PROVIDERS, Settings, get_settings
from app.core.store.rotating import Rotating
from app.core.web.dependencies import AllRotating, Caller
from app.core.web.problems import responses
from app.core.web.service import build_service, settings_of_environment
from app.extras import (
    api_docs,  # extra: api_docs
    api_keys,  # extra: api_keys
    metrics,  # extra: metrics
    status,  # extra: status
)

OBJECT = "fingerprint"  # the name of the object that is built from a secret

router = APIRouter(tags=["tests"])


class DeclaredForTests(BaseModel):
    """The secrets that tests write, by the names that they use."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    database_url: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9+.-]*://\S+$")]
    api_key: Annotated[str, StringConstraints(pattern=r"^[!-~]+$")]
    jwt_secret: Annotated[str, StringConstraints(min_length=32)]


@router.post("/caller", responses=responses(401, 503))
async def caller(caller: Caller) -> str:
    """Say who calls."""
    return caller


@router.get("/fingerprint", responses=responses(503))
async def fingerprint(rotating: AllRotating) -> str:
    """Use the object that is built from a secret."""
    async with rotating[OBJECT].borrow() as held:
        return str(held)


async def _build(secrets: Mapping[str, Any], _old: object) -> str:
    return fingerprint_of(secrets["jwt_secret"])


def fingerprint_of(secret: str) -> str:
    """Return what the object that is built from this secret is."""
    return sha256(secret.encode()).hexdigest()


def create_app(settings: Settings | None = None, *, declared: type[BaseModel] = DeclaredForTests) -> FastAPI:
    """Build the service, with nothing of yours in it."""
    settings = settings or settings_of_environment(get_settings)
    app = build_service(settings, declared, PROVIDERS, admin_key="api_key")
    api_docs.install(app)  # extra: api_docs
    metrics.install(app)  # extra: metrics
    api_keys.install(app)  # extra: api_keys
    status.install(app)  # extra: status
    app.state.rotating[OBJECT] = Rotating(OBJECT, ("jwt_secret",), _build)
    app.state.tags["tests"] = "What the tests of the template call."
    app.include_router(router)
    return app
