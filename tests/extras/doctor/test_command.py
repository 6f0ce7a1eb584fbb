"""Where there is no command line, `python -m app doctor` is asked by itself."""

import json

import pytest

from app.extras.doctor.command import main
from tests.command_line import BLUEPRINT
from tests.support import SECRETS


@pytest.mark.parametrize("options", [["--json"], ["--json", "--no-login"], ["--json", "--production"]])
def test_the_doctor_needs_no_command_line(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes the same options, and exits as there."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(f"SECRET_{name.upper()}", value)
    with pytest.raises(SystemExit) as ended:
        main(BLUEPRINT, options)
    report = json.loads(capsys.readouterr().out)
    assert report["well"] == (ended.value.code == 0)
    assert report["well"] == ("--production" not in options)
