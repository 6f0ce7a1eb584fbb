"""Who asked for what, and how did it go? A request id on every line, one access event a request."""

import re
import sys
import time
import uuid
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BlueprintError
from app.logging_config import get_logger
from app.redaction import redact
from app.routes.problems import problem

Observer = Callable[[str, str | None, int, float], None]  # method, template of the path, status, seconds

LONGEST_PATH = 2048  # characters
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

log = get_logger(__name__)


class ObserveRequests:
    """Middleware: gives each request an id, answers a bug with a plain 500, and logs the request when it is over.

    `observe` is told of it too: how it was asked, by which route it went (None: by none), how it ended (0: without an
    answer), and the seconds it took.

    A well-formed `X-Request-ID` is taken over, anything else replaced: what a stranger sends goes into the logs.
    """

    def __init__(self, app: ASGIApp, observe: Observer = lambda *_: None) -> None:
        self._app = app
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; pass on anything that is not HTTP."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        sent = Headers(scope=scope).get("x-request-id", "")
        request_id = sent if REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        path = _shown(scope.get("raw_path", b"").decode("ascii", "replace"))  # still percent-encoded: one line, always
        start = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:
                log.exception("request_failed")
                if not status:
                    await problem(500, "The server has a fault; its log says which.")(scope, receive, send_with_id)
            finally:
                seconds = time.perf_counter() - start
                self._observe(scope["method"], getattr(scope.get("route"), "path", None), status, seconds)
                log.info(
                    "request_finished",
                    method=scope["method"],
                    path=path,
                    status=status,
                    duration_ms=round(seconds * 1000, 2),
                )


def _shown(path: str) -> str:
    """Return what to log of a path: a stranger may send a very long one. Half a secret would not be known as one."""
    return path if len(path) <= LONGEST_PATH else redact(path[: 2 * LONGEST_PATH])[:LONGEST_PATH] + "..."


class PlainStartFailure:
    """Middleware: if the start is refused, tell the reason in one line; the server would print a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Watch the lifespan; pass on anything else."""

        async def send_reason(message: Message) -> None:
            reason = sys.exception()  # set while starlette reports the failure
            if message["type"] == "lifespan.startup.failed" and isinstance(reason, BlueprintError):
                message = {**message, "message": str(reason)}
            await send(message)

        await self._app(scope, receive, send_reason if scope["type"] == "lifespan" else send)
