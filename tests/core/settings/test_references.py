"""References: the grammar and its cases, and what becomes of them in a text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import BadReference, KeyMissing
from app.core.settings.references import extract, is_reference, parse_reference, references_in, substitute
from tests.support import ROOT

CASES: list[dict[str, Any]] = json.loads((ROOT / "tests/core/settings/references.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["input"] or "empty")
def test_the_conformance_cases(case: dict[str, Any]) -> None:
    """Kong's own and this project's stricter ones."""
    text = case["input"]
    if case["verdict"] == "not_a_reference":
        assert not is_reference(text)
        with pytest.raises(BadReference):
            parse_reference(text)
        return
    assert is_reference(text)
    if case["verdict"] == "reject":
        with pytest.raises(BadReference):
            parse_reference(text)
        return
    reference = parse_reference(text)
    assert reference.name == case["name"]
    assert reference.resource == case["resource"]
    assert reference.key == case.get("key")
    assert dict(reference.options) == case.get("options", {})
    assert reference.version == case.get("version")


@pytest.mark.parametrize(
    "text",
    [
        "{vault://vault/a/%2e%2e/b}",
        "{vault://vault/a%2F..%2Fb/c}",
        "{vault://vault/%2E/b}",
        "{vault://vault/a/b%E2%80%AEc}",
        "{vault://vault/a/b%0A}",
        "{vault://vault/%FF/b}",
        "{vault://vault:8200/a/b}",
        "{vault://vault/a?x=1#1?y=2}",
        "{vault://vault/a#1#2}",
        "{vault://vault/a#٣}",
        "{vault://vault/a?=1}",
        "{vault://vault/" + "a" * 1_000_000 + "}",
    ],
    ids=lambda text: text[:40],
)
def test_what_could_lead_astray_is_refused(text: str) -> None:
    """Traversal in every form, invisible characters, other hosts, and what is far too long."""
    with pytest.raises(BadReference) as caught:
        parse_reference(text)
    assert len(str(caught.value)) < 500


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(inside: str) -> None:
    """It is understood or refused, never anything else; and what is understood has no way out."""
    try:
        reference = parse_reference(f"{{vault://{inside}}}")
    except BadReference:
        return
    assert reference.name
    assert not {".", ".."} & set(reference.resource.split("/"))
    assert all(segment for segment in [reference.resource])


DATA: dict[str, Any] = {
    "user": "app",
    "password": "p@ss/w:rd?",
    "port": 5432,
    "tls": True,
    "db": {"primary": {"user": "deep"}, "a.b": "dotted"},
    "db.primary": "literal",
    "host": "db.example.com",
    "evil": "x/../y",
}


def value_of(reference: Any) -> Any:
    """Pick from DATA."""
    return extract(reference, DATA)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{vault://vault/x/user}", "app"),
        ("{vault://vault/x/port}", 5432),
        ("{vault://vault/x/tls}", True),
        ("{vault://vault/x/}", DATA),
        ("{vault://vault/x/db.primary.user}", "deep"),
        ("{vault://vault/x/db.primary}", "literal"),
        ("{vault://vault/x/db.a%2Eb}", "dotted"),
        ("Bearer {vault://vault/x/user}", "Bearer app"),
        ("{vault://vault/x/user}:{vault://vault/x/port}", "app:5432"),
        ("tls={vault://vault/x/tls}", "tls=true"),
        ("plain", "plain"),
        ("{{vault://vault/x/user}", "{vault://vault/x/user}"),
        (
            "postgresql://{vault://vault/x/user}:{vault://vault/x/password}@{vault://vault/x/host}:{vault://vault/x/port}/app",
            "postgresql://app:p%40ss%2Fw%3Ard%3F@db.example.com:5432/app",
        ),
        (
            "jdbc:sqlserver://h:1433;user={vault://vault/x/user};password={vault://vault/x/host}",
            "jdbc:sqlserver://h:1433;user=app;password=db.example.com",
        ),
        ("https://h/{vault://vault/x/evil}?q={vault://vault/x/password}", "https://h/x%2F..%2Fy?q=p%40ss%2Fw%3Ard%3F"),
    ],
)
def test_texts_are_filled(text: str, value: Any) -> None:
    """One reference becomes the value as JSON gives it; inside a URL values are percent-encoded."""
    if text.startswith("{vault://vault/x/user}:"):
        with pytest.raises(BadReference):  # looks like one reference with braces inside
            substitute(text, value_of)
        return
    assert substitute(text, value_of) == value


@pytest.mark.parametrize(
    "text",
    [
        "https://{vault://vault/x/evil}/a",
        "jdbc:sqlserver://h;password={vault://vault/x/password}",
        "a {vault://vault/x/db}",
        "{vault://vault/x/}!",
    ],
)
def test_what_would_be_ambiguous_is_refused(text: str) -> None:
    """A slash in a host, an object in a text."""
    with pytest.raises(BadReference):
        substitute(text, value_of)


def test_a_missing_key_is_named_without_values() -> None:
    """With the keys that are there."""
    with pytest.raises(KeyMissing, match=r"there is no key 'nope'; the keys: db, db.primary, evil, host") as caught:
        substitute("{vault://vault/x/nope}", value_of)
    assert "p@ss" not in str(caught.value)


def test_unknown_options_are_refused() -> None:
    """The allow-list is short."""
    assert references_in("{vault://vault/x/y?default=z&optional=true}")
    with pytest.raises(BadReference, match="no option url"):
        references_in("see {vault://vault/x/y?url=https://evil}")
