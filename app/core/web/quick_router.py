"""How are routes passed over that are not meant? FastAPI tries each route of each router, some 2 µs a route."""

from fastapi import APIRouter
from starlette.routing import BaseRoute, Match
from starlette.types import Scope


class QuickRouter(APIRouter):
    """A router that is tried only for paths that end, or have in them, what one of its routes is known by.

    Not: that begin with it, since the router may be included below a prefix, and the service mounted below another.
    """

    _looked_at = 0  # routes
    _ends: tuple[str, ...] = ()
    _parts: tuple[str, ...] = ()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Tell whether one of the routes is meant."""
        if self._looked_at != len(self.routes):
            self._look_at_routes()
        path = scope["path"]
        if path.endswith(self._ends) or any(part in path for part in self._parts):
            return super().matches(scope)
        return Match.NONE, {}

    def _look_at_routes(self) -> None:
        paths = [_path(route) for route in self.routes]
        self._ends = tuple({path for path in paths if "{" not in path})
        self._parts = tuple({path.partition("{")[0] for path in paths if "{" in path})
        self._looked_at = len(self.routes)


def _path(route: BaseRoute) -> str:
    return getattr(route, "path", "{")  # what has none, such as an included router, is always tried
