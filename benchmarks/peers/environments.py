"""Where does each peer run? In an environment of its own, with the versions that its file pins, in `.dev/peers`."""

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from infrastructure.processes import ROOT, surroundings

HERE = Path(__file__).parent
ENVIRONMENTS = ROOT / ".dev" / "peers"


@dataclass(frozen=True)
class Column:
    """A peer: its script, and what has a column in the table."""

    name: str
    title: str
    python: Path
    root: Path | None = None  # of what it imports that is not installed

    def variables(self, given: dict[str, str], home: Path) -> dict[str, str]:
        """Return the environment of its processes: nothing of the shell's that would steer it, a home of its own."""
        path = str(self.root) if self.root else ""
        found = surroundings({**given, "HOME": str(home), "PYTHONPATH": path})
        found.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody would start a service that compiles all each time
        return found


def columns() -> list[Column]:
    """Return all of them; each peer's environment is made if it is not there, or is of other versions."""
    found = [Column(name, title, _environment(name, HERE / f"{name}.txt")) for name, title in _peers().items()]
    own = _environment("blueprint", ROOT / "requirements" / "runtime.txt")  # as in production
    return [*found, Column("blueprint", "this blueprint", own, ROOT)]


def _peers() -> dict[str, str]:
    """Return what is pinned, by the names of the scripts."""
    own = {"tutorial": "hvac", "pydantic2": "pydantic2-settings-vault", "openbao": "openbao-pydantic-settings-adapter"}
    return {name: _title(name, package) for name, package in {**own, "winwin": "winwin-vault"}.items()}


def _title(name: str, package: str) -> str:
    pinned = [line for line in (HERE / f"{name}.txt").read_text().splitlines() if line.startswith(f"{package}==")]
    version = pinned[0].removesuffix(" \\").partition("==")[2]
    return f"tutorial (hvac {version})" if name == "tutorial" else f"`{package}` {version}"


def _environment(name: str, pinned: Path) -> Path:
    """Return the Python of an environment with what is pinned."""
    directory, wanted = ENVIRONMENTS / name, pinned.read_text()
    stamp, python = directory / "installed.txt", directory / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"bench-peers: making {directory.relative_to(ROOT)}", file=sys.stderr)
        venv.create(directory, clear=True, with_pip=True)
        options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement"]
        command = [str(python), "-m", "pip", "install", *options, str(pinned)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": ""})
        stamp.write_text(wanted)
    return python
