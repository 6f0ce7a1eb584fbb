"""How large may a request be? FastAPI's own `max_body_size` would answer with plain text instead of a problem."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.routes.problems import problem

MAX_BODY = 1024 * 1024  # bytes


class LimitBody:
    """Middleware: refuse a larger body, by what it announces or at the latest by what arrives."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; pass on anything that is not HTTP."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > MAX_BODY:
            await problem(413)(scope, receive, send)
            return

        arrived = 0

        async def receive_within_limit() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > MAX_BODY:
                raise HTTPException(413)
            return message

        await self._app(scope, receive_within_limit, send)
