"""How does a handler use secrets? A sample: short-lived JWTs for callers that know the API key."""

import uuid
from typing import Annotated

import jwt
from fastapi import APIRouter, Depends, HTTPException, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from app import NAME
from app.routes.dependencies import Caller, Keys
from app.routes.problems import responses
from app.signing_keys import TOKEN_LIFETIME

router = APIRouter(tags=["tokens"])

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
async def issue_token(caller: Caller, keys: Keys, response: Response) -> TokenResponse:
    """Give a short-lived token to a caller that sends an API key, the administrator's or an issued one."""
    response.headers["Cache-Control"] = "no-store"
    claims = {"sub": caller, "jti": uuid.uuid4().hex}
    return TokenResponse(access_token=keys.sign(claims), expires_in=TOKEN_LIFETIME)


@router.get("/me", responses=responses(401, 503))
async def me(keys: Keys, bearer: Bearer) -> Me:
    """Say who the bearer of the token is."""
    challenge = f'Bearer realm="{NAME}"'
    if bearer is None:
        how = "Send `Authorization: Bearer <token>`, from POST /token."
        raise HTTPException(401, how, {"WWW-Authenticate": challenge})
    try:
        claims = keys.verify(bearer.credentials)
    except jwt.InvalidTokenError as error:
        why = "The token has expired." if isinstance(error, jwt.ExpiredSignatureError) else "The token is not valid."
        raise HTTPException(401, why, {"WWW-Authenticate": f'{challenge}, error="invalid_token"'}) from None
    return Me(subject=claims["sub"], issued_at=claims["iat"], expires_at=claims["exp"])
