"""A service with something that does not end; `UNENDING` names it."""

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from app.core.store.rotating import Rotating
from tests.declared import create_app


async def for_ever(*_: object) -> None:
    """Hang."""
    await asyncio.sleep(1e6)


async def past_one_cancellation(*_: object) -> None:
    """Hang, and take a cancellation for somebody else's."""
    try:
        await asyncio.sleep(1e6)
    except asyncio.CancelledError:
        await asyncio.sleep(1e6)


async def blocking(*_: object) -> None:
    """Hold the event loop up for some seconds."""
    time.sleep(2)  # noqa: ASYNC251 - that is what goes wrong


async def nothing(*_: object) -> None:
    """Close well."""


CLOSE = {"close": for_ever, "stubborn close": past_one_cancellation, "blocking close": blocking}
WAY = os.environ["UNENDING"]

tasks: set[asyncio.Future[None]] = set()


async def stubborn_task() -> None:
    """Take every cancellation for somebody else's."""
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1e6)


async def build(_secrets: Mapping[str, Any], _old: object) -> str:
    """Return an object, as one that starts something in the background."""
    if WAY == "task":
        tasks.add(asyncio.create_task(stubborn_task()))
    if WAY == "busy workers":  # more than `asyncio.to_thread` has
        tasks.update(asyncio.ensure_future(asyncio.to_thread(time.sleep, 60)) for _ in range(40))
    return "object"


app = create_app()
app.state.rotating["unending"] = Rotating("unending", ("api_key",), build, close=CLOSE.get(WAY, nothing))
