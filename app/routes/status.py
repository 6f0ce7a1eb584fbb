"""What does the service hold, and how fresh is it? For people, as data, and at once."""

import time
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from app.config import Settings
from app.journal import journal
from app.refresh import PATIENCE, Refresher
from app.routes.dependencies import (
    CurrentSettings,
    TheRefresher,
    require_api_key_outside_development,
    require_person_outside_development,
    require_status_page,
)
from app.routes.problems import responses
from app.status import Status, collect
from app.vault_sessions import connection

router = APIRouter(tags=["status"])
GUARDS = [Depends(require_status_page), Depends(require_person_outside_development)]  # in this order


class Refreshed(BaseModel):
    """What a refresh brought: paths, versions and names of keys, never a value."""

    changed: list[dict[str, Any]]
    faults: dict[str, str]
    ages: dict[str, float | None] = Field(description="Seconds since each source last confirmed its secrets.")


@router.get("/status", response_class=HTMLResponse, dependencies=GUARDS, responses=responses(401, 404, 503))
def page(refresher: TheRefresher, settings: CurrentSettings) -> HTMLResponse:
    """Show people the status. A plain `def`: making the page takes its milliseconds, in a worker thread."""
    from app.routes.status_page import HEADERS, render  # noqa: PLC0415 - a template engine: only when somebody looks

    return HTMLResponse(render(_now(refresher, settings)), headers=HEADERS)


@router.get("/status.json", dependencies=GUARDS, responses=responses(401, 404, 503))
async def data(refresher: TheRefresher, settings: CurrentSettings, response: Response) -> Status:
    """Return what the status page shows."""
    response.headers.update({"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})
    return _now(refresher, settings)


def _now(refresher: Refresher, settings: Settings) -> Status:
    reach = partial(connection, settings)
    return collect(refresher, reach, journal.events(), settings.environment, time.time())


@router.post(
    "/status/refresh",
    dependencies=[Depends(require_api_key_outside_development)],
    responses=responses(401, 503),
)
async def refresh(refresher: TheRefresher) -> Refreshed:
    """Read all secrets again now, and say what changed and what went wrong.

    A source that does not answer within 5 seconds is reported as a fault; its round goes on.
    """
    changes = await refresher.refresh()
    late = {keeper.source for keeper in refresher.keepers} - set(changes)
    faults = {source: f"{source}: no answer within {PATIENCE:.0f} s; the round goes on" for source in late}
    faults |= {keeper.source: str(keeper.fault) for keeper in refresher.keepers if keeper.fault is not None}
    ages = {keeper.source: keeper.age for keeper in refresher.keepers}
    return Refreshed(
        changed=[change.describe() for each in changes.values() for change in each], faults=faults, ages=ages
    )
