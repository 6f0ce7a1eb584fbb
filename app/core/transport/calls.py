"""Which requests go out to a Vault or to Conjur, how does each end, and how long does it take? Watched in one place.

The metrics listen; and where OpenTelemetry is switched on, each request is a span. Neither learns a path, a header or a
body: only one of few names for what was asked, and one of few for how it ended.
"""

import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal
from urllib.parse import urlsplit

from opentelemetry import trace

from app.core.logs.event_log import Listeners

Outcome = Literal["ok", "redirected", "refused", "denied", "missing", "limited", "failed", "unreachable"]

NAMED = {
    "auth/token/lookup-self": "lookup-self",
    "auth/token/renew-self": "renew-self",
    "auth/token/revoke-self": "revoke-self",
    "sys/capabilities-self": "capabilities-self",
    "sys/wrapping/lookup": "wrapping-lookup",
    "sys/wrapping/unwrap": "unwrap",
}
BY_METHOD = {"GET": "read", "LIST": "list", "POST": "write", "PUT": "write", "PATCH": "patch", "DELETE": "delete"}
NOT_AT_FAULT = {"ok", "redirected", "missing"}

tracer = trace.get_tracer("app.core.transport.calls")  # costs next to nothing until somebody collects spans


@dataclass(slots=True)
class Call:
    """One request, with the repetitions that it took."""

    source: str  # the Vault
    operation: str  # one of few names
    outcome: Outcome = "unreachable"  # until an answer says otherwise
    seconds: float = 0.0

    def answered(self, status: int, body: bytes | None = b"") -> None:
        """Take in the answer's HTTP status; OpenBao's 429 without errors is a standby that lags, not a limit."""
        lags = status == HTTPStatus.TOO_MANY_REQUESTS and (body or b"").strip() == b'{"errors":[]}'
        self.outcome = outcome_of(HTTPStatus.PRECONDITION_FAILED if lags else status)


calls: Listeners[Call] = Listeners()  # the process's


@contextmanager
def watched(source: str, operation: str, url: str) -> Iterator[Call]:
    """Measure the block as one call to `source`, make it a span, and tell the listeners how it ended."""
    call = Call(source, operation)
    span = tracer.start_span(f"{source} {operation}", kind=trace.SpanKind.CLIENT)  # no error's message goes into it
    start = time.perf_counter()
    try:
        yield call
    finally:
        call.seconds = time.perf_counter() - start
        if span.is_recording():
            _describe(span, call, url)
        span.end()
        calls.notify(call)


def _describe(span: trace.Span, call: Call, url: str) -> None:
    address = urlsplit(url)
    span.set_attributes(
        {
            "server.address": address.hostname or address.path,  # of a socket, which has no port
            **({"server.port": address.port or (443 if address.scheme == "https" else 80)} if address.hostname else {}),
            "vault.source": call.source,
            "vault.operation": call.operation,
            "vault.outcome": call.outcome,
        }
    )
    if call.outcome not in NOT_AT_FAULT:
        span.set_status(trace.StatusCode.ERROR, call.outcome)


def vault_operation(mount_point: str, issuing: Container[str], method: str, path: str) -> str:
    """Name what a request asks of Vault's API.

    `mount_point` is where the secrets are, `issuing` where credentials are issued; both percent-encoded.
    """
    where = path.partition("/v1/")[2].partition("?")[0]
    if where in issuing:
        return "issue"
    if where in NAMED:
        return NAMED[where]
    if where.startswith("auth/") and (where.endswith("/login") or where.rpartition("/")[0].endswith("/login")):
        return "login"
    if where.startswith("sys/internal/ui/mounts/"):
        return "mount"
    if where.startswith(("sys/leases/renew/", "sys/leases/revoke/")):
        return f"{where.split('/')[2]}-lease"
    if not where.startswith(f"{mount_point}/"):
        return "other"
    kind = where.removeprefix(f"{mount_point}/").partition("/")[0]
    if (method, kind) in {("GET", "metadata"), ("POST", "undelete"), ("POST", "destroy")}:
        return kind
    return BY_METHOD.get(method, "other")


def conjur_operation(method: str, path: str) -> str:
    """Name what a request asks of Conjur's API; in its paths every id is one segment."""
    where = path.partition("?")[0]
    if where.endswith("/authenticate"):
        return "login"
    kind = next((segment for segment in where.split("/") if segment in {"secrets", "resources", "policies"}), "")
    match kind, method:
        case "secrets", _:
            return BY_METHOD.get(method, "other")
        case "resources", "GET":
            return "metadata" if "/variable/" in where else "list"
        case "policies", _:
            return "policy"
        case _:
            return "other"


def outcome_of(status: int) -> Outcome:
    """Name what an HTTP status means for the one who asked."""
    match status:
        case 401 | 403:
            return "denied"
        case 404:
            return "missing"
        case 429:
            return "limited"
        case 412 | 472 | 473:  # a replica or a standby that cannot serve this: Vault's matter, like the 5xx
            return "failed"
        case _ if status >= 500:  # noqa: PLR2004
            return "failed"
        case _ if status >= 400:  # noqa: PLR2004
            return "refused"
        case _:
            return "redirected" if status >= 300 else "ok"  # noqa: PLR2004
