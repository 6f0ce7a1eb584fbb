"""What happened lately is remembered within bounds, and told to whoever listens."""

from itertools import pairwise

from app.core.logs.event_log import KEPT, Event, Journal


def test_the_latest_events_are_kept() -> None:
    """So many of them, oldest first."""
    journal = Journal()
    for n in range(KEPT + 5):
        journal.record("login", f"vault-{n}", "failed", "LoginRefused")
    events = journal.events()
    assert [event.source for event in events] == [f"vault-{n}" for n in range(5, KEPT + 5)]
    assert all(a.at <= b.at for a, b in pairwise(events))
    assert (events[0].kind, events[0].outcome, events[0].detail) == ("login", "failed", "LoginRefused")


def test_listeners_hear_of_each_event_until_they_leave() -> None:
    """One that fails keeps nobody else from hearing."""
    journal, heard = Journal(), list[Event]()

    def fail(_event: Event) -> None:
        raise ZeroDivisionError

    journal.subscribe(fail)
    leave = journal.subscribe(heard.append)
    journal.record("rotation", "vault")
    leave()
    journal.record("rotation", "partner")
    assert [event.source for event in heard] == ["vault"]
    assert len(journal.events()) == 2
