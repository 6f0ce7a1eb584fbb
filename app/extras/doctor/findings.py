"""What can a step of the doctor find, and which steps are then not reached?"""

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from app.core.errors import BlueprintError
from app.core.store.overrides import Entry
from app.core.store.source import Secret

Status = Literal["ok", "reminder", "warning", "fault", "not reached"]
WELL = {"ok", "reminder", "warning"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one step found; for people, so it holds no value of a secret or a credential."""

    status: Status
    text: str  # what is so, or the one cause of a fault
    remedy: str = ""  # what fixes it: a command, or a variable
    subject: str = ""  # what it is about: an address, a path, a variable
    step: str = ""
    source: str = ""  # the Vault whose chain the step belongs to


def of_entry(entry: Entry, text: str) -> Finding:
    """Say what came of an entry: `text`, unless something prevented it."""
    match entry.found:
        case Secret():
            return ok(text, entry.label)
        case None:
            return ok("left out: it is optional, and leads nowhere", entry.label)
        case error:  # it names what it is about
            return fault(error)


class HaltError(Exception):
    """The chain cannot go on, although nothing is wrong."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


def ok(text: str, subject: str = "") -> Finding:
    """Say that all is well."""
    return Finding("ok", text, subject=subject)


def warning(text: str, remedy: str, subject: str = "") -> Finding:
    """Say what works, but should be fixed."""
    return Finding("warning", text, remedy, subject)


def broken(text: str, remedy: str, subject: str = "") -> Finding:
    """Say what works, but must not go to production."""
    return Finding("fault", text, remedy, subject)


def reminder(text: str, remedy: str, subject: str = "") -> Finding:
    """Say what cannot be seen from here, and so is somebody's to look at."""
    return Finding("reminder", text, remedy, subject)


def fault(error: BlueprintError, subject: str = "") -> Finding:
    """Say what is wrong: the project's errors name the cause and the remedy, and never a value."""
    return Finding("fault", error.cause, error.remedy, f"{subject}: {error.subject}" if subject else error.subject)


def renamed(finding: Finding, names: Mapping[str, str]) -> Finding:
    """Put other names in place of the `VAULT_…` variables that a finding mentions."""

    def told(text: str) -> str:
        return re.sub(r"\bVAULT_\w+", lambda match: names.get(match[0], match[0]), text)

    return replace(finding, text=told(finding.text), remedy=told(finding.remedy), subject=told(finding.subject))


Check = Callable[[], Iterable[Finding]]


def walk(source: str, steps: Mapping[str, Check]) -> Iterator[Finding]:
    """Take the steps in their order. After one that raises, the others are not reached.

    A step that finds a fault on which no other step depends yields it instead.
    """
    failed = ""
    for name, check in steps.items():
        if failed:
            yield Finding("not reached", f"waits for: {failed}", step=name, source=source)
        elif not (yield from _carry_out(source, name, check)):
            failed = name


def _carry_out(source: str, name: str, check: Check) -> Generator[Finding, None, bool]:
    """Pass on what a step finds; return whether those after it can be taken."""
    try:
        for finding in check():
            yield replace(finding, source=source, step=name)
    except HaltError as halt:
        last = halt.finding
    except BlueprintError as error:
        last = fault(error)
    else:
        return True
    yield replace(last, source=source, step=name)
    return False
