"""The settings of the Conjur side: CyberArk's names, and what is said about mistakes."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.config import Settings, get_settings
from app.core.errors import BadSettings
from app.extras.conjur.index import conjur_source
from app.extras.conjur.settings import ConjurSettings

GIVEN = {
    "CONJUR_ENABLED": "true",
    "CONJUR_APPLIANCE_URL": "https://conjur.example.com/api",
    "CONJUR_ACCOUNT": "default",
    "CONJUR_AUTHN_LOGIN": "host/apps/shop",
    "CONJUR_AUTHN_API_KEY": "canary",
}


def settings_of(monkeypatch: pytest.MonkeyPatch, **variables: str | None) -> ConjurSettings:
    """Return what these variables make of a complete set; None takes one away."""
    for name, value in {**GIVEN, **variables}.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    return get_settings().conjur


def problems(monkeypatch: pytest.MonkeyPatch, **variables: str | None) -> list[str]:
    """Return what is said about them."""
    with pytest.raises(BadSettings) as caught:
        settings_of(monkeypatch, **variables)
    assert "canary" not in str(caught.value)
    return caught.value.problems


def test_nothing_is_needed_while_conjur_is_disabled() -> None:
    """And nothing is read."""
    settings = get_settings()
    assert settings.conjur == ConjurSettings()
    assert conjur_source(settings).load() == ()


def test_cyberarks_names_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its own tools know them."""
    conjur = settings_of(
        monkeypatch,
        CONJUR_CERT_FILE="/tls/ca.pem",
        CONJUR_CLIENT_CERT="/tls/app.pem",
        CONJUR_CLIENT_KEY="/tls/app.pem",
        CONJUR_POLICY_BRANCH="apps/shop/keys",
        CONJUR_VARIABLES="db/url, key = vault/api key ,a=b=c",
    )
    assert conjur.enabled
    assert conjur.appliance_url == "https://conjur.example.com/api"
    assert (conjur.account, conjur.authn_login, conjur.policy_branch) == ("default", "host/apps/shop", "apps/shop/keys")
    assert conjur.cert_file == Path("/tls/ca.pem")
    assert conjur.variables == (("url", "db/url"), ("key", "vault/api key"), ("a", "b=c"))
    assert "canary" not in repr(conjur)


def test_an_address_may_have_any_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Vault's address must not have is no matter of Conjur's."""
    assert settings_of(monkeypatch, CONJUR_APPLIANCE_URL="https://x/v1/ui/").appliance_url == "https://x/v1/ui"


def test_a_ca_may_be_written_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a variable cannot hold line breaks."""
    assert settings_of(monkeypatch, CONJUR_SSL_CERTIFICATE=r"a\nb").ssl_certificate == "a\nb"


def test_everything_that_lacks_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its variable."""
    nothing = {**dict.fromkeys(GIVEN), "CONJUR_ENABLED": "true", "VAULT_ENABLED": "true", "VAULT_TOKEN": ""}
    found = problems(monkeypatch, **nothing)
    assert [problem.split(":")[0] for problem in found] == [
        "VAULT_TOKEN",
        "CONJUR_APPLIANCE_URL",
        "CONJUR_ACCOUNT",
        "CONJUR_AUTHN_API_KEY",
        "CONJUR_AUTHN_LOGIN",
    ]
    assert "CONJUR_ENABLED=true needs CONJUR_APPLIANCE_URL" in found[1]


@pytest.mark.parametrize(
    ("variables", "variable", "said"),
    [
        ({"CONJUR_AUTHN_TOKEN_FILE": "/token"}, "CONJUR_AUTHN_API_KEY", "more than one way to log in"),
        ({"CONJUR_AUTHN_JWT_SERVICE_ID": "kube"}, "CONJUR_AUTHN_API_KEY", "more than one way to log in"),
        ({"CONJUR_AUTHN_LOGIN": None}, "CONJUR_AUTHN_LOGIN", "such as host/"),
        ({"CONJUR_AUTHN_JWT_FILE": "/jwt"}, "CONJUR_AUTHN_JWT_FILE", "needs CONJUR_AUTHN_JWT_SERVICE_ID"),
        ({"CONJUR_CLIENT_CERT": "/x"}, "CONJUR_CLIENT_KEY", "belong together"),
        ({"CONJUR_CLIENT_KEY": "/x"}, "CONJUR_CLIENT_KEY", "belong together"),
        ({"CONJUR_CERT_FILE": "/x", "CONJUR_SSL_CERTIFICATE": "x"}, "CONJUR_SSL_CERTIFICATE", "set one"),
        ({"CONJUR_APPLIANCE_URL": "conjur"}, "CONJUR_APPLIANCE_URL", "must start with http"),
        ({"CONJUR_ACCOUNT": "a:b"}, "CONJUR_ACCOUNT", "without : and /"),
        ({"CONJUR_ACCOUNT": ".."}, "CONJUR_ACCOUNT", "segments . or .."),
        ({"CONJUR_AUTHN_LOGIN": ".."}, "CONJUR_AUTHN_LOGIN", "segments . or .."),
        ({"CONJUR_POLICY_BRANCH": "a/../b"}, "CONJUR_POLICY_BRANCH", "segments . or .."),
        ({"CONJUR_VARIABLES": "a,,b"}, "CONJUR_VARIABLES", "is empty"),
        ({"CONJUR_VARIABLES": "a/../b"}, "CONJUR_VARIABLES", "segments . or .."),
        ({"CONJUR_VARIABLES": "=a/b"}, "CONJUR_VARIABLES", "no name in front"),
        ({"CONJUR_VARIABLES": "x/key,y/key"}, "CONJUR_VARIABLES", "x/key and y/key would both be key"),
    ],
)
def test_each_mistake_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str | None], variable: str, said: str
) -> None:
    """With the variable to change."""
    (problem,) = problems(monkeypatch, **variables)
    assert problem.startswith(f"{variable}: ")
    assert said in problem


@pytest.mark.parametrize(
    "way",
    [
        {"CONJUR_AUTHN_API_KEY_FILE": "/key", "CONJUR_AUTHN_API_KEY": None},
        {"CONJUR_AUTHN_TOKEN_FILE": "/token", "CONJUR_AUTHN_API_KEY": None, "CONJUR_AUTHN_LOGIN": None},
        {"CONJUR_AUTHN_JWT_SERVICE_ID": "kube", "CONJUR_AUTHN_API_KEY": None, "CONJUR_AUTHN_LOGIN": None},
    ],
    ids=str,
)
def test_one_way_to_log_in_is_enough(monkeypatch: pytest.MonkeyPatch, way: dict[str, str | None]) -> None:
    """A login is needed with an API key only."""
    assert settings_of(monkeypatch, **way).enabled


def test_a_reference_needs_conjur(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reported with the entry; and no Vault may take Conjur's name."""
    monkeypatch.setenv("SECRET_X", "{vault://conjur/a/b}")
    monkeypatch.setenv("VAULTS__CONJUR__URL", "https://x")
    monkeypatch.setenv("VAULTS__CONJUR__TOKEN", "x")
    found = problems(monkeypatch, **dict.fromkeys(GIVEN))
    assert [problem.split(":")[0] for problem in found] == ["VAULTS__CONJUR"]
    monkeypatch.delenv("VAULTS__CONJUR__URL")
    monkeypatch.delenv("VAULTS__CONJUR__TOKEN")
    Settings.settings_clear_cache()
    (problem,) = problems(monkeypatch, **dict.fromkeys(GIVEN))
    assert "SECRET_X: {vault://conjur/a/b}: needs CONJUR_ENABLED=true" in problem


def test_conjur_is_among_the_known_names_once_it_is_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a text cannot mix what does not rotate together."""
    monkeypatch.setenv("SECRET_X", "{vault://nope/a/b}")
    monkeypatch.setenv("SECRET_Y", "x:{vault://conjur/a/b}:{vault://vault/a/b}")
    monkeypatch.setenv("VAULT_ENABLED", "true")
    found = problems(monkeypatch)
    assert found[0].endswith("there is no Vault named nope; there is: vault, conjur")
    assert "refers to more than one Vault" in found[1]


def test_a_session_asks_for_what_the_start_did_not() -> None:
    """Where Conjur is disabled."""
    with pytest.raises(BadSettings, match="CONJUR_ACCOUNT"):
        _ = conjur_source(get_settings()).session


@given(ending=st.text(alphabet=st.characters(categories=["L", "N", "P"])))
def test_no_value_is_ever_shown(ending: str) -> None:
    """Neither the settings nor the report about wrong ones repeat a credential."""
    wrong: dict[str, Any] = {"authn_api_key": f"canary{ending}", "ssl_certificate": f"canary{ending}", "cert_file": "x"}
    with pytest.raises(ValidationError) as caught:
        ConjurSettings.model_validate({**wrong, "account": f"canary:{ending}"})
    assert "canary" not in str(caught.value)
