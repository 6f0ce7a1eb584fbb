"""Logs: one form for all, no local variables, no colours where nobody sees them."""

import io
import json
import logging
import sys

import pytest

from app.core.logs.logging_config import configure_logging, get_logger


def test_own_and_foreign_lines_have_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    """Uvicorn's and a library's lines are JSON with the same keys."""
    configure_logging("INFO", "json")
    get_logger("app.test").info("thing_happened", path="a/b")
    logging.getLogger("uvicorn.error").info("Started %s", "x", extra={"color_message": "\x1b[1mx"})
    logging.getLogger("some.library").warning("careful")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["thing_happened", "Started x", "careful"]
    assert [line["logger"] for line in lines] == ["app.test", "uvicorn.error", "some.library"]
    assert all({"level", "timestamp"} <= set(line) for line in lines)
    assert "color_message" not in lines[1]
    assert lines[0]["path"] == "a/b"


def test_handlers_of_others_stay(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """Pytest's, for one; those that would say each line twice on the terminal go, and ours is there once."""
    root, theirs = logging.getLogger(), logging.StreamHandler(io.StringIO())
    before = [*root.handlers]
    root.handlers += [theirs, logging.StreamHandler()]
    try:
        for _ in range(2):
            configure_logging("INFO", "json")
        get_logger("app.test").info("thing_happened")
        logging.getLogger("some.library").info("another thing")
        assert capsys.readouterr().err.count("thing_happened") == 1
        assert "thing_happened" in caplog.text
        assert "another thing" in caplog.messages
        assert theirs in root.handlers
    finally:
        root.handlers = before


def test_auto_means_json_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A container's log is read by machines."""
    configure_logging("INFO", "auto")
    get_logger().info("thing_happened")
    assert json.loads(capsys.readouterr().err)["event"] == "thing_happened"


def test_auto_means_colours_in_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's terminal is read by people."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    configure_logging("INFO", "auto")
    get_logger().info("thing_happened")
    assert "\x1b[" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["json", "console"])
def test_tracebacks_show_no_local_variables(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """A password in a local variable stays there."""
    configure_logging("INFO", form)  # type: ignore[arg-type]

    def fail(password: str) -> None:
        raise ValueError(len(password))

    planted = "".join(reversed("yranac"))  # so that the word does not stand in the source line of the traceback

    try:
        fail(planted)
    except ValueError:
        get_logger().exception("thing_failed")
    written = capsys.readouterr().err
    assert "ValueError" in written
    assert "canary" not in written


def test_the_level_counts_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Own and foreign lines below it are dropped."""
    configure_logging("WARNING", "json")
    get_logger().info("thing_happened")
    logging.getLogger("uvicorn.error").info("x")
    assert capsys.readouterr().err == ""
