"""What `exec` does around a command, as far as it can be seen from inside: its end, its terminal, its upkeep."""

import os
import pty
import signal
import threading
from contextlib import suppress

import pytest

from app.core.run import child


def test_the_exit_code_of_the_command_is_ours() -> None:
    """As it is."""
    with pytest.raises(SystemExit) as ended:
        child.end_as(3)
    assert ended.value.code == 3


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGKILL], ids=lambda each: each.name)
def test_a_signal_that_ended_the_command_ends_us(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    """If it does not, the exit code is a shell's."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, code: sent.append((pid, code)))
    before = signal.getsignal(number)
    try:
        with pytest.raises(SystemExit) as ended:
            child.end_as(-number)
    finally:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(number, before)
    assert sent == [(os.getpid(), number)]
    assert ended.value.code == 128 + number


def test_where_no_terminal_is_ours_a_signal_did_not_come_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where there is none, nor where it is somebody else's."""
    monkeypatch.setattr(os, "ctermid", lambda: "/nothing/here")
    assert not child.is_in_foreground()
    ours, theirs = pty.openpty()
    try:
        monkeypatch.setattr(os, "ctermid", lambda: os.ttyname(theirs))
        assert not child.is_in_foreground()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_bug_in_the_upkeep_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged without what it says, and the next turn comes; at the end nothing is logged any more."""
    monkeypatch.setattr(child, "AFTER_A_BUG", 0.0)
    logged: list[dict[str, object]] = []
    monkeypatch.setattr(child.log, "error", lambda event, **more: logged.append({"event": event, **more}))
    over, calls = threading.Event(), 0

    def tick() -> float:
        nonlocal calls
        calls += 1
        if calls == 3:
            over.set()
        raise ValueError("canary")

    child.again_and_again("the upkeep", tick, over)
    assert calls == 3
    assert [(each["event"], each["task"], each["error"]) for each in logged] == [
        ("background_task_failed", "the upkeep", "ValueError")
    ] * 2
    assert "canary" not in str(logged)
