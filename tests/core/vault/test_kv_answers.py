"""Whatever is malformed in what Vault says of secrets, mounts and capabilities is an error that says so."""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.errors import BlueprintError, UnexpectedAnswer
from app.core.settings.vault import VaultSettings
from app.core.store.source import Secret
from app.core.vault.kv_writer import VaultKVWriter
from app.core.vault.session import VaultSession
from infrastructure.faulty_proxy import Fault, FaultyProxy

CREATED = "2026-11-27T05:00:00.123456789Z"
VERSION = {"created_time": CREATED, "deletion_time": "", "destroyed": False}
READ, METADATA, LISTED = "/v1/secret/data/app", "/v1/secret/metadata/app", "/v1/secret/metadata"
MOUNT, MOUNTS, HELD = "/v1/sys/internal/ui/mounts/secret", "/v1/sys/internal/ui/mounts", "/v1/sys/capabilities-self"
ANSWERS: dict[str, Any] = {
    READ: {"data": {"data": {"key": "value"}, "metadata": {"version": 2, **VERSION}}},
    METADATA: {"data": {"current_version": 2, "custom_metadata": {"a": "b"}, "versions": {"1": VERSION, "2": VERSION}}},
    LISTED: {"data": {"keys": ["app", "folder/"]}},
    MOUNT: {"data": {"type": "kv", "path": "secret/", "options": {"version": "2"}}},
    MOUNTS: {"data": {"secret": {"secret/": {"type": "kv"}, "pki/": {"type": "pki"}}, "auth": {}}},
    HELD: {"data": {"secret/data/app": ["read"], "capabilities": ["read"]}},
}
CALLS: dict[str, Callable[[VaultKVWriter], Any]] = {
    READ: lambda kv: kv.read("app"),
    METADATA: lambda kv: kv.metadata("app"),
    LISTED: lambda kv: kv.list(),
    MOUNT: lambda kv: kv.check_mount(),
    MOUNTS: lambda kv: kv.usable_mounts(),
    HELD: lambda kv: kv.capabilities(["secret/data/app"]),
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("canary"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


Told = tuple[VaultKVWriter, VaultSession, dict[str, Any]]


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    """Talk to what answers as it is told, by the path."""
    answers: dict[str, Any] = {}

    def answer(_method: str, path: str) -> Fault:
        return Fault(body=json.dumps(answers[path.partition("?")[0]]).encode())

    with FaultyProxy("http://127.0.0.1:9", answer).running() as url:
        settings = VaultSettings.model_validate(
            {"url": url, "auth_method": "token", "token": "t", "access_mode": "read_and_write", "kv_version": "auto"}
        )
        session = VaultSession(settings)
        session.wait = lambda _seconds: None
        yield VaultKVWriter(session), session, answers
        session.close()


def places(tree: Any, here: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return where something could be something else."""
    inner = [place for name, each in tree.items() for place in places(each, (*here, name))] if _is_dict(tree) else []
    return [here, *inner] if here else inner


def _is_dict(tree: Any) -> bool:
    return isinstance(tree, dict)


def changed(tree: Any, place: tuple[str, ...], junk: Any) -> Any:
    """Return the answer with something else there."""
    result = copy.deepcopy(tree)
    inner = result
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = junk
    return result


def ask(told: Told, path: str, answer: Any) -> Any:
    """Ask once, of a Vault that is honest in all else."""
    kv, session, answers = told
    answers.clear()
    answers.update({**ANSWERS, path: answer})
    session.kv_versions.clear()
    session.secret_versions.clear()
    return CALLS[path](kv)


@pytest.mark.parametrize("path", ANSWERS)
def test_what_vault_sends_is_taken(told: Told, path: str) -> None:
    """So the tests below are about what is changed in it."""
    found = ask(told, path, ANSWERS[path])
    if path == READ:
        assert found == Secret("app", {"key": "value"}, 2, found.created_at)


JUNK_AT: list[tuple[str, tuple[str, ...], list[Any]]] = [
    (READ, ("data", "metadata", "created_time"), ["canary", None, 5, "2026-11-27", "9999-12-31T23:59:00Z"]),
    (READ, ("data", "metadata", "created_time"), ["0001-01-01T00:00:00", "0001-01-01T00:00:00Z"]),
    (READ, ("data", "metadata", "version"), ["canary", None, 1.5, True, 0]),
    (METADATA, ("data", "versions", "2", "created_time"), ["canary", None, 5]),
    (METADATA, ("data", "versions", "2", "deletion_time"), ["canary", 5, "2026-11-27"]),
    (METADATA, ("data", "versions"), ["canary", [], {"canary": VERSION}, {"1": "canary"}]),
    (METADATA, ("data", "custom_metadata"), ["canary", [], {"a": 1}]),
    (METADATA, ("data", "current_version"), ["canary", None, True]),
    (LISTED, ("data", "keys"), ["canary", {"canary": 1}, [1], [None]]),
    (MOUNT, ("data", "options", "version"), ["canary", 2, None, "3", []]),
    (MOUNTS, ("data", "secret"), ["canary", None, [1], {"secret/": None}, {"secret/": {"type": 1}}]),
    (HELD, ("data", "secret/data/app"), ["canary", 5, [1], {"canary": 1}]),
]
BAD = [(path, place, bad) for path, place, several in JUNK_AT for bad in several]


@pytest.mark.parametrize(("path", "place", "bad"), BAD)
def test_what_is_malformed_is_named(told: Told, path: str, place: tuple[str, ...], bad: Any) -> None:
    """The field, and never what is in it."""
    with pytest.raises(UnexpectedAnswer) as caught:
        ask(told, path, changed(ANSWERS[path], place, bad))
    assert "canary" not in str(caught.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_that_json_can_hold_is_an_error_of_ours(told: Told, data: st.DataObject) -> None:
    """Whatever comes is taken, or is an error of this project's with a remedy."""
    path = data.draw(st.sampled_from(list(ANSWERS)))
    answer = changed(ANSWERS[path], data.draw(st.sampled_from(places(ANSWERS[path]))), data.draw(JUNK))
    with suppress(BlueprintError):
        ask(told, path, answer)
