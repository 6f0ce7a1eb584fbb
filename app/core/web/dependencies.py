"""What may a handler ask for? The only reader of `app.state`; all of it looks at memory only, hence `async def`.

(A plain `def` dependency would cost a hop to a worker thread, some 90 µs.)
"""

import hmac
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, NoReturn, Protocol

from fastapi import Depends, HTTPException, Request
from fastapi.encoders import ENCODERS_BY_TYPE
from fastapi.security import APIKeyHeader

from app.core.settings.app import AppSettings
from app.core.store.refresh import Refresher
from app.core.store.rotating import Rotating
from app.core.store.secret_store import SecretStore, Snapshot
from app.core.web.readiness_checks import ReadinessChecks
from app.core.web.refusals import Credential


async def get_settings(request: Request) -> AppSettings:
    """Return the settings of this service."""
    settings: AppSettings = request.app.state.settings
    return settings


async def get_snapshot(request: Request) -> Snapshot:
    """Return the secrets in force now, as one whole: a rotation in the middle of the request changes nothing."""
    store: SecretStore = request.app.state.vault_secrets
    return store.snapshot()


async def get_declared(secrets: "Secrets") -> Any:
    """Return the secrets as the model that declares them; answers 503 while any of it is missing or malformed.

    Handlers want it with its type: `Declared = Annotated[AppSecrets, Depends(get_declared)]`.
    """
    return secrets.declared


async def get_refresher(request: Request) -> Refresher:
    """Return what keeps the secrets fresh."""
    refresher: Refresher = request.app.state.refresher
    return refresher


async def get_rotating(request: Request) -> dict[str, Rotating[Any]]:
    """Return the objects that are built from secrets, by name."""
    rotating: dict[str, Rotating[Any]] = request.app.state.rotating
    return rotating


async def get_readiness_checks(request: Request) -> ReadinessChecks:
    """Return what asks the things that the service leans on whether they answer."""
    checks: ReadinessChecks = request.app.state.readiness_checks
    return checks


AllRotating = Annotated[dict[str, Rotating[Any]], Depends(get_rotating)]


async def get_admin_key(request: Request) -> str | None:
    """Return the name of the secret that is the administrator's API key; None: this service has none."""
    name: str | None = request.app.state.admin_key
    return name


async def get_refusals(request: Request) -> Callable[[Credential], None]:
    """Return what counts a key or a token that was sent and refused, and logs where it came from."""
    return partial(request.app.state.refusals.record, request)


TheRefusals = Annotated[Callable[[Credential], None], Depends(get_refusals)]
CurrentSettings = Annotated[AppSettings, Depends(get_settings)]
Secrets = Annotated[Snapshot, Depends(get_snapshot)]
TheRefresher = Annotated[Refresher, Depends(get_refresher)]
TheReadinessChecks = Annotated[ReadinessChecks, Depends(get_readiness_checks)]
AdminKey = Annotated[str | None, Depends(get_admin_key)]
ApiKey = Annotated[str | None, Depends(APIKeyHeader(name="X-API-Key", auto_error=False))]


class KnowsCallers(Protocol):
    """What knows callers by keys of their own; extras add such things to `app.state.callers`."""

    def caller(self, key: str) -> str | None:
        """Return who sends this key, if it is a good one; looks at memory only."""
        ...

    def raise_unread(self) -> None:
        """Raise `SecretUnavailable` while the keys have not been read: one that is not known may be a good one."""
        ...


async def require_api_key(
    settings: CurrentSettings, secrets: Secrets, admin_key: AdminKey, api_key: ApiKey, refusals: TheRefusals
) -> None:
    """Require the administrator's API key in `X-API-Key`."""
    if not is_admin_key(api_key, secrets, admin_key):
        if api_key:
            refusals("api_key")
        challenge = f'APIKey realm="{settings.service.name}"'
        raise HTTPException(401, "X-API-Key is missing or wrong.", {"WWW-Authenticate": challenge})


async def require_api_key_outside_development(
    settings: CurrentSettings, secrets: Secrets, admin_key: AdminKey, api_key: ApiKey, refusals: TheRefusals
) -> None:
    """Let pass everybody on a developer's machine, and elsewhere who sends the API key."""
    if settings.environment != "development":
        await require_api_key(settings, secrets, admin_key, api_key, refusals)


async def get_caller(
    request: Request, settings: CurrentSettings, secrets: Secrets, admin_key: AdminKey, api_key: ApiKey
) -> str:
    """Return who sends the administrator's key in `X-API-Key`, or a key that an extra knows."""
    if found := _known_caller(request, api_key):
        return found
    if api_key and not is_admin_key(api_key, secrets, admin_key):
        for each in request.app.state.callers:
            each.raise_unread()
    await require_api_key(settings, secrets, admin_key, api_key, await get_refusals(request))
    return "api-key"


def _known_caller(request: Request, api_key: str | None) -> str | None:
    known: list[KnowsCallers] = request.app.state.callers if api_key else []
    return next(filter(None, (each.caller(api_key or "") for each in known)), None)


def sees_details(request: Request) -> bool:
    """Tell whether the caller may know paths, addresses and gaps: in development all, elsewhere the administrator.

    For answers that everybody gets, some in more detail than others.
    """
    state = request.app.state
    settings: AppSettings | None = getattr(state, "settings", None)
    if settings is None:  # an application of yours that only shares our problems
        return False
    if settings.environment == "development":
        return True
    sent, secrets = request.headers.get("x-api-key"), state.vault_secrets.snapshot()
    if not sent or state.admin_key is None or state.admin_key not in secrets:
        return False
    if is_admin_key(sent, secrets, state.admin_key):
        return True
    if not _known_caller(request, sent):
        state.refusals.record(request, "api_key")
    return False


Caller = Annotated[str, Depends(get_caller)]


def is_admin_key(sent: str | None, secrets: Snapshot, admin_key: str | None) -> bool:
    """Compare as bytes, in constant time: how long it takes must not tell how much of the key is right."""
    return admin_key is not None and hmac.compare_digest((sent or "").encode(), secrets[admin_key].encode())


def _refuse_to_encode(secrets: object) -> NoReturn:
    raise TypeError(f"{type(secrets).__name__} holds secrets and cannot be a response")


# FastAPI turns any mapping that a handler returns into JSON: not this one
ENCODERS_BY_TYPE.update({SecretStore: _refuse_to_encode, Snapshot: _refuse_to_encode})
