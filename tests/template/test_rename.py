"""`make rename`: what customers and operators see has the new name, the project is whole, and the licence is ours."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from app import NAME, TITLE
from infrastructure.project import project_files, text_of
from infrastructure.rename import OUR_README, rename
from tests.support import ROOT
from tests.template.clone import Clone

OURS = TITLE == "FastAPI Vault Blueprint"
FORMER = ("fastapi-vault-blueprint", "python-production-blueprint", "FastAPI Vault Blueprint", "fvb_", "blueprint_")
ABOUT_US = ("LICENSE", "CHANGELOG.md", "README.md", OUR_README, "infrastructure/", "tests/template/")

pytestmark = pytest.mark.skipif(not OURS, reason="it has a name of its own already")


def named(clone: Clone, *names: str) -> set[str]:
    """Return the files in which one of these stands, but for those about the template."""
    found = set()
    for file in project_files(clone.directory):
        path, text = str(file.relative_to(clone.directory)), text_of(file) or ""
        is_about_us = path.startswith(ABOUT_US) and not path.endswith((".yml", ".json", ".hcl"))
        if not is_about_us and any(re.search(rf"(?<!\w){name}", text) for name in names):
            found.add(path)
    return found


def test_a_renamed_clone_has_the_new_name_wherever_somebody_sees_it(clone: Clone) -> None:
    """The API's title, keys, metrics, alerts, dashboards, the secret's path, its policy; and `.blueprint.toml`."""
    assert clone.make("rename", "NAME=my-shop").returncode == 0
    assert named(clone, *FORMER, "BlueprintSecret", "blueprintsecret") == set()
    seen = """
from app import NAME, TITLE
from app.config import Settings
from app.core.logs.redaction import KEY_PREFIX
print(NAME, TITLE, KEY_PREFIX, *Settings().vault.secret_path, Settings().vault.write_prefix)
"""
    told = subprocess.run([sys.executable, "-c", seen], cwd=clone.directory, capture_output=True, text=True, check=True)
    assert told.stdout == "my-shop My Shop my_shop_ my-shop my-shop/api-keys\n"
    assert (clone.directory / "infrastructure/policies/my-shop.hcl").exists()
    assert tomllib.loads((clone.directory / ".blueprint.toml").read_text())["blueprint"]["name"] == "my-shop"
    assert tomllib.loads((clone.directory / "pyproject.toml").read_text())["project"]["name"] == "my-shop"


def test_the_licence_and_what_is_ours_stay(clone: Clone) -> None:
    """The copyright; and our README, in docs/, with links that lead somewhere. The tests of the template go."""
    assert clone.make("rename", "NAME=shop").returncode == 0
    for file in ("LICENSE", "CHANGELOG.md"):
        assert (clone.directory / file).read_text() == (ROOT / file).read_text()
    page = clone.directory / OUR_README
    assert page.read_text().startswith(f"# {TITLE}\n")
    readme = (clone.directory / "README.md").read_text()
    assert readme.startswith("# Shop\n")
    assert readme.count("\n") < 20
    for text_file in [clone.directory / "README.md", *(clone.directory / "docs").glob("*.md")]:
        for link in re.findall(r'(?:\]\(|src=")([^)#":]+)[)#"]', text_file.read_text()):
            assert (text_file.parent / link).exists(), f"{text_file.name}: {link}"
    assert not (clone.directory / "tests/template").exists()
    assert "tests/template" not in (clone.directory / "CONTRIBUTING.md").read_text()


def test_it_can_be_renamed_again(clone: Clone) -> None:
    """Without a second copy of our README; and one that somebody has written stays."""
    for name in ("shop", "store"):
        assert clone.make("rename", f"NAME={name}").returncode == 0
    text = (clone.directory / "README.md").read_text()
    assert text.startswith("# Store\n")
    assert (clone.directory / OUR_README).read_text().startswith(f"# {TITLE}\n")
    # extra: metrics
    monitoring = clone.directory / "infrastructure"
    assert "store_build_info" in (monitoring / "grafana/dashboard.json").read_text()
    assert "alert: StoreNotScraped" in (monitoring / "prometheus/alerts.yml").read_text()
    # /extra
    (clone.directory / "README.md").write_text("# Mine\n")
    assert clone.make("rename", "NAME=shop").returncode == 0
    assert (clone.directory / "README.md").read_text() == "# Mine\n"


def test_a_dev_vault_is_seeded_at_the_new_path(clone: Clone) -> None:
    """With the policy of the new name."""
    assert clone.make("rename", "NAME=my-shop").returncode == 0
    assert clone.make("vault-up").returncode == 0
    seeded = clone.make("seed")
    assert "secret/my-shop written" in seeded.stdout, seeded.stderr


@pytest.mark.parametrize("name", ["", "My Shop", "-x", "x_y", "../x", "1shop", "shop\n"])
def test_a_name_that_would_not_do_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything is changed."""
    with pytest.raises(ValueError, match="NAME must be"):
        rename(name, tmp_path)
    assert NAME == "fastapi-vault-blueprint"
