"""The drill of the database, short: rows are written while their credentials are replaced, revoked, and away."""

import pytest

from infrastructure.database_drill import SHORT, walk


@pytest.mark.slow
@pytest.mark.alone
def test_no_request_fails_while_credentials_change(capsys: pytest.CaptureFixture[str]) -> None:
    """Only the database itself may be missed, and not for long."""
    rows = walk(short=True)
    assert [row.fault for row in rows if row.is_bad] == [], capsys.readouterr().out
    assert len(rows) == len(SHORT)
    assert all(row.requests > 100 for row in rows)
