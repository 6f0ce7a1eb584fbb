"""Where does each event stand in the picture? Lanes by kind, time from left to right, crowds drawn as one mark."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.core.logs.event_log import Event

LANES = {
    "rotation": "Rotations",
    "refused": "Rotations",
    "login": "Logins",
    "renewal": "Renewals",
    "load": "Reads",
    "lease": "Leases",
    "rebuilt": "Objects built",
    "upkeep": "Background tasks",
}
SHORTEST = 60.0  # seconds that the picture shows at least
STEPS = (15, 30, 60, 120, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 259200)  # seconds between two ticks
MOST_TICKS = 5
MARGIN, CROWD = 2.0, 3.0  # percent of the width: kept free at both ends; what is closer together is one mark


@dataclass(frozen=True, slots=True)
class Mark:
    """One event, or several that are too close together to tell apart."""

    x: float  # percent of the width
    events: tuple[Event, ...]

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return sum(event.outcome == "failed" for event in self.events)


@dataclass(frozen=True, slots=True)
class Timeline:
    """What the picture shows."""

    lanes: dict[str, tuple[Mark, ...]]
    ticks: tuple[tuple[float, float], ...]  # where, in percent, and how many seconds ago that is
    span: float  # seconds


def timeline(events: Sequence[Event], now: float) -> Timeline:
    """Arrange `events`, oldest first, so that the first one stands at the left and `now` at the right."""
    span = max([SHORTEST, *(now - event.at for event in events)])

    def place(seconds_ago: float) -> float:
        return round(MARGIN + (100 - 2 * MARGIN) * (1 - max(seconds_ago, 0.0) / span), 2)

    lanes: dict[str, list[Event]] = {}
    for name in dict.fromkeys(LANES.get(kind, kind) for kind in [*LANES, *(event.kind for event in events)]):
        lanes[name] = [event for event in events if LANES.get(event.kind, event.kind) == name]
    step = next((step for step in STEPS if span / step < MOST_TICKS), span)
    return Timeline(
        lanes={
            name: tuple(_marks([(place(now - event.at), event) for event in own])) for name, own in lanes.items() if own
        },
        ticks=tuple((place(n * step), n * step) for n in range(int(span // step) + 1)),
        span=span,
    )


def _marks(placed: Sequence[tuple[float, Event]]) -> Iterator[Mark]:
    """Draw together what stands closer than `CROWD` to the first of its crowd."""
    crowd: list[tuple[float, Event]] = []
    for x, event in placed:
        if crowd and x - crowd[0][0] >= CROWD:
            yield Mark(crowd[-1][0], tuple(each for _, each in crowd))
            crowd = []
        crowd.append((x, event))
    if crowd:
        yield Mark(crowd[-1][0], tuple(each for _, each in crowd))
