"""How does a handler use an object that follows rotations? A sample: ask a third party something."""

import httpx2
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from app.routes.dependencies import ThirdParty
from app.routes.problems import responses

router = APIRouter(tags=["third party"])


class Answer(BaseModel):
    """What the third party said."""

    status: int


@router.get("/third-party", responses=responses(404, 502, 503))
async def ask(client: ThirdParty) -> Answer:
    """Send a request with the secret `api_key` to `THIRD_PARTY_URL`."""
    try:
        return Answer(status=(await client.get("/")).status_code)
    except httpx2.HTTPError as error:
        raise HTTPException(502, f"The third party does not answer ({type(error).__name__}).") from None
