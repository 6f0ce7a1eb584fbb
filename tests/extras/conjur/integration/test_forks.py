"""After a fork, a session of Conjur is as little the child's as one of Vault."""

from pathlib import Path

import pytest

from tests.core.integration.test_forks import CHILDREN, WAYS, fork
from tests.extras.conjur.support import Conjur


@pytest.mark.parametrize("how", WAYS)
def test_a_child_logs_in_to_conjur_for_itself(conjur: Conjur, tmp_path: Path, how: str) -> None:
    """Each reads its own value, by a login of its own."""
    variables = [conjur.variable(f"value-{number}") for number in range(1 + CHILDREN)]
    references = [f"{{vault://conjur/{variable}}}" for variable in variables]
    found = fork(how, conjur.environment(), references, tmp_path)
    assert [each["values"] for each in found] == [[f"value-{number}"] for number in [*range(1 + CHILDREN), 0]]
    assert len({each["process"] for each in found}) == 1 + CHILDREN
