"""Vault's and OpenBao's own tools have other names for some variables; each place and each pair has an order."""

from pathlib import Path

import pytest

from app.config import Settings, get_settings
from app.core.errors import BadSettings, LoginRefused
from app.core.settings.vault import VaultSettings
from app.core.transport.error_causes import tls_cause

A, B, C = "https://a.example.com", "https://b.example.com", "https://c.example.com"
IN = {"VAULT_URL": A, "BAO_ADDR": B, "VAULT_ADDR": C}


def settings_of(monkeypatch: pytest.MonkeyPatch, dotenv: str = "", **variables: str) -> VaultSettings:
    """Return what these variables, and a `.env`, set of Vault."""
    monkeypatch.delenv("VAULT_TOKEN", raising=False)
    Path(".env").write_text(dotenv)
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        Settings.settings_clear_cache()
        return get_settings().vault


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        (["VAULT_URL", "BAO_ADDR", "VAULT_ADDR"], A),
        (["BAO_ADDR", "VAULT_ADDR"], B),
        (["VAULT_URL", "VAULT_ADDR"], A),
        (["VAULT_ADDR"], C),
        (["BAO_ADDR"], B),
    ],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_the_first_of_three_names_is_the_address(
    monkeypatch: pytest.MonkeyPatch, given: list[str], counts: str, place: str
) -> None:
    """VAULT_URL, BAO_ADDR, VAULT_ADDR; in the environment as in `.env`."""
    made = {name: IN[name] for name in given}
    if place == "environment":
        assert settings_of(monkeypatch, **made).url == counts
    else:
        assert settings_of(monkeypatch, "".join(f"{name}={url}\n" for name, url in made.items())).url == counts


def test_an_empty_name_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one counts."""
    assert settings_of(monkeypatch, VAULT_URL="", BAO_ADDR=" \n", VAULT_ADDR=C).url == C


@pytest.mark.parametrize("name", ["BAO_ADDR", "VAULT_ADDR"])
def test_the_environment_wins_over_the_file_by_any_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As for every other pair of names."""
    assert settings_of(monkeypatch, f"VAULT_URL={A}\n", **{name: B}).url == B


@pytest.mark.parametrize(
    ("ours", "value"),
    [
        ("TOKEN", "s.token"),
        ("NAMESPACE", "team"),
        ("CACERT", "/tls/ca.pem"),
        ("CACERT_BYTES", "PEM"),
        ("CAPATH", "/tls"),
        ("CLIENT_KEY", "/tls/key.pem"),
        ("TLS_SERVER_NAME", "vault.internal"),
        ("ROLE_ID", "role"),
    ],
)
def test_every_variable_may_begin_with_bao(monkeypatch: pytest.MonkeyPatch, ours: str, value: str) -> None:
    """Those that OpenBao's tools know, and ours beside them."""
    assert settings_of(monkeypatch, **{f"BAO_{ours}": value}) == settings_of(monkeypatch, **{f"VAULT_{ours}": value})


@pytest.mark.parametrize(("address", "token"), [("BAO_ADDR", "bao"), ("VAULT_URL", "vault"), ("VAULT_ADDR", "vault")])
def test_the_other_names_go_with_the_address(monkeypatch: pytest.MonkeyPatch, address: str, token: str) -> None:
    """The token of one server must not go to the other: a shell may have both tools' variables."""
    made = settings_of(monkeypatch, **{address: A, "VAULT_TOKEN": "vault", "BAO_TOKEN": "bao"})
    assert made.token is not None
    assert made.token.get_secret_value() == token


@pytest.mark.parametrize(("address", "file"), [("BAO_ADDR", "VAULT_TOKEN_FILE"), ("VAULT_URL", "BAO_TOKEN_FILE")])
def test_a_file_of_the_others_does_not_count(monkeypatch: pytest.MonkeyPatch, address: str, file: str) -> None:
    """Although a file counts before a value of its own kind."""
    token = file.replace("_FILE", "").replace("VAULT", "X").replace("BAO", "VAULT").replace("X", "BAO")
    made = settings_of(monkeypatch, **{address: A, token: "right", file: "/run/token"})
    assert made.token_file is None
    assert made.token is not None
    assert settings_of(monkeypatch, **{address: A, file: "/run/token"}).token_file == Path("/run/token")


def test_a_setting_of_yours_may_begin_like_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no other name of ours stays what it is."""

    class Yours(Settings):
        bao_mode: str = "raw"

    monkeypatch.setenv("BAO_MODE", "steamed")
    assert Yours().bao_mode == "steamed"


def test_a_token_of_the_environment_wins_over_a_token_file_of_the_other_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """By whichever name."""
    made = settings_of(monkeypatch, "VAULT_TOKEN_FILE=/run/token\n", BAO_TOKEN="bao")
    assert (made.token_file, made.token is not None) == (None, True)


def test_a_ca_of_the_environment_wins_over_another_kind_of_ca_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the three kinds, one counts."""
    made = settings_of(monkeypatch, "VAULT_CACERT_BYTES=PEM\nVAULT_CAPATH=/tls\n", BAO_CACERT="/tls/ca.pem")
    assert (made.cacert_bytes, made.cacert, made.capath) == (None, Path("/tls/ca.pem"), None)


def test_a_wrong_value_is_reported_by_the_name_that_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """And by ours."""
    with pytest.raises(BadSettings) as caught:
        settings_of(monkeypatch, BAO_ADDR="canary")
    (problem,) = caught.value.problems
    assert problem.startswith("VAULT_URL: must start with http:// or https://")
    assert problem.endswith("(it is set as BAO_ADDR)")


def test_an_error_names_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """To set the other name would change nothing, where this one goes first."""
    monkeypatch.delenv("VAULT_TOKEN", raising=False)
    error = LoginRefused("VAULT_TOKEN", "wrong", "Check VAULT_URL, and VAULT_TOKEN_FILE.")
    assert str(error) == "VAULT_TOKEN: wrong. Check VAULT_URL, and VAULT_TOKEN_FILE."
    for name in ("BAO_ADDR", "BAO_TOKEN"):
        monkeypatch.setenv(name, "set")
    assert str(error) == "BAO_TOKEN: wrong. Check BAO_ADDR, and VAULT_TOKEN_FILE."


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("VAULT_CACERT", "VAULT_CACERT"),
        ("VAULT_CACERT_BYTES", "VAULT_CACERT_BYTES"),
        ("VAULT_CAPATH", "VAULT_CAPATH"),
        ("BAO_CACERT_BYTES", "VAULT_CACERT_BYTES"),
        ("UNRELATED", "VAULT_CACERT"),
    ],
)
def test_the_ca_that_is_set_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, said: str) -> None:
    """There are three ways to set it; the error's own text then takes the name that was used."""
    monkeypatch.setenv(variable, "set")
    _, remedy = tls_cause("certificate verify failed: self-signed certificate", "Vault", "VAULT_URL")
    assert remedy == f"Put this CA into {said} (PEM)."


@pytest.mark.parametrize(("variable", "said"), [("VAULT_TLS_SERVER_NAME", "VAULT_TLS_SERVER_NAME"), ("X", "VAULT_URL")])
def test_the_name_that_is_compared_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, said: str) -> None:
    """Another address would not help, where the name is set by itself."""
    monkeypatch.setenv(variable, "set")
    reason = "certificate verify failed: Hostname mismatch, certificate is not valid for 'x'."
    _, remedy = tls_cause(reason, "Vault", "VAULT_URL")
    assert remedy.startswith(f"Set {said} to a name that it is for")


def test_production_refuses_to_skip_the_verification_by_either_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would notice otherwise that it is not skipped."""
    for name in ("VAULT_SKIP_VERIFY", "BAO_SKIP_VERIFY"):
        with pytest.raises(BadSettings, match="certificates are always verified"):
            settings_of(monkeypatch, ENVIRONMENT="production", **{name: "true"})


@pytest.mark.parametrize(
    "name", ["https://vault.example.com", "vault:8200", "a b", "ä.example.com", "..", "a..b", ".", "a" * 64, "a." * 130]
)
def test_a_server_name_is_a_name_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It is compared with what is in the certificate."""
    with pytest.raises(BadSettings, match="VAULT_TLS_SERVER_NAME: must be a host name or an IP address alone"):
        settings_of(monkeypatch, VAULT_TLS_SERVER_NAME=name)


@pytest.mark.parametrize("text", ["/", "root", "/root/", " / "])
def test_the_root_namespace_has_two_names(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """For the login while the secrets are in another one."""
    made = settings_of(monkeypatch, VAULT_NAMESPACE="team", VAULT_LOGIN_NAMESPACE=text)
    assert (made.home, made.place) == (None, "team")
    made = settings_of(monkeypatch, VAULT_NAMESPACE=text)
    assert (made.home, made.place) == (None, None)
