"""Does an answer equal the recorded one? Reading the recordings, sending their requests again, and comparing.

What differs from run to run (`TIME`, `KEY` and `TOKEN`) is exchanged first; all else is compared byte by byte, but for
line feeds at the end of a body, since the recorder added its own.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from tests.extras.conjur.wire import etag

RECORDINGS = Path(__file__).with_name("recordings")
NOT_RECORDED = {"x-request-id"}  # left out of the recordings, as their README says
TOKEN = r'\{"protected":"([\w-]+=*)","payload":"([\w-]+=*)","signature":"[\w-]+=*"\}'
TIME = re.compile(r'("(?:created_at|token_issued_at)":")\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00(?=")')
KEY = re.compile(r'("(?:api_key|token)":"|\A)([0-9a-hjkmnp-tv-z]{48,56})(?="|\Z)')


@dataclass(frozen=True)
class Message:
    """An answer, recorded or live."""

    status: str  # with its reason
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True)
class Recording:
    """One exchange with the real server, or a note about several, which has no request."""

    file: str
    title: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    answer: Message | None
    read_back: bytes | None  # what the variable held after the request

    @property
    def name(self) -> str:
        """What a test calls it."""
        return f"{self.file}: {self.title}"


def recordings() -> list[Recording]:
    """Return everything that was recorded, in its order."""
    files = sorted(RECORDINGS.glob("*.txt"))
    return [recording for file in files for recording in _read(file.stem, file.read_bytes())]


def _read(file: str, text: bytes) -> Iterator[Recording]:
    for part in re.split(rb"^### ", text.replace(b"\r\n", b"\n"), flags=re.MULTILINE)[1:]:
        title, _, rest = part.partition(b"\n")
        asked = re.match(rb"((?:>.*\n)*)", rest)[1]  # type: ignore[index]
        head, _, body = re.sub(rb"^> ?", b"", asked, flags=re.MULTILINE).partition(b"\n\n")
        line, *fields = head.decode().strip().split("\n")
        method, target = line.split(" ")[:2] if line else ("", "")
        headers = tuple((name, value) for name, _, value in (field.partition(": ") for field in fields))
        dump = re.search(rb"^00000000: ((?:[0-9a-f]+ )+)", rest, re.MULTILINE)
        yield Recording(
            file,
            title.decode().strip(),
            method,
            target,
            headers,
            body.removesuffix(b"\n"),
            _answer(re.split(rb"^(?:00000000|payload): ", rest[len(asked) :], flags=re.MULTILINE)[0]),
            bytes.fromhex(dump[1].decode()) if dump else None,
        )


def _answer(text: bytes) -> Message | None:
    head, _, body = text.strip(b"\n").partition(b"\n\n")
    status, *fields = head.decode().split("\n")
    if not status.startswith("HTTP/1.1 "):
        return None
    pairs = (field.partition(": ") for field in fields)
    return Message(status[9:], {name.lower(): value for name, _, value in pairs}, body)


def send(url: str, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Message:
    """Send exactly this, with nothing added, and return the answer as it came."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return Message(f"{answer.status} {answer.reason}", fields, answer.read())
    finally:
        connection.close()


def differences(recorded: Message, live: Message) -> list[str]:
    """Return what is not as recorded, each as one line; nothing means equal."""
    found = []
    if recorded.status != live.status:
        found.append(f"status: {recorded.status} was recorded, {live.status} came")
    expected_body, body = normal(recorded.body), normal(live.body)
    if expected_body != body:
        found.append(f"body: {expected_body!r} was recorded, {body!r} came")
    expected = dict(recorded.headers)
    if "etag" in expected and expected_body != recorded.body.rstrip(b"\n"):
        expected["etag"] = etag(live.body)  # it follows from what varies
    if "1" <= live.headers.get("retry-after", "") <= "8" and "retry-after" in expected:
        expected["retry-after"] = live.headers["retry-after"]  # random
    names = expected.keys() | live.headers.keys() - NOT_RECORDED
    pairs = {name: (expected.get(name), live.headers.get(name)) for name in sorted(names)}
    return found + [
        f"{name}: {one!r} was recorded, {other!r} came" for name, (one, other) in pairs.items() if one != other
    ]


def normal(body: bytes) -> bytes:
    """Return the body with what varies from run to run replaced by its kind."""
    text = body.rstrip(b"\n").decode(errors="surrogateescape")
    if re.fullmatch(r"eyJ[\w+/]+=*", text):  # an encoded token
        text = f"base64 of {base64.b64decode(text, validate=True).decode()}"
    text = re.sub(TOKEN, _token, text)
    return KEY.sub(r"\1<a key>", TIME.sub(r"\1<a time>", text)).encode(errors="surrogateescape")


def _token(found: re.Match[str]) -> str:
    """Describe a token by what does not vary: algorithm, subject, lifetime."""
    protected, payload = (json.loads(base64.urlsafe_b64decode(part)) for part in found.groups())
    return (
        f"<a token of {[*protected, protected['alg']]}, {[*payload, payload['sub'], payload['exp'] - payload['iat']]}>"
    )


def keys(body: bytes) -> list[str]:
    """Return the API keys and host factory tokens that a body shows."""
    return [found[2] for found in KEY.finditer(body.decode(errors="surrogateescape").rstrip("\n"))]
