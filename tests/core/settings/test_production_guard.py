"""Production: what is insecure is refused, all at once, unless somebody insists."""

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import ValidationError

from app.config import Settings, get_settings
from app.core.errors import BadSettings, LoginRefused
from app.core.settings.problems import bad_settings
from app.core.settings.production_guard import DEV_TOKEN, RefuseInsecure
from app.core.settings.types import ServerAddress
from app.core.settings.vault import VaultSettings
from app.core.transport.http import open_http, vault_client
from app.core.vault.auth_methods import auth_method
from infrastructure.dev_vault import ROOT_TOKEN


def problems(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    """Return what is said about these variables in production; nothing if all is well."""
    for name, value in {"ENVIRONMENT": "production", **variables}.items():
        monkeypatch.setenv(name, value)
    Settings.settings_clear_cache()
    try:
        get_settings()
    except BadSettings as error:
        return error.problems
    return []


def test_everything_insecure_is_reported_together_with_what_else_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """One start tells all, by the variable's name; no value is shown."""
    found = problems(
        monkeypatch,
        LOG_LEVEL="canary",
        CONJUR_APPLIANCE_URL="http://conjur.example.com",  # extra: conjur
        VAULT_ENABLED="true",
        VAULT_URL="http://vault.example.com:8200",
        VAULT_TOKEN=DEV_TOKEN,
        VAULT_TIMEOUT="canary",
        VAULT_SKIP_VERIFY="true",
        VAULTS__PARTNER__URL="http://partner.example.com",
        VAULTS__PARTNER__TOKEN=f" {DEV_TOKEN}\n",
        VAULTS__PARTNER__SKIP_VERIFY="1",
        VAULTS__PARTNER__TIMEOUT="canary",
    )
    assert sorted(problem.split(":")[0] for problem in found) == [
        "CONJUR_APPLIANCE_URL",  # extra: conjur
        "LOG_LEVEL",
        "VAULTS__PARTNER__SKIP_VERIFY",
        "VAULTS__PARTNER__TIMEOUT",
        "VAULTS__PARTNER__TOKEN",
        "VAULTS__PARTNER__URL",
        "VAULT_SKIP_VERIFY",
        "VAULT_TIMEOUT",
        "VAULT_TOKEN",
        "VAULT_URL",
    ]
    text = "\n".join(found)
    assert not any(value in text for value in ("canary", DEV_TOKEN, "example.com"))
    assert text.count("ALLOW_INSECURE=http") == sum(problem.split(":")[0].endswith("_URL") for problem in found)
    assert text.count("ALLOW_INSECURE=dev-token") == 2
    assert "VAULTS__PARTNER__CACERT" in text


def test_who_insists_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thing by its name; certificates are verified in any case."""
    variables = {"VAULT_URL": "http://vault.example.com", "VAULT_TOKEN": DEV_TOKEN, "SSLKEYLOGFILE": "/tmp/keys"}
    assert len(problems(monkeypatch, **variables)) == 3
    assert len(problems(monkeypatch, ALLOW_INSECURE="keylog")) == 2
    assert len(problems(monkeypatch, ALLOW_INSECURE="keylog, HTTP")) == 1
    assert problems(monkeypatch, ALLOW_INSECURE="keylog,http,dev-token,") == []
    (problem,) = problems(monkeypatch, VAULT_SKIP_VERIFY="true")
    assert problem.startswith("VAULT_SKIP_VERIFY: certificates are always verified")


class WithPartner(Settings):
    """Settings with an address more, as in docs/rotating-objects.md."""

    partner_url: Annotated[ServerAddress, RefuseInsecure] = "https://partner.example.com"


def test_a_single_address_is_checked_too() -> None:
    """One that somebody adds to the settings."""
    production: dict[str, Any] = {"environment": "production", "partner_url": "http://partner.example.com"}
    with pytest.raises(ValidationError) as caught:
        WithPartner.model_validate(production)
    (problem,) = bad_settings(caught.value).problems
    assert problem.startswith("PARTNER_URL: sends secrets in the clear")
    assert WithPartner.model_validate({**production, "allow_insecure": "http"}).partner_url.startswith("http:")
    assert WithPartner.model_validate({"environment": "production"}).partner_url.startswith("https:")


# extra: conjur
def test_conjurs_private_ca_has_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told not to switch verification off is told what to set instead."""
    found = problems(monkeypatch, CONJUR_SKIP_VERIFY="true")
    assert [each.split(":")[0] for each in found] == ["CONJUR_SKIP_VERIFY"]
    assert "CONJUR_CERT_FILE" in found[0]
    assert "VAULT_CACERT" not in found[0]


# /extra


def test_a_misspelt_allowance_allows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says what there is."""
    found = problems(monkeypatch, ALLOW_INSECURE="htpp", VAULT_URL="http://vault.example.com")
    assert [problem.split(":")[0] for problem in found] == ["ALLOW_INSECURE", "VAULT_URL"]
    assert "'dev-token', 'http' or 'keylog'" in found[0]


@pytest.mark.parametrize(
    "url",
    [
        "https://vault.example.com",
        "http://127.0.0.1:8200",
        "http://127.8.9.10",
        "http://[::1]:8200",
        "http://localhost:8200",
        "HTTP://LocalHost",
    ],
)
def test_this_machine_and_tls_are_fine(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """A Vault Agent beside the service speaks plain HTTP."""
    assert problems(monkeypatch, VAULT_URL=url, VAULT_SKIP_VERIFY="false") == []


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://127.1",
        "http://[::2]",
        "http://0.0.0.0",
        "HTTP://vault",
        "http://2130706433",
        " http://10.0.0.1",
        "\u00a0HTTP://10.0.0.1\n",
        "ht\ttp://10.0.0.1",
    ],
)
def test_what_only_looks_like_this_machine_is_not(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """In doubt, refuse; also where the settings come from code."""
    for variable in (
        "VAULT_URL",
        "VAULT_ADDR",
        "VAULTS__PARTNER__URL",
        "CONJUR_APPLIANCE_URL",  # extra: conjur
    ):
        with monkeypatch.context() as patch:
            if variable.startswith("VAULTS__"):
                patch.setenv("VAULTS__PARTNER__TOKEN", "x")
            (problem,) = problems(patch, **{variable: url})
        named = variable.replace("ADDR", "URL")
        assert problem.startswith(f"{named}: sends secrets in the clear")
    with pytest.raises(ValidationError, match="in the clear"):
        Settings.model_validate({"environment": "production", "vault": {"url": url}})


def test_nothing_is_refused_outside_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """Development and staging are for trying things."""
    variables = {"VAULT_URL": "http://vault.example.com", "VAULT_TOKEN": DEV_TOKEN, "SSLKEYLOGFILE": "/tmp/keys"}
    for environment in ("development", "staging"):
        assert problems(monkeypatch, **variables, ENVIRONMENT=environment) == []
    assert len(problems(monkeypatch, ENVIRONMENT="PRODUCTION")) == 3


def test_settings_that_come_from_code_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever builds the service by `create_app(settings)`."""
    monkeypatch.delenv("VAULT_TOKEN")
    vault = Settings.model_validate({"vault": {"url": "http://vault.example.com", "token": DEV_TOKEN}}).vault
    with pytest.raises(ValueError, match="in the clear"):
        Settings.model_validate({"environment": "production", "vault": vault})


@pytest.mark.parametrize("vault", ["vault", "partner"])
@pytest.mark.parametrize(
    ("refused", "settings"),
    [
        (True, {"environment": "production"}),
        (True, {"environment": "production", "allow_insecure": "http"}),
        (False, {"environment": "production", "allow_insecure": "dev-token"}),
        (False, {"environment": "staging"}),
    ],
)
def test_the_dev_token_in_a_file_is_refused_when_it_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vault: str, settings: dict[str, str], *, refused: bool
) -> None:
    """Also if it comes there later: a Vault Agent writes the file, and may do so after the start."""
    monkeypatch.delenv("VAULT_TOKEN")
    (tmp_path / "token").write_text("hvs.another")
    own = {"token_file": tmp_path / "token", "url": "https://vault.example.com"}
    made = Settings.model_validate({**settings, "vault": own, "vaults": {"partner": own}}).vault_settings(vault)
    with open_http(made) as http:
        client = vault_client(made, http)
        assert auth_method(made).login(client).client_token == "hvs.another"
        (tmp_path / "token").write_text(f" {DEV_TOKEN}\n")
        if refused:
            with pytest.raises(LoginRefused, match="ENVIRONMENT=production refuses") as caught:
                auth_method(made).login(client)
            assert caught.value.subject == f"VAULT_TOKEN_FILE={tmp_path / 'token'}"
            assert "ALLOW_INSECURE=dev-token" in caught.value.remedy
            assert DEV_TOKEN not in str(caught.value)
        else:
            assert auth_method(made).login(client).client_token == DEV_TOKEN


def test_settings_that_were_made_elsewhere_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """What production refuses must not come over the settings of a test, or of another service of the process."""
    monkeypatch.delenv("VAULT_TOKEN")
    own = VaultSettings()
    assert Settings(environment="production", vault=own).vault.refuses_dev_token
    assert not own.refuses_dev_token


def test_the_dev_token_is_the_dev_vaults() -> None:
    """The app does not import the infrastructure, so it says it again."""
    assert DEV_TOKEN == ROOT_TOKEN
