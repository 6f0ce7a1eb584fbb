"""How does the template become your own project? `make rename NAME=my-service`.

What your customers and operators see gets your name: the API, its keys, metrics and alerts, the secret's path. In the
code each is a constant (`CONSTANTS`); what else is edited is read by people, by Prometheus and by Grafana.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from infrastructure.project import project_files, remember, text_of
from infrastructure.slim import without

OURS = ("tests/template", ".github/workflows/slim.yml")  # they try the template, and are of no use in your project
OUR_README = "docs/blueprint.md"  # where it moves to
OUR_PATH = "python-production-blueprint"  # of the secret
README = """# {title}

What it does, and for whom: say it here.

```console
$ make run    # serve it on http://127.0.0.1:8000, with a dev Vault that has all it needs
$ make test   # run all tests
```

`make help` lists what else there is. `app/app_secrets.py` declares the secrets that it needs, `app/config.py` its
settings, and `app/main.py` puts it together. How all that works: [{page}]({page}).
"""


class Names(NamedTuple):
    """What a project is called."""

    name: str  # a distribution, in Vault a path, a policy and a role
    title: str  # for people
    prefix: str  # of metrics and API keys
    alert: str  # how the names of alerts begin

    @classmethod
    def of(cls, name: str) -> "Names":
        """Return them for a name of lower-case words joined by hyphens; raise `ValueError` for another one."""
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
            raise ValueError("NAME must be lower-case words joined by hyphens, like my-service")
        words = [word.capitalize() for word in name.split("-")]
        return cls(name, " ".join(words), name.replace("-", "_"), "".join(words))


CONSTANTS = (  # file, what stands there (the first group is what it was), what comes there
    ("app/__init__.py", r'^NAME = "(.*)"$', 'NAME = "{name}"'),
    ("app/__init__.py", r'^TITLE = "(.*)"$', 'TITLE = "{title}"'),
    ("app/core/logs/redaction.py", r'^KEY_PREFIX = "(\w+)"', 'KEY_PREFIX = "{prefix}_"'),
    ("app/extras/metrics/metrics.py", r'^PREFIX = "(\w+)"', 'PREFIX = "{prefix}"'),
    ("app/core/settings/vault.py", r'^    secret_path: Paths = \("(.*)",\)$', '    secret_path: Paths = ("{name}",)'),
    (
        "app/core/settings/vault.py",
        r'^    write_prefix: VaultPath = "(.*)/api-keys"$',
        '    write_prefix: VaultPath = "{name}/api-keys"',
    ),
    (".env.example", r"^#VAULT_SECRET_PATH=(.*)$", "#VAULT_SECRET_PATH={name}"),
    (".env.example", r"^#VAULT_WRITE_PREFIX=(.*)/api-keys$", "#VAULT_WRITE_PREFIX={name}/api-keys"),
    ("pyproject.toml", r'^name = "(.*)"$', 'name = "{name}"'),
    ("pyproject.toml", r'^description = "(.*)"$', 'description = "{title}."'),
)


def rename(name: str, root: Path) -> list[str]:
    """Make the project at `root` the one of this name; return what was done. It may be renamed again.

    Raises `ValueError` for a name that a distribution, a Vault path or a title could not have.
    """
    new = Names.of(name)
    former = {pattern: _set(root / file, pattern, text.format(**new._asdict())) for file, pattern, text in CONSTANTS}
    title, prefix, path = (former[CONSTANTS[n][1]] for n in (1, 3, 4))
    done = [f"named {new.name} ({new.title}): the constants in {', '.join(sorted({file for file, *_ in CONSTANTS}))}"]
    done += _policy(root, path, new.name)
    done += _readme(root, title, new)
    done += _remove_ours(root)
    _pages(root, prefix, new)
    remember(root, "name", new.name)
    return done


def _set(file: Path, pattern: str, text: str) -> str:
    """Put a text in the place of a pattern, and return what was there: nothing, where there is no such place."""
    content = file.read_text(encoding="utf-8") if file.exists() else ""
    found = re.search(pattern, content, re.MULTILINE)
    if not found:
        return ""
    file.write_text(content[: found.start()] + text + content[found.end() :], encoding="utf-8")
    return found[1]


def _policy(root: Path, former: str, name: str) -> Iterator[str]:
    """Rename the policy, and the paths in it."""
    file = root / f"infrastructure/policies/{former}.hcl"
    if file.exists():
        text = re.sub(rf"(?<=/){re.escape(former)}(?=[/\"])", name, file.read_text(encoding="utf-8"))
        file.unlink()
        file.with_name(f"{name}.hcl").write_text(text, encoding="utf-8")
        yield f"policy, role and secret: {name}"


def _readme(root: Path, former: str, new: Names) -> Iterator[str]:
    """Put a short one where ours is; one that you have written stays, but for its title."""
    file, ours = root / "README.md", root / OUR_README
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if not text.startswith(f"# {former}\n"):
        return
    if ours.exists():  # it is not the first time
        file.write_text(text.replace(f"# {former}\n", f"# {new.title}\n", 1), encoding="utf-8")
        return
    ours.parent.mkdir(exist_ok=True)
    ours.write_text(re.sub(r'(\]\(|src=")(?!https?:|#|mailto:)([^)"]+)', _from_docs, text), encoding="utf-8")
    file.write_text(README.format(title=new.title, page=OUR_README), encoding="utf-8")
    for page in (root / "docs").glob("*.md"):
        page.write_text(page.read_text(encoding="utf-8").replace("](../README.md", "](blueprint.md"), encoding="utf-8")
    yield f"README.md is a short one of yours; the template's is {OUR_README}"


def _from_docs(link: re.Match[str]) -> str:
    """Return a link of the README as it is in `docs/`."""
    target = link[2]
    return link[1] + (target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}")


def _pages(root: Path, former: str, new: Names) -> None:
    """Put the names of metrics and alerts into what asks for them, and the secret's path into what tells of it."""
    alerts = root / "infrastructure/prometheus/alerts.yml"
    named = re.findall(r"alert: (\w+)", alerts.read_text(encoding="utf-8")) if alerts.exists() else []
    begin = former.title().replace("_", "")
    for file in (*(root / "docs").glob("*.md"), *(root / "infrastructure").glob("[gp]r*/*.*")):
        text = file.read_text(encoding="utf-8")
        text = re.sub(rf"\b{former}_(?=[a-z])", f"{new.prefix}_", text) if former else text
        for alert in named:
            ours = new.alert + alert.removeprefix(begin)
            text = re.sub(rf"\b{alert}\b", ours, re.sub(rf"#{alert.lower()}\b", f"#{ours.lower()}", text))
        text = re.sub(rf"^  - name: {former}$", f"  - name: {new.prefix}", text, flags=re.MULTILINE)
        text = re.sub(r'^( "title": ")(?:.*: )?(Secrets, )', rf"\g<1>{new.title}: \2", text, flags=re.MULTILINE)
        text = re.sub(r'^( "uid": ").*(",)$', rf"\g<1>{new.name}\2", text, flags=re.MULTILINE)
        file.write_text(text.replace(OUR_PATH, new.name), encoding="utf-8")


def _remove_ours(root: Path) -> Iterator[str]:
    """Remove what tries the template, and what is marked as about that."""
    for path in (root / name for name in OURS):
        if path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            yield f"removed {path.relative_to(root)}: it tries the template"
    for file in project_files(root):
        text = text_of(file)
        if text is not None and (left := without(text, ["template"])) != text:
            file.write_bytes(left.encode())


def main() -> None:
    """Do what the command line says."""
    try:
        done = rename(sys.argv[1] if len(sys.argv) > 1 else "", Path.cwd())
    except ValueError as error:
        sys.exit(f"error: {error}")
    print("\n".join([*done, "look at `git diff`, then run `make check` and the tests, and, if it runs, `make seed`"]))


if __name__ == "__main__":
    main()
