"""Where does a text show one of many strings, in the usual spellings? Found without looking for each of them.

Each spelling is entered under two of its windows of four bytes, one byte apart. A text is read as numbers of four
bytes, once from its first and once from its third byte: all its windows at even positions. Wherever a spelling begins,
one of its two windows is among these. The numbers are looked up in C, in a time that does not depend on how many
strings there are; only what stands under a window that was met is compared. With the eight bytes of `s3cr3t-x`:

    entered                 s3cr and 3cr3
    `key=s3cr3t-x` reads    key= s3cr 3t-x, then y=s3 cr3t      it begins at an even position: the first window is met
    `pw=s3cr3t-x!` reads    pw=s 3cr3 t-x!, then =s3c r3t-      at an odd one: the second window is met

Backslashes are left out on both sides: JSON within JSON within `repr` only has more of them.
"""

import base64
import html
import json
import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from urllib.parse import quote, quote_plus

Span = tuple[int, int]  # from the first byte to behind the last one

SHORTEST = 6  # characters; anything shorter would be met everywhere by chance
_FAR = 40  # bytes that are looked at on either side of an ellipsis
_ELLIPSIS = re.compile(rb"\.\.\.+|\xe2\x80\xa6")
_MOST = 100  # of them in a text; more would be a way to keep us busy
_NEVER_ENCODED = re.compile(r"[A-Za-z0-9_.~-]+")  # in a URL
_NEVER_ESCAPED = re.compile(r"[ !#-&(-\[\]-~]+")  # in JSON or by `repr`: no quotes, no backslash, ASCII
_MARKUP = re.compile(r"[&<>\"']")
_IN_HTML = {ord(each): f"\\u{ord(each):04x}" for each in "&<>"}  # as JSON has them that may stand in a page
_KEPT = (
    "/",
    "",
    "!#$%&'()*+,/:;=?@[]~",
    "!$%&'()*+,/:;=@[]^|~",
)  # in a URL, by urllib, requests, browsers
_PERCENT = re.compile(r"%[0-9A-F]{2}")
_UNICODE = re.compile(r"(\\u)([0-9a-f]{4})")
_BACKSLASH = re.compile(rb"\\")


def encoded(text: str) -> bytes:
    """Return the bytes in which texts and strings are compared; lone surrogates are kept."""
    return text.encode("utf-8", "surrogatepass")


class Matcher:
    """Finds these strings, each of at least `SHORTEST` characters; built again when they change."""

    def __init__(self, strings: Iterable[str]) -> None:
        self.strings = frozenset(strings)
        self._under: dict[int, list[bytes]] = {}
        escaped = {spelling for string in self.strings for spelling in _escaped(string)}
        for spelling in escaped.union(*map(_in_base64, self.strings)):
            self._enter(spelling)
        self._forwards = _Beginnings(escaped)
        self._backwards = _Beginnings(spelling[::-1] for spelling in escaped)

    def find(self, text: bytes) -> list[Span]:
        """Return where the text shows one of the strings, whole or abbreviated with an ellipsis; spans may overlap."""
        bare = text.replace(b"\\", b"")
        found = self._find(bare)
        if not found or len(bare) == len(text):
            return found
        # how many bytes of `bare` stand before each backslash: those before a start belong to what was found
        before = [match.start() - n for n, match in enumerate(_BACKSLASH.finditer(text))]
        return [(start + bisect_left(before, start), end + bisect_right(before, end - 1)) for start, end in found]

    def _find(self, text: bytes) -> list[Span]:
        view, windows = memoryview(text), self._under.keys()
        first = view[: len(text) & ~3].cast("I")
        second = view[2 : 2 + (max(len(text) - 2, 0) & ~3)].cast("I")
        met: set[int] = set()
        if not (windows.isdisjoint(first) and windows.isdisjoint(second)):  # nearly all lines show nothing
            met = (windows & first) | (windows & second)
        found = []
        for spelling in {spelling for window in met for spelling in self._under[window]}:
            start = text.find(spelling)
            while start >= 0:
                found.append((start, start + len(spelling)))
                start = text.find(spelling, start + 1)
        if b"..." in text or b"\xe2\x80\xa6" in text:
            found.extend(self._abbreviated(text))
        return found

    def _enter(self, spelling: bytes) -> None:
        """Enter the spelling under its first windows that no other one has: many may begin alike."""
        windows = (int.from_bytes(spelling[n : n + 4], sys.byteorder) for n in range(len(spelling) - 3))
        for first, second in pairwise(windows):
            if first not in self._under and second not in self._under:
                self._under[first] = self._under[second] = [spelling]
                return
        for window in {first, second}:  # the last ones
            self._under[window] = [*self._under.get(window, ()), spelling]

    def _abbreviated(self, text: bytes) -> Iterator[Span]:
        """Find `beginning...end`, as `reprlib` (so asyncio) and pydantic shorten a long string."""
        for ellipsis in islice(_ELLIPSIS.finditer(text), _MOST):
            left, right = ellipsis.span()
            for start in range(max(left - _FAR, 0), left - SHORTEST + 1):
                if self._forwards.has(text[start:left]):
                    yield start, left
                    break
            for end in range(min(right + _FAR, len(text)), right + SHORTEST - 1, -1):
                if self._backwards.has(text[right:end][::-1]):
                    yield right, end
                    break


class _Beginnings:
    """Tells whether one of many strings begins with a piece of at least `SHORTEST` bytes."""

    def __init__(self, strings: Iterable[bytes]) -> None:
        self._strings = sorted(strings)
        self._heads = {string[:SHORTEST] for string in self._strings}  # most pieces end here, in no time

    def has(self, piece: bytes) -> bool:
        if piece[:SHORTEST] not in self._heads:
            return False
        n = bisect_left(self._strings, piece)
        return n < len(self._strings) and self._strings[n].startswith(piece)


def _escaped(string: str) -> set[bytes]:
    """Return the string as it is, percent-encoded, and escaped as in JSON, Python or HTML; all without backslashes."""
    spellings = {string}
    if not _NEVER_ENCODED.fullmatch(string):
        for data in {encoded(string), json.dumps(string)[1:-1].encode()}:
            spellings |= {quote(data, safe=safe) for safe in _KEPT} | {quote_plus(data)}
        spellings |= {_PERCENT.sub(_lower, spelling) for spelling in spellings if "%" in spelling}
    if not _NEVER_ESCAPED.fullmatch(string):
        for each in (string, repr(string)[1:-1]):
            spellings |= {json.dumps(each)[1:-1], json.dumps(each, ensure_ascii=False)[1:-1]}
        spellings |= {repr(encoded(string))[2:-1], ascii(string)[1:-1]}
    if _MARKUP.search(string):
        marked = html.escape(string)
        spellings |= {marked, html.escape(string, quote=False)}
        spellings.add(marked.replace("&#x27;", "&#39;").replace("&quot;", "&#34;"))
        for each in (json.dumps(string)[1:-1], json.dumps(string, ensure_ascii=False)[1:-1]):
            spellings |= {each.translate(_IN_HTML), each.translate(_IN_HTML | {ord("'"): r"\u0027"})}
    spellings |= {_UNICODE.sub(_upper, spelling) for spelling in spellings if r"\u" in spelling}
    bare = {encoded(spelling).replace(b"\\", b"") for spelling in spellings}
    return {spelling for spelling in bare if len(spelling) >= SHORTEST}


def _lower(match: re.Match[str]) -> str:
    return match[0].lower()


def _upper(match: re.Match[str]) -> str:
    return match[1] + match[2].upper()


def _in_base64(string: str) -> Iterator[bytes]:
    """Yield what base64 makes of it, wherever it stands in what was encoded; without letters shared with neighbours."""
    for data in {encoded(string), json.dumps(string)[1:-1].encode()}:
        for before in range(3):  # bytes before it, modulo three
            letters = base64.b64encode(bytes(before) + data)[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
            yield letters
            if b"+" in letters or b"/" in letters:
                yield letters.translate(bytes.maketrans(b"+/", b"-_"))
