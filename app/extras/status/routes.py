"""What does the service hold, and how fresh is it? For people, and as data."""

import time
from typing import Annotated

from fastapi import Depends, HTTPException, Response
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from app.core.logs.event_log import journal
from app.core.settings.app import AppSettings
from app.core.store.refresh import Refresher
from app.core.web.dependencies import (
    AdminKey,
    ApiKey,
    CurrentSettings,
    Secrets,
    TheRefresher,
    TheRefusals,
    is_admin_key,
)
from app.core.web.problems import responses
from app.core.web.quick_router import QuickRouter
from app.extras.status.report import Status, collect

router = QuickRouter(tags=["status"])
Password = Annotated[HTTPBasicCredentials | None, Depends(HTTPBasic(auto_error=False))]


async def get_sent_key(api_key: ApiKey, password: Password) -> str | None:
    """Return the API key that was sent: a browser cannot send a header of ours, but asks its user for a password."""
    return api_key or (password.password if password else None)


SentKey = Annotated[str | None, Depends(get_sent_key)]


async def require_status_page(settings: CurrentSettings) -> None:
    """Let pass where the status page is shown: in development, and where `STATUS_PAGE` says so."""
    wanted: bool | None = getattr(settings, "status_page", None)
    if not (settings.environment == "development" if wanted is None else wanted):
        raise HTTPException(404, "The status page is switched off; STATUS_PAGE=true shows it to who has the API key.")


async def require_person_outside_development(
    settings: CurrentSettings, secrets: Secrets, admin_key: AdminKey, sent: SentKey, refusals: TheRefusals
) -> None:
    """Let pass everybody on a developer's machine, and elsewhere who sends the API key, in the header or as a password.

    The user's name may be any.
    """
    if settings.environment == "development":
        return
    if not is_admin_key(sent, secrets, admin_key):
        if sent:
            refusals("api_key")
        how = "Send the API key in X-API-Key, or as the password of any user."
        challenge = f'Basic realm="{settings.service.name}", charset="UTF-8"'
        raise HTTPException(401, how, {"WWW-Authenticate": challenge})


GUARDS = [Depends(require_status_page), Depends(require_person_outside_development)]  # in this order


@router.get("/status", response_class=HTMLResponse, dependencies=GUARDS, responses=responses(401, 404, 503))
def get_status_page(refresher: TheRefresher, settings: CurrentSettings) -> HTMLResponse:
    """Show people the status. A plain `def`: making the page takes its milliseconds, in a worker thread."""
    from app.extras.status.status_page import HEADERS, render  # noqa: PLC0415 - a template engine: only when somebody looks

    return HTMLResponse(render(_now(refresher, settings), settings.service), headers=HEADERS)


@router.get("/status.json", dependencies=GUARDS, responses=responses(401, 404, 503))
async def get_status(refresher: TheRefresher, settings: CurrentSettings, response: Response) -> Status:
    """Return what the status page shows."""
    response.headers.update({"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})
    return _now(refresher, settings)


def _now(refresher: Refresher, settings: AppSettings) -> Status:
    return collect(refresher, journal.events(), settings.environment, time.time())
