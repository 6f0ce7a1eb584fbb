"""Three raft nodes behind a load balancer: whatever becomes of one of them, no request of the service fails."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from infrastructure.high_availability import FAULTS, walk
from infrastructure.three_nodes import Scene

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.alone]


def test_no_fault_of_one_node_fails_a_request(tmp_path: Path) -> None:
    """Readiness stays, versions arrive, tokens live on, and nobody logs in again and again."""
    with ExitStack() as stack:
        rows = list(walk(Scene(tmp_path, stack, "tests.service:app", "/caller")))
    assert [(row.fault, row.balancer) for row in rows] == [
        (fault, side) for fault in FAULTS for side in ("active", "any")
    ]
    assert [row for row in rows if row.is_bad] == []
    assert all(row.requests > 100 for row in rows)
    # a node that is cut off says that it is well: only the check for the active node notices
    assert [row.fault for row in rows if row.arrived is None and row.balancer == "active"] == []
