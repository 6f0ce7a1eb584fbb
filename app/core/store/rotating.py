"""How does a new secret reach an object that was built from the old one? The object is rebuilt, and its users drained.

Knows nothing of Vault: the refresher calls `follow` with new secrets.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from app.core.errors import SecretUnavailable
from app.core.logs.event_log import journal
from app.core.logs.logging_config import get_logger
from app.core.logs.redaction import redact
from app.core.not_serializable import NotSerializable
from app.core.store.rounds import is_cancelled, is_closed

T = TypeVar("T")
R = TypeVar("R")

LIMIT = 10.0  # seconds for building and checking
LONGEST_REASON = 300  # characters

log = get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Held(NotSerializable, Generic[T]):
    """One object, the secrets it was built from, and how many are using it."""

    value: T = field(repr=False)
    secrets: dict[str, Any] = field(repr=False)
    generation: int = 0  # of the secrets: the latest that it was compared with
    users: int = 0
    retired: bool = False
    closing: asyncio.Task[None] | None = field(default=None, repr=False)
    is_closed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)


async def _nothing(_value: object) -> None:
    pass


def _never(_error: BaseException) -> bool:
    return False


class Rotating(Generic[T]):
    """An object built from secrets (an engine, a client, a set of keys) that is rebuilt when they change.

    The new object is built and checked before anybody gets it. If that fails, or takes longer than `LIMIT`, the old one
    stays, `fault` says why, and the next `follow` tries again. The old object is closed when its last user has given it
    back. What was opened with it (a connection) is not closed by that: closing it is `close`'s business.
    """

    def __init__(
        self,
        name: str,
        needs: tuple[str, ...],
        build: Callable[[Mapping[str, Any], T | None], Awaitable[T]],
        *,
        check: Callable[[T], Awaitable[None]] = _nothing,
        close: Callable[[T], Awaitable[None]] = _nothing,
        limit: float = LIMIT,
        refused: Callable[[BaseException], bool] = _never,
    ) -> None:
        """Take the names of the secrets that the object `needs`, and how to make one of them.

        `build` gets these secrets and the object in force, if any; `check` raises if the new object is no good.
        `refused` tells of an error whether it means that the credentials were refused.
        """
        self.name = name
        self.fault: str | None = None  # why the last rebuilding failed: the class of the error
        self.reason = ""  # and what it says, without values
        self.was_refused = False  # whether that was because its secrets were refused
        self.ask_for_new: Callable[[Rotating[Any]], Awaitable[None]] = _nothing  # the refresher sets it
        self.needs = needs
        self._build = build
        self._check = check
        self._close = close
        self._limit = limit
        self._is_refusal = refused
        self._held: _Held[T] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._retired: set[_Held[T]] = set()  # those that are not closed yet

    @property
    def is_built(self) -> bool:
        """Whether there is an object to borrow."""
        return self._held is not None

    @property
    def why(self) -> str:
        """What people read of the fault: its class, and what it says."""
        return f"{self.fault}: {self.reason}" if self.reason else self.fault or ""

    @property
    def oldest(self) -> float:
        """The generation of the oldest secrets that an object which is not closed yet was built from."""
        held = [*self._retired] if self._held is None else [self._held, *self._retired]
        return min((each.generation for each in held), default=math.inf)

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[T]:
        """Use the object in force; it is not closed before all who borrowed it have given it back.

        Raises `SecretUnavailable` while there is none.
        """
        held = self._held
        if held is None:
            why = f"it could not be built ({self.why})" if self.fault else "its secrets are not there"
            raise SecretUnavailable(self.name, why, "GET /health/ready tells more.")
        held.users += 1
        try:
            yield held.value
        finally:
            held.users -= 1
            self._close_if_idle(held)

    @asynccontextmanager
    async def opened(self, open_: Callable[[T], AbstractAsyncContextManager[R]]) -> AsyncIterator[R]:
        """Borrow the object, and open something with it, such as a connection, until the block ends.

        If that is refused, the source of its secrets is asked for new ones at once, and opening is tried once more with
        the new object. Nothing is repeated once it is open. Raises what opening raises, and `SecretUnavailable`.
        """
        async with AsyncExitStack() as stack:
            opened = await self._opened(open_, stack, is_last=False) or await self._opened(open_, stack, is_last=True)
            for each in opened:
                yield each

    async def _opened(
        self, open_: Callable[[T], AbstractAsyncContextManager[R]], stack: AsyncExitStack, *, is_last: bool
    ) -> tuple[R] | tuple[()]:
        """Return what was opened, or nothing if there is another object to try."""
        held = self._held
        try:
            async with AsyncExitStack() as attempt:
                value = await attempt.enter_async_context(self.borrow())
                opened = await attempt.enter_async_context(open_(value))
                stack.push_async_exit(attempt.pop_all())
                return (opened,)
        except Exception as error:
            if is_last or not self._is_refusal(error):
                raise
            if self._held is held:
                log.warning("credentials_refused", object=self.name, error=type(error).__name__)
                journal.record("refused", self.name, "failed", type(error).__name__)
                await self.ask_for_new(self)
            if self._held is held:
                raise
        return ()

    async def follow(self, secrets: Mapping[str, Any], generation: int = 0) -> None:
        """Rebuild the object if its secrets have changed since it was built; `generation` counts the secrets."""
        async with self._one_at_a_time:
            if any(name not in secrets for name in self.needs):
                return
            needed = {name: secrets[name] for name in self.needs}
            old = self._held
            if old is not None and old.secrets == needed:
                self.fault, old.generation = None, generation
                return
            value = await self._built(needed, old)
            if value is None:
                return
            self._held = _Held(value[0], needed, generation)
            log.info("object_rotated" if old else "object_built", object=self.name)
            journal.record("rebuilt", self.name)
            if old is not None:
                self._retire(old)

    async def aclose(self) -> None:
        """Close the object, when its last user is done; wait until this and all former ones are closed."""
        async with self._one_at_a_time:
            last, self._held = self._held, None
            if last is not None:
                self._retire(last)
        retired, self._retired = self._retired, set()
        for held in retired:
            await held.is_closed.wait()

    async def _built(self, needed: dict[str, Any], old: _Held[T] | None) -> tuple[T] | None:
        """Build and check; return None after a failure, which is remembered in `fault`."""
        try:
            async with asyncio.timeout(self._limit):
                value = await self._build(needed, old.value if old else None)
                try:
                    await self._check(value)
                except BaseException:
                    self._retire(_Held(value, needed))
                    raise
        except BaseException as error:  # a SystemExit, too, of the user's code is no reason for us to end
            if is_cancelled(error) or is_closed(error):
                raise
            self.fault, self.reason, self.was_refused = type(error).__name__, _said(error), self._is_refusal(error)
            told = {"error": self.fault, "reason": self.reason, "kept": old is not None}
            log.warning("rotation_failed", object=self.name, **told)
            journal.record("rebuilt", self.name, "failed", self.fault)
            return None
        self.fault = None
        return (value,)

    def _retire(self, held: _Held[T]) -> None:
        held.retired = True
        self._retired.add(held)
        self._close_if_idle(held)

    def _close_if_idle(self, held: _Held[T]) -> None:
        """Close in a task of its own: the last user's request neither waits for it nor, if cancelled, breaks it off."""
        if held.retired and held.users == 0:
            held.closing = asyncio.create_task(self._close_quietly(held))

    async def _close_quietly(self, held: _Held[T]) -> None:
        try:
            await self._close(held.value)
        except BaseException as error:  # a SystemExit, too, of the user's code is no reason for us to end
            if is_cancelled(error) or is_closed(error):
                raise
            log.warning("object_close_failed", object=self.name, error=type(error).__name__)
        finally:
            self._retired.discard(held)
            held.is_closed.set()


def _said(error: BaseException) -> str:
    """Return the first line of what an error says, with what is secret masked."""
    text = redact(str(error)).strip().partition("\n")[0]
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"
