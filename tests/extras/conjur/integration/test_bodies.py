"""What does Conjur make of a body without a type? So the stand-in must answer, or nobody would notice a missing one."""

import pytest

from app.core.errors import LoginRefused
from app.extras.conjur.index import conjur_source
from tests.extras.conjur.fixtures import Servers
from tests.extras.conjur.rack import FORM
from tests.extras.conjur.support import Conjur
from tests.support import unique

FORMS = {  # what a server says to each without a type; what was not tried on a real one follows from Rack's rules
    "% without two hex digits": (b"100%sure", 422),
    "% at the end": (b"a=100%", 422),
    "more than 64 KiB without =": (b"x" * 70_000, 422),
    "invalid UTF-8": (b"\xff\xfe", 422),
    "invalid UTF-8, encoded": (b"%FF", 422),
    "a text and a level": (b"a=1&a[b]=2", 422),
    "a list and a level": (b"a[]=1&a[b]=2", 422),
    "a text and a list": (b"a=1&a[]=2", 422),
    "too many parameters": (b"x" + b"&" * 5000, 422),
    "too many levels": (b"a" + b"[b]" * 100 + b"=1", 422),
    "a hundred levels": (b"a" + b"[b]" * 99 + b"=1", 201),
    "DELETE": (b"x=a&_method=DELETE", 404),
    "PUT, in small letters": (b"_method=put", 404),
    "GET": (b"_method=GET", 200),
    "GET, encoded": (b"%5Fmethod=%47ET", 200),
    "no method": (b"_method=COPY", 201),
    "a level": (b"a[b][c]=1&a[b][d]=2&a[e][]=3&a[f][][g]=4", 201),
    "a name without a value, and a level": (b"a&a[b]=2", 201),
    "less than 64 KiB": (b"x" * 60_000, 201),
    "a long value": (b"x=" + b"y" * 70_000, 201),
    "brackets": (b"[[]]=1&[]&]", 201),
    "escapes": (b"a%20b+c%00", 201),
}
NO_TYPES = {
    "none": None,
    "an empty one": "",
    "no media type": "octets",
    "half a media type": "text/",
    "a form's": FORM,
    "a form's, in capitals": f"{FORM.upper()} ; charset=utf-8",
}


@pytest.fixture
def standin(conjur_servers: Servers) -> Conjur:
    """Return the stand-in."""
    return conjur_servers("stand-in")


@pytest.mark.parametrize("kind", NO_TYPES)
@pytest.mark.parametrize("name", FORMS)
def test_without_a_type_a_body_is_taken_for_a_form(standin: Conjur, name: str, kind: str) -> None:
    """As on the real server: what cannot be read counts as empty, and `_method` is obeyed."""
    variable, (body, expected) = standin.variable("before"), FORMS[name]
    headers = {"Content-Type": NO_TYPES[kind]}
    answer = standin.send("POST", "secrets", standin.account, "variable", variable, data=body, headers=headers)
    assert answer.status_code == expected
    assert ("'value' may not be empty" in answer.text) == (expected == 422)
    assert standin.get(variable) == (body if expected == 201 else b"before")


@pytest.mark.parametrize("kind", [*NO_TYPES.values(), "application/x-yaml", "application/json"])
def test_a_policy_is_yaml_whatever_its_type_says(standin: Conjur, kind: str | None) -> None:
    """Conjur says so itself, before Rack looks."""
    policy = f"- !variable '{unique('100%sure')}'\n".encode()
    path = "policies", standin.account, "policy", standin.branch
    for method in ("POST", "PATCH"):
        assert standin.send(method, *path, data=policy, headers={"Content-Type": kind}).status_code == 201


@pytest.mark.parametrize("kind", [*NO_TYPES.values(), "text/plain"])
def test_a_login_takes_a_key_of_any_type(standin: Conjur, kind: str | None) -> None:
    """As recorded."""
    path = "authn", standin.account, standin.login, "authenticate"
    answer = standin.send("POST", *path, data=standin.api_key.encode(), headers={"Content-Type": kind})
    assert answer.status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/json; charset=utf-8", "application/octet-stream"])
@pytest.mark.parametrize("name", FORMS)
def test_with_another_type_any_body_is_a_value(standin: Conjur, name: str, kind: str) -> None:
    """Whatever form it looks like."""
    variable, (body, _) = standin.variable("before"), FORMS[name]
    answer = standin.send(
        "POST", "secrets", standin.account, "variable", variable, data=body, headers={"Content-Type": kind}
    )
    assert (answer.status_code, standin.get(variable)) == (201, body)


def test_a_key_is_no_form_either(standin: Conjur) -> None:
    """A wrong one stays a wrong one, whatever it would ask for as a form."""
    assert standin.standin is not None
    before = len(standin.standin.requests)
    with pytest.raises(LoginRefused, match="wrong key"):
        conjur_source(standin.settings((standin.login, "_method=GET"))).session.call("x", "GET", "whoami")
    assert [call.status for call in standin.standin.requests[before:]] == [401]
