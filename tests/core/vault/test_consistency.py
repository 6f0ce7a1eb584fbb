"""What is remembered of a cluster's progress, and what a request says of it."""

import base64
import json

import pytest
import requests

from app.core.vault.consistency import FORWARD, INDEX, Consistency


def openbao(value: int, cluster: str = "a") -> str:
    """Return an index as OpenBao writes it."""
    return base64.b64encode(json.dumps({"cluster": cluster, "value": str(value)}).encode()).decode()


def enterprise(local: int, replicated: int) -> str:
    """Return an index as Vault Enterprise writes it."""
    return base64.b64encode(f"v1:cluster:{local}:{replicated}:00ff".encode()).decode()


class Session(requests.Session):
    """Answers without a network."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Consistency()
        self.seen.watch(self)

    def hears(self, index: str = "", status: int = 200, body: bytes = b"{}") -> None:
        """Take in an answer."""
        answer = requests.Response()
        answer.status_code, answer._content = status, body  # noqa: SLF001 - there is no other way to make one
        answer.headers.update({INDEX: index} if index else {})
        for hook in self.hooks["response"]:
            hook(answer)

    def says(self) -> str | None:
        """Return the index of the next request."""
        sent = self.prepare_request(requests.Request("GET", "http://127.0.0.1/"))
        assert (INDEX in sent.headers) == all(sent.headers.get(name) == value for name, value in FORWARD.items())
        return sent.headers.get(INDEX)


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        ([], None),
        ([openbao(9)], openbao(9)),
        ([openbao(9), openbao(10), ""], openbao(10)),
        ([openbao(10), openbao(9)], openbao(10)),
        ([openbao(10), openbao(9, "another")], openbao(9, "another")),
        ([enterprise(5, 7), enterprise(5, 6)], enterprise(5, 7)),
        ([enterprise(5, 7), enterprise(6, 7)], enterprise(6, 7)),
        (["unknown", "something else"], "something else"),
        ([openbao(10), "unknown"], "unknown"),
    ],
)
def test_the_newest_index_is_said(heard: list[str], said: str | None) -> None:
    """Of one cluster the one that is further; answers may come in any order."""
    http = Session()
    for index in heard:
        http.hears(index)
    assert http.says() == said


def test_an_index_that_a_server_cannot_read_is_dropped() -> None:
    """Or no request would succeed any more."""
    http = Session()
    http.hears(openbao(9))
    http.hears(status=400, body=b'{"errors": ["failed to decode \\"X-Vault-Index\\""]}')
    assert http.says() is None
    assert http.seen.from_the_leader() is None
    http.hears(openbao(10))
    http.hears(status=400, body=b'{"errors": ["no"]}')
    assert http.says() == openbao(10)


def test_the_leader_is_asked_by_an_index_that_no_standby_has() -> None:
    """OpenBao's can be put so far; another one is said as it is."""
    http = Session()
    http.hears(openbao(9))
    asked = http.seen.from_the_leader()
    assert asked is not None
    assert json.loads(base64.b64decode(asked[INDEX])) == {"cluster": "a", "value": str(2**62)}
    http.hears(enterprise(5, 7))
    assert http.seen.from_the_leader() == {INDEX: enterprise(5, 7), **FORWARD}
