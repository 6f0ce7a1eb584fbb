"""How does a handler use secrets? A sample: short-lived JWTs for callers that know the API key."""

import uuid
from collections.abc import AsyncIterator
from typing import Annotated

import jwt
from fastapi import APIRouter, Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from app import NAME
from app.core.web.dependencies import AllRotating, Caller, TheRefusals
from app.core.web.key_first import KeyFirst
from app.core.web.problems import responses
from app.routes.signing_keys import TOKEN_LIFETIME, SigningKeys

router = APIRouter(tags=["tokens"], route_class=KeyFirst)


async def get_signing_keys(rotating: AllRotating) -> AsyncIterator[SigningKeys]:
    """Lend the signing keys for the request."""
    async with rotating["signing keys"].borrow() as keys:
        yield keys


Keys = Annotated[SigningKeys, Depends(get_signing_keys)]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False, bearerFormat="JWT"))]


class TokenResponse(BaseModel):
    """An OAuth 2.0 token response (RFC 6749, 5.1)."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - the name of the scheme
    expires_in: int


class Me(BaseModel):
    """What a token says about its bearer."""

    subject: str
    issued_at: int
    expires_at: int


@router.post("/token", responses=responses(401, 503))
async def issue_token(caller: Caller, keys: Keys) -> TokenResponse:
    """Give a short-lived token to a caller that sends an API key, the administrator's or an issued one."""
    claims = {"sub": caller, "jti": uuid.uuid4().hex}
    return TokenResponse(access_token=keys.sign(claims), expires_in=TOKEN_LIFETIME)


@router.get("/me", responses=responses(401, 503))
async def get_me(keys: Keys, bearer: Bearer, refusals: TheRefusals) -> Me:
    """Say who the bearer of the token is."""
    challenge = f'Bearer realm="{NAME}"'
    if bearer is None:
        how = "Send `Authorization: Bearer <token>`, from POST /token."
        raise HTTPException(401, how, {"WWW-Authenticate": challenge})
    try:
        claims = keys.verify(bearer.credentials)
    except jwt.InvalidTokenError as error:
        if is_forged := not isinstance(error, jwt.ExpiredSignatureError):
            refusals("token")
        why = "The token is not valid." if is_forged else "The token has expired."
        raise HTTPException(401, why, {"WWW-Authenticate": f'{challenge}, error="invalid_token"'}) from None
    return Me(subject=claims["sub"], issued_at=claims["iat"], expires_at=claims["exp"])
