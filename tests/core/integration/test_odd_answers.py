"""What is malformed in Vault's answers is no login and no renewal; once Vault is honest again, so is everything."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.core.errors import BackendError, LoginRefused, PermissionDenied, UnexpectedAnswer
from app.core.settings.vault import VaultSettings
from app.core.transport.single_flight import LOGIN_PAUSE
from app.core.vault.kv import VaultKV
from app.core.vault.kv_writer import VaultKVWriter
from app.core.vault.session import VaultSession
from app.core.vault.token_life import TokenKeeper
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.support import READ_POLICY, SECRETS, Vault, unique

LOGIN, LOOKUP, RENEWAL = "/v1/auth/approle/login", "/v1/auth/token/lookup-self", "/v1/auth/token/renew-self"
AUTH = '{{"auth": {{"client_token": {token}, "lease_duration": {ttl}, "renewable": {renewable}, "num_uses": {uses}}}}}'
GOOD = {"token": '"s.x"', "ttl": "60", "renewable": "true", "uses": "0"}
MALFORMED = {
    "num_uses is a text": AUTH.format_map({**GOOD, "uses": '"x"'}),
    "a token that is not ASCII": AUTH.format_map({**GOOD, "token": '"s.\\u2603"'}),
    "a token of two lines": AUTH.format_map({**GOOD, "token": '"s.x\\r\\nX-Vault-Namespace: other"'}),
    "a token with a NUL": AUTH.format_map({**GOOD, "token": '"s.\\u0000"'}),
    "lease_duration is 1e400": AUTH.format_map({**GOOD, "ttl": "1e400"}),
    "lease_duration is NaN": AUTH.format_map({**GOOD, "ttl": "NaN"}),
    "lease_duration is negative": AUTH.format_map({**GOOD, "ttl": "-1"}),
    "lease_duration has 400 digits": AUTH.format_map({**GOOD, "ttl": "9" * 400}),
    "lease_duration has 5000 digits": AUTH.format_map({**GOOD, "ttl": "9" * 5000}),
    "lease_duration is true": AUTH.format_map({**GOOD, "ttl": "true"}),
    "renewable is a text": AUTH.format_map({**GOOD, "renewable": '"true"'}),
    "no auth": "{}",
    "auth is a list": '{"auth": []}',
    "no JSON": "<html>",
    "an empty token": AUTH.format_map({**GOOD, "token": '""'}),
}


class Teller(FaultyProxy):
    """Passes on what Vault says, but for the answers that it was given."""

    def __init__(self, target: str) -> None:
        super().__init__(target, self._told)
        self.instead: dict[str, str] = {}

    def _told(self, _method: str, path: str) -> Fault | None:
        text = next((text for where, text in self.instead.items() if path.startswith(where)), None)
        return None if text is None else Fault(body=text.encode())


@pytest.fixture
def path(vault: Vault) -> str:
    """Return the path of a secret of this test's own."""
    vault.write(path := unique("app"), SECRETS)
    return path


@pytest.fixture
def teller(vault: Vault) -> Iterator[Teller]:
    """Return what stands between the test and Vault."""
    proxy = Teller(vault.url)
    with proxy.running():
        yield proxy


@pytest.fixture
def open_session() -> Iterator[Callable[..., VaultSession]]:
    """Return what makes a session, whose clock stands still; all are closed in the end."""
    made: list[VaultSession] = []

    def make(settings: dict[str, Any]) -> VaultSession:
        made.append(VaultSession(VaultSettings.model_validate(settings), lambda: 1000.0))
        return made[-1]

    yield make
    for session in made:
        session.close()


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_login_answer_does_not_stick(
    vault: Vault, path: str, teller: Teller, open_session: Callable[..., VaultSession], name: str
) -> None:
    """It is an error of its own, and the next login, of an honest Vault, brings the secret."""
    session = open_session({**vault.app_role(path), "url": teller.url})
    teller.instead[LOGIN] = MALFORMED[name]
    with pytest.raises(UnexpectedAnswer) as caught:
        VaultKV(session).read(path)
    assert caught.value.subject == "auth/approle/login"
    assert session.current() is None
    teller.instead.clear()
    session.clock = lambda: 1000.0 + LOGIN_PAUSE
    assert VaultKV(session).read(path).data == SECRETS


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_renewal_leads_to_a_login(
    vault: Vault, path: str, teller: Teller, open_session: Callable[..., VaultSession], name: str
) -> None:
    """As a refused one does; reads go on."""
    session = open_session({**vault.app_role(path), "url": teller.url})
    assert VaultKV(session).read(path).data == SECRETS
    first = session.current()
    keeper = TokenKeeper(lambda: session)
    keeper.tick()
    teller.instead[RENEWAL] = MALFORMED[name]
    session.clock = lambda: 1000.0 + 1100
    keeper.tick()
    assert session.current() not in {first, None}
    assert VaultKV(session).read(path).data == SECRETS


@pytest.mark.parametrize("name", MALFORMED)
def test_a_token_that_was_handed_in_is_not_blamed_for_a_malformed_renewal(
    vault: Vault, path: str, teller: Teller, open_session: Callable[..., VaultSession], name: str
) -> None:
    """It stays in use, and is renewed when Vault is honest again."""
    policy = unique("policy")
    vault.client.sys.create_or_update_policy(policy, READ_POLICY.format(path=path))
    token = vault.client.auth.token.create(policies=[policy], ttl="1h")["auth"]["client_token"]
    session = open_session({"enabled": True, "url": teller.url, "token": token})
    assert VaultKV(session).read(path).data == SECRETS
    keeper = TokenKeeper(lambda: session)
    teller.instead[LOOKUP] = MALFORMED[name]
    keeper.tick()
    login = session.current()
    assert login is not None
    assert login.lifetime is None
    teller.instead = {RENEWAL: MALFORMED[name]}
    keeper.tick()
    assert login.lifetime == pytest.approx(3600, abs=60)
    session.clock = lambda: 1000.0 + 3000
    keeper.tick()
    assert session.current() is login
    teller.instead.clear()
    keeper.tick()
    assert login.since == session.clock()
    assert VaultKV(session).read(path).data == SECRETS


@pytest.mark.parametrize("said", ['{"data": {}}', '{"data": {"secret_id": 5}}', '{"data": {"secret_id": "a\\nb"}}'])
def test_a_malformed_secret_id_is_not_sent(
    vault: Vault, path: str, teller: Teller, open_session: Callable[..., VaultSession], said: str
) -> None:
    """An unwrapped one, that is; the wrapping token is tried again, since nobody has used it up."""
    settings = vault.app_role(path)
    role = next(
        each
        for each in vault.client.auth.approle.list_roles()["data"]["keys"]
        if vault.client.auth.approle.read_role_id(each)["data"]["role_id"] == settings["role_id"]
    )
    answer = vault.client.adapter.post(f"/v1/auth/approle/role/{role}/secret-id", json={}, wrap_ttl="60s")
    wrapped = {**settings, "secret_id": answer["wrap_info"]["token"], "secret_id_wrapped": True, "url": teller.url}
    session = open_session(wrapped)
    teller.instead["/v1/sys/wrapping/unwrap"] = said
    with pytest.raises(UnexpectedAnswer, match="no secret id in it"):
        VaultKV(session).read(path)
    assert ("POST", LOGIN) not in teller.requests
    teller.instead.clear()
    session.clock = lambda: 1000.0 + LOGIN_PAUSE
    assert VaultKV(session).read(path).data == SECRETS


@pytest.mark.parametrize("errors", ['{"errors": [5, null]}', '{"errors": "x"}', '{"errors": {}}', "[]", "5", '"x"'])
def test_a_refusal_with_malformed_errors_is_a_refusal(
    vault: Vault, path: str, open_session: Callable[..., VaultSession], errors: str
) -> None:
    """What cannot be read of it is left out."""
    fault = Fault(status=400, body=errors.encode())
    proxy = FaultyProxy(vault.url, lambda _method, where: fault if where.startswith("/v1/secret/") else None)
    with proxy.running() as url:
        session = open_session({**vault.app_role(path), "url": url})
        with pytest.raises(BackendError):
            VaultKV(session).read(path)


WRAPPED = json.dumps({"data": None, "auth": None, "wrap_info": {"token": "canary", "ttl": 60}})


@pytest.mark.parametrize("operation", ["read", "write", "list", "capabilities", "login"])
def test_a_wrapped_answer_is_recognised(
    vault: Vault, path: str, teller: Teller, open_session: Callable[..., VaultSession], operation: str
) -> None:
    """Whatever was asked; the token in it is not shown."""
    settings = {**vault.app_role(path), "url": teller.url, "access_mode": "read_and_write"}
    session = open_session(settings)
    teller.instead[LOGIN if operation == "login" else "/v1/secret/"] = WRAPPED
    teller.instead["/v1/sys/capabilities-self"] = WRAPPED
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: VaultKV(session).read(path),
        "write": lambda: VaultKVWriter(session).write(path, {"a": "b"}),
        "list": lambda: VaultKVWriter(session).list("folder"),
        "capabilities": lambda: VaultKV(session).capabilities(["secret/data/x"]),
        "login": session.client,
    }
    with pytest.raises(UnexpectedAnswer, match="the answer is response-wrapped") as caught:
        calls[operation]()
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "condition", ['min_wrapping_ttl = "1s"', 'max_wrapping_ttl = "90s"', 'required_parameters = ["reason"]']
)
def test_a_policy_with_a_condition_is_not_said_to_lack_a_capability(
    vault: Vault, path: str, open_session: Callable[..., VaultSession], condition: str
) -> None:
    """For a read and for a write."""
    capabilities = '["create", "read", "update"]'
    policy = READ_POLICY.replace('["read"] }}', f"{capabilities}\n {condition}\n }}}}", 1)
    session = open_session({**vault.app_role(path, policy=policy), "access_mode": "read_and_write"})
    for call, capability in (
        (lambda: VaultKV(session).read(path), "read"),
        (lambda: VaultKVWriter(session).write(path, {"a": "b"}), "update"),
    ):
        with pytest.raises(PermissionDenied, match=f"the token has the capability {capability}") as caught:
            call()
        assert "lacks" not in str(caught.value)
        assert "min_wrapping_ttl" in caught.value.cause
        assert f"secret/data/{path}" in caught.value.remedy


def test_a_second_factor_that_was_asked_for_is_not_asked_for_at_every_read(
    vault: Vault, path: str, teller: Teller, open_session: Callable[..., VaultSession]
) -> None:
    """A login that was refused is not repeated at once; the service logs in when the rule is gone."""
    mfa = {"mfa_request_id": "x", "mfa_constraints": {"rule": {}}}
    session = open_session({**vault.app_role(path), "url": teller.url})
    teller.instead[LOGIN] = json.dumps({"auth": {"client_token": "", "mfa_requirement": mfa}})
    for _ in range(3):
        with pytest.raises(LoginRefused, match="the login wants MFA"):
            VaultKV(session).read(path)
    assert teller.requests == [("POST", LOGIN)]
    teller.instead.clear()
    session.clock = lambda: 1000.0 + LOGIN_PAUSE
    assert VaultKV(session).read(path).data == SECRETS
