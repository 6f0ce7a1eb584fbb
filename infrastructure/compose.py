"""How are the containers of a dev server started? Docker Compose, version 2 or the older stand-alone program."""

import os
import shutil
import subprocess
import zlib
from pathlib import Path


class ComposeError(Exception):
    """Docker Compose is missing or failed; the message is one line."""


def docker_answers() -> bool:
    """Tell whether a Docker engine is there."""
    return _runs("docker", "info")


def compose(file: Path, *arguments: str, **environment: str) -> str:
    """Run Compose on `file`, in a project of this clone alone, and return what it prints; raise ComposeError."""
    if _runs("docker", "compose", "version"):
        command = ["docker", "compose"]
    elif shutil.which("docker-compose"):
        command = ["docker-compose"]
    else:
        raise ComposeError("Docker Compose is missing: install it")
    # each clone its own project; Compose 1 refuses `name:` in the file
    project = f"dev-{file.suffixes[0].strip('.')}-{zlib.crc32(bytes(Path.cwd())):08x}"
    finished = subprocess.run(
        [*command, "-p", project, "-f", str(file), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        raise ComposeError(f"Docker Compose failed: {(finished.stderr.strip().splitlines() or ['no message'])[-1]}")
    return finished.stdout


def _runs(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=15, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
