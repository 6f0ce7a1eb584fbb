"""How are routes passed over that are not meant? FastAPI tries each route of each router, some 2 µs a route."""

from collections.abc import Iterator

from fastapi import APIRouter
from starlette.routing import BaseRoute, Match
from starlette.types import Scope


class QuickRouter(APIRouter):
    """A router that is tried only for paths that end, or have in them, what one of its routes is known by.

    Not: that begin with it, since the router may be included below a prefix, and the service mounted below another.
    The same for the routes of routers that it includes.
    """

    _lists: tuple[list[BaseRoute], ...] = ()  # its own routes, and those of each router in it
    _looked_at = -1  # routes
    _ends: tuple[str, ...] = ()
    _parts: tuple[str, ...] = ()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Tell whether one of the routes is meant."""
        if sum(map(len, self._lists)) != self._looked_at:
            self._look_at_routes()
        path = scope["path"]
        if path.endswith(self._ends) or any(part in path for part in self._parts):
            return super().matches(scope)
        return Match.NONE, {}

    def _look_at_routes(self) -> None:
        self._lists = tuple(_lists(self))
        paths = [_path(route) for routes in self._lists for route in routes if _included(route) is None]
        self._ends = tuple({path for path in paths if "{" not in path})
        self._parts = tuple({path.partition("{")[0] for path in paths if "{" in path})
        self._looked_at = sum(map(len, self._lists))


def _lists(router: APIRouter) -> Iterator[list[BaseRoute]]:
    yield router.routes
    for route in router.routes:
        if (inner := _included(route)) is not None:
            yield from _lists(inner)


def _included(route: BaseRoute) -> APIRouter | None:
    router: APIRouter | None = getattr(route, "original_router", None)
    return router


def _path(route: BaseRoute) -> str:
    return getattr(route, "path", "{")  # what has none is always tried
