"""A thousand instances do not march in step. The clock is an argument: seventy minutes take a second."""

import pytest

from app.core.logs.logging_config import configure_logging
from benchmarks.fleet import DOWN, INTERVAL, UP, Fleet, histogram, picture
from tests.support import ROOT

pytestmark = pytest.mark.slow  # each process would run the simulation for itself


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    """Run the simulation once."""
    configure_logging("CRITICAL", "json")
    fleet = Fleet()
    fleet.run()
    return fleet


def test_reads_are_level_in_steady_state(fleet: Fleet) -> None:
    """Although all instances started within one second."""
    steady = histogram(fleet.reads, 2 * INTERVAL, DOWN, 60.0)
    assert max(steady) / (sum(steady) / len(steady)) <= 1.3


def test_logins_after_a_restart_are_spread(fleet: Fleet) -> None:
    """Over the back-off window and the interval, instead of all in the first second."""
    after = histogram(fleet.logins, UP, UP + INTERVAL * 1.1 + 30, 1.0)
    assert sum(after) == 1000
    assert max(after) < 50
    assert sum(histogram(fleet.logins, UP, UP + 30, 30.0)) * 30 > 300, "healing does not wait for the interval"


def test_an_outage_does_not_bring_the_fleet_into_step(fleet: Fleet) -> None:
    """The refreshes after it are level again, instead of coming in waves an interval apart."""
    after = histogram(fleet.reads, UP + 2 * INTERVAL, UP + 6 * INTERVAL, 60.0)
    assert max(after) / (sum(after) / len(after)) <= 1.3


def test_the_picture_shows_both(fleet: Fleet) -> None:
    """It is the one in the documents."""
    drawn = picture(fleet.reads, fleet.logins)
    assert drawn.startswith("<svg")
    assert "reads a second" in drawn
    assert "logins a second" in drawn
    assert drawn == (ROOT / "docs/fleet.svg").read_text()
