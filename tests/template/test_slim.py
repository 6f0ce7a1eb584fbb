"""`make slim`: what belongs to an extra goes with it, and what is left is whole."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import requests

from infrastructure.project import project_files, remember, remembered, text_of
from infrastructure.slim import EXTRAS, MARK, SlimError, extras_of, paths_of, remove, without
from tests.support import DEADLINE, ROOT
from tests.template.clone import Clone, one_at_a_time

HERE = extras_of(ROOT)
CODE, PAGE = "# extra: {}", "<!-- extra: {} -->"
ONE, TWO, EITHER, BOTH = (CODE.format(names) for names in ("one", "two", "one, two", "one and two"))
CUTS = {
    "a line": (f"a\nb  {ONE}\nc\n", "a\nc\n"),
    "a line of another extra": (f"a\nb  {TWO}\n", f"a\nb  {TWO}\n"),
    "a line of either": (f"a\nb  {EITHER}\n", "a\n"),
    "a line of the last": (f"a\nb  {BOTH}\n", f"a\nb  {BOTH}\n"),
    "a reason before it": (f"a\nb  # why {ONE}\n", "a\n"),
    "a block": (f"a\n{ONE}\nb\n\nc\n# /extra\nd\n", "a\nd\n"),
    "a block that stays": (f"a\n{TWO}\nb\n# /extra\n", f"a\n{TWO}\nb\n# /extra\n"),
    "a line in a block that stays": (f"{TWO}\nb\nc  {ONE}\n# /extra\n", f"{TWO}\nb\n# /extra\n"),
    "a block in a block": (f"a\n    {ONE}\n    {TWO}\n    b\n    # /extra\n    # /extra\nc\n", "a\nc\n"),
    "one gap where there were two": (f"a\n\n\n{ONE}\nb\n\n\n# /extra\n\n\nc\n", "a\n\n\nc\n"),
    "the end of the file": (f"a\n\n\n{ONE}\nb\n# /extra\n", "a\n"),
    "an import of which nothing is left": (f"from x import (\n    a,  {ONE}\n)\nb\n", "b\n"),
    "a row of a table": (f"| a |\n| b | {PAGE.format('one')}\n", "| a |\n"),
    "a part of a page": (f"a\n\n{PAGE.format('one')}\nb\n<!-- /extra -->\n\nc\n", "a\n\nc\n"),
    "a part of a line": (f"a {PAGE.format('one')}and b<!-- /extra -->.\n", "a.\n"),
    "what only looks like it": (
        "a  # extra: One\nextra: one\n#extra: one\n",
        "a  # extra: One\nextra: one\n#extra: one\n",
    ),
}


@pytest.mark.parametrize("name", CUTS)
def test_what_is_marked_goes(name: str) -> None:
    """And nothing else."""
    text, left = CUTS[name]
    assert without(text, ["one"]) == left


def test_what_two_need_goes_with_the_last_of_them() -> None:
    """Whichever of them that is."""
    assert without(f"a\nb  {BOTH}\n", ["one", "two"]) == "a\n"


@pytest.mark.parametrize(("text", "why"), [(f"{ONE}\na\n", "no end"), ("a\n# /extra\n", "line 2 ends")])
def test_a_block_must_be_whole(text: str, why: str) -> None:
    """Or half of the file would go."""
    with pytest.raises(ValueError, match=why):
        without(text, ["one"])


def test_every_mark_in_the_project_names_an_extra_and_every_block_is_whole() -> None:
    """A misspelt one would stay for ever."""
    gone = remembered(ROOT).get("without", [])  # a mark that names several may outlast some
    for file in project_files(ROOT):
        text = text_of(file) or ""
        without(text, [])
        for mark in (MARK.search(line) for line in text.splitlines()):
            named = re.split(", ?| and ", mark["code"] or mark["page"]) if mark else []
            assert set(named) <= {*HERE, *gone, "template"}, file.relative_to(ROOT)


@pytest.mark.parametrize("extras", [HERE, *(pytest.param([each], marks=pytest.mark.slow) for each in HERE)], ids=str)
def test_what_is_left_of_each_file_is_python(extras: list[str]) -> None:
    """A formatter that wraps a marked line would move the mark into the middle of a statement."""
    gone = paths_of(ROOT, extras)
    for file in project_files(ROOT):
        if file.suffix == ".py" and not any(path in (file, *file.parents) for path in gone):
            compile(without(file.read_text(), extras), str(file), "exec")


def project(root: Path) -> Path:
    """Return a small project with three extras, committed."""
    for extra in ("one", "two", "three_more"):
        folder = root / EXTRAS / extra
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    for file in (
        f"{EXTRAS}/two/for_one.py",
        "docs/one.md",
        "docs/three-more.md",
        "tests/extras/one/test_one.py",
        "tests/extras/two/integration/test_for_one.py",
    ):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (root / "app/main.py").write_text(f"a = 1\nb = 2  {ONE}\n")
    (root / "README.md").write_text("See docs/one.md, docs/three-more.md and app/extras/oneself.\n")
    (root / "picture.webp").write_bytes(b"\xff\xfe\x00")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "--message", "x")
    return root


def git(root: Path, *arguments: str) -> str:
    """Ask git."""
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


def slim(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Do what `make slim WITHOUT="…"` does."""
    command = [sys.executable, "-m", "infrastructure.slim", *words]
    environment = {
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "GIT_CEILING_DIRECTORIES": str(root.parent),
    }
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=DEADLINE
    )


def test_what_has_the_name_of_an_extra_goes_with_it(tmp_path: Path) -> None:
    """Its folders, its page, and what serves it in the folders of others."""
    root = project(tmp_path)
    found = {str(path.relative_to(root)) for path in paths_of(root, ["one", "three_more"])}
    assert found == {
        f"{EXTRAS}/one",
        f"{EXTRAS}/three_more",
        f"{EXTRAS}/two/for_one.py",
        "docs/one.md",
        "docs/three-more.md",
        "tests/extras/one",
        "tests/extras/two/integration/test_for_one.py",
    }


def test_it_says_what_went_and_what_is_left(tmp_path: Path) -> None:
    """The files, the extras, and where the rest still speaks of them; and it is remembered."""
    root = project(tmp_path)
    done = slim(root, "one three-more")
    assert (done.returncode, done.stderr) == (0, "")
    for line in ("removed one, three_more:", "app/extras/one/", "app/main.py: 1 lines", "left: two", "README.md:1"):
        assert line in done.stdout
    assert (root / "app/main.py").read_text() == "a = 1\n"
    assert extras_of(root) == ["two"]
    assert tomllib.loads((root / ".blueprint.toml").read_text()) == {"blueprint": {"without": ["one", "three_more"]}}


def test_what_was_said_before_counts(tmp_path: Path) -> None:
    """One after the other is as both at once; what is named twice, or gone already, is said and does no harm."""
    root = project(tmp_path)
    (root / "app/main.py").write_text(f"a = 1\nb = 2  {BOTH}\n")
    for extra in ("one", "two"):
        git(root, "add", "--all")
        git(root, "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "--message", "x")
        said = slim(root, extra, extra)
        assert f"{extra} is named twice" in said.stdout, said.stderr
    assert (root / "app/main.py").read_text() == "a = 1\n"
    again = slim(root, "one")
    assert (again.returncode, again.stdout) == (0, "one is gone already\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the extras that are to go"),
        (("four",), "there is no extra four; there is: one, three_more, two"),
        (("one", "../two"), "there is no extra ../two"),
    ],
)
def test_what_is_no_extra_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """With those that there are; and nothing is changed."""
    root = project(tmp_path)
    refused = slim(root, *words)
    assert (refused.returncode, said in refused.stderr, git(root, "status", "--porcelain")) == (1, True, "")


@pytest.mark.parametrize("file", ["app/main.py", "new.py"])
def test_what_git_could_not_bring_back_is_refused(tmp_path: Path, file: str) -> None:
    """A change, or a new file."""
    root = project(tmp_path)
    (root / file).write_text("mine\n")
    refused = slim(root, "one")
    assert refused.returncode == 1
    assert file in refused.stderr
    assert "commit or stash them first" in refused.stderr
    assert (root / EXTRAS / "one").exists()


def test_without_git_nothing_is_removed(tmp_path: Path) -> None:
    """And it says what to do first."""
    root = project(tmp_path)
    (root / ".git").rename(tmp_path / "no-git")
    refused = slim(root, "one")
    assert (refused.returncode, "`git init && " in refused.stderr) == (1, True)
    assert (root / EXTRAS / "one").exists()


def test_wrong_marks_are_named_before_anything_is_changed(tmp_path: Path) -> None:
    """With their file."""
    root = project(tmp_path)
    (root / "app/other.py").write_text(f"{TWO}\na = 1\n")
    with pytest.raises(SlimError, match=r"app/other.py: a block has no end"):
        remove(root, ["one"])
    assert (root / EXTRAS / "one").exists()
    assert ONE in (root / "app/main.py").read_text()


def test_what_others_have_noted_stays(tmp_path: Path) -> None:
    """The commit that the project comes from, comments, and other tables."""
    file = tmp_path / ".blueprint.toml"
    file.write_text('# ours\n[other]\nx = 1\n\n[blueprint]\ncommit = "abc"\nwithout = [\n  "one",\n]\n')
    remember(tmp_path, "name", "shop")
    remember(tmp_path, "without", ["one", "two"])
    assert remembered(tmp_path) == {"commit": "abc", "name": "shop", "without": ["one", "two"]}
    assert file.read_text().startswith("# ours\n[other]\nx = 1\n")


def chosen() -> str:
    """Return an extra that the commit's hash picks, so that each has its turn."""
    told = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    return HERE[int(told.strip() or "0", 16) % len(HERE)]


@pytest.mark.slow
@one_at_a_time
@pytest.mark.skipif(not HERE, reason="there is no extra any more")
@pytest.mark.parametrize("extras", [HERE, [chosen()] if HERE else []], ids=["all", "one"])
def test_without_them_the_project_is_whole(clone: Clone, extras: list[str]) -> None:
    """`make check`, the tests without servers, and `make run`; no link leads to nothing."""
    clone.commit()
    done = clone.make("slim", f"WITHOUT={' '.join(extras)}")
    assert done.returncode == 0, done.stderr
    assert sorted(remembered(clone.directory)["without"]) == sorted({*remembered(ROOT).get("without", []), *extras})
    with clone.running() as run:
        paths = requests.get(f"{run.url}/openapi.json", timeout=DEADLINE).json()["paths"]
    assert ("/api-keys" in paths) == ("api_keys" in set(HERE) - set(extras))
    assert "Traceback" not in run.output
    assert ("\ndoctor:" in (clone.directory / "Makefile").read_text()) == ("doctor" in set(HERE) - set(extras))
    clone.check()
