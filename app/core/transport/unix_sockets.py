"""How do requests reach an Agent or Proxy that listens on a socket of this machine? HTTP over it: no TLS, no host name.

Connections are pooled, timed, repeated and forgotten in a child as those over TCP: only how one is opened differs.
"""

import errno
import socket
import time
from pathlib import Path
from typing import TypeVar

from urllib3 import HTTPConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from app.core.errors import VaultUnreachable
from app.core.settings.types import socket_path
from app.core.transport.deadline import BoundedSocket, call_within, time_left

HOST = "http://localhost"  # what goes in front of paths, and into the `Host` header: as Vault's own tools do it

PAUSE = 0.02  # seconds between two tries where too many wait already

P = TypeVar("P", bound=type[HTTPConnectionPool])

_CAUSES = {
    errno.ENOENT: "there is no such socket",
    errno.ECONNREFUSED: "nobody listens on the socket",
    errno.ENOTSOCK: "this is no socket",
    errno.ENOTDIR: "its path leads through a file",
    errno.EACCES: "this process may not use the socket",
    errno.EPERM: "this process may not use the socket",
    errno.EPROTOTYPE: "the socket is not one for connections",
}
_REMEDIES = {
    errno.EACCES: "Give this user write permission on the socket, and passage through the folders above it.",
    errno.EPERM: "Give this user write permission on the socket, and passage through the folders above it.",
}


def base_url(address: str) -> str:
    """Return what requests to a server begin with: its address, unless it is a socket's."""
    return HOST if socket_path(address) else address


def over_socket(pool: P, path: str) -> P:
    """Return a kind of pool like this one, whose connections all lead to the socket at `path`."""

    class Connection(pool.ConnectionCls):  # type: ignore[misc, name-defined] # whichever the pool has
        def _new_conn(self) -> socket.socket:
            try:
                return open_socket(path, self.timeout)
            except TimeoutError as error:
                raise ConnectTimeoutError(self, "connecting to the socket took too long") from error
            except OSError as error:
                raise NewConnectionError(self, "no connection to the socket") from error

    kind: P = type("SocketPool", (pool,), {"ConnectionCls": Connection, "address": f"unix://{path}"})  # type: ignore[assignment]
    return kind


def open_socket(path: str, timeout: object) -> socket.socket:
    """Connect to the socket at `path`, within so many seconds; raise `OSError`.

    Where too many wait for the listener already, the system says so at once, instead of waiting as it does for TCP.
    """
    opened = BoundedSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with call_within(timeout if isinstance(timeout, int | float) else None):
            while True:
                opened.settimeout(time_left())
                try:
                    opened.connect(path)
                except BlockingIOError:
                    time.sleep(PAUSE)
                else:
                    return opened
    except BaseException:
        opened.close()
        raise


def unreachable(address: str, error: BaseException | None, variable: str) -> VaultUnreachable:
    """Say why there is no connection to the socket that `variable` names; `error` is what connecting brought."""
    number = getattr(error, "errno", None) or 0
    if number == errno.ECONNREFUSED and not Path(socket_path(address) or "").is_socket():
        number = errno.ENOTSOCK
    cause = _CAUSES.get(number) or getattr(error, "strerror", None) or "the connection broke"
    remedy = _REMEDIES.get(number, f"Check {variable}, and whether the Agent or Proxy that listens there is up.")
    return VaultUnreachable(address, cause, remedy)
