"""Planted values, and the one search for them that all tests of this folder rely on."""

import base64
import re
import secrets
from collections.abc import Iterator, Mapping

# How many characters of a canary give it away: fewer than asyncio and pydantic leave when they shorten a text.
PIECE = 11
CHUNK = 100_000
ODD = "\"\\'/ %+ü\n@"  # what percent-encoding, JSON and `repr` all write in another way


class Canaries:
    """Values to plant. Each has parts that no way of writing changes; whoever shows a piece of one shows the value."""

    def __init__(self) -> None:
        self.values: list[tuple[str, str]] = []  # with their names, in the order in which they came
        self._pieces: dict[bytes, str] = {}

    def plant(self, name: str, odd: str = "") -> str:
        """Return a new value, with `odd` characters in the middle."""
        value = f"{secrets.token_hex(12)}{odd}{secrets.token_hex(12)}"
        self.watch(name, value)
        return value

    def watch(self, name: str, value: str) -> None:
        """Look out for a value that somebody else has made."""
        if (name, value) in self.values:
            return
        self.values.append((name, value))
        if value.startswith("eyJ"):
            value = value.rsplit(".", 1)[-1]  # the signature: the head of one JWT is that of the next
        parts = re.findall(rf"[A-Za-z0-9_.~-]{{{PIECE},}}", value)
        assert parts, f"{name} is too short to be searched for"
        self._pieces.update({piece: name for part in parts for piece in _pieces(part)})

    def found_in(self, text: str | bytes) -> dict[str, str]:
        """Return which canaries the text shows, if only a piece of one, and where."""
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        found: dict[str, str] = {}
        for start in range(0, len(data), CHUNK):
            chunk = data[start : start + CHUNK + PIECE]
            for piece in self._pieces.keys() & {chunk[n : n + PIECE] for n in range(len(chunk))}:
                place = data.index(piece)
                found[self._pieces[piece]] = repr(data[max(place - 80, 0) : place + 80])
        return found

    def found_anywhere(self, channels: Mapping[str, str | bytes]) -> dict[str, dict[str, str]]:
        """Return, for each channel that shows a canary, which ones and where."""
        return {channel: found for channel, text in channels.items() if (found := self.found_in(text))}


def _pieces(part: str) -> Iterator[bytes]:
    """Yield every piece of a part: as it is, which is also how it looks percent-encoded or escaped, and in base64."""
    texts = [part.encode()]
    for before in range(3):
        letters = base64.b64encode(bytes(before) + part.encode())[-(-before * 8 // 6) : (before + len(part)) * 8 // 6]
        texts += [letters, letters.translate(bytes.maketrans(b"+/", b"-_"))]
    for text in texts:
        yield from (text[n : n + PIECE] for n in range(len(text) - PIECE + 1))
