"""What do the dev servers remember from one command to the next, and is it still true?"""

import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

STATE = Path(".dev")


def write_private(file: Path, text: str) -> None:
    """Write for the owner's eyes only, and in one step: who reads meanwhile sees the old text or the new."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_text(text)
    draft.replace(file)


def is_ours(pid: int, mark: str) -> bool:
    """Tell whether `pid` is still a process of ours: a number may have passed to another since.

    `mark` stands on its command line, and on no other's.
    """
    if Path("/proc/self/cmdline").exists():  # Linux, where ps may be missing; a zombie's is empty
        try:
            return mark.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
    listed = subprocess.run(["ps", "-o", "stat=,command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return mark in listed.stdout and not listed.stdout.startswith("Z")


def is_taken(port: int) -> bool:
    """Tell whether something listens on the port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def fail(message: str) -> NoReturn:
    """End with one line on standard error."""
    sys.exit(f"error: {message}")
