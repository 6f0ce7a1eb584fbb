"""Settings: what is read from where, and what is said about mistakes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.config import NEEDED, TWICE, Settings, VaultSettings, get_settings
from app.config_conjur import ConjurSettings
from app.errors import BadSettings


def problems(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    """Return what is said about these variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as caught:
        get_settings()
    return caught.value.problems


def test_an_empty_environment_gives_the_documented_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be set to import and start the service."""
    monkeypatch.delenv("VAULT_TOKEN")
    settings = get_settings()
    assert not settings.vault.enabled
    assert settings.environment == "development"
    assert settings.vault == VaultSettings()
    assert settings.vault.secret_path == ("python-production-blueprint",)


def test_every_problem_is_reported_at_once_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistakes of form and missing credentials come in one list."""
    found = problems(
        monkeypatch,
        LOG_LEVEL="LOUD",
        VAULT_ENABLED="true",
        VAULT_AUTH_METHOD="approle",
        VAULT_URL="vault.example.com",
        VAULT_TIMEOUT="soon",
        VAULT_SECRET_PATH="a/../b",
    )
    assert [problem.split(":")[0] for problem in found] == [
        "LOG_LEVEL",
        "VAULT_URL",
        "VAULT_ROLE_ID",
        "VAULT_SECRET_PATH",
        "VAULT_TIMEOUT",
    ]
    assert "VAULT_ROLE_ID or VAULT_ROLE_ID_FILE" in found[2]


def test_an_unsupported_method_is_a_value_error_that_lists_the_supported_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list comes from the type, so it cannot be out of date."""
    (problem,) = problems(monkeypatch, VAULT_AUTH_METHOD="carrier-pigeon")
    assert issubclass(BadSettings, ValueError)
    assert all(f"'{method}'" in problem for method in NEEDED)


@pytest.mark.parametrize("bound", [{}, {"VAULT_MAX_STALENESS": "86400"}])
def test_a_bound_that_no_refresh_can_keep_is_refused(monkeypatch: pytest.MonkeyPatch, bound: dict[str, str]) -> None:
    """Also if it is the default: whoever refreshes rarely must say how old secrets may become."""
    (problem,) = problems(monkeypatch, VAULT_REFRESH_INTERVAL="90000", **bound)
    assert problem.startswith("VAULT_MAX_STALENESS: is 86400, but must be 0 or at least twice VAULT_REFRESH_INTERVAL")
    assert "which is 90000" in problem
    monkeypatch.setenv("VAULT_MAX_STALENESS", "180000")
    assert get_settings().vault.max_staleness == 180000


@pytest.mark.parametrize("method", NEEDED)
def test_a_method_without_its_credentials_is_refused(method: str) -> None:
    """What a method needs is asked for at the start, not at the first login."""
    with pytest.raises(ValidationError, match=f"VAULT_AUTH_METHOD={method} needs VAULT_"):
        VaultSettings.model_validate({"enabled": True, "auth_method": method})


def test_credentials_are_not_asked_for_while_vault_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Development without Vault needs no credentials."""
    monkeypatch.setenv("VAULT_AUTH_METHOD", "approle")
    assert get_settings().vault.auth_method == "approle"


def test_an_empty_credential_is_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`VAULT_TOKEN=` in a file means that nobody filled it in."""
    (problem,) = problems(monkeypatch, VAULT_ENABLED="true", VAULT_TOKEN="")
    assert problem.startswith("VAULT_TOKEN: ")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("vault.example.com:8200", "http://"),
        ("ftp://vault.example.com", "http://"),
        ("https://", "name a host"),
        ("https://user:canary@vault.example.com", "credentials"),
        ("https://vault.example.com/v1", "/v1"),
        ("https://vault.example.com/ui/", "/ui"),
        ("https://vault.example.com?x=1", "query"),
        ("https://vault.example.com:port", "not a URL"),
    ],
)
def test_a_wrong_address_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch, url: str, why: str) -> None:
    """Each slip is named; the address itself, which may carry a password, is not repeated."""
    (problem,) = problems(monkeypatch, VAULT_URL=url)
    assert problem.startswith("VAULT_URL: ")
    assert why in problem
    assert "canary" not in problem


def test_a_prefix_of_a_reverse_proxy_and_a_closing_slash_are_fine() -> None:
    """Vault may sit behind a path."""
    assert VaultSettings(url="https://example.com/vault/").url == "https://example.com/vault"


@pytest.mark.parametrize("path", ["", "/", "a/../b", "./a", "a\nb", "a,", "\x00"])
def test_a_path_that_no_secret_can_have_is_refused(path: str) -> None:
    """Traversal, control characters and gaps in a list are slips, or worse."""
    with pytest.raises(ValidationError):
        VaultSettings.model_validate({"secret_path": path})


@pytest.mark.parametrize("path", ["/team/app", "team/app/", "team//app", " team/app "])
def test_slashes_and_blanks_around_a_path_do_not_matter(path: str) -> None:
    """Vault's own tools accept them too."""
    assert VaultSettings.model_validate({"secret_path": path}).secret_path == ("team/app",)


def test_several_paths_are_separated_by_commas() -> None:
    """The order is kept, since later ones win."""
    assert VaultSettings.model_validate({"secret_path": "b, a,c d"}).secret_path == ("b", "a", "c d")


def test_the_environment_wins_over_dotenv_and_dotenv_over_the_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As everywhere."""
    (tmp_path / ".env").write_text("VAULT_TIMEOUT=7\nVAULT_MOUNT_POINT=team\nSECRET_A=from-dotenv\n")
    monkeypatch.setenv("VAULT_MOUNT_POINT", "other")
    settings = get_settings()
    assert (settings.vault.timeout, settings.vault.mount_point) == (7, "other")
    assert settings.secrets["a"].get_secret_value() == "from-dotenv"


@pytest.mark.parametrize(
    ("group", "name", "other"),
    [
        *(
            (group, name, TWICE[name])
            for group in ("VAULT_", "VAULTS__PARTNER__")
            for name in TWICE
            if name in VaultSettings.model_fields
        ),
        *(("CONJUR_", name, TWICE[name]) for name in TWICE if name in ConjurSettings.model_fields),
    ],
)
def test_the_environment_wins_also_by_another_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, group: str, name: str, other: str
) -> None:
    """A value in the environment over the file that `.env` names, and the other way round; the rest of `.env` stays."""
    monkeypatch.delenv("VAULT_TOKEN")
    for here, there in ((name, other), (other, name)):
        lines = [
            f"{group}{there.upper()}=from-dotenv",
            "VAULT_TIMEOUT=7",
            "VAULTS__PARTNER__URL=https://vault.example.com",
        ]
        (tmp_path / ".env").write_text("\n".join([*lines, "VAULTS__PARTNER__ENABLED=false"]))
        for wins in (True, False):
            Settings.settings_clear_cache()
            with monkeypatch.context() as patch:
                patch.setenv(f"{group}{here.upper()}", "from-the-environment" if wins else "")  # empty: not set
                settings = get_settings()
            own = {"VAULT_": settings.vault, "CONJUR_": settings.conjur}.get(group) or settings.vaults["partner"]
            assert settings.vault.timeout == 7
            assert [getattr(own, each) is not None for each in (here, there)] == [wins, not wins]


def test_a_token_of_the_shell_does_no_harm_to_another_method(tmp_path: Path) -> None:
    """Whoever uses Vault's own tools has one in the environment."""
    (tmp_path / ".env").write_text("VAULT_ENABLED=true\nVAULT_AUTH_METHOD=approle\nVAULT_ROLE_ID_FILE=role-id\n")
    assert get_settings().vault.role_id_file == Path("role-id")


@pytest.mark.parametrize("text", ["VAULT_TIMEOUT=7\r\nLOG_LEVEL=debug\r\n", "\ufeffVAULT_TIMEOUT=7\nLOG_LEVEL=DEBUG\n"])
def test_dotenv_may_come_from_windows(tmp_path: Path, text: str) -> None:
    """Line ends and a byte-order mark are no part of a value."""
    (tmp_path / ".env").write_bytes(text.encode())
    settings = get_settings()
    assert (settings.vault.timeout, settings.log_level) == (7, "DEBUG")


def test_a_dotenv_that_is_not_text_is_reported(tmp_path: Path) -> None:
    """An editor that saves UTF-16 is a common accident."""
    (tmp_path / ".env").write_bytes("VAULT_TIMEOUT=7\n".encode("utf-16"))
    with pytest.raises(BadSettings, match="UTF-8"):
        get_settings()


def test_the_name_that_vaults_own_tools_use_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """`VAULT_ADDR` is an alias; `VAULT_URL` wins if both are set."""
    monkeypatch.setenv("VAULT_ADDR", "https://addr.example.com")
    assert get_settings().vault.url == "https://addr.example.com"
    Settings.settings_clear_cache()
    monkeypatch.setenv("VAULT_URL", "https://url.example.com")
    assert get_settings().vault.url == "https://url.example.com"


@given(ending=st.text(alphabet=st.characters(categories=["L", "N", "P"])))
def test_no_value_is_ever_shown(ending: str) -> None:
    """Neither the settings nor the report about wrong ones repeat a credential."""
    value = f"canary{ending}"
    settings = VaultSettings.model_validate({"token": value, "role_id": value, "secret_id": value})
    assert "canary" not in repr(settings)
    with pytest.raises(ValidationError) as caught:
        VaultSettings.model_validate({"url": f"x{value}", "timeout": value, "secret_path": f"{value}/../x"})
    assert "canary" not in str(caught.value)
