"""Has Vault said this, or something in front of it? Told by the form of an answer that is no success.

hvac keeps neither the status nor where the answer came from, and stumbles over JSON that is not Vault's.
"""

from typing import Any

import hvac.exceptions
import requests
from hvac.adapters import JSONAdapter

from app.core.transport.redirects import origin


class PlainAdapter(JSONAdapter):  # type: ignore[misc] # hvac has no types
    """hvac's own, whose errors know the answer that they are about."""

    def _raise_for_error(self, method: str, url: str, response: requests.Response) -> None:
        body = vault_body(response)
        errors = (body or {}).get("errors")
        error = hvac.exceptions.VaultError.from_status(
            response.status_code, None, errors=errors, method=method, url=url, text=response.text, json=body
        )
        error.status = response.status_code
        error.redirected_to = origin(str(response.url)) if response.history else None
        raise error


def vault_body(response: requests.Response) -> dict[str, Any] | None:
    """Return the JSON of an answer, if it has a form that Vault's answers have: errors, data or its state."""
    try:
        body = response.json()
    except ValueError:
        return None
    match body:
        case {"errors": [*errors]} if not all(isinstance(each, str) for each in errors):
            return None
        case {"errors": [*_]} | {"data": _} | {"request_id": _} | {"initialized": _}:
            found: dict[str, Any] = body
            return found
        case _:
            return None
