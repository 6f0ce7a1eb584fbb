"""How can somebody have all secrets read again now?"""

from typing import Any

from fastapi import Depends
from pydantic import BaseModel, Field

from app.core.store.refresh import LATE_AFTER
from app.core.web.dependencies import TheRefresher, require_api_key_outside_development
from app.core.web.problems import responses
from app.core.web.quick_router import QuickRouter

router = QuickRouter(tags=["status"])


class Refreshed(BaseModel):
    """What a refresh brought: paths, versions and names of keys, never a value."""

    changed: list[dict[str, Any]]
    faults: dict[str, str]
    ages: dict[str, float | None] = Field(description="Seconds since each source last confirmed its secrets.")


@router.post(
    "/status/refresh",
    dependencies=[Depends(require_api_key_outside_development)],
    responses=responses(401, 503),
)
async def refresh_secrets(refresher: TheRefresher) -> Refreshed:
    """Read all secrets again now, and say what changed and what went wrong.

    A source that does not answer within 5 seconds is reported as a fault; its round goes on.
    """
    if idle := refresher.idle():
        raise idle
    changes = await refresher.refresh()
    late = {keeper.source for keeper in refresher.sources} - set(changes)
    faults = {source: f"{source}: no answer within {LATE_AFTER:.0f} s; the round goes on" for source in late}
    faults |= {keeper.source: str(keeper.fault) for keeper in refresher.sources if keeper.fault is not None}
    ages = {keeper.source: keeper.age for keeper in refresher.sources}
    return Refreshed(
        changed=[change.describe() for each in changes.values() for change in each], faults=faults, ages=ages
    )
