"""A thousand instances that have credentials issued, and the Vault that issues them; time is an argument.

Each has a session, a source, a keeper of its token, of its leases and of its rounds of its own, all as in the service;
only Vault is simulated: tokens and leases with a TTL and a max TTL, of which a lease dies with its token.
"""

import heapq
import itertools
import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.core.errors import BadRequest, VaultUnreachable
from app.core.logs.logging_config import configure_logging
from app.core.settings.vault import VaultSettings
from app.core.store.source_refresher import SourceRefresher
from app.core.vault import dynamic, leases, token_life
from app.core.vault.auth_methods import Auth
from app.core.vault.dynamic import DynamicCredentials
from app.core.vault.login import Login
from app.core.vault.session import VaultSession
from app.core.vault.source import INSTEAD_OF_TOKENS, VaultSource
from app.core.vault.token_life import TokenKeeper

INSTANCES, HOUR, BIN = 1000, 3600.0, 600.0
TTL, DAY = HOUR, 24 * HOUR
DOWN, UP = 12 * HOUR, 12 * HOUR + 300.0  # Vault's restart
SETTINGS = VaultSettings.model_validate(
    {
        "auth_method": "approle",
        "role_id": "fleet",
        "secret_id": "fleet",
        "dynamic": {"db": "database/creds/shop"},
        "secret_path": (),
    }
)


@dataclass(eq=False)
class Mortal:
    """A token or a lease, as Vault has it."""

    born: float
    max_ttl: float
    end: float
    leases: dict[str, "Mortal"] = field(default_factory=dict)  # of a token
    is_revoked: bool = False

    def prolonged(self, now: float) -> float:
        """Grant a TTL, as far as the max TTL allows."""
        self.end = min(now + TTL, self.born + self.max_ttl)
        return self.end - now


class SimulatedVault:
    """Time, what was issued and when, and who is good for how long."""

    def __init__(self, *, max_ttl: float, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.max_ttl = max_ttl  # of a lease
        self.issues: list[float] = []
        self.logins: list[float] = []
        self.calls = Counter[int]()  # by second
        self.tokens: set[Mortal] = set()
        self.number = itertools.count()

    def call(self) -> None:
        """Take a call, unless Vault is being restarted."""
        if DOWN <= self.now < UP:
            raise VaultUnreachable("vault", "down", "")
        self.calls[int(self.now)] += 1

    def new(self, max_ttl: float) -> Mortal:
        """Make a token or a lease."""
        made = Mortal(self.now, max_ttl, 0.0)
        made.prolonged(self.now)
        return made

    def alive(self) -> int:
        """Count the users that the database has."""
        self.tokens = {token for token in self.tokens if not token.is_revoked and token.end > self.now}
        return sum(lease.end > self.now for token in self.tokens for lease in token.leases.values())


class Client:
    """What is asked of Vault over one login."""

    def __init__(self, vault: SimulatedVault) -> None:
        vault.call()
        vault.logins.append(vault.now)
        self.vault, self.mortal = vault, vault.new(DAY)
        vault.tokens.add(self.mortal)
        self.adapter = self.auth = self.token = self  # as hvac names them

    def get(self, path: str, **_: Any) -> dict[str, Any]:
        """Issue."""
        self._check()
        self.vault.issues.append(self.vault.now)
        lease = self.vault.new(self.vault.max_ttl)
        number = f"{path.removeprefix('/v1/')}/{next(self.vault.number)}"
        self.mortal.leases[number] = lease
        data = {"username": number, "password": "p"}
        return {"lease_id": number, "lease_duration": TTL, "renewable": True, "data": data}

    def post(self, path: str, **_more: Any) -> dict[str, Any]:
        """Renew or revoke a lease."""
        self._check()
        what, _, number = path.removeprefix("/v1/sys/leases/").partition("/")
        if what == "revoke":
            self.mortal.leases.pop(number, None)
            return {}
        lease = self.mortal.leases.get(number)
        if lease is None or lease.end <= self.vault.now:
            raise BadRequest(path, "lease not found", "")
        return {"lease_duration": lease.prolonged(self.vault.now), "renewable": True}

    def renew_self(self) -> dict[str, Any]:
        """Renew the token."""
        self._check()
        granted = self.mortal.prolonged(self.vault.now)
        return {"auth": {"client_token": "t", "lease_duration": granted, "renewable": True}}

    def revoke_self(self) -> None:
        """Revoke the token, and its leases with it."""
        self._check()
        self.mortal.is_revoked = True

    def close(self) -> None:
        """Close the connections."""

    def _check(self) -> None:
        self.vault.call()
        assert not self.mortal.is_revoked, "nobody uses a token that was given back"
        assert self.vault.now < self.mortal.end, "no token dies in use"


class Session(VaultSession):
    """A session that logs in to the simulated Vault."""

    def __init__(self, vault: SimulatedVault) -> None:
        self.vault = vault
        super().__init__(SETTINGS, clock=lambda: vault.now)

    def _log_in(self, _instead_of: Login | None) -> Login:
        client: Any = Client(self.vault)
        return Login(SETTINGS, Auth("t", TTL, renewable=True, obtained=True), self.vault.now, client, client)


class Target:
    """What takes the credentials in."""

    problems: dict[str, str] = {}  # noqa: RUF012 - never changed

    def publish(self, _source: str, _loaded: Any) -> tuple[()]:
        return ()

    def describe(self) -> dict[str, Any]:
        return {}


class Fleet:
    """All instances, and what happens next."""

    def __init__(self, vault: SimulatedVault) -> None:
        self.vault = vault
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], float | None]]] = []
        self.alive: list[int] = []  # at the end of each bin
        for _ in range(INSTANCES):
            self._start(vault.random.uniform(0, 1))

    def run(self) -> None:
        """Let a day pass, from one event to the next."""
        ends = BIN
        while self._events and self._events[0][0] < DAY:
            at, _, act = heapq.heappop(self._events)
            while at >= ends:
                self.vault.now = ends
                self.alive.append(self.vault.alive())
                ends += BIN
            self.vault.now = at
            if (pause := act()) is not None:
                self._plan(at + pause, act)

    def _plan(self, at: float, act: Callable[[], float | None]) -> None:
        heapq.heappush(self._events, (at, next(self._order), act))

    def _start(self, at: float) -> None:
        vault = self.vault
        session, jitter = Session(vault), vault.random.uniform
        source = VaultSource(SETTINGS, session=session)
        session.credentials = DynamicCredentials(session, jitter, lambda: vault.now)
        keeper = SourceRefresher(
            "vault",
            source.load,
            Target(),
            interval=HOUR,
            upstream=source,
            drained=lambda: lambda: True,
            clock=session.clock,
            jitter=jitter,
        )

        def woken() -> None:
            keeper.round()

        def round_() -> float | None:
            keeper.round()
            return keeper.pause()

        source.call_when_due(lambda: self._plan(vault.now, woken))
        for act in (
            round_,
            TokenKeeper(lambda: session, jitter, lambda: INSTEAD_OF_TOKENS).tick,
            source.periodic()["leases of vault"],
        ):
            self._plan(at, act)


def main(max_ttl: float) -> None:
    """Print what a fleet does in a day."""
    configure_logging("CRITICAL", "json")
    for module in (dynamic, token_life):  # all that is due is due at its time; a look a minute finds nothing more
        vars(module)["LOOK_AGAIN"] = BIN
    vars(leases)["mask_from_now_on"] = lambda *_: None
    vault = SimulatedVault(max_ttl=max_ttl)
    fleet = Fleet(vault)
    fleet.run()
    after = [vault.calls[second] for second in range(int(UP), int(UP) + 60)]
    told = {"issues": vault.issues, "logins": vault.logins, "alive": fleet.alive, "calls after the restart": after}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(float(sys.argv[1]))
