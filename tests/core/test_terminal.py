"""What comes from an extra that is not there, `python -m app` names."""

import sys

import pytest

from app.core.run import terminal
from tests.command_line import BLUEPRINT


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get", "app"], "error: `python -m app get` comes with the extra cli: there is no folder app/extras/cli"),
        (["policy"], "error: `python -m app policy` comes with the extra cli"),
        (["doctor"], "error: `python -m app doctor` comes with the extra doctor"),
        (["unknown"], "usage: python -m app serve | exec"),
        ([], "usage: python -m app serve | exec"),
    ],
)
def test_an_extra_that_is_not_there_is_named(arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of an error about a module."""
    monkeypatch.setattr(terminal, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["app", *arguments])
    with pytest.raises(SystemExit) as ended:
        terminal.main(BLUEPRINT)
    assert str(ended.value.code).startswith(said)
