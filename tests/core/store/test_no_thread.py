"""Where the system starts no thread, what a thread would have done is done all the same; and how the end begins."""

import socket
import threading

import pytest

from app.core.errors import BackendError
from app.core.store import sessions
from app.core.store.sessions import Sessions, close_sessions
from app.core.transport.deadline import connected


class Held:
    """A session that can be closed."""

    name = "held"
    is_closed = False

    def close(self) -> None:
        """Note that it was."""
        self.is_closed = True


@pytest.fixture(params=[RuntimeError, OSError, BlockingIOError, MemoryError])
def _no_thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread start, in one of the ways in which Python says so."""

    def start(_: threading.Thread) -> None:
        raise request.param

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.fixture
def kind(monkeypatch: pytest.MonkeyPatch) -> Sessions[str, Held]:
    """Return a kind of sessions of this test's own; there is no other one."""
    monkeypatch.setattr(sessions, "_kinds", [])
    return Sessions()


@pytest.mark.usefixtures("_no_thread")
def test_tokens_are_given_back(kind: Sessions[str, Held]) -> None:
    """One after the other."""
    held = [kind.get(settings, Held) for settings in ("one", "two")]
    close_sessions()
    assert [each.is_closed for each in held] == [True, True]


@pytest.mark.usefixtures("_no_thread")
def test_names_are_looked_up() -> None:
    """Then nothing bounds the name service; but who has an address can be asked."""
    with socket.create_server(("localhost", 0)) as listener:
        port = listener.getsockname()[1]
        found = connected("localhost", port, ())
        assert found.getpeername()[1] == port
        found.close()


def test_nobody_logs_in_any_more_when_the_process_ends(
    kind: Sessions[str, Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that is obtained now would be given back by nobody."""
    over = threading.Event()
    over.set()
    monkeypatch.setattr(sessions, "_over", over)
    with pytest.raises(BackendError, match="the service is stopping"):
        kind.get("settings", Held)
    assert kind.held("settings") is None
