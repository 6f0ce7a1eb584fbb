"""A service for signals: with `SIGNAL_AT_IMPORT` it gets one while it is imported, with a token in its hands."""

import os
import time

from app.vault import read_secret, write_secret
from tests.declared import create_app

if number := os.environ.get("SIGNAL_AT_IMPORT"):
    read_secret("at-import", "value")
    os.kill(os.getpid(), int(number))

app = create_app()
children: list[int] = []


@app.get("/blocking")
async def block() -> None:
    """Hold up the event loop for longer than the service has for its end."""
    time.sleep(30)  # noqa: ASYNC251 - that is what goes wrong


@app.post("/child")
async def fork() -> int:
    """Fork a child that waits; it runs by now, since Python forgets what signals a child gets before."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writes, b".")
        time.sleep(60)  # noqa: ASYNC251 - it is a process of its own
        os._exit(1)
    os.read(reads, 1)
    os.close(reads)
    os.close(writes)
    children.append(child)
    return child


@app.get("/children")
def ended() -> list[int]:
    """Tell how the children ended that have."""
    found = [os.waitpid(child, os.WNOHANG) for child in children]
    return [os.waitstatus_to_exitcode(status) for child, status in found if child]


@app.post("/write/{path}")
def write(path: str) -> int | None:
    """Write a secret."""
    return write_secret(path, {"value": "written"})
