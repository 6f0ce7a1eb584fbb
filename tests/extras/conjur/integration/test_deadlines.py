"""Conjur, and what is in front of it: each call ends in its time and at its size, and the right party is named."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.core.errors import UnexpectedAnswer, VaultUnreachable
from app.core.transport.deadline import LARGEST_ANSWER
from app.extras.conjur.session import ConjurSession
from app.extras.conjur.variables import ConjurVariables
from app.extras.conjur.writer import ConjurWriter
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.extras.conjur.in_front import HTML, MISTAKES
from tests.extras.conjur.standin import StandIn
from tests.extras.conjur.support import Conjur
from tests.support import free_port
from tests.trickling import Trickle, answering, served

CALLS: dict[str, tuple[str, str, Callable[[ConjurWriter, str], object]]] = {
    "login": ("POST", "/authenticate", lambda writer, variable: writer.read(variable)),
    "read": ("GET", "/secrets/", lambda writer, variable: writer.read(variable)),
    "batch": (
        "GET",
        "/secrets?",
        lambda writer, variable: writer.read_many([(variable, None), (f"{variable}2", None)]),
    ),
    "write": ("POST", "/secrets/", lambda writer, variable: writer.write(variable, "y")),
    "policy load": ("PATCH", "/policies/", lambda writer, variable: writer.delete(variable)),
    "list": ("GET", "/resources", lambda writer, _: writer.list()),
}


@pytest.fixture
def own() -> Iterator[Conjur]:
    """Return the handle on a stand-in of this test's own, which tells two reads that fail from a whole that does."""
    with StandIn() as standin:
        yield Conjur(standin.url, standin.account, "admin", standin.admin_api_key, standin)


def opened(own: Conjur, url: str, **more: Any) -> ConjurSession:
    """Return a session with what answers at `url`."""
    settings = own.settings(appliance_url=url, access_mode="read_and_write", **{"timeout": 1, **more})
    return ConjurSession(settings.conjur, settings.vault)


@pytest.mark.parametrize(
    ("call", "part"),
    [(call, part) for call in CALLS for part in ("head", "body") if (call, part) != ("write", "body")],  # it has none
)
def test_every_call_ends_in_its_time(own: Conjur, call: str, part: Any) -> None:
    """However slowly the answer comes."""
    verb, slow, make = CALLS[call]
    variable = own.variable("x", "one")
    own.variable("x", "one2")
    trickle = Trickle(own.url, part, lambda method, where: slow in where and method == verb)
    with trickle.running() as url:
        session = opened(own, url)
        with pytest.raises(VaultUnreachable, match="no answer within VAULT_TIMEOUT") as caught:
            make(ConjurWriter(session), variable)
        session.close()
    assert "CONJUR_APPLIANCE_URL" in caught.value.remedy


def test_an_answer_that_is_too_large_is_not_taken_in(own: Conjur) -> None:
    """The bound is that of Vault's."""
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    with served(answering(head, then=bytes(2**18), pause=0.0)) as url:
        session = opened(own, url, timeout=60)
        with pytest.raises(UnexpectedAnswer, match=f"larger than {LARGEST_ANSWER // 2**20} MiB") as caught:
            ConjurVariables(session).read("x")
        session.close()
    assert "CONJUR_APPLIANCE_URL" in caught.value.remedy


@pytest.mark.parametrize("name", MISTAKES)
def test_what_answers_in_conjurs_place_is_named(own: Conjur, name: str) -> None:
    """With the status, and where a redirect leads."""
    kind, said = MISTAKES[name].kind, MISTAKES[name].said
    with FaultyProxy(own.url, MISTAKES[name].answer).running() as url:
        session = opened(own, url)
        with pytest.raises(kind) as caught:
            ConjurVariables(session).read("x")
        session.close()
    assert said in str(caught.value)


def test_a_repetition_helps_against_a_gateway_that_gave_up(own: Conjur) -> None:
    """As against a fault of Conjur's own."""
    variable = own.variable("x")
    faults = [Fault(504, HTML, b"<html>"), Fault(502, HTML, b"<html>")]
    with FaultyProxy(own.url, lambda _, path: faults.pop() if "/secrets" in path and faults else None).running() as url:
        session = opened(own, url, timeout=10)
        assert ConjurVariables(session).read(variable).data
        session.close()
    assert faults == []


def test_a_proxy_that_is_down_is_named(own: Conjur, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable that names it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("https_proxy", f"http://app:canary@127.0.0.1:{free_port()}")
    session = opened(own, "https://conjur.invalid")
    with pytest.raises(VaultUnreachable, match=r"of https_proxy \(Connection refused\)") as caught:
        ConjurVariables(session).read("x")
    session.close()
    assert "NO_PROXY=conjur.invalid" in caught.value.remedy
    assert "canary" not in str(caught.value)
