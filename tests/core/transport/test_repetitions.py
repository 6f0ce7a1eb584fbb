"""What is safe to repeat is repeated, whatever the fault; and who speaks in Vault's place is named."""

from collections.abc import Callable
from typing import Any

import pytest

from app.core.errors import (
    BackendError,
    BadRequest,
    NotCaughtUp,
    PermissionDenied,
    ServerFault,
    UnexpectedAnswer,
    VaultRateLimited,
    VaultSealed,
)
from app.core.settings.vault import VaultSettings
from app.core.transport.http import open_http, vault_client
from app.core.transport.repetitions import RETRIES
from app.core.vault.errors import data_of, vault_errors
from infrastructure.faulty_proxy import Fault, FaultyProxy

PASSING = [412, 429, 472, 473, 500, 501, 502, 503, 504, 507, 520, 599]
HTML = (("Content-Type", "text/html"),)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the pauses are is not what these tests are about."""
    monkeypatch.setattr(RETRIES, "backoff_factor", 0)
    monkeypatch.setattr(RETRIES, "backoff_jitter", 0)


def ask(fault: Callable[[str, str], Fault | None], method: str = "GET") -> tuple[Any, FaultyProxy]:
    """Send one request; return the answer, and who was asked."""
    server = FaultyProxy("http://127.0.0.1:9", fault)
    with server.running() as url, open_http(VaultSettings(url=url)) as http, vault_errors(url, "a call"):
        return vault_client(VaultSettings(url=url), http).adapter.request(method, "/v1/x"), server


@pytest.mark.parametrize("body", [b"<html>canary</html>", b"", b'{"errors": []}'])
@pytest.mark.parametrize("status", PASSING)
def test_a_fault_that_passes_is_repeated(status: int, body: bytes) -> None:
    """Vault's own, and that of what is in front of it."""
    faults = [Fault(status, HTML, body)] * 2
    answer, server = ask(lambda *_: faults.pop() if faults else Fault(200, body=b'{"data": {}}'))
    assert answer == {"data": {}}
    assert len(server.requests) == 3


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("status", PASSING)
def test_what_changes_something_is_not_repeated(status: int, method: str) -> None:
    """It may have had its effect."""
    asked = []

    def fault(*request: str) -> Fault:
        asked.append(request)
        return Fault(status, HTML, b"")

    with pytest.raises(BackendError):
        ask(fault, method)
    assert len(asked) == 1


JSON = (("Content-Type", "application/json"),)
ANSWERS: list[tuple[int, bytes, type[BackendError], str]] = [
    (400, b"<html>canary</html>", UnexpectedAnswer, r"not Vault's \(HTTP 400\)"),
    (401, b"canary", UnexpectedAnswer, r"not Vault's \(HTTP 401\)"),
    (403, b"<html>canary</html>", UnexpectedAnswer, r"not Vault's \(HTTP 403\)"),
    (403, b"", UnexpectedAnswer, r"not Vault's \(HTTP 403\)"),
    (403, b'{"message": "canary"}', UnexpectedAnswer, r"not Vault's \(HTTP 403\)"),
    (403, b'["canary"]', UnexpectedAnswer, r"not Vault's \(HTTP 403\)"),
    (403, b'"canary"', UnexpectedAnswer, r"not Vault's \(HTTP 403\)"),
    (403, b'{"errors": "canary"}', UnexpectedAnswer, r"not Vault's \(HTTP 403\)"),
    (403, b'{"errors": [{"canary": 1}]}', UnexpectedAnswer, r"not Vault's \(HTTP 403\)"),
    (403, b"[" * 100_000, UnexpectedAnswer, r"not Vault's \(HTTP 403\)"),
    (404, b"", UnexpectedAnswer, r"not Vault's \(HTTP 404\)"),
    (407, b"", UnexpectedAnswer, r"not Vault's \(HTTP 407\)"),
    (413, b"<html>canary</html>", UnexpectedAnswer, r"not Vault's \(HTTP 413\)"),
    (429, b"<html>canary</html>", VaultRateLimited, "something in front of Vault, such as a load balancer"),
    (429, b"", VaultRateLimited, "something in front of Vault, such as a load balancer"),
    (500, b"<html>canary</html>", ServerFault, "something in front of Vault, .* answers with HTTP 500, not Vault"),
    (501, b"<html>canary</html>", UnexpectedAnswer, r"not Vault's \(HTTP 501\)"),
    (502, b"", ServerFault, "something in front of Vault, .* answers with HTTP 502, not Vault itself"),
    (503, b"no healthy upstream", ServerFault, "something in front of Vault, .* answers with HTTP 503"),
    (503, b'{"message": "canary"}', ServerFault, "something in front of Vault, .* answers with HTTP 503"),
    (504, b"<html>canary</html>", ServerFault, "something in front of Vault, .* answers with HTTP 504"),
    (520, b"error code: 520", ServerFault, "something in front of Vault, .* answers with HTTP 520"),
    (403, b'{"errors": ["permission denied"]}', PermissionDenied, "permission denied"),
    (405, b'{"errors": ["unsupported operation"]}', BadRequest, "Vault does not accept this"),
    (412, b'{"errors": []}', NotCaughtUp, r"has not caught up with what was written \(HTTP 412\)"),
    (429, b'{"errors": ["quota"]}', VaultRateLimited, "raise Vault's rate limit quota"),
    (473, b'{"initialized": true, "sealed": false}', BackendError, r"cannot serve it now \(HTTP 473\)"),
    (503, b'{"errors": ["Vault is sealed"]}', VaultSealed, "Vault is sealed"),
    (504, b'{"errors": ["canary"]}', BackendError, r"Vault has a fault of its own \(HTTP 504\)"),
]


@pytest.mark.parametrize("headers", [JSON, HTML, ()], ids=["JSON", "HTML", "no type"])
@pytest.mark.parametrize(("status", "body", "kind", "said"), ANSWERS)
def test_who_has_answered_is_told_by_the_form(
    status: int, body: bytes, kind: type[BackendError], said: str, headers: tuple[tuple[str, str], ...]
) -> None:
    """Whatever type of content it claims; Vault's own answers are JSON of a certain form."""
    with pytest.raises(BackendError, match=said) as caught:
        ask(lambda *_: Fault(status, headers, body), "POST")
    assert type(caught.value) is kind
    assert "canary" not in str(caught.value)


def test_json_that_is_nested_too_deeply_is_no_answer() -> None:
    """Of a success, too."""
    answer, _ = ask(lambda *_: Fault(200, body=b"[" * 100_000))
    with pytest.raises(UnexpectedAnswer):
        data_of(answer)
