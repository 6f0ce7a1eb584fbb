"""What must no log line show? Whatever the process holds, whatever looks like a credential or is called one.

    mask_from_now_on(owner, values)   these strings
    redact(text)                      the text with `***` where it shows one
    mask_named                        processor: masks what an event calls a password, a token, …
    mask_shown                        processor: masks the rendered line, tracebacks included

A line is searched after it was rendered, so it does not matter how a value came into it. Strings of fewer than six
characters are not searched for, and a secret that is an everyday word (`production`) is masked wherever that stands.
To do without all this, delete this module, `secret_search.py`, and the lines that name them.
"""

import json
import re
from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr
from structlog.typing import EventDict, WrappedLogger

from app.core import forks
from app.core.logs.secret_search import SHORTEST, Matcher, Span, encoded

MASK = "***"
LONGEST = 16_384  # characters of one field; strangers choose what is in some of them
KEY_PREFIX = "fvb_"  # of the API keys that this service issues

# Each by what is looked for first, which is rare in logs, so that a line without it is passed over in no time; what is
# masked is the first group. None may look at a piece of a line again and again: strangers choose what is in some lines.
SHAPES = (
    (b"hv", re.compile(rb"\.(?<=\bhv[sbr]\.)([\w-]{24,}(?:\.\w+)?)")),  # Vault's tokens
    (b"s.", re.compile(rb"\.(?<=\bs\.)([A-Za-z0-9]{24}(?!\w)(?:\.\w+)?)")),  # before Vault 1.10, and OpenBao's
    (b"b.", re.compile(rb"\.(?<=\bb\.)([\w-]{60,}(?:\.\w+)?)")),  # the same, batch tokens
    (KEY_PREFIX.encode(), re.compile(KEY_PREFIX.encode() + rb"([\w-]{40,})")),
    (b"J", re.compile(rb"eyJ(?:([\w-]{8,}+\.[\w-]{2,}+\.[\w-]*+)|[\w-]*+)")),  # a JWT; or no more of what is none
    (b"=", re.compile(rb"Token token=\\*[\"']?([^\"'\\\s,]+)")),  # Conjur's access token
    (b"B", re.compile(rb"(?:Basic|Bearer) ([\w.~+/=-]{16,})")),  # in an Authorization header
    (b"://", re.compile(rb"://[^/\s:@\"'\\]*:([^\s/\"'\\]+)@")),  # the password in a URL
)
# Not `key` and `keys`, which are the names of secrets in our own lines.
_NAMES = (
    "password|passwd|passphrase|passcode|pass|pwd|pin|otp|secret|secret_id|token|jwt|credential|auth|authorization|"
    "bearer|cookie|dsn|api_?key|(?:secret|private|signing|unseal|encryption|access|ssh)_key"
)
_CALLED_A_SECRET = re.compile(rf"(?:.*_)?(?:{_NAMES})s?")

_LEAVES = {int, float, bool, type(None)}  # what holds nothing else
_PASSWORD = re.compile(r"\b(?i:password|pwd) *= *['\"{]?([^\s'\"{};&]+)")  # in a DSN, or the query of a URL

_lock = forks.Lock()
_held: dict[Hashable, tuple[frozenset[str], frozenset[str]]] = {}
_matcher = Matcher(())


def mask_from_now_on(owner: Hashable, values: object) -> None:
    """Mask the strings in `values`, and those of the owner's call before this one: they may still be in use."""
    global _matcher  # noqa: PLW0603 - swapped in one step: who is reading goes on with the old one
    now = frozenset(string for string in strings_in(values) if len(string) >= SHORTEST)
    with _lock:
        last, _ = _held.get(owner, (frozenset[str](), None))
        if now == last:
            return
        _held[owner] = now, last
        wanted = frozenset[str]().union(*(each for both in _held.values() for each in both))
        if not wanted <= _matcher.strings:
            _matcher = Matcher(wanted)


def strings_in(value: object) -> Iterator[str]:
    """Yield the strings in a value: nested ones, also in text that is JSON, lines, and passwords in URLs and DSNs."""
    match value:
        case str():
            yield (text := value.strip())
            yield from map(str.strip, text.splitlines())  # a traceback may indent each line
            if text.startswith(("{", "[")):
                with suppress(ValueError, RecursionError):
                    yield from strings_in(json.loads(text))
            if "://" in text:
                with suppress(ValueError):  # not a URL after all
                    url = urlsplit(text)
                    alone = url.username if url.scheme.startswith("http") else None  # a token; a database's is a user
                    password = (alone if url.password is None else url.password) or ""
                    yield from (password, unquote(password))
            for password in _PASSWORD.findall(text):
                yield from (password, unquote(password))
        case Mapping():
            yield from (string for each in value.values() for string in strings_in(each))
        case list() | tuple() | set() | frozenset():
            yield from (string for each in value for string in strings_in(each))
        case SecretStr():
            yield from strings_in(value.get_secret_value())
        case BaseModel():
            yield from (string for _, each in value for string in strings_in(each))


def credentials_in(settings: BaseModel) -> Iterator[str]:
    """Yield the credentials among the settings. `SECRET_…` are not: the store holds what becomes of them."""
    for _, value in settings:
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        for each in value.values() if isinstance(value, Mapping) else [value]:
            if isinstance(each, BaseModel):
                yield from credentials_in(each)


def redact(text: str) -> str:
    """Return the text with `***` in place of what must not be shown."""
    data = encoded(text)
    spans = _matcher.find(data)
    for sign, shape in SHAPES:
        if sign in data:
            spans += [match.span(1) for match in shape.finditer(data) if match[1]]
    return _without(data, spans) if spans else text


def cut(text: str, longest: int = LONGEST) -> str:
    """Return the beginning of a long text; it is masked first, since half a secret would not be known as one."""
    return text if len(text) <= longest else redact(text[: 2 * longest])[:longest] + "..."


def mask_named(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask what is called a password, a token and so on, at any depth, and cut what is very long."""
    if _is_plain(event) and not _name_a_secret(tuple(event)):  # as nearly all are
        return event
    return {name: _masked(name, value) for name, value in event.items()}


def mask_shown(_logger: WrappedLogger, _method: str, line: Any) -> str:
    """Mask what a rendered line shows; JSON stays JSON, also where a secret is a number or has quotes around it."""
    masked = redact(line)
    if masked is not line and line.startswith("{"):
        try:
            json.loads(masked)
        except ValueError:
            masked = json.dumps(_redacted_inside(json.loads(line)))
    return masked


def _without(data: bytes, spans: list[Span]) -> str:
    pieces, end = [], 0
    for start, stop in sorted(spans):
        if start >= end:
            pieces += [data[end:start], MASK.encode()]
        end = max(end, stop)
    return b"".join([*pieces, data[end:]]).decode("utf-8", "surrogatepass")


def _redacted_inside(value: Any) -> Any:
    match value:
        case dict():
            return {redact(name): _redacted_inside(each) for name, each in value.items()}
        case list():
            return [_redacted_inside(each) for each in value]
        case None | bool():
            return value
        case _:
            masked = redact(text := str(value))
            return value if masked == text else masked


def _is_plain(event: EventDict) -> bool:
    """Tell whether nothing in it has to be looked into, or cut."""
    for value in event.values():
        is_short = isinstance(value, str) and len(value) <= LONGEST
        if not (is_short or type(value) in _LEAVES):
            return False
    return True


@lru_cache(1024)
def _name_a_secret(names: tuple[str, ...]) -> bool:
    return any(map(_is_called_a_secret, names))


def _masked(name: object, value: Any) -> Any:
    if (
        isinstance(name, str | bytes)
        and _is_called_a_secret(name)
        and value is not None
        and not isinstance(value, bool)
    ):
        return MASK
    match value:
        case str():
            return cut(value)
        case dict():
            return {inner: _masked(inner, each) for inner, each in value.items()}
        case (bytes(header), bytes(_)):  # as servers and HTTP clients keep headers
            return header, _masked(header, value[1])
        case (str(header), str(_)) if isinstance(value, tuple):  # or so; a list of two texts is one of names
            return header, _masked(header, value[1])
        case list():
            return [_masked(None, each) for each in value]
        case tuple():
            return tuple(_masked(None, each) for each in value)
        case _:
            return value


@lru_cache(1024)
def _is_called_a_secret(name: str | bytes) -> bool:
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).replace("-", "_").lower()  # apiKey, X-API-Key
    return _CALLED_A_SECRET.fullmatch(words) is not None
