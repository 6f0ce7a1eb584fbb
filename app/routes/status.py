"""What does the service hold, and how fresh is it?"""

from typing import Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from app.routes.dependencies import TheRefresher, require_api_key_outside_development
from app.routes.problems import responses

router = APIRouter(prefix="/status", tags=["status"], dependencies=[Depends(require_api_key_outside_development)])


class Refreshed(BaseModel):
    """What a refresh brought: paths, versions and names of keys, never a value."""

    changed: list[dict[str, Any]]
    faults: dict[str, str]
    ages: dict[str, float | None] = Field(description="Seconds since each source last confirmed its secrets.")


@router.post("/refresh", responses=responses(401, 503))
async def refresh(refresher: TheRefresher) -> Refreshed:
    """Read all secrets again now, and say what changed and what went wrong."""
    changes = await refresher.refresh()
    faults = {keeper.source: str(keeper.fault) for keeper in refresher.keepers if keeper.fault is not None}
    ages = {keeper.source: keeper.age for keeper in refresher.keepers}
    return Refreshed(changed=[change.describe() for change in changes], faults=faults, ages=ages)
