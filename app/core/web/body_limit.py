"""How large may a request be, and how long may it take to arrive?

FastAPI's own `max_body_size` would answer with plain text instead of a problem; a deadline for bodies it has not.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.web.problems import problem

MAX_BODY = 16 * 1024  # bytes; where nothing else is said, any caller may make us hold so much
BODY_SECONDS = 10.0  # for the whole body, from the request's beginning
UNREAD_SECONDS = 0.05  # for a body that nobody reads: if it is there by then, the connection can stay open
LINGER_SECONDS = 2.0  # after the answer: a caller who is still sending loses it if the connection is closed at once


class LimitBody:
    """Middleware: refuse a larger body, by what it announces or at the latest by what arrives; and one that is late.

    A connection whose body has not arrived when the answer begins is closed soon after the answer.
    """

    def __init__(
        self, app: ASGIApp, larger: Mapping[str, int] = MappingProxyType({}), seconds: float = BODY_SECONDS
    ) -> None:
        """`larger` are the limits, in bytes, of routes that need more, by the beginning of their path: `/uploads`."""
        self._app = app
        self._larger = {path.rstrip("/"): limit for path, limit in larger.items()}
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; pass on one without a body, and anything that is not HTTP."""
        if scope["type"] != "http" or not _announces_body(scope):
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["path"], scope.get("root_path", ""))
        body = _Body(receive, send, Headers(scope=scope), limit, self._seconds)
        app = problem(413, _too_large(limit)) if body.is_announced_too_large else self._app
        await app(scope, body.receive, body.send)

    def _limit(self, path: str, root: str) -> int:
        """Return the limit of the longest beginning that ends where a segment of the path does; it is below `root`."""
        path = path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else path
        fitting = [beginning for beginning in self._larger if f"{path}/".startswith(f"{beginning}/")]
        return self._larger[max(fitting, key=len)] if fitting else MAX_BODY


class _Body:
    """The body of one request, on its way in while the answer goes out."""

    def __init__(self, receive: Receive, send: Send, headers: Headers, limit: int, seconds: float) -> None:
        self._receive, self._send = receive, send
        self._limit, self._seconds = limit, seconds
        self._deadline = asyncio.get_running_loop().time() + seconds
        announced = headers.get("content-length", "0")
        # as a float: to make an `int` of thousands of digits raises
        self.is_announced_too_large = announced.isdecimal() and float(announced) > limit
        self._is_complete = False
        self._is_asked_for = "expect" in headers  # by reading
        self._has_begun = False  # to answer
        self._arrived = 0
        self._kept: deque[Message] = deque()  # what has arrived, and nobody has read yet

    async def receive(self) -> Message:
        """Return the next piece; raise if it comes too late or makes the body too large.

        A handler that has begun to answer cannot answer otherwise any more: for it, the connection ends there.
        """
        if self._kept:
            return self._kept.popleft()
        if self._arrived <= self._limit:
            if self._is_complete:  # what comes now is the end of the connection, whenever
                return await self._receive()
            try:
                async with asyncio.timeout_at(self._deadline):
                    message = await self._next()
            except TimeoutError:
                return self._refuse(408, f"The body has not arrived within {self._seconds:g} s.")
            if self._arrived <= self._limit:
                return message
        return self._refuse(413, _too_large(self._limit))

    async def send(self, message: Message) -> None:
        """Pass on the answer; see to it that nobody holds the connection by holding the body back."""
        if message["type"] == "http.response.start":
            self._has_begun = True
            if not (self._is_asked_for or self.is_announced_too_large):
                await self._take_what_is_there()
            if not self._is_complete:
                MutableHeaders(scope=message)["Connection"] = "close"
        elif not self._is_complete and not message.get("more_body", False):
            await self._send({**message, "more_body": True})  # the caller has the whole answer
            await self._linger()
            message = {"type": "http.response.body"}
        await self._send(message)

    async def _next(self) -> Message:
        message = await self._receive()
        self._arrived += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        return message

    def _refuse(self, status: int, detail: str) -> Message:
        if self._has_begun:
            return {"type": "http.disconnect"}
        raise HTTPException(status, detail)

    async def _take_what_is_there(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(UNREAD_SECONDS):
                while not self._is_complete and self._arrived <= self._limit:
                    self._kept.append(await self._next())
        if self._arrived > self._limit:
            self._kept.clear()

    async def _linger(self) -> None:
        """Drop what still arrives, for a while; the deadline for the body counts here, too."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(min(self._deadline, asyncio.get_running_loop().time() + LINGER_SECONDS)):
                while not self._is_complete:
                    await self._next()


def _announces_body(scope: Scope) -> bool:
    """Tell whether a body may come: most requests have none."""
    for name, value in scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return True
    return False


def _too_large(limit: int) -> str:
    return f"The body may have {limit} bytes at most."
