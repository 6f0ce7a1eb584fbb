"""The life of a token, day after day. Time is an argument: forty days take milliseconds."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from app.core.errors import BackendError, LoginRefused, VaultSealed, VaultUnreachable
from app.core.settings.vault import VaultSettings
from app.core.vault.auth_methods import Auth
from app.core.vault.login import Login
from app.core.vault.token_life import TokenKeeper

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


class SimulatedVault:
    """Tokens with a TTL and a max TTL, as a real server gives them; faults and time on demand."""

    def __init__(self, *, ttl: float = 20 * MINUTE, max_ttl: float = HOUR, **auth: Any) -> None:
        self.name = "vault"
        self.now = 0.0
        self.ttl, self.max_ttl, self.auth = ttl, max_ttl, {"renewable": True, "obtained": True, **auth}
        self.fault: BackendError | None = None
        self.renewal_fault: BackendError | None = None
        self.logins: list[float] = []
        self.renewals: list[float] = []
        self._login: Login | None = None
        self._born = self._dies = 0.0

    def itself(self) -> "SimulatedVault":
        """Return the one Vault there is."""
        return self

    def clock(self) -> float:
        return self.now

    def current(self) -> Login | None:
        return self._login

    def learn(self, login: Login) -> None:
        self._raise(self.fault)
        login.auth = Auth("t", self._dies - self.now, self.auth["renewable"])
        login.since = self.now

    def renew(self, login: Login) -> float:
        self._raise(self.fault)
        self._raise(self.renewal_fault)
        if not self.alive:
            raise BackendError("renew-self", "HTTP 500", "")
        assert login is self._login
        self.renewals.append(self.now)
        granted = min(self.ttl, self._born + self.max_ttl - self.now)
        self._dies, login.since = self.now + granted, self.now
        return granted

    def replace(self, login: Login | None) -> None:
        self._raise(self.fault)
        assert login is self._login
        self.logins.append(self.now)
        self._born, self._dies = self.now, self.now + self.ttl
        self._login = Login(VaultSettings(), Auth("t", self.ttl, **self.auth), self.now, None, None)  # type: ignore[arg-type]

    @property
    def alive(self) -> bool:
        """Whether a read would succeed now."""
        return self.now < self._dies

    def _raise(self, fault: BackendError | None) -> None:
        if fault is not None:
            raise fault

    def run(self, keeper: TokenKeeper, until: float, during: Callable[[], None] = lambda: None) -> None:
        """Let the keeper do its work up to a point in time; the token must be alive at every step."""
        while self.now < until:
            during()
            pause = keeper.tick()
            assert pause > 0
            assert self.alive, f"dead after {self.now} s"
            self.now = min(self.now + pause, until)


def started(**options: Any) -> tuple[SimulatedVault, TokenKeeper]:
    """Return a simulated Vault with one login, and a keeper without jitter."""
    vault = SimulatedVault(**options)
    vault.replace(None)
    return vault, TokenKeeper(lambda: vault, jitter=lambda low, high: (low + high) / 2)


def test_a_token_is_renewed_at_about_two_thirds_of_its_life() -> None:
    """Once for each TTL, not oftener."""
    vault, keeper = started(max_ttl=100 * DAY)
    vault.run(keeper, HOUR)
    assert vault.renewals == [pytest.approx(13 * MINUTE * n) for n in (1, 2, 3, 4)]
    assert len(vault.logins) == 1


def test_forty_days_of_renewals_and_max_ttl_without_a_dead_moment() -> None:
    """With a max TTL of 32 days, day 33 needs one more login, and no more."""
    vault, keeper = started(ttl=DAY, max_ttl=32 * DAY)
    vault.run(keeper, 40 * DAY)
    assert len(vault.logins) == 2
    assert 31 * DAY < vault.logins[1] < 32 * DAY
    assert 50 < len(vault.renewals) < 70


def test_renewing_is_given_up_when_it_no_longer_helps() -> None:
    """Near the max TTL renewals would come faster and faster: a login instead, once an hour."""
    vault, keeper = started(ttl=20 * MINUTE, max_ttl=HOUR)
    vault.run(keeper, DAY)
    assert 24 <= len(vault.logins) <= 32
    assert len(vault.renewals) < 5 * 24


@pytest.mark.parametrize("kind", [{"renewable": False}, {"renewable": False, "token_type": "batch"}], ids=str)
def test_a_token_that_cannot_be_renewed_is_replaced_in_time(kind: dict[str, Any]) -> None:
    """At the time when another would be renewed."""
    vault, keeper = started(**kind)
    vault.run(keeper, HOUR)
    assert len(vault.logins) == 1 + 4
    assert not vault.renewals


def test_a_token_that_does_not_expire_is_left_alone() -> None:
    """A root token needs no upkeep."""
    vault, keeper = started(ttl=0.0)
    vault._dies = 1e12  # noqa: SLF001
    vault.run(keeper, DAY)
    assert (len(vault.logins), vault.renewals) == (1, [])


def test_any_refusal_to_renew_leads_to_a_login() -> None:
    """A 500 past the max TTL, a 403 after a revocation: the remedy is the same."""
    vault, keeper = started(max_ttl=100 * DAY)
    vault.renewal_fault = BackendError("renew-self", "HTTP 500", "")
    vault.run(keeper, HOUR)
    assert len(vault.logins) == 1 + 4


def test_during_an_outage_the_token_is_kept_and_tried_again_with_growing_pauses() -> None:
    """An outage of minutes costs nothing: no login, and one renewal once it is over."""
    vault, keeper = started(max_ttl=100 * DAY)

    ticks: list[float] = []

    def outage() -> None:
        ticks.append(vault.now)
        vault.fault = VaultUnreachable("x", "x", "x") if 12 * MINUTE < vault.now < 18 * MINUTE else None

    vault.run(keeper, 19 * MINUTE, outage)
    assert len(vault.logins) == 1
    assert len(vault.renewals) == 1
    pauses = [later - earlier for earlier, later in pairwise(ticks) if earlier > 13 * MINUTE]
    assert pauses[:3] == sorted(pauses[:3])
    assert max(pauses) <= MINUTE


def test_a_sealed_vault_is_asked_again_until_it_is_unsealed() -> None:
    """Renewal and login both fail; the token is kept."""
    vault, keeper = started(max_ttl=100 * DAY)

    def seal() -> None:
        vault.fault = VaultSealed("x", "x", "x") if 12 * MINUTE < vault.now < 15 * MINUTE else None

    vault.run(keeper, HOUR, seal)
    assert len(vault.logins) == 1


def test_a_token_that_was_handed_in_is_looked_up_once_and_renewed() -> None:
    """Nobody has said how long it lives."""
    vault, keeper = started(ttl=HOUR, max_ttl=100 * DAY)
    login = vault.current()
    assert login is not None
    login.auth = Auth("t")
    vault.run(keeper, 3 * HOUR)
    assert len(vault.logins) == 1
    assert len(vault.renewals) == 4


def test_refused_credentials_are_not_tried_over_and_over() -> None:
    """Asking more often does not make them better."""
    vault, keeper = started(ttl=10 * DAY, renewable=False)
    vault.now = 8 * DAY
    vault.fault = LoginRefused("x", "x", "x")
    assert keeper.tick() == 60.0


def test_there_is_nothing_to_do_before_the_first_login() -> None:
    """The keeper waits for it."""
    vault = SimulatedVault()
    assert 0 < TokenKeeper(lambda: vault).tick() <= 60
    assert not vault.logins


def test_a_fleet_that_started_together_does_not_renew_together() -> None:
    """The renewals of a thousand instances spread over a tenth of the TTL."""
    times = []
    for _ in range(1000):
        vault = SimulatedVault(max_ttl=100 * DAY)
        vault.replace(None)
        vault.run(TokenKeeper(partial(SimulatedVault.itself, vault)), 15 * MINUTE)
        times.append(vault.renewals[0])
    assert 12 * MINUTE <= min(times) < 12.1 * MINUTE
    assert 13.9 * MINUTE < max(times) <= 14 * MINUTE
