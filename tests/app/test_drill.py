"""The drill, short: the service under load through a few of Vault's faults."""

import pytest

from infrastructure.drill import SHORT, walk


@pytest.mark.slow
@pytest.mark.alone
def test_every_promise_is_kept_under_load(capsys: pytest.CaptureFixture[str]) -> None:
    """No failed request, healed in time, and no secret in the log."""
    rows = walk(short=True)
    printed = capsys.readouterr()
    assert [row.fault for row in rows if row.is_bad] == [], printed.out + printed.err
    assert sum(row.requests for row in rows) > 1000
    assert len(rows) == len(SHORT) + 3
    said = {row.fault: row.said for row in rows}
    assert "jwt_secret" in said["rotation to a broken value"]
    assert "Vault is sealed" in said["Vault sealed, unsealed"]
    assert "no answer within VAULT_TIMEOUT" in said["no answer at all"]
