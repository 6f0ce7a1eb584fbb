"""How is the status shown to a person? One page that loads nothing else, under a strict Content-Security-Policy."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import jinja2
from markupsafe import Markup

from app.core.logs.event_log import Event
from app.core.settings.app import Service
from app.extras.status.report import Status
from app.extras.status.timeline import timeline

LISTED = 8  # of the latest events; equal ones in a row count as one
SENTENCES = {
    "login": ("Logged in to {}", "The login to {} failed"),
    "renewal": ("Renewed the token of {}", "Renewing the token of {} failed"),
    "load": ("Read all secrets of {}", "Reading {} failed"),
    "rotation": ("Took in a rotation in {}", "A rotation in {} failed"),
    "refused": ("Refused a rotation in {}", "Refused a rotation in {}"),
    "rebuilt": ("Built the {}", "Building the {} failed"),
    "lease": ("Looked after the leases of {}", "Looking after the leases of {} failed"),
    "upkeep": ("Looked after {}", "Looking after {} failed"),
}


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the list of events."""

    text: str
    event: Event  # the latest of those that it stands for
    count: int


def render(status: Status, service: Service) -> str:
    """Return the page."""
    return _TEMPLATE.render(
        title=service.title,
        version=service.version,
        status=status,
        picture=timeline(status.events, status.at),
        notes=tuple(_notes(status.events))[:LISTED],
    )


def _notes(events: Sequence[Event]) -> Iterator[Note]:
    """Put events into words, latest first."""
    for (kind, source, outcome, _), same in groupby(
        reversed(events), key=lambda event: (event.kind, event.source, event.outcome, event.detail)
    ):
        latest, *others = same
        done, failed = SENTENCES.get(kind, (f"{kind} {{}}", f"{kind} {{}} failed"))
        yield Note((failed if outcome == "failed" else done).format(source), latest, 1 + len(others))


def in_words(seconds: float) -> str:
    """Return a duration as a person says it: `12 s`, `4 min`, `1 h 20 min`, `3 d`."""
    whole = max(round(seconds), 0)
    if whole < 120:  # noqa: PLR2004 - two minutes
        return f"{whole} s"
    if whole < 3600:  # noqa: PLR2004 - an hour
        return f"{whole // 60} min"
    unit, size, finer, part = ("h", 3600, "min", 60) if whole < 2 * 86400 else ("d", 86400, "h", 3600)
    count, rest = divmod(whole, size)
    return f"{count} {unit} {rest // part} {finer}" if rest >= part else f"{count} {unit}"


def _utc(at: float, form: str = "%Y-%m-%d %H:%M:%S UTC") -> str:
    return datetime.fromtimestamp(at, UTC).strftime(form)


def _inlined(name: str) -> tuple[Markup, str]:
    """Return a file for the page, and the hash by which the policy allows exactly this text."""
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    return Markup(text), f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"  # noqa: S704 - our own


TEMPLATES = Path(__file__).parent / "templates"
_STYLE, _STYLE_HASH = _inlined("status.css")
_SCRIPT, _SCRIPT_HASH = _inlined("status.js")
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,  # names and faults come from elsewhere
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(words=in_words, utc=_utc)
_ENVIRONMENT.globals.update(style=_STYLE, script=_SCRIPT)
_TEMPLATE = _ENVIRONMENT.get_template("status.html")

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_STYLE_HASH}; script-src {_SCRIPT_HASH}; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
