"""The policy that the service writes: readable, least privilege, and proof against whatever stands in an id."""

from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from app import NAME
from app.config import Settings
from app.extras.conjur.policy import conjur_policy, declare, delete, yaml_string
from infrastructure.seed import SECRET_PATH
from tests.extras.conjur.policy_syntax import Item, parse

LOGIN = {"authn_login": "host/apps/shop", "authn_api_key": "canary", "appliance_url": "http://x", "account": "a"}


def policy_of(mode: str = "read_only", secrets: dict[str, str] | None = None, **conjur: Any) -> str:
    """Return the policy for these settings."""
    fields = {"conjur": {"enabled": True, **LOGIN, **conjur}, "vault": {"access_mode": mode}, "secrets": secrets or {}}
    return conjur_policy(Settings.model_validate(fields))


def test_it_reads_as_a_person_would_write_it() -> None:
    """The host, the variables that it reads, the permit, and the branch that it owns, with what it reads there."""
    assert policy_of(
        "read_and_write",
        {"other": "x-{vault://conjur/team/other}", "again": "{vault://conjur/db/url}", "literal": "x"},
        variables="db/url,mine=apps/keys/mine,apps/keys/a/b",
        policy_branch="apps/keys",
    ) == (
        """\
- !host
  id: "apps/shop"
  annotations:
    authn/api-key: true
- !policy
  id: "apps/keys"
  owner: !host "apps/shop"
  body:
    - !variable "mine"
    - !variable "a/b"
- !variable "db/url"
- !variable "team/other"
- !permit
  role: !host "apps/shop"
  privileges: [read, execute]
  resources:
    - !variable "db/url"
    - !variable "team/other"
"""
    )


def test_it_permits_what_the_access_mode_allows_and_no_more() -> None:
    """No branch for who does not write, nothing to read for who only writes."""
    assert "!policy" not in policy_of(variables="a")
    assert "!permit" in policy_of(variables="a")
    assert "!permit" not in policy_of("write_only", variables="a")
    assert f'id: "{SECRET_PATH}/api-keys"' in policy_of("write_only", variables="a")
    assert "!policy" not in policy_of("read_and_write", policy_branch="root"), "nobody is given the root"


@pytest.mark.parametrize(
    ("login", "whom"),
    [
        ({}, "!host 'apps/shop'"),
        ({"authn_login": "alice"}, "!user 'alice'"),
        ({"authn_login": None, "authn_token_file": "/token", "authn_api_key": None}, f"!host '{NAME}'"),
    ],
)
def test_it_is_about_who_logs_in(login: dict[str, Any], whom: str) -> None:
    """A host, a user, or who the service would be."""
    assert f"role: {whom}".replace("'", '"') in policy_of(variables="a", **login)


def test_it_says_what_a_jwt_needs_besides() -> None:
    """It may use the authenticator; which claims count is the site's own."""
    jwt: dict[str, Any] = {"authn_jwt_service_id": "kube", "authn_login": None, "authn_api_key": None}
    policy = policy_of(**jwt)
    assert "# Give it the annotations authn-jwt/kube/…" in policy
    assert "api-key" not in policy
    host, permit = parse(policy.encode())
    assert (host.tag, permit.fields["role"].tag, permit.fields["role"].fields) == ("!host", "!host", host.fields)
    assert permit.fields["privileges"] == ["read", "authenticate"]
    assert permit.fields["resource"] == Item("!webservice", {"id": "conjur/authn-jwt/kube"})


def test_the_administrator_is_not_declared_anew() -> None:
    """He is there; what he would own is."""
    policy = policy_of("read_and_write", authn_login="admin", policy_branch="keys")
    assert [item.tag for item in parse(policy.encode())] == ["!policy"]


@given(st.text())
def test_any_text_is_one_string_to_yaml(text: str) -> None:
    """Quotes, line breaks of every kind, and what YAML would take for something else; all of it is ASCII."""
    assert yaml_string(text).isascii()
    assert yaml.safe_load(yaml_string(text)) == text


@example(name="x", notes={"ü" * 2000: "long keys need another form"})
@given(name=st.text(min_size=1), notes=st.dictionaries(st.text(), st.text()))
def test_an_id_is_one_record_whatever_stands_in_it(name: str, notes: dict[str, str]) -> None:
    """A statement for one variable stays that."""
    expected = Item("!variable", {"id": name, **({"annotations": notes} if notes else {})})
    assert parse(declare(name, notes).encode()) == [expected]
    assert parse(delete(name).encode()) == [Item("!delete", {"record": Item("!variable", {"id": name})})]
