"""How does a handler use secrets? A sample: short-lived JWTs for callers that know the API key."""

import hmac
import time
import uuid
from typing import Annotated

import jwt
from fastapi import APIRouter, Depends, HTTPException, Response
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from app import NAME
from app.routes.dependencies import Secrets
from app.routes.problems import responses

TOKEN_LIFETIME = 900  # seconds
ALGORITHM = "HS256"

router = APIRouter(tags=["tokens"])

ApiKey = Annotated[str | None, Depends(APIKeyHeader(name="X-API-Key", auto_error=False))]
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
async def issue_token(secrets: Secrets, api_key: ApiKey, response: Response) -> TokenResponse:
    """Give a short-lived token to a caller that sends the API key in `X-API-Key`."""
    # compared as bytes, in constant time: how long it takes must not tell how much of the key is right
    if not hmac.compare_digest((api_key or "").encode(), secrets["api_key"].encode()):
        raise HTTPException(401, "X-API-Key is missing or wrong.", {"WWW-Authenticate": f'APIKey realm="{NAME}"'})
    now = int(time.time())
    claims = {"iss": NAME, "sub": "api-key", "iat": now, "exp": now + TOKEN_LIFETIME, "jti": uuid.uuid4().hex}
    response.headers["Cache-Control"] = "no-store"
    return TokenResponse(access_token=jwt.encode(claims, secrets["jwt_secret"], ALGORITHM), expires_in=TOKEN_LIFETIME)


@router.get("/me", responses=responses(401, 503))
async def me(secrets: Secrets, bearer: Bearer) -> Me:
    """Say who the bearer of the token is."""
    challenge = f'Bearer realm="{NAME}"'
    if bearer is None:
        raise HTTPException(
            401, "Send `Authorization: Bearer <token>`, from POST /token.", {"WWW-Authenticate": challenge}
        )
    try:
        claims = jwt.decode(
            bearer.credentials,
            secrets["jwt_secret"],
            [ALGORITHM],
            issuer=NAME,
            options={"require": ["iss", "sub", "iat", "exp"]},
        )
    except jwt.InvalidTokenError as error:
        why = "The token has expired." if isinstance(error, jwt.ExpiredSignatureError) else "The token is not valid."
        raise HTTPException(401, why, {"WWW-Authenticate": f'{challenge}, error="invalid_token"'}) from None
    return Me(subject=claims["sub"], issued_at=claims["iat"], expires_at=claims["exp"])
