"""Is the process alive, and can it do its work?

Load balancers may ask with HEAD: the server leaves the body of the answer out.
"""

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from app.core.store.readiness import readiness
from app.core.web.dependencies import TheReadinessChecks, TheRefresher, sees_details
from app.core.web.problems import RETRY_AFTER, problem, responses
from app.core.web.quick_router import QuickRouter

MORE = "the log says why, and so does this page with the administrator's key in X-API-Key"

router = QuickRouter(prefix="/health", tags=["health"])


class Health(BaseModel):
    """All is well, or well enough."""

    status: str
    warnings: list[str] = Field(default=[], description="What went wrong last, while good secrets are held.")


@router.head("/live", response_model_exclude_defaults=True, include_in_schema=False)
@router.get("/live", response_model_exclude_defaults=True)
async def get_liveness() -> Health:
    """Tell that the process answers; for the liveness probe. Looks at nothing."""
    return Health(status="alive")


@router.head("/ready", response_model=Health, response_model_exclude_defaults=True, include_in_schema=False)
@router.get("/ready", response_model=Health, response_model_exclude_defaults=True, responses=responses(503))
async def get_readiness(refresher: TheRefresher, checks: TheReadinessChecks, request: Request) -> Health | JSONResponse:
    """Tell whether every declared secret is there and fresh enough; for the readiness probe.

    That is looked up in memory; then what else the service leans on is asked, once a second at most.

    An outage, or a rotation that was refused, is a warning as long as good secrets are held. Outside development only
    the holder of the administrator's key learns causes, paths and addresses; everybody else what it is about.
    """
    found = readiness(refresher)
    failed = await checks.failed() if found.is_ready else {}
    findings = (*found.findings, *(f"{name}: does not work ({reason})" for name, reason in failed.items()))
    names = (*found.names, *(f"{name}: does not work" for name in failed))
    told = findings if sees_details(request) else (*names, MORE)
    if failed or not found.is_ready:
        return problem(503, " | ".join(told), {"Retry-After": str(RETRY_AFTER)})
    return Health(status="ready", warnings=list(told) if found.findings else [])
