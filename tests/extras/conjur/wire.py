"""What goes over the wire? The request as it came, and the forms of Conjur's answers, each with its own headers.

Left out are the constant headers (`X-Frame-Options` and the like), whose values the recordings do not hold.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote_to_bytes

CHUNKED = {"Transfer-Encoding": "chunked"}
BASE64 = {"Content-Encoding": "base64"}
NONE: Mapping[str, str] = {}


@dataclass(frozen=True)
class Request:
    """A request as it came; `target` is the raw path with its query."""

    method: str
    target: str
    headers: Message
    body: bytes
    client_ip: str

    @property
    def query(self) -> dict[str, str]:
        """The query's fields; of several with one name, the last."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def segments(self) -> list[str]:
        """The path, split at its raw slashes, several of which are one, each part decoded once; raise Refused."""
        try:
            segments = [_decoded(part) for part in self.target.partition("?")[0].split("/") if part]
        except UnicodeDecodeError as cause:
            raise Refused(unrouted(400)) from cause
        if '"' in self.target:
            raise Refused(unrouted(400))
        if "\0" in "".join(segments):
            raise Refused(error(422, "argument_error", "string contains null byte"))
        return segments

    def header(self, name: str) -> str:
        """Return the header's value; empty if there is none."""
        return self.headers.get(name) or ""


class Answer(NamedTuple):
    """What goes back over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Refused(Exception):
    """Ends a request with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def content(body: bytes, content_type: str, status: int = 200, headers: Mapping[str, str] = NONE) -> Answer:
    """Return what Conjur renders itself: text, JSON or YAML, with an ETag."""
    more = {"Vary": "Accept", "ETag": etag(body), "Cache-Control": "max-age=0, private, must-revalidate"}
    return Answer(status, {**headers, "Content-Type": f"{content_type}; charset=utf-8", **more, **CHUNKED}, body)


def text(body: str | bytes, headers: Mapping[str, str] = NONE) -> Answer:
    """Return a key or an encoded token."""
    return content(body.encode() if isinstance(body, str) else body, "text/plain", headers=headers)


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] = NONE) -> Answer:
    """Return a result as JSON."""
    return content(_json(value), "application/json", status, headers)


def error(status: int, code: str, message: str, headers: Mapping[str, str] = NONE, **more: Any) -> Answer:
    """Return an error with its explanation."""
    fields = {"Content-Type": "application/json; charset=utf-8", "Vary": "Accept", "Cache-Control": "no-cache"}
    body = _json({"error": {"code": code, "message": message, **more}})
    return Answer(status, {**headers, **fields, **CHUNKED}, body)


def not_found(kind: str, identifier: str, account: str) -> Answer:
    """Return the 404 of a record that is missing or not visible."""
    details = {"code": "not_found", "target": "id", "message": f"{account}:{kind}:{identifier}"}
    message = f"{kind.capitalize()} '{identifier}' not found in account '{account}'"
    return error(404, "not_found", message, target=kind, details=details)


def conflict(retry_after: int) -> Answer:
    """Return what a policy load gets while another is in progress."""
    message = "Concurrent policy load in progress, please retry"
    return error(409, "policy_conflict", message, {"Retry-After": str(retry_after)})


def bare(status: int) -> Answer:
    """Return a status alone, as a controller does: refused, or created with nothing to show."""
    return Answer(status, {"Content-Type": "text/html", "Cache-Control": "no-cache", **CHUNKED})


def unrouted(status: int) -> Answer:
    """Return a status alone, from outside the controllers: no such route, a crash, a path that is no UTF-8."""
    return Answer(status, {"Content-Type": "text/html; charset=utf-8", "Content-Length": "0"})


def unauthorized(message: str) -> Answer:
    """Return the 401 of the token check, which stands before the controllers."""
    headers = {"Content-Type": "text/plain", "Cache-Control": "no-cache", "Content-Length": str(len(message))}
    return Answer(401, headers, message.encode())


def secret(value: bytes, mime_type: str) -> Answer:
    """Return one variable's value."""
    headers = {
        "Content-Type": mime_type,
        "Content-Disposition": "attachment",
        "Content-Transfer-Encoding": "binary",
        "Vary": "Accept",
        "Cache-Control": "private",
        "ETag": etag(value),
    }
    return Answer(200, {**headers, **CHUNKED}, value)


def etag(body: bytes) -> str:
    """Return the weak ETag: the first half of the body's SHA-256."""
    return f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _decoded(segment: str) -> str:
    """Decode percent-encoding, and only once. A `%` with no two hex digits behind it counts as a null byte."""
    return unquote_to_bytes(re.sub("%(?![0-9A-Fa-f]{2}).{0,2}", "%00", segment)).decode()
