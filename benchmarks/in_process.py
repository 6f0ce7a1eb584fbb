"""What does a request cost the whole service, against a bare FastAPI app, without a server? Run by `throughput.py`.

CPU time of one process that calls both in turns; standard error is the log.
"""

import asyncio
import statistics
import time
from typing import Any

from fastapi import FastAPI

from benchmarks.bare import app as bare
from benchmarks.whole import app as whole

TURNS, CALLS = 60, 100


async def called(app: FastAPI, times: int) -> float:
    """Call the handler, and return the CPU time in seconds."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message.get("status", 200) != 200:
            raise RuntimeError(message)

    start = time.process_time()
    for _ in range(times):
        await app(_scope(), receive, send)
    return time.process_time() - start


def _scope() -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/one",
        "raw_path": b"/one",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"benchmark"), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


async def main() -> None:
    """Print the ratio."""
    async with whole.router.lifespan_context(whole):
        ratios = []
        for _ in range(TURNS):
            took = await called(bare, CALLS)
            ratios.append(await called(whole, CALLS) / took)
    ratio = statistics.median(ratios)
    print(f"CPU time of a request in process, against a bare FastAPI app: {ratio:.2f} (aim: at most 1.9)")


if __name__ == "__main__":
    asyncio.run(main())
