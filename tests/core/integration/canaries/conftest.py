"""A Vault full of canaries, for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.core.integration.canaries.arrangement import Arrangement, arranged


@pytest.fixture(scope="session")
def arrangement(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrangement]:
    """Return the one Vault, started when it is first asked for."""
    with arranged(tmp_path_factory.mktemp("canaries")) as arrangement:
        yield arrangement
