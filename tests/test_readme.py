"""The documents tell the truth: commands exist, variables are known, `.env.example` is complete."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from dotenv import dotenv_values

from app.backends.conjur_writer import ConjurWriter
from app.config import Settings, VaultSettings
from app.config_conjur import ConjurSettings
from infrastructure.dev_vault import ROOT_TOKEN
from tests.support import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PHONY = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
TARGETS = set(PHONY[1].split()) if PHONY else set()
FAMILIES = ("SECRET_", "VAULTS__")
# what the Makefile, the tests and the compose file read, beside the settings
OTHER_VARIABLES = {"VAULT_PORT", "VAULT_RUNTIME", "VAULT_IMAGE", "VAULT_TEST_URL", "VAULT_TEST_TOKEN", "VAULT_ADDR"}
OTHER_VARIABLES |= {"CONJUR_PORT", "CONJUR_TEST_LOGIN"}


def settings_variables() -> set[str]:
    """Return the names of all variables that the settings know."""
    groups = {"vault": VaultSettings, "conjur": ConjurSettings, "vaults": None, "secrets": None}
    top = {name.upper() for name in Settings.model_fields if name not in groups}
    return top | {f"{name}_{field}".upper() for name, group in groups.items() if group for field in group.model_fields}


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
        holder = getattr(defaults, group) if group in {"vault", "conjur"} else defaults
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
    """Targets of make, variables, files and links."""
    text = document.read_text()
    targets = set(re.findall(r"\bmake ([a-z][a-z-]+)", text))
    assert targets <= TARGETS, targets - TARGETS
    variables = set(re.findall(r"\b((?:VAULT|CONJUR)_[A-Z_]*[A-Z]|LOG_[A-Z]+)\b", text))
    assert variables <= settings_variables() | OTHER_VARIABLES, variables - settings_variables() - OTHER_VARIABLES
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert link.startswith("https://") or (document.parent / link).exists(), link
    for path in re.findall(r"`((?:app|infrastructure|tests|docs|benchmarks)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_the_readme_starts_with_the_two_commands() -> None:
    """They stand before any heading of the second level, with nothing to do first."""
    top = (ROOT / "README.md").read_text().split("\n## ")[0]
    assert "make run" in top
    assert "make test" in top
    assert ROOT_TOKEN in (ROOT / "README.md").read_text()


def test_the_readme_names_methods_that_exist() -> None:
    """What else the writer can do."""
    named = re.search(r"get_conjur_writer\(\)\.write\(.*# also (.*)", (ROOT / "README.md").read_text())
    assert named
    methods = re.sub(r"\(.*?\)", "", named[1]).replace(" ", "").split(",")
    assert methods
    assert [method for method in methods if not hasattr(ConjurWriter, method)] == []


def test_every_variable_is_in_the_readme() -> None:
    """The table of settings is complete."""
    text = (ROOT / "README.md").read_text()
    assert not {name for name in settings_variables() if name not in text}
