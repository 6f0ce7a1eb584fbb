"""What does `.env` say? Each variable as it is written; nothing is expanded, and no line dropped in silence."""

import io
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from app.core.errors import BadSettings

DOTENV = ".env"  # in the working directory
LARGEST = 1024 * 1024  # bytes
_NAME = re.compile(r"[^\W\d][\w.-]*")
# of a line inside quotes: it was meant as a variable of its own. In a PEM, nothing follows the last =
_SWALLOWED = re.compile(r"^\s*(?:export\s+)?([A-Z][A-Z0-9]*_[A-Z0-9_]*|[A-Z]{2,}(?==[^=\s]))\s*=", re.MULTILINE)


@dataclass(slots=True)
class DotEnvFile:
    """What was read, by names in small letters, and what is wrong with it; values are not shown."""

    values: dict[str, str] = field(default_factory=dict, repr=False)
    lines: dict[str, list[int]] = field(default_factory=dict)  # in which each is set
    problems: list[str] = field(default_factory=list)

    @property
    def twice(self) -> dict[str, list[int]]:
        """The variables that are set more than once, of which the last one counts."""
        return {name: lines for name, lines in self.lines.items() if len(lines) > 1}


def read_dotenv() -> DotEnvFile:
    """Return what `.env` says; nothing if there is none. Raises `BadSettings` if it cannot be read."""
    found = DotEnvFile()
    for binding in parse_stream(io.StringIO(dotenv_text(), newline=None)):
        line = _line_of(binding)
        if problem := _problem(binding, line):
            found.problems.append(f"{DOTENV}: line {line}: {problem}")
        elif binding.key is not None:
            name = binding.key.lower()
            found.values[name] = binding.value or ""
            found.lines.setdefault(name, []).append(line)
    return found


def dotenv_text() -> str:
    """Return the text of `.env`, an empty one if there is none; raise `BadSettings` that says why it cannot be read."""
    try:
        return _bytes_of(Path(DOTENV)).decode("utf-8-sig")  # with or without a byte-order mark
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise BadSettings([f"{DOTENV}: cannot be read: line {line} is not UTF-8; save it as UTF-8"]) from None
    except OSError as error:
        raise BadSettings([f"{DOTENV}: cannot be read: {error.strerror}"]) from None


def _bytes_of(file: Path) -> bytes:
    """Read a file of sane size; what is no regular file might never end, or never begin."""
    try:
        found = file.stat()
    except FileNotFoundError:
        if not file.is_symlink():
            return b""
        raise BadSettings([f"{DOTENV}: cannot be read: it is a link to a file that is not there"]) from None
    if stat.S_ISCHR(found.st_mode) and os.path.samestat(found, Path(os.devnull).stat()):
        return b""  # how one hides a file in a container
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "not a file (a pipe, a socket or a device)"
        raise BadSettings([f"{DOTENV}: cannot be read: it is {kind}"])
    if found.st_size > LARGEST:
        raise BadSettings([f"{DOTENV}: cannot be read: it is larger than {LARGEST // 1024} KiB"])
    return file.read_bytes()


def _line_of(binding: Binding) -> int:
    """Return where a statement begins: python-dotenv counts the empty lines before it as its own."""
    text = binding.original.string
    before = text[: len(text) - len(text.lstrip())]
    return binding.original.line + len(re.findall(r"\r\n|\n|\r", before))


def _problem(binding: Binding, line: int) -> str:
    """Say what is wrong with a statement, if anything; what is in it may be a secret, and is not repeated."""
    text = binding.original.string.strip()
    if binding.error:
        quoted = re.match(r"[^=#]*=\s*['\"]", text)
        return "a quote is not closed, or something follows it" if quoted else "it is not understood; write NAME=value"
    if binding.key is None:
        return ""  # a comment, or nothing
    if binding.value is None:
        return "there is no =; write NAME=value"
    if not _NAME.fullmatch(binding.key):
        return "this cannot be the name of a variable; write NAME=value, the name in letters, digits and _"
    return _swallowed(text, line)


def _swallowed(text: str, line: int) -> str:
    """Say which variables a quote that was not closed has swallowed: it ends at the next quote, lines later."""
    _, newline, rest = text.partition("\n")
    found: Iterator[re.Match[str]] = _SWALLOWED.finditer(rest) if newline else iter(())
    for match in found:
        there = line + 1 + rest.count("\n", 0, match.start(1))
        return f"the quote that opens here takes in {match[1]} of line {there}; close it, or write \\n for a line end"
    return ""
