"""The index of API keys: who is found, until when, and what a change survives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.extras.api_keys.key_index import KeyIndex
from app.extras.api_keys.key_records import PREFIX, KeyRecord, digest_of, marker_of, record_of


def record(name: str, key: str = "", created: int = 1, until: int | None = None, tag: str = "") -> KeyRecord:
    """Return what is known of a key."""
    return KeyRecord(name, digest_of(key or name), created, until, tag)


def index_of(*records: KeyRecord) -> KeyIndex:
    """Return an index that has loaded these."""
    index = KeyIndex()
    index.publish("", (index.start(), records))
    return index


def test_a_key_is_found_by_itself_and_by_nothing_else() -> None:
    """Neither by its name nor by its hash."""
    index = index_of(record("alice", f"{PREFIX}a"), record("bob", f"{PREFIX}b"))
    found = index.find(f"{PREFIX}a", 0)
    assert found is not None
    assert found.name == "alice"
    for other in ("", "alice", PREFIX, f"{PREFIX}ab", digest_of(f"{PREFIX}a").hex(), "\x00", "ü" * 1000):
        assert index.find(other, 0) is None


@pytest.mark.parametrize(("now", "counts"), [(9.999, True), (10.0, False), (11.0, False)])
def test_a_key_counts_until_its_end(now: float, counts: bool) -> None:  # noqa: FBT001
    """Not at the very moment any more."""
    assert (index_of(record("alice", "k", until=10_000)).find("k", now) is not None) == counts


def test_the_earliest_end_on_record_counts() -> None:
    """Whatever else is still stored: a rotation that broke off while cleaning up has ended the old key all the same."""
    for order in (1, -1):
        stored = [record("alice", "old", 1, None), record("alice", "old", 1, 5_000), record("alice", "new", 2)][::order]
        index = index_of(*stored)
        assert index.find("old", 6) is None
        assert index.find("old", 4) is not None
        assert index.of("alice")[0].digest == digest_of("new")


def test_a_change_of_ours_survives_what_was_loaded_before_it() -> None:
    """A list that was asked for before an issue or a revocation does not know of it."""
    index = index_of(record("alice"), record("bob"))
    before = index.start()
    index.change("carol", [record("carol")])
    index.change("bob", [])
    index.publish("", (before, [record("alice"), record("bob")]))
    assert [each.name for each in index.present()] == ["alice", "carol"]
    assert index.find("bob", 0) is None
    index.publish("", (index.start(), [record("alice"), record("bob")]))  # asked for later: what is stored counts
    assert [each.name for each in index.present()] == ["alice", "bob"]


def test_what_was_loaded_later_counts_more() -> None:
    """Whichever of two lists arrives first; before any has arrived the index says so."""
    index = KeyIndex()
    assert index.problems
    earlier, later = index.start(), index.start()
    index.publish("", (later, [record("bob")]))
    index.publish("", (earlier, [record("alice")]))
    assert [each.name for each in index.present()] == ["bob"]
    assert not index.problems


@given(
    name=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", fullmatch=True),
    key=st.text(),
    created=st.integers(0, 10**14),
    until=st.none() | st.integers(0, 10**14),
    tag=st.sampled_from(["", "0123456789abcdef01234567"]),
)
def test_a_record_is_stored_as_a_name_that_is_read_again(
    name: str, key: str, created: int, until: int | None, tag: str
) -> None:
    """Nothing is lost, and the name is one that a path may have."""
    stored = record(name, key or "k", created, until, tag)
    assert record_of(marker_of(stored)) == stored
    assert "/" not in marker_of(stored)


@given(st.text())
def test_whatever_else_lies_in_the_index_is_no_key(text: str) -> None:
    """Another's file among them does no harm."""
    assert record_of(text) is None
