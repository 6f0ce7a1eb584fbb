"""What does Rack, which stands before Conjur's routes, make of the body of a request?

It takes the body of a `POST` for a form if the `Content-Type` says so, is missing or is no media type. In it, it looks
for the parameter `_method`, by which a form asks for another method. A body that it cannot read as a form has been read
to its end all the same: the routes behind it find nothing left. Logins and policies are exempt: with any type or none
they arrive as they are (Conjur says itself that a policy is YAML).
"""

import re
from dataclasses import replace
from urllib.parse import unquote_to_bytes

from tests.extras.conjur.wire import Request

FORM = "application/x-www-form-urlencoded"
EXEMPT = re.compile(r"/+(policies|authn)")
MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*)|\*/\*")  # in Rails's eyes
METHODS = {"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "LINK", "UNLINK"}
MOST_PARAMETERS = 4096
MOST_NAMES = 65_536  # characters of all names on one level together
MOST_LEVELS = 100

Value = str | None | list["Value"] | dict[str, "Value"]
Level = dict[str, Value]


class NoFormError(Exception):
    """The body is not a form that Rack reads."""


def received(request: Request) -> Request:
    """Return the request as it reaches Conjur's routes."""
    exempt = request.method != "POST" or EXEMPT.match(request.target)
    if exempt or not is_form(request.header("Content-Type")):
        return request
    try:
        method = parse(request.body).get("_method")
    except NoFormError:
        return replace(request, body=b"")
    asked = method.upper() if isinstance(method, str) else ""
    return replace(request, method=asked) if asked in METHODS else request


def is_form(content_type: str) -> bool:
    """Tell whether the body of a `POST` with this header is taken for a form."""
    media_type = re.split("[;,]", content_type)[0].strip().lower()
    return media_type == FORM or not MEDIA_TYPE.fullmatch(media_type)


def parse(body: bytes) -> Level:
    """Read a form; raise `NoFormError`."""
    if body.count(b"&") >= MOST_PARAMETERS:
        raise NoFormError
    form: Level = {}
    for part in re.split(b"& *", body):
        name, equals, value = part.partition(b"=")
        if len(re.findall(rb"\[[^\[\]]+\]", name)) >= MOST_LEVELS:
            raise NoFormError
        if part:
            _put(form, _decoded(name), _decoded(value) if equals else None)
    return form


def _decoded(text: bytes) -> str:
    if re.search(b"%(?![0-9A-Fa-f]{2})", text):
        raise NoFormError
    try:
        return unquote_to_bytes(text.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise NoFormError from None


def _put(level: Level, name: str, value: Value) -> None:
    """Put a value where its name says: `a`, `a[]` (in a list), `a[b]` (on a level below) or `a[][b]` (both)."""
    found = re.match(r"[\[\]]*([^\[\]]+)\]*", name)
    if not found:
        return
    first, rest = found[1], name[found.end() :]
    there = level.get(first)
    if rest in {"", "["}:
        level[first + rest] = value
    elif rest.startswith("[]"):
        items = level[first] = [] if there is None else there
        if not isinstance(items, list):
            raise NoFormError
        items.append(value if rest == "[]" else _below({}, rest[2:], value))
    else:
        level[first] = _below({} if there is None else there, rest, value)
    if sum(map(len, level)) > MOST_NAMES:
        raise NoFormError


def _below(level: Value, name: str, value: Value) -> Value:
    if not isinstance(level, dict):
        raise NoFormError
    _put(level, name, value)
    return level
