"""How is a node cut off from the others, while its callers still reach it? Raft then goes over a relay that refuses it.

A node tells the others the relay's address instead of its own. Who connects is told by whose socket it is (`/proc`).
"""

import os
import socket
from contextlib import suppress
from pathlib import Path

from infrastructure.load_balancer import Address, Relay


class Wire(Relay):
    """What leads to one node; it is shared by all that may connect to it."""

    def __init__(self, port: int, cut_off: set[int]) -> None:
        """Lead to `port`; the ids of processes in `cut_off` do not get through, and are not got through to."""
        super().__init__()
        self._to: Address = ("127.0.0.1", port)
        self._cut_off = cut_off
        self.pid = 0  # of the node to which it leads
        self._callers: dict[Address, int] = {}

    def route(self, caller: Address) -> Address | None:
        """Lead to the node, unless one of both is cut off."""
        pid = owner_of(caller[1])
        self._callers[caller] = pid
        return None if {pid, self.pid} & self._cut_off else self._to

    def cut(self) -> None:
        """Break off what is open and leads to, or comes from, a node that is cut off."""
        for connection, (caller, _) in list(self.open.items()):
            if {self._callers.get(caller, 0), self.pid} & self._cut_off:
                self.break_off(connection)

    def break_off(self, connection: socket.socket) -> None:
        """End a connection, with what is known of it."""
        self._callers.pop(self.open.get(connection, (("", 0),))[0], None)
        super().break_off(connection)


def owner_of(port: int) -> int:
    """Return the id of the process, of this user, that has a TCP connection from this port; 0 if there is none."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/self/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    if os.readlink(descriptor) in inodes:  # noqa: PTH115 - its target is no path
                        return int(process.name)
    return 0
