"""Is the process alive, and can it do its work?"""

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.routes.dependencies import Unreadiness
from app.routes.problems import RETRY_AFTER, problem, responses

router = APIRouter(prefix="/health", tags=["health"])


class Health(BaseModel):
    """All is well."""

    status: str


@router.get("/live")
async def live() -> Health:
    """Tell that the process answers; for the liveness probe. Looks at nothing."""
    return Health(status="alive")


@router.get("/ready", response_model=Health, responses=responses(503))
async def ready(reasons: Unreadiness) -> Health | JSONResponse:
    """Tell whether every declared secret is there; for the readiness probe. Looks at memory only."""
    if reasons:
        return problem(503, " | ".join(reasons), {"Retry-After": str(RETRY_AFTER)})
    return Health(status="ready")
