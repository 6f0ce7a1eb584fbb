"""Does what the service leans on answer? Readiness asks, and remembers for a moment: probes must not hammer on it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

LIMIT = 1.5  # seconds for each; they are asked side by side
KEPT = 1.0  # seconds for which an answer is good
NO_ANSWER = "TimeoutError"


class ReadinessChecks(dict[str, Callable[[], Awaitable[None]]]):
    """What to await, by the name of what is asked; it raises if the service cannot work for want of it."""

    def __init__(self) -> None:
        super().__init__()
        self._failed: dict[str, str] = {}
        self._asked_at = float("-inf")
        self._one_at_a_time = asyncio.Lock()
        self._ending: dict[str, asyncio.Task[str]] = {}  # cancelled, and not over yet

    async def failed(self) -> dict[str, str]:
        """Return what does not answer, and why: the class of the error, and the SQLSTATE that came with it."""
        async with self._one_at_a_time:
            if time.monotonic() - self._asked_at > KEPT:
                reasons = await asyncio.gather(*map(self._reason, self))
                self._failed = {name: reason for name, reason in zip(self, reasons, strict=True) if reason}
                self._asked_at = time.monotonic()
            return self._failed

    async def _reason(self, name: str) -> str:
        """Ask; what takes too long is cancelled, but not waited for: a driver takes seconds to hang up on who hangs."""
        if name in self._ending:
            return NO_ANSWER
        asking = asyncio.create_task(_asked(self[name]))
        try:
            done, _ = await asyncio.wait((asking,), timeout=LIMIT)
            return asking.result() if done else NO_ANSWER
        finally:
            if not asking.done():
                self._ending[name] = asking
                asking.add_done_callback(lambda _: self._ending.pop(name))
                asking.cancel()


async def _asked(check: Callable[[], Awaitable[None]]) -> str:
    try:
        await check()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the service cannot work
        state = sqlstate(error)
        return type(error).__name__ + (f", SQLSTATE {state}" if state else "")
    return ""


def sqlstate(error: BaseException) -> str:
    """Return what a database calls an error, also one that SQLAlchemy has wrapped; nothing if that is no database's."""
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    return state if isinstance(state, str) else ""
