"""A thousand instances have credentials issued for a day, and do not march in step. 24 hours take seconds."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from tests.core.vault.lease_fleet import BIN, DAY, DOWN, HOUR, INSTANCES, TTL
from tests.support import ROOT

START = 2 * HOUR  # is excluded: that all begin at once is how they were started


def lived_through(max_ttl: float) -> dict[str, Any]:
    """Return what a fleet has done in a day: in a process of its own, which nobody measures, as that takes minutes."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.core.vault.lease_fleet", str(max_ttl)],
        cwd=ROOT,
        env={**os.environ, "COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def counts(times: Sequence[float], size: float = BIN, start: float = START) -> list[int]:
    """Count what happened in each bin, the start excluded."""
    found = Counter(int((at - start) / size) for at in times if start <= at < DAY)
    return [found[each] for each in range(round((DAY - start) / size))]


def peak(times: Sequence[float], size: float = BIN, start: float = START) -> float:
    """Return the fullest bin, as a multiple of the mean."""
    found = counts(times, size, start)
    return max(found) / (sum(found) / len(found))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("max_ttl", "size"),
    [
        pytest.param(TTL, BIN, id="each lease lives one TTL"),
        # a sixth as many issues, so that chance fills a bin of ten minutes: an hour's is looked at
        pytest.param(DAY, 6 * BIN, id="leases are renewed"),
    ],
)
def test_a_day(max_ttl: float, size: float) -> None:
    """All instances start within one second, their tokens reach their max TTL, and Vault is away for five minutes."""
    day = lived_through(max_ttl)
    assert peak(day["issues"], size) <= 1.3, "issues are level"
    assert min(day["alive"]) >= INSTANCES
    assert max(day["alive"]) <= 1.3 * INSTANCES, "what was replaced is given back"
    assert peak(day["issues"], 3 * size, DOWN) <= 1.3, "what was due meanwhile is no storm afterwards"
    assert max(day["calls after the restart"]) < INSTANCES / 20
    assert max(counts(day["logins"])) < INSTANCES / 10
