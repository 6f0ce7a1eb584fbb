"""How does your clone lose the extras that it does not need? `make slim WITHOUT="conjur doctor"`.

Each folder in `app/extras/` is an extra. What else belongs to it has its name (`paths_of`), or is marked (`without`):

    a line that ends with a comment, `extra: NAME`; in Markdown, with one in `<!-- … -->`
    a block, from a line that is only such a comment to the comment `/extra`

With several names it goes with either (`NAME, NAME`), or with the last of them (`NAME and NAME`).
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from infrastructure.project import project_files, remember, remembered, text_of

EXTRAS = "app/extras"
WORKFLOW = ".github/workflows/slim.yml"  # tries each extra, as long as there is one
OTHER_PATHS = {  # what belongs to an extra, though its name does not say so in the same way
    "api_keys": (
        "app/extras/conjur/key_variables.py",
        "requirements/client.txt",
        "tests/extras/conjur/turns.py",
    ),
    "cli": ("docs/command-line.md",),
    "conjur": ("infrastructure/dev_conjur.py", "infrastructure/docker-compose.conjur.yml"),
    "metrics": ("infrastructure/grafana", "infrastructure/kubernetes/components", "infrastructure/prometheus"),
    "status": ("docs/status-desktop.webp", "docs/status-phone.webp"),
}
NAMES = "[a-z][a-z_]*(?:(?:, ?| and )[a-z][a-z_]*)*"
MARK = re.compile(
    rf"(?:^|\s)(?:# extra: (?P<code>{NAMES})|<!-- extra: (?P<page>{NAMES}) -->)\s*\|?\s*$"
)  # a row of a table ends behind it
END = re.compile(r"# /extra|<!-- /extra -->")
WITHIN = re.compile(rf" ?<!-- extra: ({NAMES}) -->.*?<!-- /extra -->")  # a part of a line
EMPTY_IMPORT = re.compile(r"^from \S+ import \(\n\)\n", re.MULTILINE)


class SlimError(Exception):
    """It cannot be done; the text says why, and what to do."""


@dataclass
class Removed:
    """What went."""

    paths: list[Path] = field(default_factory=list)
    lines: dict[Path, int] = field(default_factory=dict)  # by the files that stay
    dead: list[str] = field(default_factory=list)  # FILE:LINE that name a path which went


def extras_of(root: Path) -> list[str]:
    """Return the extras that are there."""
    return sorted(folder.parent.name for folder in (root / EXTRAS).glob("*/__init__.py"))


def paths_of(root: Path, extras: Iterable[str]) -> list[Path]:
    """Return the files and folders that go with these extras."""
    found: set[Path] = set()
    for extra in extras:
        named = (f"{EXTRAS}/{extra}", f"tests/extras/{extra}", f"docs/{extra.replace('_', '-')}.md")
        found.update(root / path for path in (*named, *OTHER_PATHS.get(extra, ())))
        found.update((root / EXTRAS).glob(f"*/for_{extra}.py"))  # how another one serves it
        found.update((root / "tests").rglob(f"test_for_{extra}.py"))
    if not set(extras_of(root)) - set(extras):
        found.add(root / WORKFLOW)
    return sorted(path for path in found if path.exists() and not found & set(path.parents))


def without(text: str, extras: Collection[str]) -> str:
    """Return the text without what is marked with one of these extras.

    Raises `ValueError` for a block that has no end, and for an end of none.
    """
    kept: list[str] = []
    blocks: list[bool] = []  # those that have begun: whether each goes
    is_cut = False  # whether something went just now
    for number, whole in enumerate(text.splitlines(keepends=True), 1):
        line = WITHIN.sub(lambda found: "" if _goes(found[1], extras) else found[0], whole)
        goes = any(blocks)
        match _kind(line):
            case "end":
                if not blocks:
                    raise ValueError(f"line {number} ends a block that has not begun")
                blocks.pop()
            case "begin", names:
                blocks.append(_goes(names, extras))
                goes = any(blocks)
            case "line", names:
                goes = goes or _goes(names, extras)
        is_second_gap = is_cut and not line.strip() and not (kept and kept[-1].strip())
        if not goes and not is_second_gap:
            kept.append(line)
        is_cut = goes or (is_cut and is_second_gap)
    if blocks:
        raise ValueError("a block has no end")
    left = EMPTY_IMPORT.sub("", "".join(kept))
    return left.rstrip("\n") + "\n" if is_cut else left


def _kind(line: str) -> tuple[str, str] | str:
    """Return what a line is, and the extras that it names."""
    if END.fullmatch(line.strip()):
        return "end"
    if not (mark := MARK.search(line)):
        return "other"
    return "line" if line[: mark.start()].strip() else "begin", mark["code"] or mark["page"]


def _goes(names: str, extras: Collection[str]) -> bool:
    return any(all(each in extras for each in name.split(" and ")) for name in re.split(", ?", names))


def remove(root: Path, extras: Collection[str]) -> Removed:
    """Remove these extras from the project at `root`; raise `SlimError`, before the first change, for wrong marks."""
    removed = Removed(paths_of(root, extras))
    gone, all_extras = set(removed.paths), {*extras, *remembered(root).get("without", [])}
    changed: dict[Path, str] = {}
    for file in project_files(root):
        text = None if gone & {file, *file.parents} else text_of(file)
        if text is None:
            continue
        try:
            left = without(text, all_extras)
        except ValueError as error:
            raise SlimError(f"{file.relative_to(root)}: {error}; fix the marks, nothing is changed yet") from None
        if left != text:
            changed[file] = left
            removed.lines[file] = text.count("\n") - left.count("\n")
        removed.dead += _dead(root, file, left, gone)
    for path in removed.paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for file, left in changed.items():
        file.write_bytes(left.encode())
    return removed


def _dead(root: Path, file: Path, text: str, gone: Iterable[Path]) -> list[str]:
    """Return where a file that stays names a path that goes."""
    names = {str(path.relative_to(base)) for path in gone for base in (root, file.parent) if base in path.parents}
    if file.name in {"CHANGELOG.md", "slim.py"} or not names:
        return []
    named = re.compile("|".join(rf"(?<![\w./-]){re.escape(name)}\b" for name in sorted(names)))
    return [f"{file.relative_to(root)}:{n}" for n, line in enumerate(text.splitlines(), 1) if named.search(line)]


def asked_for(root: Path, words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the extras that are meant, and notes on those that need nothing; raise `SlimError` if one is unknown."""
    there, gone = extras_of(root), remembered(root).get("without", [])
    wanted: list[str] = []
    notes = []
    for word in (each for text in words for each in re.split(r"[\s,]+", text) if each):
        name = word.lower().replace("-", "_")
        if name in wanted:
            notes.append(f"{name} is named twice")
        elif name in there:
            wanted.append(name)
        elif name in gone:
            notes.append(f"{name} is gone already")
        else:
            raise SlimError(f"there is no extra {word}; there is: {', '.join(there) or 'none any more'}")
    if not wanted and not notes:
        listed = f"there is: {', '.join(there)}" if there else "all of them are gone"
        raise SlimError(f'name the extras that are to go, as in `make slim WITHOUT="conjur doctor"`; {listed}')
    return wanted, notes


def refuse_unless_clean(root: Path) -> None:
    """Raise `SlimError` unless git can bring back all that is there."""
    command = ["git", "status", "--porcelain", "--", "."]
    try:
        status = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        how = "`git init && git add -A && git commit -m 'Start from the template'`"
        raise SlimError(f"this is no git repository, so nothing could be brought back: {how} first") from None
    if status:
        files = ", ".join(line[3:] for line in status.splitlines()[:3])
        raise SlimError(f"there are changes that git could not bring back ({files} …): commit or stash them first")


def tidy(root: Path) -> None:
    """Format what has changed, where ruff is there."""
    ruff = Path(sys.executable).with_name("ruff")
    if ruff.exists():
        for command in (["check", "--quiet", "--fix-only"], ["format", "--quiet"]):
            subprocess.run([ruff, *command, "."], cwd=root, check=False)


def report(root: Path, extras: Collection[str], removed: Removed) -> Iterable[str]:
    """Say what went, and what is left to you."""
    yield f"removed {', '.join(extras)}:"
    yield from (f"  {path.relative_to(root)}{'/' if path.suffix == '' else ''}" for path in removed.paths)
    yield from (f"  {file.relative_to(root)}: {count} lines" for file, count in removed.lines.items())
    yield f"left: {', '.join(extras_of(root)) or 'no extra'}"
    if removed.dead:
        yield f"still named, yours to edit: {', '.join(removed.dead)}"
    if root / "pyproject.toml" in removed.lines:
        yield "run `make lock` to install less; it works without"
    yield "look at `git diff`, then run `make check` and the tests"


def main() -> None:
    """Do what the command line says."""
    root = Path.cwd()
    try:
        extras, notes = asked_for(root, sys.argv[1:])
        print("".join(f"{note}\n" for note in notes), end="")
        if extras:
            refuse_unless_clean(root)
            removed = remove(root, extras)
            remember(root, "without", sorted({*remembered(root).get("without", []), *extras}))
            tidy(root)
            print("\n".join(report(root, extras, removed)))
    except SlimError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
