"""Whatever happens to a task in the background: it is logged, counted, shown in readiness, and goes on."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from app.core.logs.event_log import journal
from app.core.logs.logging_config import configure_logging
from app.core.store import refresh, rounds
from app.core.store.readiness import readiness
from app.core.store.refresh import REBUILDING, Refresher
from app.core.store.rotating import Rotating
from app.core.store.secret_store import SecretStore
from app.core.store.source import Secret
from app.core.store.source_refresher import SourceRefresher
from tests.declared import DeclaredForTests
from tests.support import SECRETS, until

NAMES = ("vault", "token of vault", REBUILDING)


class Background:
    """A service's background, whose every task can be seen at work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rounds, "AFTER_A_BUG", 0.01)
        monkeypatch.setattr(refresh, "LONGEST_PAUSE", 0.02)  # between two looks at what could not be built
        configure_logging(form="json")
        self.worked: Counter[str] = Counter()
        self.pause: Any = 0.01  # that the tick asks for
        self.error: BaseException | None = None  # what the tick raises
        store = SecretStore(DeclaredForTests, sources=["vault"])
        self.keeper = SourceRefresher("vault", self.load, store, interval=0.01)
        self.object = Rotating("object", ("api_key",), self.build)
        self.refresher = Refresher(store, [self.keeper], {"object": self.object}, {"token of vault": self.tick})

    def load(self) -> list[Secret]:
        self.worked["vault"] += 1
        return [Secret("path", SECRETS, 1)]

    async def build(self, *_: object) -> str:
        """Fail for ever, so that it is tried again and again."""
        self.worked[REBUILDING] += 1
        raise ZeroDivisionError

    def tick(self) -> Any:
        self.worked["token of vault"] += 1
        if self.error is not None:
            raise self.error
        return self.pause

    @property
    def tasks(self) -> list["asyncio.Task[Any]"]:
        """All that goes on by itself."""
        inside = ("again_and_again", "_begin_after")
        return [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") in inside]

    @property
    def findings(self) -> str:
        """What readiness says."""
        return " | ".join(readiness(self.refresher).findings)

    async def all_work(self, than: Counter[str]) -> None:
        """Wait until every task has been at work again."""
        await wait(lambda: all(self.worked[name] > than[name] + 1 for name in NAMES), "each task to go on")


async def wait(condition: Callable[[], object], what: str) -> None:
    """Wait beside the event loop."""
    await asyncio.to_thread(until, condition, what)


def failures() -> Counter[str]:
    """Count what the metrics count."""
    return Counter(each.source for each in journal.events() if (each.kind, each.outcome) == ("upkeep", "failed"))


def test_a_task_that_is_cancelled_from_outside_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever it is: waiting for its time, or for a round. Only the end ends it."""
    it = Background(monkeypatch)

    async def run() -> None:
        async with it.refresher.running(fail_fast=False):
            await it.all_work(Counter())
            for _ in range(30):
                assert len(it.tasks) >= len(NAMES)
                for task in it.tasks:
                    task.cancel()
                await asyncio.sleep(0.003)
            await it.all_work(Counter(it.worked))
            await wait(lambda: "failed in the background" not in it.findings, "readiness to say so")
        assert it.tasks == []

    asyncio.run(run())
    assert all(failures()[name] for name in NAMES)
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["task"] for line in logged if line["event"] == "background_task_failed"} == {*NAMES}


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (KeyboardInterrupt(), 0.01),
        (GeneratorExit(), 0.01),
        (SystemExit(), 0.01),
        (MemoryError(), 0.01),
        (asyncio.CancelledError(), 0.01),
        (None, "soon"),
    ],
    ids=repr,
)
def test_a_tick_that_fails_is_shown_until_it_succeeds(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None, pause: Any
) -> None:
    """By its name and the class of the error; the service stays ready."""
    it = Background(monkeypatch)

    async def run() -> None:
        async with it.refresher.running(fail_fast=False):
            await it.all_work(Counter())
            it.error, it.pause = error, pause
            await wait(lambda: "token of vault: failed in the background" in it.findings, "the finding")
            await wait(lambda: failures()["token of vault"] > 1, "failures to be counted")
            it.error, it.pause = None, 0.01
            await wait(lambda: "token of vault" not in it.findings, "the finding to go")
            await it.all_work(Counter(it.worked))

    asyncio.run(run())


def test_what_tells_of_a_failure_may_fail_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does without memory."""
    it = Background(monkeypatch)

    def record(*_: object) -> None:
        raise MemoryError

    async def run() -> None:
        async with it.refresher.running(fail_fast=False):
            monkeypatch.setattr(journal, "record", record)
            it.error = ZeroDivisionError()
            await it.all_work(Counter(it.worked))
            it.error = None
            await it.all_work(Counter(it.worked))
            monkeypatch.undo()

    asyncio.run(run())
