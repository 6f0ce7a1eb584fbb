"""How dynamic secrets are named, and how texts refer to them."""

from pathlib import Path
from urllib.parse import quote

import pytest

from app.config import Settings
from app.core.errors import BadReference, BadSettings
from app.core.settings.dynamic import DynamicSecret
from app.core.settings.references import parse_reference, references_in, substitute


@pytest.fixture(autouse=True)
def _enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ENABLED", "true")
    monkeypatch.setenv("VAULT_URL", "http://127.0.0.1:8200")


def test_a_name_a_path_and_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins over `.env`, name by name."""
    Path(".env").write_text("VAULT_DYNAMIC__SHOP=database/creds/other\nVAULT_DYNAMIC__QUEUE=rabbitmq/creds/shop\n")
    monkeypatch.setenv("VAULT_DYNAMIC__SHOP", "/v1/database/creds/shop/")
    monkeypatch.setenv("BAO_DYNAMIC__TLS", "pki/issue/shop?common_name=shop.internal&ttl=24h")
    found = {each.name: each for each in Settings.of_environment().vault.dynamic}
    assert found["shop"] == DynamicSecret("shop", "database/creds/shop")
    assert found["queue"].path == "rabbitmq/creds/shop"
    assert found["tls"].parameters == (("common_name", "shop.internal"), ("ttl", "24h"))


def test_further_vaults_have_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text finds the Vault by the name of the dynamic secret."""
    monkeypatch.setenv("VAULTS__PARTNER__URL", "http://127.0.0.1:8300")
    monkeypatch.setenv("VAULTS__PARTNER__TOKEN", "token")
    monkeypatch.setenv("VAULTS__PARTNER__DYNAMIC__LEDGER", "database/creds/ledger")
    monkeypatch.setenv("SECRET_LEDGER_USER", "{dynamic://ledger/username}")
    settings = Settings.of_environment()
    assert settings.vaults["partner"].dynamic == (DynamicSecret("ledger", "database/creds/ledger"),)
    assert settings.source_of(parse_reference("{dynamic://ledger/username}")) == "partner"
    assert settings.source_of(parse_reference("{vault://vault/a/b}")) == "vault"
    with pytest.raises(BadSettings, match="no dynamic secret other; there is: ledger"):
        settings.source_of(parse_reference("{dynamic://other/username}"))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"VAULT_DYNAMIC__SHOP": "database/../sys"}, "VAULT_DYNAMIC__SHOP: must not contain the segments"),
        ({"VAULT_DYNAMIC__1": "database/creds/shop"}, "VAULT_DYNAMIC__1: its name must consist of"),
        ({"VAULT_DYNAMIC__SHOP": "?ttl=1h"}, "VAULT_DYNAMIC__SHOP: is empty"),
        ({"VAULT_DYNAMIC__SHOP": "pki/issue/a?=1"}, "a parameter without a name"),
        ({"SECRET_URL": "{dynamic://shop/username}"}, "SECRET_URL: .*there is no dynamic secret shop; there is: none"),
        ({"SECRET_URL": "{dynamic://shop}"}, "one of its fields"),
        (
            {
                "VAULT_DYNAMIC__SHOP": "database/creds/a",
                "VAULTS__PARTNER__URL": "http://127.0.0.1:8300",
                "VAULTS__PARTNER__TOKEN": "token",
                "VAULTS__PARTNER__DYNAMIC__SHOP": "database/creds/b",
            },
            "VAULTS__PARTNER__DYNAMIC__SHOP: is there twice: the Vault vault has one of this name, too",
        ),
        (
            {
                "VAULT_DYNAMIC__SHOP": "database/creds/a",
                "VAULTS__PARTNER__URL": "http://127.0.0.1:8300",
                "VAULTS__PARTNER__TOKEN": "token",
                "SECRET_URL": "{dynamic://shop/username}-{vault://partner/a/b}.",
            },
            "SECRET_URL: refers to more than one Vault",
        ),
        (
            {
                "VAULT_ENABLED": "false",
                "VAULT_DYNAMIC__SHOP": "database/creds/a",
                "SECRET_URL": "{dynamic://shop/username}",
            },
            "needs VAULT_ENABLED=true",
        ),
    ],
)
def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str) -> None:
    """By its variable."""
    monkeypatch.setenv("VAULT_TOKEN", "token")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=message):
        Settings.of_environment()


def test_both_kinds_of_references_in_one_url() -> None:
    """Each value is encoded for where it stands."""
    text = (
        "postgresql://{dynamic://shop/username}:{dynamic://shop/password}@{vault://vault/db/host}/shop?x={{dynamic://"
    )
    assert [each.addressee for each in references_in(text)] == ["dynamic://shop", "dynamic://shop", "vault"]
    values = {"username": "v-1", "password": "a/b c", "host": "db.example.com"}
    assert substitute(text, lambda each: values[each.key or ""]) == (
        f"postgresql://v-1:{quote(values['password'], safe='')}@db.example.com/shop?x={{dynamic://"
    )


@pytest.mark.parametrize(
    "text",
    [
        "{dynamic://shop}",
        "{dynamic://shop/}",
        "{dynamic:///username}",
        "{dynamic://Shop/username}",
        "{dynamic://shop/a/b}",
        "{dynamic://shop/a?default=x}",
        "{dynamic://shop/a#1}",
        "{dynamic://shop/a b}",
        "{dynamic://shop/%2e%2e}",
    ],
)
def test_references_that_are_none(text: str) -> None:
    """They say which form is right."""
    with pytest.raises(BadReference):
        parse_reference(text)


def test_a_dynamic_reference_that_is_not_closed() -> None:
    """As of the other kind."""
    with pytest.raises(BadReference, match=r"to mean the text itself, write \{\{dynamic://"):
        references_in("x {dynamic://shop/username")
