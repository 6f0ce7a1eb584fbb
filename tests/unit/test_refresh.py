"""When rounds take place, what they swap in, what a failed one leaves behind. Time is an argument: nothing waits."""

import asyncio
import json
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from app.app_secrets import AppSecrets
from app.backends.protocol import Secret
from app.errors import PathMissing, SecretsIncomplete, VaultSealed, VersionDeleted
from app.logging_config import configure_logging
from app.refresh import FIRST_PAUSE, LONGEST_PAUSE, Keeper, Refresher
from app.secret_store import SecretStore
from tests.support import SECRETS, until

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
) -> tuple[Source, SecretStore, Keeper]:
    """Return a source, the store that it fills, and their keeper."""
    source, store = Source(answer), SecretStore(AppSecrets, sources=["vault"])
    keeper = Keeper("vault", source, store, interval=interval, clock=lambda: source.now, jitter=jitter, **more)
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
    keeper = Keeper("vault", Source(SEALED), SecretStore(AppSecrets, sources=["vault"]), interval=300)
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


def start(keeper: Keeper, store: SecretStore) -> None:
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
        async with Refresher(store, [keeper], upkeep=[tick]).running(fail_fast=True):
            for answer in (SEALED, {**SECRETS, "api_key": "two"}, ZeroDivisionError(), {**SECRETS, "api_key": "three"}):
                source.answer = answer
                await asyncio.to_thread(until, partial(was_taken_in, answer), "the round")
            await asyncio.to_thread(until, lambda: ticks > 1, "the second tick")
        assert len(asyncio.all_tasks()) == 1
        return ticks

    assert asyncio.run(run()) >= 2


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
