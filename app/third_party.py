"""How does a secret travel to somebody else? A client of a third party that wants `api_key` in a header.

A sample of an object that is rebuilt when its secret changes. To do without it, delete this module, its route and their
lines in `main.py`.
"""

from collections.abc import Mapping
from typing import Any

import httpx2

from app.rotating import Rotating

TIMEOUT = 5.0  # seconds


def rotating_client(url: str) -> Rotating[httpx2.AsyncClient]:
    """Return a client of the service at `url` that always sends a key which that service accepts."""

    async def build(secrets: Mapping[str, Any], _old: object) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=url, headers={"X-API-Key": secrets["api_key"]}, timeout=TIMEOUT)

    return Rotating("third party's client", ("api_key",), build, check=_check, close=httpx2.AsyncClient.aclose)


async def _check(client: httpx2.AsyncClient) -> None:
    """Make sure that the new key is accepted; until it is, the old one stays in use."""
    (await client.get("/")).raise_for_status()
