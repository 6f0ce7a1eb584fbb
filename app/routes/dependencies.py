"""What may a handler ask for? The only reader of `app.state`; all of it looks at memory only, hence `async def`.

(A plain `def` dependency would cost a hop to a worker thread, some 90 µs.)
"""

import hmac
from collections.abc import AsyncIterator
from typing import Annotated, Any, NoReturn

from fastapi import Depends, HTTPException, Request
from fastapi.encoders import ENCODERS_BY_TYPE
from fastapi.security import APIKeyHeader, HTTPBasic, HTTPBasicCredentials

from app import NAME
from app.api_keys import ApiKeys
from app.config import Settings
from app.errors import AccessRefused, SecretUnavailable
from app.refresh import Refresher
from app.rotating import Rotating
from app.secret_store import SecretStore, Snapshot
from app.signing_keys import SigningKeys


async def get_settings(request: Request) -> Settings:
    """Return the settings of this service."""
    settings: Settings = request.app.state.settings
    return settings


async def get_snapshot(request: Request) -> Snapshot:
    """Return the secrets in force now, as one whole: a rotation in the middle of the request changes nothing."""
    store: SecretStore = request.app.state.vault_secrets
    return store.snapshot()


async def get_refresher(request: Request) -> Refresher:
    """Return what keeps the secrets fresh."""
    refresher: Refresher = request.app.state.refresher
    return refresher


async def get_rotating(request: Request) -> dict[str, Rotating[Any]]:
    """Return the objects that are built from secrets, by name."""
    rotating: dict[str, Rotating[Any]] = request.app.state.rotating
    return rotating


AllRotating = Annotated[dict[str, Rotating[Any]], Depends(get_rotating)]


async def get_signing_keys(rotating: AllRotating) -> AsyncIterator[SigningKeys]:
    """Lend the signing keys for the request."""
    async with rotating["signing keys"].borrow() as keys:
        yield keys


CurrentSettings = Annotated[Settings, Depends(get_settings)]
Secrets = Annotated[Snapshot, Depends(get_snapshot)]
TheRefresher = Annotated[Refresher, Depends(get_refresher)]
Keys = Annotated[SigningKeys, Depends(get_signing_keys)]
ApiKey = Annotated[str | None, Depends(APIKeyHeader(name="X-API-Key", auto_error=False))]
Password = Annotated[HTTPBasicCredentials | None, Depends(HTTPBasic(realm=NAME, auto_error=False))]


async def require_api_key(secrets: Secrets, api_key: ApiKey) -> None:
    """Let pass who sends the secret `api_key` in `X-API-Key`."""
    if not _is_api_key(api_key, secrets):
        raise HTTPException(401, "X-API-Key is missing or wrong.", {"WWW-Authenticate": f'APIKey realm="{NAME}"'})


async def get_api_keys(request: Request) -> ApiKeys:
    """Return the issued keys; raise `AccessRefused` where the settings do not let the service store any."""
    api_keys: ApiKeys | None = request.app.state.api_keys
    if api_keys is None:
        remedy = "Set VAULT_ACCESS_MODE=read_and_write, and grant what `python -m app policy` prints."
        raise AccessRefused("API keys", "this service may not store any", remedy)
    return api_keys


IssuedKeys = Annotated[ApiKeys, Depends(get_api_keys)]


async def get_caller(request: Request, secrets: Secrets, api_key: ApiKey) -> str:
    """Return who sends an issued key, or the secret `api_key`, in `X-API-Key`."""
    api_keys: ApiKeys | None = request.app.state.api_keys
    if api_key and api_keys is not None and (record := api_keys.find(api_key)):
        return f"api-key/{record.name}"
    try:
        await require_api_key(secrets, api_key)
    except HTTPException:
        if api_key and api_keys is not None and api_keys.index.problems:  # it may be a good one
            raise SecretUnavailable("the API keys", "not read yet", "GET /health/ready tells why.") from None
        raise
    return "api-key"


Caller = Annotated[str, Depends(get_caller)]


async def require_api_key_outside_development(settings: CurrentSettings, secrets: Secrets, api_key: ApiKey) -> None:
    """Let pass everybody on a developer's machine, and elsewhere who sends the API key."""
    if settings.environment != "development":
        await require_api_key(secrets, api_key)


async def require_status_page(settings: CurrentSettings) -> None:
    """Let pass where the status page is shown: in development, and where `STATUS_PAGE` says so."""
    shown = settings.environment == "development" if settings.status_page is None else settings.status_page
    if not shown:
        raise HTTPException(404, "The status page is switched off; STATUS_PAGE=true shows it to who has the API key.")


async def require_person_outside_development(
    settings: CurrentSettings, secrets: Secrets, api_key: ApiKey, password: Password
) -> None:
    """Let pass everybody on a developer's machine, and elsewhere who sends the API key, in the header or as a password.

    A browser cannot send a header of ours, but asks its user for a name (any will do) and a password.
    """
    if settings.environment == "development":
        return
    sent = api_key or (password.password if password else None)
    if not _is_api_key(sent, secrets):
        how = "Send the API key in X-API-Key, or as the password of any user."
        raise HTTPException(401, how, {"WWW-Authenticate": f'Basic realm="{NAME}", charset="UTF-8"'})


def _is_api_key(sent: str | None, secrets: Snapshot) -> bool:
    """Compare as bytes, in constant time: how long it takes must not tell how much of the key is right."""
    return hmac.compare_digest((sent or "").encode(), secrets["api_key"].encode())


def _refuse_to_encode(secrets: object) -> NoReturn:
    raise TypeError(f"{type(secrets).__name__} holds secrets and cannot be a response")


# FastAPI turns any mapping that a handler returns into JSON: not this one
ENCODERS_BY_TYPE.update({SecretStore: _refuse_to_encode, Snapshot: _refuse_to_encode})
