"""How does a secret travel to somebody else? A client of a third party that wants `api_key` in a header, and a route.

A sample of an object that is rebuilt when its secret changes. To do without it, delete this module, its tests, its
lines in `main.py`, and THIRD_PARTY_URL where it is named.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

import httpx2
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from pydantic import BaseModel

from app.rotating import Rotating
from app.routes.dependencies import AllRotating
from app.routes.problems import responses

TIMEOUT = 5.0  # seconds
NAME = "third party's client"

router = APIRouter(tags=["third party"])


def install(app: FastAPI, url: str) -> None:
    """Add the client of the service at `url`, and the route that uses it."""
    app.state.rotating[NAME] = rotating_client(url)
    app.include_router(router)


def rotating_client(url: str) -> Rotating[httpx2.AsyncClient]:
    """Return a client of the service at `url` that always sends a key which that service accepts."""
    tls = ssl.create_default_context()  # once, at the start: it would hold the event loop up for some 20 ms

    async def build(secrets: Mapping[str, Any], _old: object) -> httpx2.AsyncClient:
        headers = {"X-API-Key": secrets["api_key"]}
        return httpx2.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT, verify=tls)

    return Rotating(NAME, ("api_key",), build, check=_check, close=httpx2.AsyncClient.aclose)


async def _check(client: httpx2.AsyncClient) -> None:
    """Make sure that the new key is accepted; until it is, the old one stays in use."""
    (await client.get("/")).raise_for_status()


async def borrow_client(rotating: AllRotating) -> AsyncIterator[httpx2.AsyncClient]:
    """Lend the client for the request."""
    async with rotating[NAME].borrow() as client:
        yield client


class Answer(BaseModel):
    """What the third party said."""

    status: int


@router.get("/third-party", responses=responses(502, 503))
async def ask(client: Annotated[httpx2.AsyncClient, Depends(borrow_client)]) -> Answer:
    """Send a request with the secret `api_key` to `THIRD_PARTY_URL`."""
    try:
        return Answer(status=(await client.get("/")).status_code)
    except httpx2.HTTPError as error:
        raise HTTPException(502, f"The third party does not answer ({type(error).__name__}).") from None
