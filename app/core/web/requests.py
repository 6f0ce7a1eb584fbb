"""Who asked for what, and how did it go? A request id on every line, one access event a request."""

import logging
import re
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import BlueprintError
from app.core.logs.logging_config import get_logger, written_at_once
from app.core.logs.redaction import cut
from app.core.web.headers import completed
from app.core.web.problems import problem

Observer = Callable[[str, str | None, int, float], None]  # method, template of the path, status, seconds

LONGEST_PATH = 2048  # characters
LONGEST_METHOD = 32  # characters
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")

log = get_logger(__name__)
plain_log = logging.getLogger(__name__)


class ObserveRequests:
    """Middleware: gives each request an id, answers a bug with a plain 500, and logs the request when it is over.

    It completes the headers of every answer, since none is made outside of it; `https_only` says so to browsers.

    `observers` are told of it too: how it was asked, by which route it went (None: by none), how it ended (0: without
    an answer), and the seconds it took.

    A well-formed `X-Request-ID` is taken over, anything else replaced: what a stranger sends goes into the logs.
    """

    def __init__(self, app: ASGIApp, observers: Sequence[Observer] = (), *, https_only: bool = False) -> None:
        self._app = app
        self._observers = observers
        self._https_only = https_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; pass on anything that is not HTTP."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        request_id = _request_id(scope)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = completed(message.get("headers", ()), scope, request_id, https_only=self._https_only)
                message = {**message, "headers": headers}
            await send(message)

        # still percent-encoded: one line, always; a stranger may send a very long one
        path = cut(scope.get("raw_path", b"").decode("ascii", "replace"), LONGEST_PATH)
        start = time.perf_counter()
        before = structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("request_failed")
            if not status:
                await problem(500, "The server has a fault; its log says which.")(scope, receive, send_with_id)
        finally:
            try:
                self._finished(scope, path, status, time.perf_counter() - start)
            finally:
                structlog.contextvars.reset_contextvars(**before)

    def _finished(self, scope: Scope, path: str, status: int, seconds: float) -> None:
        for observe in self._observers:
            observe(scope["method"], getattr(scope.get("route"), "path", None), status, seconds)
        fields: dict[str, Any] = {
            "method": cut(scope["method"], LONGEST_METHOD),
            "path": path,
            "status": status,
            "duration_ms": round(seconds * 1000, 2),
        }
        if not written_at_once(plain_log, "info", "request_finished", fields):
            log.info("request_finished", **fields)


def _request_id(scope: Scope) -> str:
    sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return sent.decode() if REQUEST_ID.fullmatch(sent) else secrets.token_hex(16)


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
