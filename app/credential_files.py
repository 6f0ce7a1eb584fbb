"""May others on this machine read a file that holds a credential? Then the log says so, once a file.

Said of files that every user may read, and of our own that their group may read: a file of root's that our group may
read (`root:app`, 0640) is good practice. Not said of what a container's runtime mounts (below `/run/secrets`, and a
Kubernetes volume, wherever it is): 0644 or 0444 is usual there, and nobody else is in the container.
"""

import os
import stat
from pathlib import Path

from app.logging_config import get_logger

MOUNTED = Path("/run/secrets"), Path("/var/run/secrets")

log = get_logger(__name__)

_told: set[Path] = set()


def warn_if_others_may_read(variable: str, file: Path) -> None:
    """Warn that a credential file is readable by others; to be called whenever it is read, since it may be replaced."""
    if file not in _told and (mode := exposed_mode(file)):
        _told.add(file)
        log.warning("credential_file_exposed", variable=variable, file=str(file), mode=mode, remedy=f"chmod 600 {file}")


def exposed_mode(file: Path) -> str | None:
    """Return the mode of a file that others may read, such as `0644`; None if they may not, or there is no file."""
    try:
        found = file.stat()
    except OSError:
        return None  # whoever reads it says what is wrong
    by_group = bool(found.st_mode & stat.S_IRGRP) and found.st_uid == os.geteuid()
    if (not by_group and not found.st_mode & stat.S_IROTH) or _is_mounted(file):
        return None
    return f"{stat.S_IMODE(found.st_mode):04o}"


def _is_mounted(file: Path) -> bool:
    absolute = file.absolute()
    in_kubernetes = absolute.with_name("..data").is_symlink()  # how the kubelet swaps what is in a volume
    return in_kubernetes or any(absolute.is_relative_to(place) for place in MOUNTED)
