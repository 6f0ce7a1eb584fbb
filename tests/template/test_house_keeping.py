"""What is pinned, updated and audited stays so."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from app.core.run import serve
from infrastructure.processes import LIMITS
from infrastructure.project import project_files
from tests.support import DEADLINE, ROOT

# app.main, the secrets that it declares, and the samples: whoever has cloned changes them first
YOURS = re.compile(
    r"^\s*(?:from|import) app\.(?:main|app_secrets|signing_keys|routes\.(?:database|home|tokens))\b", re.MULTILINE
)
REGISTRIES = ("py" + "pi.org", "python" + "hosted.org", "registry.np" + "mjs.org", "deb.deb" + "ian.org")


def pins(name: str) -> dict[str, str]:
    """Return the versions that a requirements file pins."""
    text = (ROOT / f"requirements/{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[\S+\])?==(\S+)", text, re.MULTILINE))


def parsed(path: str) -> dict[str, Any]:
    """Return the content of a YAML file."""
    content: dict[str, Any] = yaml.safe_load((ROOT / path).read_text())
    return content


def test_what_runs_in_production_is_what_is_tested() -> None:
    """Each set of requirements holds the smaller one, in the same versions; `make lock` writes them together."""
    runtime, tracing, dev = pins("runtime"), pins("tracing"), pins("dev")
    assert runtime
    assert runtime.items() <= tracing.items() <= dev.items()


def test_the_service_runs_without_what_only_the_tests_need() -> None:
    """An HTTP client that nothing here uses is one package less to watch."""
    dev_only = pins("dev").keys() - pins("tracing").keys()
    assert {"httpx2", "hypothesis", "pytest"} <= dev_only
    block = "; ".join(f"sys.modules[{name.replace('-', '_')!r}] = None" for name in sorted(dev_only))
    started = f"import sys; {block}; import app.main"
    subprocess.run([sys.executable, "-c", started], cwd=ROOT, check=True, timeout=DEADLINE)


def test_the_start_imports_nothing_that_it_does_not_need() -> None:
    """What only the command line, the migrations, or a page that nobody has asked for uses takes its time then."""
    unused = ["alembic", "jinja2", "rich", "typer", "uvicorn"]
    looked_up = f"import app.main, sys; print([name for name in {unused} if name in sys.modules])"
    command = [sys.executable, "-c", looked_up]
    done = subprocess.run(command, cwd=ROOT, check=True, timeout=DEADLINE, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_every_requirement_has_a_hash() -> None:
    """And what is installed is what was looked at."""
    for file in [*(ROOT / "requirements").glob("*.txt"), *(ROOT / "benchmarks/peers").glob("*.txt")]:
        for requirement in re.findall(
            r"^[a-z0-9._-]+(?:\[\S+\])?==[^\n]*(?:\n    [^\n]*)*", file.read_text(), re.MULTILINE
        ):
            assert "--hash=sha256:" in requirement, requirement.splitlines()[0]


def test_no_file_names_the_host_of_a_registry() -> None:
    """Where packages come from is the business of whoever installs them."""
    for file in project_files(ROOT):
        text = file.read_bytes().decode(errors="replace")
        assert not [host for host in REGISTRIES if host in text], file


def test_updates_wait_until_others_have_tried_them() -> None:
    """For whatever is pinned: packages, actions, the image of the dev Vault."""
    updates = parsed(".github/dependabot.yml")["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"pip", "github-actions", "docker", "docker-compose"}
    for update in updates:
        assert update["cooldown"]["default-days"] >= 7
        assert all((ROOT / each.strip("/")).is_dir() for each in update.get("directories", [update.get("directory")]))


def test_every_action_is_pinned() -> None:
    """To a commit, which nobody can move; the version stands behind it."""
    for workflow in (ROOT / ".github/workflows").glob("*.yml"):
        for job in yaml.safe_load(workflow.read_text())["jobs"].values():
            for action in (step["uses"] for step in job["steps"] if "uses" in step):
                assert re.search(r"@[0-9a-f]{40}$", action), action
                assert re.search(rf"{re.escape(action)} # v\d+\.\d+\.\d+$", workflow.read_text(), re.MULTILINE), action


def test_only_tests_about_what_is_yours_look_at_it() -> None:
    """Every other test would turn red when it changes; they look at the service of `tests/declared.py`."""
    looking = {
        str(file.relative_to(ROOT)) for file in project_files(ROOT) if YOURS.search(file.read_text(errors="replace"))
    }
    others = {file for file in looking if not file.startswith(("app/", "docs/", "tests/app/", "tests/template/"))}
    assert others == {"infrastructure/seed.py"}


def test_only_tests_of_the_template_read_the_readme() -> None:
    """It is yours after `make rename`."""
    reading = [file for file in project_files(ROOT / "tests") if b"README.md" in file.read_bytes()]
    others = {str(file.relative_to(ROOT)) for file in reading if ROOT / "tests/template" not in file.parents}
    assert others == set()


def test_uvicorn_is_started_with_limits_everywhere() -> None:
    """Wherever the project starts it, or says how."""
    protocol = "app.core.run.bounded_http:BoundedHTTP"
    limits = f"--timeout-graceful-shutdown 4 --limit-concurrency 512 --http {protocol}"
    assert f"LIMITS := {limits}\n" in (ROOT / "Makefile").read_text()
    assert " ".join(LIMITS) == limits
    assert {"timeout_graceful_shutdown": 4, "limit_concurrency": 512, "http": protocol} == serve.LIMITS
    started = re.compile(r"\buvicorn\b.*:app\b|\"uvicorn\", \w+|uvicorn\.(run|Config)\(")
    found = set()
    for file in project_files(ROOT):
        for line in file.read_bytes().decode(errors="replace").splitlines():
            if started.search(line) and file != Path(__file__):
                found.add(file.name)
                assert "LIMITS" in line or limits in line, f"{file}: {line}"
    assert found >= {"Makefile", "operate.md", "processes.py", "speed.py"}
