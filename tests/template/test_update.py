"""`make update`: the template's work comes in, yours stays, and what you removed stays away. Real git, no network."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app import VERSION
from infrastructure.project import project_files, remembered
from infrastructure.update import TAGS, UpdateError, derive, fetch, update
from tests.support import ROOT

WITHOUT = ["conjur", "doctor"]
IDENTITY = {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "tests"}
IDENTITY |= {"GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "tests@example.com"}

ROUTE = '''"""Mine."""

from fastapi import APIRouter

from app.models import Item

router = APIRouter()


@router.get("/items")
async def item() -> Item:
    """Return mine."""
    return Item(name="mine")
'''
MODEL = '''"""Mine."""

from pydantic import BaseModel


class Item(BaseModel):
    """Mine."""

    name: str
'''
SERVED = "import json; from app.main import app; print(json.dumps([app.title, *app.openapi()['paths']]))"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(remembered(ROOT).get("name")), reason="it is yours by now")]


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)


def git(directory: Path, *arguments: str) -> str:
    """Run git, and return what it says."""
    done = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit(directory: Path, message: str, tag: str = "") -> None:
    """Commit all that is there."""
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--message", message)
    if tag:
        git(directory, "tag", tag)


def edit(file: Path, old: str, new: str) -> None:
    """Change one place of a file."""
    text = file.read_text()
    assert text.count(old) == 1, f"{file}: {old}"
    file.write_text(text.replace(old, new))


def run_module(directory: Path, module: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Carry out what `make` would; git makes files new, so that make itself would install everything again."""
    return run_python(directory, "-m", f"infrastructure.{module}", *words)


def run_python(directory: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run Python there, without what measures the coverage of `app` here."""
    command = [sys.executable, *words]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, env=kept)


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Return the template's repository, at its first tag."""
    directory = tmp_path / "template"
    for file in project_files(ROOT):
        target = directory / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
    git(tmp_path, "init", "--quiet", str(directory))
    commit(directory, "First", f"v{VERSION}")
    return directory


@pytest.fixture
def mine(template: Path, tmp_path: Path) -> Path:
    """Return a clone of the template, as it comes."""
    git(tmp_path, "clone", "--quiet", str(template), str(tmp_path / "mine"))
    return tmp_path / "mine"


def copy_without_history(template: Path, directory: Path) -> None:
    """Do what "Use this template" does."""
    shutil.copytree(template, directory, ignore=shutil.ignore_patterns(".git"))
    git(directory, "init", "--quiet")
    commit(directory, "Initial commit")


def put_uv(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let another uv be the first in the path."""
    folder.mkdir()
    (folder / "uv").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def learn(template: Path, tag: str, word: str) -> None:
    """Let the template learn something everywhere: in core, in an extra, in README; and a file is new."""
    for name in ("app/core/not_serializable.py", "app/main.py"):
        file = template / name
        file.write_text(file.read_text().replace('"""', f'"""{word}: ', 1))
    for name, text in (("app/extras/conjur/errors.py", f"# {word}\n"), ("CHANGELOG.md", f"- {word} is new.\n")):
        with (template / name).open("a") as end:
            end.write(text)
    edit(template / "README.md", "# FastAPI Vault Blueprint\n", f"# FastAPI Vault Blueprint\n\n{word}.\n")
    (template / f"app/core/{word}.py").write_text(f'"""{word} of the FastAPI Vault Blueprint."""\n')
    commit(template, word, tag)


def own(directory: Path) -> None:
    """Make it yours: a name, two extras less, a secret, a model, a route, a README."""
    for module, words in (("slim", WITHOUT), ("rename", ["shop"])):
        done = run_module(directory, module, *words)
        assert done.returncode == 0, done.stderr
        commit(directory, module)
    edit(directory / "app/app_secrets.py", "    jwt_secret:", "    stripe_key: str\n    jwt_secret:")
    (directory / "app/models.py").write_text(MODEL)
    (directory / "app/routes/shop.py").write_text(ROUTE)
    edit(directory / "app/main.py", "import database, home, tokens", "import database, home, shop, tokens")
    edit(directory / "app/main.py", "in (home, tokens)", "in (home, shop, tokens)")
    with (directory / "benchmarks/redaction.py").open("a") as end:
        end.write("# mine\n")
    (directory / "README.md").write_text("# Shop\n\nMine.\n")
    commit(directory, "Mine")


def is_mine_and_new(directory: Path, *words: str) -> None:
    """Check that nothing of mine is lost, and nothing of the template's is missing."""
    assert "stripe_key" in (directory / "app/app_secrets.py").read_text()
    assert (directory / "app/models.py").read_text() == MODEL
    title, *paths = json.loads(run_python(directory, "-c", SERVED).stdout.splitlines()[-1])
    assert title == "Shop"
    assert {"/items", "/health/live"} <= set(paths)
    assert (directory / "README.md").read_text() == "# Shop\n\nMine.\n"
    assert 'NAME = "shop"' in (directory / "app/__init__.py").read_text()
    for word in words:
        for name in ("app/core/not_serializable.py", "app/main.py"):
            assert f"{word}: " in (directory / name).read_text()
        assert (directory / f"app/core/{word}.py").exists()
        assert f"- {word} is new." in (directory / "CHANGELOG.md").read_text()
    assert not [extra for extra in WITHOUT if (directory / "app/extras" / extra).exists()]
    assert not (directory / "tests/template").exists()
    assert not git(directory, "status", "--porcelain")


@pytest.mark.parametrize("has_history", [True, False], ids=["a clone", "a copy without history"])
def test_an_update_brings_the_new_and_leaves_what_is_mine(template: Path, tmp_path: Path, has_history: bool) -> None:  # noqa: FBT001
    """Again and again; the history of the template is joined once, and its early versions do not count."""
    mine = tmp_path / "mine"
    if has_history:
        git(tmp_path, "clone", "--quiet", str(template), str(mine))
    else:
        copy_without_history(template, mine)
    own(mine)
    before = git(mine, "rev-parse", "HEAD")
    assert update(mine, str(template)) == [f"there is nothing newer than v{VERSION}"]
    assert git(mine, "rev-parse", "HEAD") == before

    git(template, "mv", "benchmarks/redaction.py", "benchmarks/masking.py")
    git(template, "rm", "--quiet", "docs/fleet.svg")
    learn(template, "v0.9.0", "Second")
    git(template, "tag", "v0.11.0-rc1")
    said = update(mine, str(template))
    assert said[0].startswith(f"v{VERSION} -> v0.9.0: ")
    assert "- Second is new." in said
    is_mine_and_new(mine, "Second")
    assert (mine / "benchmarks/masking.py").read_text().endswith("# mine\n")
    assert not [name for name in ("benchmarks/redaction.py", "docs/fleet.svg") if (mine / name).exists()]
    noted = remembered(mine)
    assert noted["commit"] == git(template, "rev-parse", "v0.9.0")
    assert (noted["name"], noted["without"], noted["tag"]) == ("shop", WITHOUT, "v0.9.0")
    assert update(mine) == ["there is nothing newer than v0.9.0"]  # where the template is, is remembered

    assert run_module(mine, "slim", "status").returncode == 0  # one more, in between
    commit(mine, "slim")
    learn(template, "v0.10.0", "Third")
    with (template / "app/extras/status/report.py").open("a") as end:
        end.write("# Third\n")
    commit(template, "Status", "v0.10.1")
    assert update(mine)[0].startswith("v0.9.0 -> v0.10.1: ")
    is_mine_and_new(mine, "Second", "Third")
    assert not (mine / "app/extras/status").exists()
    assert git(mine, "log", "--format=%s").count("Join the history") == 1


@pytest.mark.parametrize("kind", ["a clone", "a shallow clone", "a copy without history"])
def test_who_began_between_two_tags_has_no_conflict(template: Path, tmp_path: Path, kind: str) -> None:
    """The commit counts that the clone was made of, and not the tag before it."""
    file = "app/core/not_serializable.py"
    edit(template / file, '"""Which objects', '"""Early: which objects')
    commit(template, "After the tag")
    mine = tmp_path / "mine"
    match kind:
        case "a clone":
            git(tmp_path, "clone", "--quiet", str(template), str(mine))
        case "a shallow clone":
            git(tmp_path, "clone", "--quiet", "--depth=1", template.as_uri(), str(mine))
        case _:
            copy_without_history(template, mine)
    own(mine)
    edit(template / file, '"""Early: which objects', '"""Late: which objects')
    learn(template, "v0.2.0", "Second")
    update(mine, template.as_uri())
    assert '"""Second: Late: which' in (mine / file).read_text()
    is_mine_and_new(mine, "Second")


def test_where_nothing_shows_the_commit_the_tag_counts(template: Path, tmp_path: Path) -> None:
    """A copy whose first commit has work of its owner in it, too."""
    mine = tmp_path / "mine"
    copy_without_history(template, mine)
    (mine / "app/models.py").write_text(MODEL)
    git(mine, "add", "--all")
    git(mine, "commit", "--quiet", "--amend", "--message", "Initial commit, and mine")
    learn(template, "v0.2.0", "Second")
    update(mine, str(template))
    assert (mine / "app/core/Second.py").exists()
    assert (mine / "app/models.py").read_text() == MODEL


def test_an_extra_that_the_template_drops_too_is_no_mistake(template: Path, mine: Path) -> None:
    """The new tag's slim has never heard of it."""
    own(mine)
    memory = (template / ".blueprint.toml").read_bytes()
    assert run_module(template, "slim", WITHOUT[0]).returncode == 0
    (template / ".blueprint.toml").write_bytes(memory)
    (template / "app/core/Second.py").write_text('"""New."""\n')
    commit(template, "Drop it", "v0.2.0")
    update(mine, str(template))
    assert (mine / "app/core/Second.py").exists()
    assert not git(mine, "status", "--porcelain")


def test_what_fails_in_the_new_tag_changes_nothing(template: Path, mine: Path) -> None:
    """Not even the history."""
    own(mine)
    head = git(mine, "rev-parse", "HEAD")
    (template / "infrastructure/rename.py").write_text('raise SystemExit("no name")\n')
    commit(template, "Wrong", "v0.2.0")
    with pytest.raises(UpdateError, match="the template's rename failed: no name"):
        update(mine, str(template))
    assert git(mine, "rev-parse", "HEAD") == head
    assert not git(mine, "status", "--porcelain")
    assert git(mine, "worktree", "list").count("\n") == 0


def pin(directory: Path, line: str, tag: str = "") -> None:
    """Let both pin something at the same place."""
    file = directory / "requirements/runtime.txt"
    first, *rest = file.read_text().splitlines(keepends=True)
    file.write_text("".join([first, f"{line}\n", *rest]))
    commit(directory, line, tag)


def test_pins_never_conflict_but_are_made_again(
    template: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody edits them. The template's are what `make lock` starts from; without it the merge waits."""
    pin(mine, "mine==1")
    pin(template, "theirs==1", "v0.2.0")
    put_uv(tmp_path / "offline", "echo 'no network' >&2; exit 1", monkeypatch)
    with pytest.raises(UpdateError, match=r"requirements/runtime.txt: run `make lock` \(no network\)") as caught:
        update(mine, str(template))
    assert "git commit -m 'Take in v0.2.0'" in str(caught.value)
    git(mine, "merge", "--abort")
    assert not git(mine, "status", "--porcelain")
    put_uv(
        tmp_path / "online",
        'while [ "$1" != --output-file ]; do shift; done; echo "# locked" >> "$2"',
        monkeypatch,
    )
    update(mine, str(template))
    pins = (mine / "requirements/runtime.txt").read_text()
    assert "theirs==1\n" in pins
    assert pins.endswith("# locked\n")
    assert not git(mine, "status", "--porcelain")
    assert not (mine / ".venv").exists()  # it is not installed in between


def test_other_settings_of_git_change_nothing(template: Path, mine: Path) -> None:
    """A person's own are made for what they do by hand."""
    settings = {"merge.ff": "only", "merge.verifySignatures": "true", "color.ui": "always", "diff.external": "true"}
    for name, value in settings.items():
        git(mine, "config", name, value)
    learn(template, "v0.2.0", "Second")
    said = update(mine, str(template))
    assert said[0].startswith(f"v{VERSION} -> v0.2.0: ")
    assert said[1:] == ["- Second is new."]


def test_a_password_in_the_address_is_not_remembered(template: Path, mine: Path) -> None:
    """The file is committed."""
    address = "https://somebody:open-sesame@git.example.com/template.git"
    git(mine, "config", f"url.{template}.insteadOf", address)
    learn(template, "v0.2.0", "Second")
    update(mine, address)
    assert remembered(mine)["template"] == "https://git.example.com/template.git"
    assert "open-sesame" not in git(mine, "show", "--format=%B", "HEAD:.blueprint.toml", "HEAD")


def test_a_refused_commit_waits_with_all_that_is_merged(template: Path, mine: Path) -> None:
    """A hook of yours may say no."""
    hook = mine / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    hook.chmod(0o755)
    learn(template, "v0.2.0", "Second")
    with pytest.raises(UpdateError, match=r"not today\nall is merged and waits for you: .*`git commit -m"):
        update(mine, str(template))
    hook.unlink()
    git(mine, "commit", "--quiet", "-m", "Take in v0.2.0")
    assert update(mine) == ["there is nothing newer than v0.2.0"]


def test_make_takes_any_path(template: Path, mine: Path) -> None:
    """Also one with a blank, and it ends with an error where edits conflict."""
    spaced = template.with_name("the template")
    template.rename(spaced)
    (mine / "app/core/not_serializable.py").unlink()
    commit(mine, "Without")
    learn(spaced, "v0.2.0", "Second")
    stamp = f"{sys.prefix}/.installed"  # git makes files new: make would install everything again
    command = ["make", "--old-file", stamp, f"VENV={sys.prefix}", "update", f"TEMPLATE={spaced}"]
    done = subprocess.run(command, cwd=mine, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "conflict in\n  app/core/not_serializable.py, which you deleted\n" in done.stderr


def test_where_both_have_edited_the_files_are_listed(template: Path, mine: Path) -> None:
    """And nothing is lost: the merge waits, with everything else in it."""
    edit(mine / "app/core/not_serializable.py", '"""Which objects', '"""MINE: which objects')
    commit(mine, "Mine, though it is the template's")
    with (template / "pyproject.toml").open("a") as end:
        end.write("# asks for something else\n")
    learn(template, "v0.2.0", "Second")
    with pytest.raises(UpdateError, match=r"conflict in\n  app/core/not_serializable.py\n") as caught:
        update(mine, str(template))
    assert "`make lock`, `git add requirements`, and `git commit -m 'Take in v0.2.0'`" in str(caught.value)
    assert "MINE" in (mine / "app/core/not_serializable.py").read_text()
    assert (mine / "app/core/Second.py").exists()
    git(mine, "checkout", "--theirs", "app/core/not_serializable.py")
    commit(mine, "Take in v0.2.0")
    assert update(mine) == ["there is nothing newer than v0.2.0"]


def test_what_cannot_be_done_is_said_before_anything_is_changed(
    template: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do."""
    head = git(mine, "rev-parse", "HEAD")
    with pytest.raises(UpdateError, match="make update TEMPLATE="):
        update(mine)
    with pytest.raises(UpdateError, match="git fetch: "):
        update(mine, str(tmp_path / "nowhere"))
    git(template, "tag", "-d", f"v{VERSION}")
    git(template, "tag", "v7.0.0")
    with pytest.raises(UpdateError, match=rf"tag = 'v{VERSION}' is no version of .*; it has: v7.0.0"):
        update(mine, str(template))
    (mine / "new").touch()
    assert "commit or stash" in run_module(mine, "update", str(template)).stderr
    (mine / "new").unlink()
    for name in IDENTITY:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EMAIL", "")
    assert run_module(mine, "update", str(template)).returncode != 0
    assert git(mine, "rev-parse", "HEAD") == head


def test_a_commit_that_the_template_has_not_is_named(template: Path, mine: Path) -> None:
    """Somebody has edited the file, or the template has written its history anew."""
    with (mine / ".blueprint.toml").open("a") as end:
        end.write(f'commit = "{"0" * 40}"\n')
    commit(mine, "Edited")
    git(template, "tag", "v0.2.0")
    with pytest.raises(UpdateError, match=r"commit = '0{40}' is not in the template; remove the line"):
        update(mine, str(template))


def test_a_folder_of_a_repository_is_refused(template: Path, tmp_path: Path) -> None:
    """The template's files would go to its top."""
    whole = tmp_path / "whole"
    shutil.copytree(template, whole / "service", ignore=shutil.ignore_patterns(".git"))
    git(whole, "init", "--quiet")
    commit(whole, "Mine")
    with pytest.raises(UpdateError, match="a folder of a repository"):
        update(whole / "service", str(template))


def test_what_is_derived_twice_is_the_same_commit(template: Path, mine: Path) -> None:
    """So no state is lost where somebody else updates, from a clone of their own."""
    fetch(mine, str(template))
    assert derive(mine, f"{TAGS}/v{VERSION}") == derive(mine, f"{TAGS}/v{VERSION}")
    assert git(mine, "for-each-ref", "--format=%(refname)", TAGS) == f"{TAGS}/v{VERSION}"


def test_the_template_says_which_version_it_is() -> None:
    """What a copy without history starts from."""
    assert remembered(ROOT)["tag"] == f"v{VERSION}"
