"""Is the process alive, and can it do its work?"""

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from app.readiness import readiness
from app.routes.dependencies import TheRefresher
from app.routes.problems import RETRY_AFTER, problem, responses

router = APIRouter(prefix="/health", tags=["health"])


class Health(BaseModel):
    """All is well, or well enough."""

    status: str
    warnings: list[str] = Field(default=[], description="What went wrong last, while good secrets are held.")


@router.get("/live", response_model_exclude_defaults=True)
async def live() -> Health:
    """Tell that the process answers; for the liveness probe. Looks at nothing."""
    return Health(status="alive")


@router.get("/ready", response_model=Health, response_model_exclude_defaults=True, responses=responses(503))
async def ready(refresher: TheRefresher) -> Health | JSONResponse:
    """Tell whether every declared secret is there and fresh enough; for the readiness probe. Looks at memory only.

    An outage, or a rotation that was refused, is a warning as long as good secrets are held.
    """
    found = readiness(refresher)
    if not found.is_ready:
        return problem(503, " | ".join(found.findings), {"Retry-After": str(RETRY_AFTER)})
    return Health(status="ready", warnings=list(found.findings))
