"""How are API keys issued, listed, rotated and revoked? With the administrator's key, the secret `api_key`."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.core.store.rounds import in_own_thread
from app.core.web.dependencies import require_api_key
from app.core.web.key_first import KeyFirst
from app.core.web.problems import responses
from app.core.web.quick_router import QuickRouter
from app.extras.api_keys.dependencies import IssuedKeys
from app.extras.api_keys.key_records import KeyRecord

router = QuickRouter(
    prefix="/api-keys", tags=["api keys"], dependencies=[Depends(require_api_key)], route_class=KeyFirst
)

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"
TEN_YEARS = 10 * 366 * 86400  # seconds

Name = Annotated[str, Path(pattern=NAME_PATTERN)]
Once = Annotated[
    str, Header(alias="Idempotency-Key", max_length=255, description="Sent again, it brings the same key again.")
]


def _whole(number: object) -> object:
    """Take 60.0 for 60, as JSON does; nothing else that only looks like a number."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


Grace = Annotated[int, Field(strict=True, ge=0, le=TEN_YEARS), BeforeValidator(_whole)]
Lifetime = Annotated[int, Field(strict=True, ge=1, le=TEN_YEARS), BeforeValidator(_whole)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewKey(_Body):
    """Which key is wanted."""

    name: Annotated[
        str, Field(pattern=NAME_PATTERN, description="Letters, digits, `.`, `_` and `-`; not `.` or `-` first.")
    ]
    expires_in: Annotated[Lifetime | None, Field(description="Seconds; without it, for ever.")] = None


class Rotation(_Body):
    """How a key is to be replaced."""

    grace_period: Annotated[Grace, Field(description="Seconds for which old keys stay good, at most.")]
    expires_in: Annotated[
        Lifetime | None, Field(description="Seconds; without it, as many as the old key was given.")
    ] = None


class KeyInfo(BaseModel):
    """What may be known of a key."""

    name: str
    created_at: datetime
    expires_at: datetime | None
    hash_ends_with: str = Field(description="The last four characters of its SHA-256 hash, in hexadecimal.")


class IssuedKey(KeyInfo):
    """A key, which is shown once."""

    key: str = Field(description="To be sent as `X-API-Key`.")


class KeyList(BaseModel):
    """Keys, by name."""

    keys: list[KeyInfo]
    next: str | None = Field(description="`after` for the next page; null on the last one.")


@router.post("", status_code=201, responses=responses(401, 403, 409, 503))
async def issue_api_key(new: NewKey, api_keys: IssuedKeys, response: Response, once: Once = "") -> IssuedKey:
    """Issue a key: stored where other services can fetch it, verified, and only then shown, this once."""
    record, key = await in_own_thread(partial(api_keys.issue, new.name, new.expires_in, once))
    response.headers["Location"] = f"{router.prefix}/{record.name}"
    return _shown(record, key, response)


@router.get("", responses=responses(401, 403, 503))
async def list_api_keys(
    api_keys: IssuedKeys, after: str = "", limit: Annotated[int, Query(ge=1, le=1000)] = 1000
) -> KeyList:
    """List the keys, as they are stored now; never a key itself."""
    await in_own_thread(api_keys.refresh)
    rest = [record for record in api_keys.index.present() if record.name > after]
    return KeyList(
        keys=[KeyInfo(**_info(record)) for record in rest[:limit]],
        next=rest[limit - 1].name if len(rest) > limit else None,
    )


@router.post("/{name}/rotate", responses=responses(401, 403, 404, 409, 503))
async def rotate_api_key(
    name: Name, rotation: Rotation, api_keys: IssuedKeys, response: Response, once: Once = ""
) -> IssuedKey:
    """Replace a key; the old one stays good for the grace period."""
    work = partial(api_keys.rotate, name, rotation.grace_period, rotation.expires_in, once)
    return _shown(*await in_own_thread(work), response)


@router.delete("/{name}", status_code=204, responses=responses(401, 403, 404, 503))
async def revoke_api_key(name: Name, api_keys: IssuedKeys) -> None:
    """Revoke a key, and former ones in their grace period: here at once, elsewhere within one refresh interval."""
    await in_own_thread(partial(api_keys.revoke, name))


def _shown(record: KeyRecord, key: str, response: Response) -> IssuedKey:
    response.headers["Cache-Control"] = "no-store"
    return IssuedKey(**_info(record), key=key)


def _info(record: KeyRecord) -> dict[str, object]:
    return {
        "name": record.name,
        "created_at": _date(record.created),
        "expires_at": None if record.until is None else _date(record.until),
        "hash_ends_with": record.digest.hex()[-4:],
    }


def _date(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
