"""A service whose bodies have limits and a deadline that a test can wait for."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.core.web.body_limit import LimitBody
from app.core.web.problems import install_problems

SECONDS = 0.5
LARGER = {"/uploads": 100_000, "/uploads/small/": 10}

app = FastAPI()
install_problems(app)
app.add_middleware(LimitBody, larger=LARGER, seconds=SECONDS)


@app.get("/health/live")
async def live() -> str:
    """Answer without a look at a body."""
    return "alive"


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    """Begin to answer before the body has come, and send back what comes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more and (message := await receive())["type"] == "http.request":
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


app.mount("/echo", echo)


@app.post("/{path:path}")
async def count(path: str, request: Request) -> dict[str, int]:  # noqa: ARG001 - any will do
    """Read the body."""
    return {"bytes": len(await request.body())}


@app.get("/stream")
async def stream() -> StreamingResponse:
    """Take longer than a body may."""

    async def parts() -> AsyncIterator[str]:
        for part in range(10):
            await asyncio.sleep(SECONDS / 5)
            yield str(part)

    return StreamingResponse(parts())
