"""How does a new secret reach an object that was built from the old one? The object is rebuilt, and its users drained.

Knows nothing of Vault: whoever has new secrets calls `follow`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.errors import SecretUnavailable
from app.logging_config import get_logger

T = TypeVar("T")

log = get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Held(Generic[T]):
    """One object, the secrets it was built from, and how many are using it."""

    value: T
    secrets: dict[str, Any]
    users: int = 0
    retired: bool = False


async def _nothing(_value: object) -> None:
    pass


class Rotating(Generic[T]):
    """An object built from secrets (an engine, a client, a set of keys) that is rebuilt when they change.

    The new object is built and checked before anybody gets it. If that fails, the old one stays, `fault` says why, and
    the next `follow` tries again. The old object is closed when its last user has given it back.
    """

    def __init__(
        self,
        name: str,
        needs: tuple[str, ...],
        build: Callable[[Mapping[str, Any], T | None], Awaitable[T]],
        *,
        check: Callable[[T], Awaitable[None]] = _nothing,
        close: Callable[[T], Awaitable[None]] = _nothing,
    ) -> None:
        """Take the names of the secrets that the object `needs`, and how to make one of them.

        `build` gets these secrets and the object in force, if any; `check` raises if the new object is no good.
        """
        self.name = name
        self.fault: str | None = None  # why the last rebuilding failed: the class of the error
        self._needs = needs
        self._build = build
        self._check = check
        self._close = close
        self._held: _Held[T] | None = None
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[T]:
        """Use the object in force; it is not closed before all who borrowed it have given it back.

        Raises `SecretUnavailable` while there is none.
        """
        held = self._held
        if held is None:
            why = f"it could not be built ({self.fault})" if self.fault else "its secrets are not there"
            raise SecretUnavailable(self.name, why, "GET /health/ready tells more.")
        held.users += 1
        try:
            yield held.value
        finally:
            held.users -= 1
            await self._close_if_idle(held)

    async def follow(self, secrets: Mapping[str, Any]) -> None:
        """Rebuild the object if its secrets have changed since it was built."""
        async with self._one_at_a_time:
            if any(name not in secrets for name in self._needs):
                return
            needed = {name: secrets[name] for name in self._needs}
            old = self._held
            if old is not None and old.secrets == needed:
                self.fault = None
                return
            try:
                value = await self._build(needed, old.value if old else None)
                try:
                    await self._check(value)
                except BaseException:
                    await self._close(value)
                    raise
            except Exception as error:  # noqa: BLE001 - whatever the user's code raises, the old object stays
                self.fault = type(error).__name__
                log.warning("rotation_failed", object=self.name, error=self.fault, kept=old is not None)
                return
            self.fault = None
            self._held = _Held(value, needed)
            log.info("object_rotated" if old else "object_built", object=self.name)
            if old is not None:
                old.retired = True
                await self._close_if_idle(old)

    async def aclose(self) -> None:
        """Close the object; nobody uses it any more."""
        if (last := self._held) is not None:
            self._held = None
            await self._close(last.value)

    async def _close_if_idle(self, held: _Held[T]) -> None:
        if not (held.retired and held.users == 0):
            return
        try:
            await self._close(held.value)
        except Exception as error:  # noqa: BLE001 - the new object is in force already
            log.warning("object_close_failed", object=self.name, error=type(error).__name__)
