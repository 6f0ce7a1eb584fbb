"""What is pinned, updated and audited stays so."""

import re
from typing import Any

import yaml

from infrastructure.rename import project_files
from tests.support import ROOT

REGISTRIES = ("py" + "pi.org", "python" + "hosted.org", "registry.np" + "mjs.org", "deb.deb" + "ian.org")


def pins(name: str) -> dict[str, str]:
    """Return the versions that a requirements file pins."""
    text = (ROOT / f"requirements/{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE))


def parsed(path: str) -> dict[str, Any]:
    """Return the content of a YAML file."""
    content: dict[str, Any] = yaml.safe_load((ROOT / path).read_text())
    return content


def test_what_runs_in_production_is_what_is_tested() -> None:
    """Each set of requirements holds the smaller one, in the same versions; `make lock` writes them together."""
    runtime, tracing, dev = pins("runtime"), pins("tracing"), pins("dev")
    assert runtime
    assert runtime.items() <= tracing.items() <= dev.items()


def test_every_requirement_has_a_hash() -> None:
    """And what is installed is what was looked at."""
    for file in (ROOT / "requirements").glob("*.txt"):
        for requirement in re.findall(r"^[a-z0-9._-]+==[^\n]*(?:\n    [^\n]*)*", file.read_text(), re.MULTILINE):
            assert "--hash=sha256:" in requirement, requirement.splitlines()[0]


def test_no_file_names_the_host_of_a_registry() -> None:
    """Where packages come from is the business of whoever installs them."""
    for file in project_files(ROOT):
        text = file.read_bytes().decode(errors="replace")
        assert not [host for host in REGISTRIES if host in text], file


def test_updates_wait_until_others_have_tried_them() -> None:
    """For whatever is pinned: packages, actions, the image of the dev Vault."""
    updates = parsed(".github/dependabot.yml")["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"pip", "github-actions", "docker-compose"}
    for update in updates:
        assert update["cooldown"]["default-days"] >= 7
        assert (ROOT / update["directory"].strip("/")).is_dir()


def test_every_action_is_pinned() -> None:
    """To a version or a commit, never to a branch."""
    for workflow in (ROOT / ".github/workflows").glob("*.yml"):
        for job in yaml.safe_load(workflow.read_text())["jobs"].values():
            for action in (step["uses"] for step in job["steps"] if "uses" in step):
                assert re.search(r"@(v\d+|[0-9a-f]{40})$", action), action
