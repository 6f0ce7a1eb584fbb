"""Is a caller's key checked before the body of the request is read? FastAPI reads the body first, and then asks."""

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app.core.web.dependencies import get_caller, require_api_key, require_api_key_outside_development

Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class KeyFirst(APIRoute):
    """A route that refuses who has no key before it takes in anything else: `APIRouter(route_class=KeyFirst)`.

    So nobody else learns what a body must look like, or has this service wait for one.
    """

    def get_route_handler(self) -> Handle:
        """Return what handles a request; it asks first for what the route depends on."""
        handle = super().get_route_handler()
        wanted = [call for call in _calls(self.dependant) if call in _CHECKS]

        async def handle_if_allowed(request: Request) -> Response:
            for call in wanted:
                if call not in request.app.dependency_overrides:
                    await _CHECKS[call](request)
            return await handle(request)

        return handle_if_allowed if wanted else handle


def _calls(dependant: Dependant) -> Iterator[Any]:
    for each in dependant.dependencies:
        yield each.call
        yield from _calls(each)


async def _by_caller(request: Request) -> None:
    state = request.app.state
    sent = request.headers.get("x-api-key")
    await get_caller(request, state.settings, state.vault_secrets.snapshot(), state.admin_key, sent)


async def _by_key(check: Callable[..., Awaitable[None]], request: Request) -> None:
    state = request.app.state
    refusals = partial(state.refusals.record, request)
    sent = request.headers.get("x-api-key")
    await check(state.settings, state.vault_secrets.snapshot(), state.admin_key, sent, refusals)


_CHECKS: dict[Any, Callable[[Request], Awaitable[None]]] = {
    get_caller: _by_caller,
    require_api_key: partial(_by_key, require_api_key),
    require_api_key_outside_development: partial(_by_key, require_api_key_outside_development),
}
