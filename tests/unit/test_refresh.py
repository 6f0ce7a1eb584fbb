"""When rounds take place, and what a failed one leaves behind. Time is an argument: nothing here waits."""

import asyncio
from typing import Any

import pytest

from app.app_secrets import AppSecrets
from app.backends.protocol import Secret
from app.errors import SecretsIncomplete, VaultSealed
from app.refresh import FIRST_PAUSE, LONGEST_PAUSE, Keeper, kept_fresh
from app.secret_store import SecretStore
from tests.support import SECRETS

SEALED = VaultSealed("http://vault", "Vault is sealed", "Unseal it.")


class Source:
    """Answers what it is told to: a double at our own protocol."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __call__(self) -> list[Secret]:
        """Load."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return [Secret("path", self.answer, 1)]


def keeper_of(answer: Any) -> tuple[Source, SecretStore, Keeper]:
    """Return a source, the store that it fills, and their keeper without jitter."""
    source, store = Source(answer), SecretStore(AppSecrets, sources=["vault"])
    return source, store, Keeper("vault", source, store, jitter=lambda _low, high: high)


def test_one_good_round_is_enough() -> None:
    """Nothing more to do once all declared secrets are there."""
    _, store, keeper = keeper_of(SECRETS)
    keeper.round()
    assert store == SECRETS
    assert keeper.fault is None
    assert keeper.pause() is None


def test_the_pauses_grow_up_to_a_bound_and_start_anew_after_success() -> None:
    """A Vault that comes back is not overrun, and is noticed soon."""
    source, _, keeper = keeper_of(SEALED)
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


def test_pauses_are_spread_by_jitter() -> None:
    """A fleet that lost Vault together does not come back in step."""
    keeper = Keeper("vault", Source(SEALED), SecretStore(AppSecrets, sources=["vault"]))
    keeper.round()
    pauses = {keeper.pause() for _ in range(50)}
    assert len(pauses) > 40
    assert all(pause and FIRST_PAUSE / 2 <= pause <= FIRST_PAUSE for pause in pauses)


def test_a_failed_round_keeps_what_is_held_and_remembers_why() -> None:
    """Serve stale, visibly."""
    source, store, keeper = keeper_of(SECRETS)
    keeper.round()
    source.answer = SEALED
    keeper.round()
    assert store == SECRETS
    assert keeper.fault is SEALED


def test_incomplete_secrets_are_asked_for_again() -> None:
    """Somebody may add what is missing."""
    source, store, keeper = keeper_of({"api_key": "key"})
    keeper.round()
    assert keeper.pause() == LONGEST_PAUSE
    source.answer = SECRETS
    keeper.round()
    assert store == SECRETS
    assert keeper.pause() is None


def test_fail_fast_raises_the_cause_rather_than_the_gap() -> None:
    """That Vault is sealed helps; that `api_key` is missing would mislead."""
    _, store, keeper = keeper_of(SEALED)

    async def start() -> None:
        async with kept_fresh(store, [keeper], fail_fast=True):
            pytest.fail("started")

    with pytest.raises(VaultSealed):
        asyncio.run(start())


def test_fail_fast_lists_all_missing_secrets() -> None:
    """One message, all names."""
    _, store, keeper = keeper_of({})

    async def start() -> None:
        async with kept_fresh(store, [keeper], fail_fast=True):
            pytest.fail("started")

    with pytest.raises(SecretsIncomplete) as caught:
        asyncio.run(start())
    assert all(name in str(caught.value) for name in SECRETS)
