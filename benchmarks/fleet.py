"""How do a thousand instances load Vault? A simulation with the service's own timing; the clock is an argument.

All start in the same second, refresh for an hour, and live through a restart of Vault that kills every token. Prints
the figures, and writes the picture if asked to: `python -m benchmarks.fleet [docs/fleet.svg]`.
"""

import heapq
import itertools
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from app.core.errors import VaultUnreachable
from app.core.store.secret_store import SecretStore
from app.core.store.source import Secret
from app.core.store.source_refresher import SourceRefresher
from tests.declared import DeclaredForTests

INSTANCES, INTERVAL = 1000, 300.0
HOUR = 3600.0
DOWN, UP = HOUR, HOUR + 120.0  # Vault's restart
END = UP + 6 * INTERVAL
VALUES = {"database_url": "postgresql://db/app", "api_key": "k", "jwt_secret": "s" * 32}


class Instance:
    """One instance: its keeper and when its token is good."""

    def __init__(self, fleet: "Fleet") -> None:
        self._fleet = fleet
        self._logged_in = False
        store = SecretStore(DeclaredForTests, sources=["vault"])
        self.keeper = SourceRefresher(
            "vault", self._load, store, interval=INTERVAL, clock=lambda: fleet.now, jitter=fleet.random.uniform
        )

    def forget_token(self) -> None:
        """Lose the token, as in a Vault that has lost its own."""
        self._logged_in = False

    def _load(self) -> list[Secret]:
        if DOWN <= self._fleet.now < UP:
            raise VaultUnreachable("vault", "down", "")
        if not self._logged_in:
            self._logged_in = True
            self._fleet.logins.append(self._fleet.now)
        self._fleet.reads.append(self._fleet.now)
        return [Secret("app", VALUES, 1)]


class Fleet:
    """All instances, and the time."""

    def __init__(self, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.reads: list[float] = []
        self.logins: list[float] = []

    def run(self) -> None:
        """Let time pass, from one event to the next."""
        order = itertools.count()
        instances = [Instance(self) for _ in range(INSTANCES)]
        events: list[tuple[float, int, Callable[[], object], Instance | None]] = [
            (self.random.uniform(0, 1), next(order), each.keeper.round, each) for each in instances
        ]
        events.append((DOWN, next(order), partial(list, map(Instance.forget_token, instances)), None))
        heapq.heapify(events)
        while events and events[0][0] < END:
            self.now, _, act, instance = heapq.heappop(events)
            act()
            if instance is not None and (pause := instance.keeper.pause()) is not None:
                heapq.heappush(events, (self.now + pause, next(order), act, instance))


def histogram(times: list[float], start: float, end: float, bin_size: float) -> list[float]:
    """Return the rates (a second) in the bins between start and end."""
    counts = [0] * round((end - start) / bin_size)
    for at in times:
        if start <= at < end:
            counts[min(int((at - start) / bin_size), len(counts) - 1)] += 1
    return [count / bin_size for count in counts]


def picture(reads: list[float], logins: list[float]) -> str:
    """Draw both rates over time, as SVG that is readable on light and dark."""
    width, height, bins = 900, 220, 225
    bin_size = END / bins

    def bars(times: list[float], colour: str, top: int) -> str:
        rates = histogram(times, 0, END, bin_size)
        peak = max(rates)
        return f'<text x="4" y="{top - 88}" class="t">peak {peak:.1f}/s</text>' + "".join(
            f'<rect x="{n * width / bins:.1f}" y="{top - 80 * rate / peak:.1f}" width="{width / bins - 0.6:.1f}" '
            f'height="{80 * rate / peak:.1f}" fill="{colour}"/>'
            for n, rate in enumerate(rates)
            if rate
        )

    ticks = "".join(
        f'<text x="{minute * 60 / END * width:.0f}" y="{height - 2}" class="t">{minute} min</text>'
        for minute in range(0, int(END / 60), 10)
    )
    left, wide = DOWN / END * width, (UP - DOWN) / END * width
    down = f'<rect x="{left:.0f}" y="0" width="{wide:.0f}" height="200" fill="#d33" opacity="0.15"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="Reads and logins a second of 1,000 instances; Vault restarts after an hour">'
        "<style>.t{font:11px sans-serif;fill:#888}</style>"
        f"{down}{bars(reads, '#3b82c4', 100)}{bars(logins, '#e08a1e', 200)}"
        f'<text x="{width - 90}" y="12" class="t">reads a second</text>'
        f'<text x="{width - 90}" y="112" class="t">logins a second</text>{ticks}</svg>\n'
    )


def main() -> None:
    """Run the simulation and print its figures."""
    fleet = Fleet()
    fleet.run()
    steady = histogram(fleet.reads, 2 * INTERVAL, DOWN, 60.0)
    mean = sum(steady) / len(steady)
    after = histogram(fleet.logins, UP, UP + 60, 1.0)
    print(f"steady state: {mean:.2f} reads a second, peak to mean {max(steady) / mean:.2f} (bins of a minute)")
    print(f"after the restart: {sum(after):.0f} logins in the first minute, at most {max(after):.0f} in one second")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(picture(fleet.reads, fleet.logins))


if __name__ == "__main__":
    main()
