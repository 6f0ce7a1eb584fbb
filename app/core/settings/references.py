"""What does `{vault://name/path/key}` stand for? The grammar of references, and how they become values.

    {vault://NAME/PATH/KEY?OPTIONS#VERSION}
    {dynamic://NAME/FIELD}

The last segment is the key, unless a slash follows it or it is the only one. Each segment is percent-decoded once; `+`
is a plus. `.` in the key steps into nested objects (`%2E` is a dot), but a field of the literal name wins. Options are
`default=…` (where the path or the key is missing, never where reading failed otherwise) and `optional=true`. Nothing in
a reference can change where a request goes: the name picks one of the configured Vaults, or one of the dynamic secrets
that a `VAULT_DYNAMIC__<NAME>` names, and that is all.

A reference inside a longer text is replaced there. If the text is a URL (`postgresql://…`, also `jdbc:postgresql://…`),
what stands in its user-info, path and query is percent-encoded; a text that only contains a URL is refused, since it is
not clear where that ends. `{{vault://` is the text `{vault://`, and so for `{{dynamic://`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from app.core.errors import BadReference, KeyMissing
from app.core.settings.dynamic import SCHEME
from app.core.settings.types import has_invisible

OPENING = "{vault://"
DYNAMIC = "{" + SCHEME
OPTIONS = {"default", "optional"}
LONGEST = 4096  # characters
_INSIDE = re.compile(r"(?<!\{)\{(?:vault|dynamic)://[^{}]*\}")
_ESCAPED = re.compile(r"\{(\{(?:vault|dynamic)://)")
_SCHEME = re.compile(r"(?:[a-zA-Z][a-zA-Z0-9+.-]*:)+//")  # jdbc:postgresql:// has two


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference."""

    text: str
    name: str
    resource: str
    key: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    version: int | None = None
    steps: tuple[str, ...] = ()  # the key, split at its dots
    is_dynamic: bool = False  # the name is that of a dynamic secret, and the key one of its fields

    @property
    def addressee(self) -> str:
        """Whom it asks: the name of a source, or `dynamic://` with that of a dynamic secret."""
        return f"{SCHEME}{self.name}" if self.is_dynamic else self.name


def is_reference(text: str) -> bool:
    """Tell whether the whole text means to be a reference, a wrong one included."""
    return text.startswith((OPENING, DYNAMIC)) and text.endswith("}")


def parse_reference(text: str) -> Reference:
    """Parse a reference; raise `BadReference` that says what is wrong with it."""
    if not is_reference(text):
        raise _bad(text, f"a reference starts with {OPENING} or {DYNAMIC}, and ends with }}")
    if len(text) > LONGEST:
        raise _bad(text, f"it is longer than {LONGEST} characters")
    is_dynamic = text.startswith(DYNAMIC)
    inside = text[len(DYNAMIC if is_dynamic else OPENING) : -1]
    if any(character in "{};" or character.isspace() for character in inside):
        raise _bad(text, "braces, semicolons and blanks must be percent-encoded")
    if is_dynamic:
        return _dynamic(text, inside)
    rest, has_version, version = inside.partition("#")
    if has_version and not re.fullmatch(r"[1-9][0-9]*", version, re.ASCII):
        raise _bad(text, "the version behind # must be a positive number, and the last part")
    rest, _, options = rest.partition("?")
    name, _, path = rest.partition("/")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise _bad(text, "the name of a Vault consists of letters, digits, - and _")
    raw = [segment for segment in path.split("/") if segment]
    if not raw:
        raise _bad(text, "there is no path")
    segments = [_decoded(text, segment) for segment in raw]
    has_key = len(segments) > 1 and not path.endswith("/")
    return Reference(
        text,
        name,
        resource="/".join(segments[:-1] if has_key else segments),
        key=segments[-1] if has_key else None,
        options=_options(text, options),
        version=int(version) if has_version else None,
        steps=tuple(_decoded(text, step) for step in raw[-1].split(".")) if has_key else (),
    )


def _dynamic(text: str, inside: str) -> Reference:
    name, _, key = inside.partition("/")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise _bad(text, "the name of a dynamic secret consists of small letters, digits and _")
    if not key or any(character in key for character in "/?#"):
        raise _bad(text, "behind the name of a dynamic secret stands one of its fields, and nothing more")
    steps = tuple(_decoded(text, step) for step in key.split("."))
    return Reference(text, name, resource=f"{SCHEME}{name}", key=_decoded(text, key), steps=steps, is_dynamic=True)


def references_in(text: str) -> tuple[Reference, ...]:
    """Return the references that a text consists of or contains; raise `BadReference` if one of them is wrong."""
    if is_reference(text):
        found = [parse_reference(text)]
    else:
        found = [parse_reference(match[0]) for match in _INSIDE.finditer(text)]
        _refuse_ambiguous(text, found)
    for reference in found:
        if reference.options.get("optional", "true") not in {"true", "false"}:
            raise _bad(reference.text, "the option optional is true or false")
        if unknown := sorted(reference.options.keys() - OPTIONS):
            raise _bad(reference.text, f"there is no option {', '.join(unknown)}, only {', '.join(sorted(OPTIONS))}")
    return tuple(found)


def _refuse_ambiguous(text: str, found: Sequence[Reference]) -> None:
    """Refuse a longer text of which it is not clear what is a reference, or a URL; what else is in it is not shown."""
    rest = _ESCAPED.sub("", _blank(text))
    for opening in (OPENING, DYNAMIC):
        if opening in rest:
            raise _bad(opening, f"a reference is not closed; to mean the text itself, write {{{opening}")
    scheme = _SCHEME.match(rest)
    if found and "://" in rest[scheme.end() if scheme else 0 :]:
        raise _bad(found[0].text, "the text around it has a URL in it, but must be one URL from its first character on")


def extract(reference: Reference, data: Mapping[str, Any]) -> Any:
    """Return what the reference names in a secret; raise `KeyMissing` if it is not there."""
    if reference.key is None:
        return dict(data)
    if reference.key in data:
        return data[reference.key]
    found: Any = data
    for step in reference.steps:
        if not isinstance(found, Mapping) or step not in found:
            held = ", ".join(sorted(data)) or "none"
            raise KeyMissing(
                reference.text,
                f"there is no key {reference.key!r}; the keys: {held}",
                "Check the key in this reference.",
            )
        found = found[step]
    return found


def substitute(text: str, value_of: Callable[[Reference], Any]) -> Any:
    """Return the text with its references replaced; a text that is one reference becomes the value as it is."""
    if is_reference(text):
        return value_of(parse_reference(text))
    return "".join(_pieces(text, value_of))


def _pieces(text: str, value_of: Callable[[Reference], Any]) -> Iterator[str]:
    start = 0
    for match in _INSIDE.finditer(text):
        reference = parse_reference(match[0])
        value = value_of(reference)
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif not isinstance(value, str | int | float):
            raise _bad(reference.text, "inside a longer text only strings, numbers and booleans make sense")
        yield _unescaped(text[start : match.start()])
        yield _as_part_of_url(reference, text, match.start(), str(value))
        start = match.end()
    yield _unescaped(text[start:])


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def _as_part_of_url(reference: Reference, text: str, position: int, value: str) -> str:
    """Percent-encode a value for the part of a URL in which it stands; outside of URLs it stays as it is."""
    blank = _blank(text)
    scheme = _SCHEME.match(blank)
    if scheme is None or position < scheme.end():
        return value
    host_ends = next((n for n in range(scheme.end(), len(blank)) if blank[n] in "/?#"), len(blank))
    user_info_ends = blank.rfind("@", scheme.end(), host_ends)
    if position < host_ends and position > user_info_ends:
        if not re.fullmatch(r"[A-Za-z0-9.:_-]+", value):
            raise _bad(reference.text, "as the host of a URL its value must consist of letters, digits, . : - and _")
        return value
    return quote(value, safe="")


def _blank(text: str) -> str:
    """Return the text with blanks in place of its references, whose own slashes do not count."""
    return _INSIDE.sub(lambda match: "_" * len(match[0]), text)


def _decoded(text: str, segment: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", segment):
        raise _bad(text, "there is a % that is not followed by two hexadecimal digits")
    try:
        decoded = unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise _bad(text, "a percent-encoded character is not UTF-8") from None
    if {".", ".."} & set(decoded.split("/")):
        raise _bad(text, "the segments . and .. are not allowed")
    if has_invisible(decoded):
        raise _bad(text, "control characters and invisible ones are not allowed")
    return decoded


def _options(text: str, options: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for option in options.split("&") if options else ():
        name, equals, value = option.partition("=")
        if not name or not equals:
            raise _bad(text, "an option has the form name=value")
        if name in found:
            raise _bad(text, f"the option {name} is given twice")
        found[name] = unquote(value)
    return found


def _bad(text: str, cause: str) -> BadReference:
    shown = text if len(text) <= 200 else text[:200] + "…"  # noqa: PLR2004 - enough to recognise it
    form = "{dynamic://name/field}" if text.startswith(DYNAMIC) else "{vault://name/path/key?options#version}"
    return BadReference(shown, cause, f"It has the form {form}.")
