"""Which files hold a credential, and may others on this machine read it?

A regular file of sane size may hold one. If others may read it, the log says so, once a file: of files that every user
may read, and of our own that their group may read. A file of root's that our group may read (`root:app`, 0640) is good
practice. Not said of what a container's runtime mounts (below `/run/secrets`, and a Kubernetes volume, wherever it is):
0644 or 0444 is usual there, and nobody else is in the container.
"""

import errno
import os
import stat
from pathlib import Path

from app.core.logs.logging_config import get_logger

MOUNTED = Path("/run/secrets"), Path("/var/run/secrets")

LARGEST = 64 * 1024  # bytes of a credential, which travels in a header or a small body
LARGEST_PEM = 16 * 1024 * 1024  # a bundle of all public CAs has a quarter of a MiB

log = get_logger(__name__)

_told: set[Path] = set()
_KINDS = {
    stat.S_IFIFO: "it is a FIFO",
    stat.S_IFSOCK: "it is a socket",
    stat.S_IFCHR: "it is a device",
    stat.S_IFBLK: "it is a device",
}


def read_credential_file(file: Path) -> bytes:
    """Return what a credential file holds; raise `OSError`, whose `strerror` is the reason, if that cannot be one."""
    with open(_opened(file, LARGEST), "rb") as opened:
        content = opened.read(LARGEST + 1)  # it may have grown, or not have told its size
    if len(content) > LARGEST:
        raise _too_large(LARGEST)
    return content


def check_pem_file(file: Path) -> None:
    """Raise `OSError`, whose `strerror` is the reason, for what OpenSSL should not try to read as PEM."""
    os.close(_opened(file, LARGEST_PEM))


def _opened(file: Path, most: int) -> int:
    """Open a regular file of at most so many bytes, without waiting.

    To open a FIFO takes until somebody writes to it, and no signal ends that; to open a device may do something.
    """
    _refuse_others(file.stat(), most)
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_others(os.fstat(descriptor), most)  # what was opened may be another one
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_others(found: os.stat_result, most: int) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "it is something else")
        raise OSError(errno.EINVAL, f"{kind}, not a regular file")
    if found.st_size > most:
        raise _too_large(most)


def _too_large(most: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {most // 1024} KiB")


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
        return None  # the reader says what is wrong
    by_group = bool(found.st_mode & stat.S_IRGRP) and found.st_uid == os.geteuid()
    if (not by_group and not found.st_mode & stat.S_IROTH) or _is_mounted(file):
        return None
    return f"{stat.S_IMODE(found.st_mode):04o}"


def _is_mounted(file: Path) -> bool:
    absolute = file.absolute()
    in_kubernetes = absolute.with_name("..data").is_symlink()  # how the kubelet swaps what is in a volume
    return in_kubernetes or any(absolute.is_relative_to(place) for place in MOUNTED)
