"""The documents tell the truth: commands exist, variables are known, `.env.example` is complete."""

import ast
import re
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from dotenv import dotenv_values

from app.config import Settings
from app.core.settings.variables import groups_of
from infrastructure.dev_vault import ROOT_TOKEN
from infrastructure.project import project_files
from tests.support import ROOT
from tests.template.clone import README_IS_OURS, about_our_readme

PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", *PAGES] if README_IS_OURS else PAGES
LINKING = [
    file for file in project_files(ROOT) if file.suffix == ".md" and (README_IS_OURS or file.name != "README.md")
]
README, SETTINGS = (ROOT / "README.md").read_text(), (ROOT / "docs/settings.md").read_text()
NAMED = {
    "api_docs": "api-docs.md",
    "api_keys": "api-keys.md",
    "cli": "command-line.md",
    "conjur": "conjur.md",
    "doctor": "doctor.md",
    "metrics": "metrics.md",
    "status": "status.md",
}
EXTRAS = {name: page for name, page in NAMED.items() if (ROOT / "app/extras" / name).is_dir()}
QUOTED = r"code\.function\.name=\S+"  # of a span
TARGETS = set(" ".join(re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)).split())
FAMILIES = ("SECRET_", "VAULTS__", "VAULT_DYNAMIC__")
# what the Makefile, the tests and the compose file read, beside the settings
OTHER_VARIABLES = {"VAULT_PORT", "VAULT_RUNTIME", "VAULT_IMAGE", "VAULT_TEST_URL", "VAULT_TEST_TOKEN", "VAULT_ADDR"}
OTHER_VARIABLES |= {"CONJUR_PORT", "CONJUR_TEST_LOGIN"}
OTHER_VARIABLES |= {"VAULT_DYNAMIC", "VAULT_DYNAMIC__DATABASE", "VAULT_DYNAMIC__DB", "VAULT_DYNAMIC__TLS"}


def settings_variables() -> set[str]:
    """Return the names of all variables that the settings know."""
    groups = groups_of(Settings)
    top = {name.upper() for name in Settings.model_fields if name not in {*groups, "vaults", "secrets"}}
    fields = {f"{name}_{field}".upper() for name, group in groups.items() for field in group.model_fields}
    return top | fields - {"VAULT_DYNAMIC"}  # which stands for a family


def example_variables() -> dict[str, str]:
    """Return what `.env.example` says, the lines that are commented out included."""
    text = (ROOT / ".env.example").read_text()
    return dict(re.findall(r"^#?([A-Z][A-Z_]*)=(.*)$", text, re.MULTILINE))


def test_env_example_has_every_variable_and_no_other() -> None:
    """`SECRET_…` and `VAULTS__…` stand for families."""
    named = {name for name in example_variables() if not name.startswith(FAMILIES)}
    assert named == settings_variables()


def test_env_example_explains_every_variable() -> None:
    """A comment stands above each."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    for above, line in pairwise(lines):
        if re.match(r"#?[A-Z_]+=", line):
            assert above.startswith("#"), line


def test_env_example_shows_the_defaults() -> None:
    """What is commented out is what counts without it."""
    defaults = Settings.model_validate({})
    for name, shown in example_variables().items():
        if f"\n#{name}=" not in (ROOT / ".env.example").read_text() or name.startswith(FAMILIES) or not shown:
            continue
        group, _, field = name.lower().partition("_")
        holder = getattr(defaults, group) if group in groups_of(Settings) else defaults
        default = getattr(holder, field if holder is not defaults else name.lower())
        text = ",".join(default) if isinstance(default, tuple) else str(default).removesuffix(".0")
        assert shown == (text.lower() if isinstance(default, bool) else text), name


def test_env_example_is_what_the_dev_vault_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """AppRole with the files that seeding writes."""
    monkeypatch.delenv("VAULT_TOKEN")
    (tmp_path / ".env").write_text((ROOT / ".env.example").read_text())
    vault = Settings().vault
    assert (vault.enabled, vault.auth_method) == (True, "approle")
    assert (vault.role_id_file, vault.secret_id_file) == (Path(".dev/role-id"), Path(".dev/secret-id"))
    assert dotenv_values(tmp_path / ".env")["VAULT_URL"] == "http://127.0.0.1:8200"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_documents_name_only_what_exists(document: Path) -> None:
    """Targets of make, variables and files."""
    text = document.read_text()
    targets = set(re.findall(r"\bmake ([a-z][a-z-]+)", text))
    assert targets <= TARGETS, targets - TARGETS
    variables = set(re.findall(r"\b((?:VAULT|CONJUR)_[A-Z_]*[A-Z]|LOG_[A-Z]+)\b", text))
    assert variables <= settings_variables() | OTHER_VARIABLES, variables - settings_variables() - OTHER_VARIABLES
    for path in re.findall(r"`((?:app|infrastructure|tests|docs|benchmarks)/[\w./-]+)`", text):
        # samples and their tests, which you may have deleted
        assert (ROOT / path).exists() or path.startswith(("app/routes/", "tests/app/")), path


@pytest.mark.parametrize("document", LINKING, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    """Files exist, and so do the headings that anchors name."""
    for link in links(document.read_text()):
        path, _, anchor = link.partition("#")
        is_of_what_was = document.name == "CHANGELOG.md" and Path(path).name in set(NAMED.values()) - set(
            EXTRAS.values()
        )
        if not re.match(r"https?:", link) and not is_of_what_was:
            target = document.parent / path if path else document
            assert target.exists(), link
            assert not anchor or anchor in anchors(target.read_text()), link


def test_a_heading_has_the_anchor_that_github_gives_it() -> None:
    """Or the test above could not fail."""
    text = "# Why `x_y`?\n```\n# not this\n```\n## When Vault is down: a 2nd look\n## Why x_y\n"
    assert anchors(text) == {"why-x_y", "when-vault-is-down-a-2nd-look", "why-x_y-1"}


def links(text: str) -> list[str]:
    """Return where the links and pictures of a document lead."""
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'<img src="([^"]+)"', text)


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    found: dict[str, int] = {}
    for heading in re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    ):
        anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        found[anchor] = found.get(anchor, 0) + 1
    return {anchor if n == 0 else f"{anchor}-{n}" for anchor, count in found.items() for n in range(count)}


# --- README ---


@about_our_readme
def test_the_readme_starts_with_the_two_commands() -> None:
    """They stand before any heading of the second level, with nothing to do first."""
    top = README.split("\n## ")[0]
    assert "make run" in top
    assert "make test" in top
    assert ROOT_TOKEN in README


@about_our_readme
def test_the_readme_is_read_in_five_minutes() -> None:
    """What is more than that has a page of its own, and README leads to each."""
    assert README.count("\n") <= 180
    led_to = {link.partition("#")[0] for link in links(README)}
    reached = {f"docs/{link.partition('#')[0]}" for page in led_to if page.endswith(".md") for link in links_of(page)}
    assert {f"docs/{page.name}" for page in PAGES} <= led_to | reached


def links_of(page: str) -> list[str]:
    """Return where the links of a page lead."""
    return links((ROOT / page).read_text())


def test_every_page_says_first_what_it_is_good_for() -> None:
    """In its first sentence."""
    for page in PAGES:
        assert re.match(r"# .+\n\nAfter this page you (know|can) ", page.read_text()), page


# --- the tables of settings ---


def rows(text: str) -> list[str]:
    """Return the rows of the tables of variables."""
    return re.findall(r"^\| `[A-Z].*\|$", text, re.MULTILINE)


def test_every_variable_is_in_the_table_of_settings_once() -> None:
    """And no other."""
    named = [name for row in rows(SETTINGS) for name in re.findall(r"`([A-Z_<>]+)", row.split("|")[1])]
    assert sorted(named) == sorted(
        [*settings_variables(), "VAULTS__<NAME>__", "VAULT_DYNAMIC__<NAME>", "SECRET_<NAME>"]
    )


@about_our_readme
def test_the_ten_settings_of_the_readme_are_those_of_the_table() -> None:
    """Word for word."""
    section = README.split("\n## Settings\n")[1].split("\n## ")[0]
    assert len(rows(section)) == 10
    assert [row for row in rows(section) if row not in rows(SETTINGS)] == []


# --- what goes with an extra ---


def test_marks_of_extras_are_closed_and_name_one() -> None:
    """A block between two lines of its own, or a row of a table that ends with the mark."""
    for document in DOCUMENTS:
        opened = ""
        for line in document.read_text().splitlines():
            if "<!-- extra: template -->" in line:  # a part of a line, which `make rename` takes out
                continue
            if mark := re.search(r"<!-- extra: (\w*) -->", line):
                assert mark[1] in EXTRAS, f"{document.name}: {line}"
                assert not opened, f"{document.name}: {line}"
                assert line == mark[0] or re.match(r"[|-] ", line), f"{document.name}: {line}"
                opened = mark[1] if line == mark[0] else ""
            elif "<!-- /extra" in line:
                assert (line, bool(opened)) == ("<!-- /extra -->", True), f"{document.name}: {line}"
                opened = ""
        assert not opened, document.name


@pytest.mark.parametrize("extra", EXTRAS)
def test_nothing_else_leads_to_an_extra_that_is_gone(extra: str) -> None:
    """Without its page and what is marked, no link and no path of a file leads to it."""
    own = ROOT / "docs" / EXTRAS[extra]
    assert own.exists()
    for document in DOCUMENTS:
        if document != own:
            text = without(document.read_text(), extra)
            assert not [link for link in links(text) if Path(link.partition("#")[0]).name == own.name], document.name
            assert not re.findall(rf"app[/.]extras[/.]{extra}\b.*", re.sub(QUOTED, "", text)), document.name


def without(text: str, extra: str) -> str:
    """Return a document without what is marked as an extra's."""
    text = re.sub(rf"^<!-- extra: {extra} -->\n.*?^<!-- /extra -->\n", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(rf"^.*<!-- extra: {extra} -->.*\n", "", text, flags=re.MULTILINE)


def logged_fields() -> Counter[str]:
    """Return in how many events of the template's each field is."""
    events: dict[str, set[str]] = defaultdict(set)
    for file in (*ROOT.glob("app/core/**/*.py"), *ROOT.glob("app/extras/**/*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(
                    ast.Attribute(attr="debug" | "info" | "warning" | "error"), [ast.Constant(str(event)), *_]
                ):
                    for keyword in node.keywords:
                        events[keyword.arg or ""].add(event)
    return Counter({name: len(found) for name, found in events.items() if name})


def test_the_page_on_logs_explains_every_field_that_several_events_have() -> None:
    """And those of the one that comes with each request."""
    page = (ROOT / "docs/logs.md").read_text().partition("\n## Fields\n")[2].partition("\n## ")[0]
    explained = {
        name for row in re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    fields, with_requests = logged_fields(), {"method", "path", "status", "duration_ms"}
    assert {name for name, count in fields.items() if count > 1} | with_requests <= explained
    everywhere = {"timestamp", "level", "logger", "event", "request_id", "exception"}
    assert explained - everywhere - with_requests <= {*fields}, "nothing that no event has"
