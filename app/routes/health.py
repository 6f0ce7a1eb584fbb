"""Is the process alive, and can it do its work?"""

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from app.errors import SecretsIncomplete
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
    faults = [str(keeper.fault) for keeper in refresher.keepers if keeper.fault is not None]
    gaps = [str(SecretsIncomplete(refresher.store.problems))] if refresher.store.problems else []
    stale = [
        f"the secrets from {keeper.source} were last confirmed {keeper.age:.0f} s ago, longer than VAULT_MAX_STALENESS"
        for keeper in refresher.keepers
        if keeper.is_stale
    ]
    failed = [each for each in refresher.rotating.values() if each.fault]
    unbuilt = [f"{each.name}: could not be built ({each.fault})" for each in failed if not each.is_built]
    if gaps or stale or unbuilt:
        return problem(503, " | ".join([*faults, *stale, *gaps, *unbuilt]), {"Retry-After": str(RETRY_AFTER)})
    kept = [f"{each.name}: the new one failed ({each.fault}), the old one stays" for each in failed]
    return Health(status="ready", warnings=faults + kept)
