"""When rounds take place, what they swap in, what a failed one leaves behind. Time is an argument: nothing waits."""

import asyncio
import concurrent.futures
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from app.core.errors import PathMissing, RoundOverdue, SecretsIncomplete, VaultSealed, VersionDeleted
from app.core.logs.event_log import journal
from app.core.logs.logging_config import configure_logging
from app.core.store import refresh, rounds, source_refresher
from app.core.store.readiness import readiness
from app.core.store.refresh import Refresher
from app.core.store.rotating import Rotating
from app.core.store.secret_store import SecretStore
from app.core.store.source import Secret
from app.core.store.source_refresher import FIRST_PAUSE, LONGEST_PAUSE, OVERDUE, SourceRefresher
from tests.declared import DeclaredForTests
from tests.support import DEADLINE, SECRETS, until

SEALED = VaultSealed("http://vault", "Vault is sealed", "Unseal it.")
HOUR = 3600.0


class Source:
    """Answers what it is told to: a double at our own protocol."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.version = 1
        self.now = 0.0

    def __call__(self) -> list[Secret]:
        """Load."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return [Secret("path", self.answer, self.version)]


def middle(low: float, high: float) -> float:
    """Stand in for the jitter."""
    return (low + high) / 2


def keeper_of(
    answer: Any, interval: float = 300.0, jitter: Callable[[float, float], float] = middle, **more: Any
) -> tuple[Source, SecretStore, SourceRefresher]:
    """Return a source, the store that it fills, and their keeper."""
    source, store = Source(answer), SecretStore(DeclaredForTests, sources=["vault"])
    keeper = SourceRefresher("vault", source, store, interval=interval, clock=lambda: source.now, jitter=jitter, **more)
    return source, store, keeper


def test_the_first_refresh_is_spread_over_an_interval_and_the_next_ones_come_once_an_interval() -> None:
    """With the middle of each range standing in for chance."""
    source, store, keeper = keeper_of(SECRETS)
    keeper.round()
    assert store == SECRETS
    assert keeper.fault is None
    assert keeper.pause() == 150
    for _ in range(3):
        source.now += 150 if source.now == 0 else 300
        keeper.round()
        assert keeper.pause() == 300


def test_after_an_outage_the_old_beat_goes_on() -> None:
    """Instances that lost Vault together do not refresh together from then on."""
    source, _, keeper = keeper_of(SECRETS)
    keeper.round()
    assert keeper.pause() == 150
    source.now, source.answer = 150, SEALED
    keeper.round()
    assert (keeper.pause() or 0) < 1
    source.now, source.answer = 1000, SECRETS
    keeper.round()
    assert source.now + (keeper.pause() or 0) == 150 + 3 * 300


def test_a_fleet_that_starts_together_does_not_march_in_step() -> None:
    """First over a whole interval, then within a tenth around it."""
    firsts, seconds = [], []
    for _ in range(300):
        source, _, keeper = keeper_of(SECRETS, jitter=random.uniform)
        keeper.round()
        firsts.append(keeper.pause() or 0)
        source.now += firsts[-1]
        seconds.append(keeper.pause() or 0)
    assert min(firsts) < 30
    assert max(firsts) > 270
    assert 270 <= min(seconds) < 280
    assert 320 < max(seconds) <= 330


def test_an_interval_of_zero_ends_the_rounds_once_everything_is_there() -> None:
    """But not before."""
    source, _, keeper = keeper_of(SEALED, interval=0)
    keeper.round()
    assert keeper.pause()
    source.answer = SECRETS
    keeper.round()
    assert keeper.pause() is None


def test_the_pauses_grow_up_to_a_bound_and_start_anew_after_success() -> None:
    """A Vault that comes back is not overrun, and is noticed soon."""
    source, _, keeper = keeper_of(SEALED, jitter=lambda _low, high: high)
    pauses = []
    for _ in range(12):
        keeper.round()
        pauses.append(keeper.pause())
    assert pauses[:4] == [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4, FIRST_PAUSE * 8]
    assert pauses[-1] == LONGEST_PAUSE
    source.answer = {}
    keeper.round()
    source.answer = SEALED
    keeper.round()
    assert keeper.pause() == FIRST_PAUSE


def test_a_failing_source_is_asked_at_least_once_an_interval() -> None:
    """So that all is fresh within one interval after an outage."""
    _, _, keeper = keeper_of(SEALED, interval=5, jitter=lambda _low, high: high)
    for _ in range(12):
        keeper.round()
    assert keeper.pause() == 5


def test_pauses_are_spread_by_jitter() -> None:
    """A fleet that lost Vault together does not come back in step."""
    keeper = SourceRefresher("vault", Source(SEALED), SecretStore(DeclaredForTests, sources=["vault"]), interval=300)
    keeper.round()
    pauses = {keeper.pause() for _ in range(50)}
    assert len(pauses) > 40
    assert all(pause and FIRST_PAUSE / 2 <= pause <= FIRST_PAUSE for pause in pauses)


@pytest.mark.parametrize(
    "failure",
    [
        SEALED,
        VersionDeleted("secret/path", "version 2 was deleted", "Undelete it."),
        PathMissing("secret/path", "there is no secret", "Write it."),
        {"api_key": "only this is left"},
        {**SECRETS, "jwt_secret": "too short"},
        {**SECRETS, "api_key": 12},
        ZeroDivisionError(),
    ],
    ids=str,
)
def test_a_failed_or_broken_round_keeps_what_is_held_until_vault_is_mended(failure: Any) -> None:
    """An outage, a deleted path, a missing key, a malformed value, a wrong type, a bug of ours: nothing is lost."""
    source, store, keeper = keeper_of(SECRETS)
    keeper.round()
    source.answer, source.version = failure, 2
    assert keeper.round() == ()
    assert store == SECRETS
    assert not store.problems
    assert keeper.fault is not None
    assert (keeper.pause() or 0) < 1, "tried again soon"

    source.answer, source.version = {**SECRETS, "api_key": "new-key"}, 3
    (change,) = keeper.round()
    assert change.keys == ("api_key",)
    assert (change.old_version, change.new_version) == (1, 3)
    assert store["api_key"] == "new-key"
    assert keeper.fault is None


def test_incomplete_secrets_are_asked_for_again() -> None:
    """Somebody may add what is missing."""
    source, store, keeper = keeper_of({"api_key": "key"})
    keeper.round()
    assert LONGEST_PAUSE / 2 <= (keeper.pause() or 0) <= LONGEST_PAUSE
    source.answer = SECRETS
    keeper.round()
    assert store == SECRETS


def test_the_age_is_known_and_bounded() -> None:
    """Counted from the last time that Vault confirmed what is held."""
    source, _, keeper = keeper_of(SECRETS, max_staleness=HOUR)
    assert keeper.age is None
    assert not keeper.is_stale
    keeper.round()
    source.answer = SEALED
    source.now = HOUR
    keeper.round()
    assert keeper.age == HOUR
    assert not keeper.is_stale
    source.now += 1
    assert keeper.is_stale
    source.answer = SECRETS
    keeper.round()
    assert keeper.age == 0
    assert not keeper.is_stale


def test_the_next_round_is_known() -> None:
    """On the beat, sooner after a failure; none before the first pause, and none where nothing is refreshed."""
    source, _, keeper = keeper_of(SECRETS)
    assert keeper.next_round is None
    keeper.round()
    pause = keeper.pause()
    assert keeper.next_round == pause == 150
    source.now += 200
    assert keeper.next_round == 0, "it is under way"
    source.answer = SEALED
    keeper.round()
    pause = keeper.pause()
    assert keeper.next_round == pause
    assert keeper.failures == 1
    _, _, once = keeper_of(SECRETS, interval=0)
    once.round()
    once.pause()
    assert once.next_round is None


def test_when_a_key_rotated_is_remembered() -> None:
    """Of each key by itself; the first load is no rotation."""
    source, _, keeper = keeper_of(SECRETS)
    keeper.round()
    assert not keeper.rotated
    source.answer, source.version = {**SECRETS, "api_key": "other"}, 2
    keeper.round()
    assert set(keeper.rotated) == {("path", "api_key")}
    assert keeper.rotated["path", "api_key"] == pytest.approx(time.time(), abs=5)


@pytest.mark.parametrize("bounds", [{"interval": 0.0, "max_staleness": HOUR}, {"interval": 300.0}], ids=str)
def test_without_a_refresh_or_a_bound_nothing_grows_stale(bounds: dict[str, Any]) -> None:
    """Zero means: no such thing."""
    source, _, keeper = keeper_of(SECRETS, **bounds)
    keeper.round()
    source.now = 1000 * HOUR
    assert not keeper.is_stale


def test_a_rotation_is_logged_with_versions_and_names_but_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    """And a round that changed nothing only at DEBUG."""
    configure_logging("INFO", "json")
    source, _, keeper = keeper_of(SECRETS)
    keeper.round()
    keeper.round()
    changed = {**SECRETS, "api_key": "canary-two", "extra": "canary"}
    del changed["database_url"]
    source.answer, source.version = {**changed, "database_url": SECRETS["database_url"]}, 2
    keeper.round()
    source.answer = {**SECRETS, "jwt_secret": "canary"}
    keeper.round()
    written = capsys.readouterr().err
    lines = [json.loads(line) for line in written.splitlines()]
    assert [line["event"] for line in lines] == [
        "vault_secrets_loaded",
        "vault_secrets_rotated",
        "vault_secrets_refused",
    ]
    assert lines[1]["keys"] == ["api_key", "extra"]
    assert (lines[1]["path"], lines[1]["old"], lines[1]["new"]) == ("path", 1, 2)
    assert "jwt_secret" in lines[2]["reason"]
    assert "canary" not in written


def start(keeper: SourceRefresher, store: SecretStore) -> None:
    """Start with `fail_fast`."""

    async def run() -> None:
        async with Refresher(store, [keeper]).running(fail_fast=True):
            pytest.fail("started")

    asyncio.run(run())


def test_fail_fast_raises_the_cause_rather_than_the_gap() -> None:
    """That Vault is sealed helps; that `api_key` is missing would mislead."""
    _, store, keeper = keeper_of(SEALED)
    with pytest.raises(VaultSealed):
        start(keeper, store)


def test_fail_fast_lists_all_missing_secrets() -> None:
    """One message, all names."""
    _, store, keeper = keeper_of({})
    with pytest.raises(SecretsIncomplete) as caught:
        start(keeper, store)
    assert all(name in str(caught.value) for name in SECRETS)


def test_the_rounds_and_the_upkeep_go_on_until_the_end_whatever_happens() -> None:
    """A tick that raises is called again, and nothing runs on after the block."""
    source, store, keeper = keeper_of(SECRETS, interval=0.01)
    ticks = 0

    def tick() -> float:
        nonlocal ticks
        ticks += 1
        return 0.01

    def was_taken_in(answer: Any) -> bool:
        return keeper.fault is not None if isinstance(answer, Exception) else store["api_key"] == answer["api_key"]

    async def run() -> int:
        async with Refresher(store, [keeper], periodic={"tick": tick}).running(fail_fast=True):
            for answer in (SEALED, {**SECRETS, "api_key": "two"}, ZeroDivisionError(), {**SECRETS, "api_key": "three"}):
                source.answer = answer
                await asyncio.to_thread(until, partial(was_taken_in, answer), "the round")
            await asyncio.to_thread(until, lambda: ticks > 1, "the second tick")
        assert len(asyncio.all_tasks()) == 1
        return ticks

    assert asyncio.run(run()) >= 2


class NoThreads:
    """Keeps threads from being started while `denied`, as a limit on processes or memory does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.denied = False
        start = threading.Thread.start

        def start_if_allowed(thread: threading.Thread) -> None:
            if self.denied and not thread.name.startswith("asyncio_"):  # those that the test itself waits in
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_if_allowed)


def test_without_threads_for_a_while_every_background_task_goes_on_afterwards(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lack is a fault of the source, is logged and counted, and the next round comes."""
    configure_logging(form="json")
    monkeypatch.setattr(rounds, "AFTER_A_BUG", 0.01)
    threads = NoThreads(monkeypatch)
    source, store, keeper = keeper_of(SECRETS, interval=0.01)
    ticks = 0

    def tick() -> float:
        nonlocal ticks
        ticks += 1
        return 0.01

    async def wait(condition: Callable[[], object], what: str) -> None:
        await asyncio.to_thread(until, condition, what)

    async def run() -> None:
        refresher = Refresher(store, [keeper], periodic={"token of vault": tick})
        async with refresher.running(fail_fast=True):
            await wait(lambda: ticks > 1, "the second tick")
            threads.denied = True
            await wait(lambda: keeper.failures > 1, "failed rounds")
            await wait(lambda: count("upkeep", "token of vault") > 1, "failed ticks")
            assert "RuntimeError" in str(keeper.fault)
            tick_failed = "token of vault: failed in the background (RuntimeError), and is tried again"
            assert readiness(refresher).findings == (str(keeper.fault), tick_failed)
            assert await refresher.refresh() == {"vault": ()}  # not an error of its own
            threads.denied, source.answer, before = False, {**SECRETS, "api_key": "new"}, ticks
            await wait(lambda: store["api_key"] == "new", "the rotation")
            await wait(lambda: ticks > before, "the next tick")
            assert keeper.fault is None
            await wait(lambda: not readiness(refresher).findings, "readiness without findings")

    def count(kind: str, name: str) -> int:
        return sum(each.kind == kind and each.source == name for each in journal.events())

    asyncio.run(run())
    assert count("load", "vault") > 1
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {"vault_secrets_load_failed", "background_task_failed"} <= {line["event"] for line in logged}


def test_a_start_without_threads_is_a_fault_of_the_source_and_heals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a traceback, or a service that never asks again."""
    threads = NoThreads(monkeypatch)
    threads.denied = True
    _, store, keeper = keeper_of(SECRETS, interval=0.01)

    async def run() -> None:
        async with Refresher(store, [keeper]).running(fail_fast=False):
            assert "RuntimeError" in str(keeper.fault)
            threads.denied = False
            await asyncio.to_thread(until, lambda: store == SECRETS, "the secrets")

    asyncio.run(run())


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError(),
        MemoryError(),
        StopIteration(),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        BaseException(),
        BaseExceptionGroup("several", [SystemExit(3)]),
        asyncio.CancelledError(),
        concurrent.futures.CancelledError(),
        TimeoutError(),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
)
def test_no_exception_ends_a_background_task(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Whatever is raised while reading, in the upkeep, or in building an object: the next time comes."""
    monkeypatch.setattr(rounds, "AFTER_A_BUG", 0.01)
    source, store, keeper = keeper_of(SECRETS, interval=0.01)
    raised: Counter[str] = Counter()

    def fails(where: str, times: int) -> None:
        if raised[where] < times:
            raised[where] += 1
            raise error

    def load() -> list[Secret]:
        fails("load", 2)
        return source()

    def tick() -> float:
        fails("tick", 2)
        raised["good tick"] += 1
        return 0.01

    async def build(secrets: Mapping[str, Any], _old: object) -> str:
        fails("build", 1)
        return str(secrets["api_key"])

    rotating = Rotating("object", ("api_key",), build)
    keeper = SourceRefresher("vault", load, store, interval=0.01)

    def all_went_on() -> bool:
        return store == SECRETS and raised["good tick"] > 0 and rotating.is_built

    async def run() -> None:
        async with Refresher(store, [keeper], {"object": rotating}, {"tick": tick}).running(fail_fast=False):
            await asyncio.to_thread(until, all_went_on, "each to succeed")
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
    assert raised["load"] == raised["tick"] == 2
    failed = {(each.kind, each.source) for each in journal.events() if each.outcome == "failed"}
    assert failed == {("load", "vault"), ("upkeep", "tick"), ("rebuilt", "object")}


class Hanging:
    """A service's background in which one thing hangs until it is released."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.is_hanging = False
        self.released = threading.Event()
        self.closed: list[str] = []
        self.source, store, _ = keeper_of(SECRETS)
        rotating: dict[str, Rotating[Any]] = {
            "it": Rotating("it", ("api_key",), self.build, close=self.close, limit=DEADLINE),
            "other": Rotating("other", ("api_key",), self.build_the_other, close=self.close_the_other),
        }
        keepers = [SourceRefresher("vault", self.load, store, interval=0.01)]
        self.refresher = Refresher(store, keepers, rotating, {"tick": self.tick})

    async def hang(self, what: str) -> None:
        while what == self.what and not self.released.is_set():  # and take a cancellation for somebody else's
            self.is_hanging = True
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    def block(self, what: str) -> None:
        if what == self.what:
            self.is_hanging = True
            self.released.wait(DEADLINE)

    def load(self) -> list[Secret]:
        if self.source.version > 2:
            self.block("read")
        return self.source()

    async def build(self, _secrets: Mapping[str, Any], old: object) -> str:
        if old is not None:
            await self.hang("build")
        return "it"

    async def close(self, _value: str) -> None:
        await self.hang("close")

    async def use(self) -> None:
        async with self.refresher.rotating["it"].borrow():
            await self.hang("user")

    async def build_the_other(self, _secrets: Mapping[str, Any], _old: object) -> str:
        return "the other"

    async def close_the_other(self, value: str) -> None:
        self.closed.append(value)

    def at_end(self) -> None:
        self.closed.append("sessions")
        self.block("at the end")

    def tick(self) -> float:
        self.block("upkeep")
        return 0.01


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("close", {"it"}),
        ("build", {"it", "rounds of vault"}),
        ("at the end", {"sessions"}),
        ("user", {"it"}),
        ("read", set()),
        ("upkeep", set()),
    ],
)
def test_whatever_hangs_the_end_comes_and_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str, named: set[str]
) -> None:
    """All is closed side by side: what hangs keeps nothing else from being closed. Threads are left without a wait."""
    configure_logging(form="json")
    monkeypatch.setattr(refresh, "CLOSING", 0.3)
    it = Hanging(what)

    async def run() -> None:
        async with it.refresher.running(fail_fast=True, at_end=it.at_end):
            it.source.answer, it.source.version = {**SECRETS, "api_key": "two"}, 2
            await asyncio.to_thread(until, lambda: it.refresher.store["api_key"] == "two", "the rotation")
            it.source.version = 3
            user = asyncio.create_task(it.use())
            if what not in {"close", "at the end"}:
                await asyncio.to_thread(until, lambda: it.is_hanging, "the hanging")
            start = time.monotonic()
        assert time.monotonic() - start < DEADLINE
        it.released.set()
        await user

    asyncio.run(run())
    assert {"sessions", "the other"} <= {*it.closed}
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    given_up = {line["of"] for line in told if line["event"] == "closing_given_up"}
    assert {of for of in given_up if not of.startswith("background task ")} == named


def test_without_threads_the_end_closes_what_it_can_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the event loop's own thread, which has nothing else to do any more."""
    threads, closed = NoThreads(monkeypatch), []
    _, store, keeper = keeper_of(SECRETS)

    async def run() -> None:
        async with Refresher(store, [keeper]).running(fail_fast=True, at_end=lambda: closed.append("sessions")):
            threads.denied = True

    asyncio.run(run())
    assert closed == ["sessions"]


def test_a_service_that_has_ended_can_be_started_again() -> None:
    """In another event loop, as tests do and a server that reloads."""
    _, store, keeper = keeper_of(SECRETS)
    refresher = Refresher(store, [keeper])

    async def run() -> None:
        async with refresher.running(fail_fast=True):
            pass

    for _ in range(2):
        asyncio.run(run())
    assert store == SECRETS


def test_a_round_that_does_not_end_is_a_fault_that_people_see(capsys: pytest.CaptureFixture[str]) -> None:
    """In readiness and the log, once; and no longer when it has ended."""
    configure_logging(form="json")
    began, released, now = threading.Event(), threading.Event(), 0.0
    released.set()

    def load() -> list[Secret]:
        began.set()
        released.wait(DEADLINE)
        return [Secret("path", SECRETS, 1)]

    store = SecretStore(DeclaredForTests, sources=["vault"])
    keeper = SourceRefresher("vault", load, store, interval=300, clock=lambda: now)
    refresher = Refresher(store, [keeper])
    keeper.round()
    began.clear()
    released.clear()
    thread = threading.Thread(target=keeper.round)
    thread.start()
    assert began.wait(DEADLINE)
    now += OVERDUE
    keeper.tell_if_overdue()
    assert keeper.fault is None
    now += 12
    for _ in range(3):
        keeper.tell_if_overdue()
    assert isinstance(keeper.fault, RoundOverdue)
    assert keeper.is_overdue
    ready = readiness(refresher)
    assert ready.is_ready
    assert ready.findings == (str(keeper.fault),)
    assert "vault: a round has not ended for 42 s" in str(keeper.fault)
    released.set()
    thread.join()
    assert readiness(refresher).findings == ()
    logged = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert logged.count("vault_secrets_overdue") == 1


def test_a_round_that_does_not_begin_is_a_fault_that_people_see() -> None:
    """Whatever has become of the task that should carry it out; one that somebody asks for is as good."""
    source, _, keeper = keeper_of(SECRETS)
    keeper.round()
    assert keeper.pause() == 150
    source.now = 150 + OVERDUE
    assert keeper.fault is None
    source.now += 1
    assert "a round that is due has not begun for 31 s" in str(keeper.fault)
    keeper.round()
    assert keeper.fault is None


def test_the_first_round_is_overdue_like_any_other() -> None:
    """And a source that has none to come is not."""
    source, _, keeper = keeper_of(SECRETS, interval=0)
    source.now = 1e6
    assert keeper.fault is None
    keeper.round()
    assert keeper.pause() is None
    source.now = 2e6
    assert keeper.fault is None


@pytest.mark.parametrize("fail_fast", [False, True])
def test_the_start_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, *, fail_fast: bool) -> None:
    """It goes on without a source that hangs, or ends with what is known."""
    monkeypatch.setattr(refresh, "FIRST_ROUND", 0.2)
    monkeypatch.setattr(source_refresher, "OVERDUE", 0.1)
    released = threading.Event()
    store = SecretStore(DeclaredForTests, sources=["vault"])
    keeper = SourceRefresher("vault", lambda: released.wait(DEADLINE) and [], store, interval=300)

    async def run() -> None:
        async with Refresher(store, [keeper]).running(fail_fast=fail_fast):
            assert "a round has not ended" in str(keeper.fault)
            released.set()
        released.set()

    if fail_fast:
        with pytest.raises(RoundOverdue):
            asyncio.run(run())
    else:
        asyncio.run(run())
    released.set()


@pytest.mark.parametrize("is_good", [True, False])
def test_what_a_failed_load_brought_all_the_same_is_taken_in_if_it_is_as_declared(*, is_good: bool) -> None:
    """New credentials, say, while a path cannot be read; the round has failed all the same."""
    store = SecretStore(DeclaredForTests, sources=["vault"])
    store.publish("vault", [Secret("app", SECRETS)])
    renewed = {**SECRETS, "api_key": "another-key"} if is_good else {**SECRETS, "jwt_secret": "short"}
    error = VaultSealed("http://vault", "Vault is sealed", "Unseal it.")
    error.usable = [Secret("app", renewed)]

    def load() -> list[Secret]:
        raise error

    keeper = SourceRefresher("vault", load, store, interval=300)
    assert keeper.round() == ()
    assert keeper.fault is error
    assert store.snapshot()["api_key"] == ("another-key" if is_good else SECRETS["api_key"])
    assert store.snapshot()["jwt_secret"] == SECRETS["jwt_secret"]
