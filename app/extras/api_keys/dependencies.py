"""How does a handler get at the issued API keys?"""

from typing import Annotated

from fastapi import Depends, Request

from app.core.errors import AccessRefused
from app.extras.api_keys.keys import ApiKeys


async def get_api_keys(request: Request) -> ApiKeys:
    """Return the issued keys; raise `AccessRefused` where the settings do not let the service store any."""
    api_keys: ApiKeys | None = request.app.state.api_keys
    if api_keys is None:
        remedy = "Set VAULT_ACCESS_MODE=read_and_write, and grant what `python -m app policy` prints."
        raise AccessRefused("API keys", "this service may not store any", remedy)
    return api_keys


IssuedKeys = Annotated[ApiKeys, Depends(get_api_keys)]
