"""What Vault says of a token is checked where it is read: a malformed answer is no login, and breaks nothing later."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import BadRequest, BlueprintError, UnexpectedAnswer
from app.core.vault.answers import checked_lookup
from app.core.vault.auth_methods import Auth

GOOD = {
    "client_token": "s.token",
    "lease_duration": 60,
    "renewable": True,
    "num_uses": 0,
    "token_type": "service",
    "policies": ["default"],
    "mfa_requirement": None,
}
KNOWN: dict[str, Any] = {
    "ttl": 60,
    "renewable": True,
    "num_uses": 0,
    "policies": ["default"],
    "type": "service",
    "meta": None,
}
NUMBERS: list[Any] = ["60", None, True, -1, math.nan, math.inf, 10**400, [60], {}]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


def several(field: str, values: list[Any]) -> list[tuple[str, Any]]:
    """Pair a field with each value."""
    return [(field, value) for value in values]


@pytest.mark.parametrize("more", [{}, {"lease_duration": 0}, {"lease_duration": 3600.0}, {"num_uses": None}])
def test_what_vault_sends_is_taken(more: dict[str, Any]) -> None:
    """Also what a proxy has written again, and what an older version leaves out."""
    assert Auth.from_answer({"auth": {**GOOD, **more}}).client_token == "s.token"
    bare = {name: GOOD[name] for name in ("client_token", "lease_duration", "renewable")}
    assert Auth.from_answer({"auth": bare}).num_uses == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *several("lease_duration", NUMBERS),
        *several("num_uses", ["x", 1.5, True, -1, [1]]),
        *several("client_token", ["", "hvs.☃", "two\nlines", "a b", "tab\t", "\x7f", None, 5, ["x"]]),
        *several("renewable", ["true", None, 1]),
        *several("policies", ["default", [1], {}]),
        ("token_type", ["service"]),
    ],
)
def test_a_malformed_login_is_no_login(field: str, value: Any) -> None:
    """Whatever of it is malformed; the value is not repeated."""
    with pytest.raises(UnexpectedAnswer) as caught:
        Auth.from_answer({"auth": {**GOOD, field: value}}, "auth/approle/login")
    assert caught.value.subject == "auth/approle/login"
    assert "☃" not in str(caught.value)
    assert "s.token" not in str(caught.value)


@pytest.mark.parametrize("answer", [{}, {"auth": None}, {"auth": []}, {"auth": "x"}, [], None, "x", {"data": {}}])
def test_an_answer_without_a_token_is_no_login(answer: Any) -> None:
    """However little of it there is."""
    with pytest.raises(UnexpectedAnswer, match="no token in it"):
        Auth.from_answer(answer)


@pytest.mark.parametrize("constraints", [{"need-totp": {}}, {}, None, {"a\nb": {}}])
def test_a_login_that_wants_a_second_factor_says_so(constraints: Any) -> None:
    """With the name of the rule, if it is one."""
    requirement = {"mfa_request_id": "canary", "mfa_constraints": constraints}
    with pytest.raises(BadRequest, match="the login wants MFA") as caught:
        Auth.from_answer({"auth": {**GOOD, "client_token": "", "mfa_requirement": requirement}})
    assert ("need-totp" in str(caught.value)) == (constraints == {"need-totp": {}})
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrapped_answer_says_so() -> None:
    """To a login, and to a question about the token."""
    wrapped = {"data": None, "auth": None, "wrap_info": {"token": "canary", "ttl": 60}}
    for read in (Auth.from_answer, checked_lookup):
        with pytest.raises(UnexpectedAnswer, match="response-wrapped") as caught:
            read(wrapped)
        assert "X-Vault-Wrap-TTL" in caught.value.remedy
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *several("ttl", NUMBERS),
        *several("num_uses", ["x", None, 1.5, True]),
        *several("renewable", ["true", 1]),
        *several("policies", ["default", [None]]),
        ("type", 5),
        ("meta", ["x"]),
    ],
)
def test_a_malformed_lookup_is_recognised(field: str, value: Any) -> None:
    """It is no word on the token's life."""
    assert checked_lookup({"data": KNOWN}) == KNOWN
    assert checked_lookup({"data": {**KNOWN, "num_uses": -1}})["num_uses"] == -1, "the last use was this one"
    with pytest.raises(UnexpectedAnswer, match=field):
        checked_lookup({"data": {**KNOWN, field: value}})


@given(field=st.sampled_from([*GOOD, "wrap_info"]), junk=JUNK)
def test_nothing_that_json_can_hold_gets_through_malformed(field: str, junk: Any) -> None:
    """What is taken can be sent, counted and compared; everything else is an error of this project's."""
    answer = json.loads(
        json.dumps({"auth": {**GOOD, field: junk}, "wrap_info": junk if field == "wrap_info" else None})
    )
    try:
        auth = Auth.from_answer(answer)
    except BlueprintError:
        return
    assert auth.client_token.isascii()
    assert math.isfinite(auth.lease_duration or 0.0)
    assert (auth.lease_duration or 0.0) >= 0
    assert auth.num_uses >= 0
    assert isinstance(auth.token_type, str)
