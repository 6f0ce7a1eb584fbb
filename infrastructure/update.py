"""How does your project take in what the template has learned since? `make update`, from tag to tag.

What is merged is not the template itself but what your clone would be, had it been made of it: the tag, without the
extras that you removed, under your name. So only what you have edited can conflict with what the template has edited.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from infrastructure.project import MEMORY, remember, remembered
from infrastructure.slim import SlimError, extras_of, refuse_unless_clean

TAGS = "refs/blueprint/tags"  # the template's, which are not yours
VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
PINS = "requirements"  # nobody edits them: `make lock` writes them
# what is derived twice from the same commit is the same commit
FIXED = {"NAME": "blueprint", "EMAIL": "blueprint@localhost", "DATE": "2000-01-01T00:00:00Z"}
# whatever your git is set to: names as they are, and a merge of commits that nobody has signed
PLAIN = ("-c", "core.quotePath=false", "-c", "merge.verifySignatures=false")


class UpdateError(Exception):
    """It cannot be done; the text says why, and what to do."""


def git(root: Path, *arguments: str, **environment: str) -> str:
    """Return what git says; raise `UpdateError` with its reason."""
    done = _git(root, *arguments, **environment)
    if done.returncode:
        raise UpdateError(f"git {arguments[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def _git(root: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command, variables = ["git", *PLAIN, *arguments], {**os.environ, **environment}
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=variables)


def fetch(root: Path, template: str) -> list[str]:
    """Fetch the template's tags; return its versions, the newest last."""
    if not template or template.startswith("-"):
        raise UpdateError("which template? make update TEMPLATE=<the address that git clones>; it is then remembered")
    git(root, "fetch", "--quiet", "--force", "--prune", "--no-tags", template, f"refs/tags/*:{TAGS}/*")
    listed = git(root, "for-each-ref", "--format=%(refname)", TAGS).splitlines()
    tags = [each.removeprefix(f"{TAGS}/") for each in listed]
    return sorted(filter(VERSION.fullmatch, tags), key=_order)


def _order(tag: str) -> tuple[int, ...]:
    match = VERSION.fullmatch(tag)
    return tuple(map(int, match.groups())) if match else ()


def made_of(root: Path, tag: str, newest: str) -> str:
    """Return the template's commit that your clone was made of, or has taken in last; seldom is it just a tag's.

    A clone has it in its history. A copy without history began with the same files. Where neither shows it, it is
    taken for the tag's.
    """
    if noted := str(remembered(root).get("commit", "")):
        if _git(root, "rev-parse", "--quiet", "--verify", "--end-of-options", f"{noted}^{{commit}}").returncode:
            raise UpdateError(f"{MEMORY}: commit = {noted!r} is not in the template; remove the line to go by the tag")
        return noted
    common = _git(root, "merge-base", "HEAD", f"{TAGS}/{newest}")
    if not common.returncode:
        return common.stdout.strip()
    ends = git(root, "rev-list", "--max-parents=0", "HEAD").split()
    began = git(root, "rev-parse", *(f"{end}^{{tree}}" for end in ends)).split()
    history = git(root, "log", "--format=%H %T", f"{TAGS}/{newest}").splitlines()
    same = (commit for commit, tree in map(str.split, history) if tree in began)
    return next(same, f"{TAGS}/{tag}")


def derive(root: Path, commit: str, parents: Sequence[str] = ()) -> str:
    """Return the commit of what your clone would be, had it been made of this one; your files stay as they are.

    The template's `slim` and `rename` of that commit do it: they know its marks and its constants.
    """
    made = remembered(root)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "template"
        git(root, "worktree", "add", "--quiet", "--detach", str(place), commit)
        try:
            there = extras_of(place)  # the template may have dropped one, too
            if without := [extra for extra in made.get("without", []) if extra in there]:
                _run(place, "slim", *without)
            if made.get("name"):
                _run(place, "rename", made["name"])
            git(place, "add", "--all")
            git(place, "rm", "--quiet", "--cached", "--ignore-unmatch", MEMORY)  # each has its own
            tree = git(place, "write-tree")
        finally:
            git(root, "worktree", "remove", "--force", str(place))
    by = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in FIXED.items()}
    after = [word for parent in parents for word in ("-p", parent)]
    label = commit.removeprefix(f"{TAGS}/")
    return git(root, "commit-tree", tree, *after, "-m", f"The template's {label}, as this project has it", **by)


def _run(place: Path, module: str, *arguments: str) -> None:
    command = [sys.executable, "-m", f"infrastructure.{module}", *arguments]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UpdateError(f"the template's {module} failed: {(done.stderr or done.stdout).strip()}")


def update(root: Path, template: str = "") -> list[str]:
    """Merge the template's newest tag; return lines that say what came.

    Raises `UpdateError`; where your edits conflict, it lists the files, and the merge waits for you to finish it.
    """
    refuse_unless_clean(root)
    if git(root, "rev-parse", "--show-prefix"):
        raise UpdateError("this is a folder of a repository; the template's files belong at the top of one")
    git(root, "var", "GIT_COMMITTER_IDENT")  # says what is missing, before the first change
    made = remembered(root)
    tags = fetch(root, template := template or str(made.get("template", "")))
    template = re.sub(r"^(https?://)[^/@]*@", r"\1", template)  # a password is for you, not for a file
    tag = str(made.get("tag", ""))
    if tag not in tags:
        raise UpdateError(f"{MEMORY}: tag = {tag!r} is no version of {template}; it has: {', '.join(tags) or 'none'}")
    newest = tags[-1]
    if newest == tag:
        return [f"there is nothing newer than {tag}"]
    base = str(made.get("derived", ""))  # by the last update
    is_joined = bool(base) and not _git(root, "merge-base", "--is-ancestor", base, "HEAD").returncode
    if not is_joined:
        base = derive(root, made_of(root, tag, newest))
    derived = derive(root, f"{TAGS}/{newest}", [base])
    if not is_joined:
        message = f"Join the history of the template's {tag}"
        git(root, "merge", "--quiet", "--no-ff", "-s", "ours", "--allow-unrelated-histories", "-m", message, base)
    merged = _git(root, "merge", "--quiet", "--no-commit", "--no-ff", derived)
    conflicts = _conflicts(root)
    if merged.returncode and not conflicts:
        raise UpdateError(f"git merge: {(merged.stderr or merged.stdout).strip()}")
    commit = git(root, "rev-parse", f"{TAGS}/{newest}^{{commit}}")
    for key, value in (("template", template), ("tag", newest), ("commit", commit), ("derived", derived)):
        remember(root, key, value)
    git(root, "add", "--force", MEMORY)
    return [*_finish(root, tag, newest, conflicts), *changes(root, tag, newest)]


def _conflicts(root: Path) -> dict[str, str]:
    """Return the files that both have edited, each with what git holds of it: 1 before, 2 yours, 3 the template's."""
    found: dict[str, str] = {}
    for line in git(root, "ls-files", "--unmerged").splitlines():
        entry, _, path = line.partition("\t")
        found[path] = found.get(path, "") + entry[-1]
    return found


def _finish(root: Path, tag: str, newest: str, conflicts: dict[str, str]) -> list[str]:
    """Pin and commit what is merged; raise `UpdateError` where that is left to you."""
    pins = [path for path, stages in conflicts.items() if path.startswith(f"{PINS}/") and {"2", "3"} <= set(stages)]
    if pins:
        git(root, "checkout", "--theirs", "--", *pins)
        git(root, "add", "--", *pins)
    needs_lock = bool(pins) or "pyproject.toml" in git(root, "diff", "--name-only", "HEAD").splitlines()
    how = f"`git commit -m 'Take in {newest}'`; or `git merge --abort`"
    if yours := {path: stages for path, stages in conflicts.items() if path not in pins}:
        deleted = {"12": ", which the template deleted", "13": ", which you deleted"}
        listed = "".join(f"\n  {path}{deleted.get(stages, '')}" for path, stages in yours.items())
        then = "`make lock`, `git add requirements`, " if needs_lock else ""
        raise UpdateError(
            f"{newest} and your edits conflict in{listed}\nedit them, `git add` (or `git rm`) them, {then}and {how}"
        )
    failed = _lock(root) if needs_lock else ""
    if failed and pins:
        raise UpdateError(f"{', '.join(pins)}: run `make lock` ({failed}), `git add requirements`, and {how}")
    try:
        git(root, "commit", "--quiet", "-m", f"Take in the template's {newest}, after {tag}")
    except UpdateError as error:
        raise UpdateError(f"{error}\nall is merged and waits for you: fix that, and {how}") from None
    said = [f"{tag} -> {newest}: {git(root, 'diff', '--no-ext-diff', '--no-color', '--shortstat', 'HEAD^1', 'HEAD')}"]
    return [*said, f"pyproject.toml has changed: run `make lock` ({failed})"] if failed else said


def _lock(root: Path) -> str:
    """Pin what is asked for now; return why it could not be done."""
    # the environment stays as it is until the next `make`: this process runs in it
    as_it_is = [word for folder in (".venv", sys.prefix) for word in ("--old-file", f"{folder}/.installed")]
    command = ["make", "--no-print-directory", *as_it_is, "lock"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stdout + done.stderr).strip().splitlines()[0]
    git(root, "add", PINS)
    return ""


def changes(root: Path, tag: str, newest: str) -> list[str]:
    """Return what the template's changelog has added."""
    before, now = (_git(root, "show", f"{TAGS}/{each}:CHANGELOG.md").stdout.splitlines() for each in (tag, newest))
    return [line for line in now if line.strip() and line not in before]


def main() -> None:
    """Do what the command line says."""
    try:
        print("\n".join(update(Path.cwd(), *sys.argv[1:2])))
    except (UpdateError, SlimError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
