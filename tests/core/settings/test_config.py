"""Settings: what is read from where, and what is said about mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.config import Settings, get_settings
from app.core.errors import BadSettings
from app.core.settings.vault import REQUIRED_BY_METHOD, VaultSettings
from app.extras.conjur.settings import ConjurSettings  # extra: conjur
from infrastructure.seed import SECRET_PATH
from tests.support import ROOT


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
    assert settings.vault.secret_path == (SECRET_PATH,)


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
    assert all(f"'{method}'" in problem for method in REQUIRED_BY_METHOD)


@pytest.mark.parametrize("bound", [{}, {"VAULT_MAX_STALENESS": "86400"}])
def test_a_bound_that_no_refresh_can_keep_is_refused(monkeypatch: pytest.MonkeyPatch, bound: dict[str, str]) -> None:
    """Also if it is the default: whoever refreshes rarely must say how old secrets may become."""
    (problem,) = problems(monkeypatch, VAULT_REFRESH_INTERVAL="90000", **bound)
    assert problem.startswith("VAULT_MAX_STALENESS: is 86400, but must be 0 or at least twice VAULT_REFRESH_INTERVAL")
    assert "which is 90000" in problem
    monkeypatch.setenv("VAULT_MAX_STALENESS", "180000")
    assert get_settings().vault.max_staleness == 180000


@pytest.mark.parametrize("method", [method for method, needs in REQUIRED_BY_METHOD.items() if needs])
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


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("unix://run/agent.sock", "absolute path"),
        ("unix://", "absolute path"),
        ("unix:///", "absolute path"),
        ("unix://%2Frun%2Fagent.sock", "absolute path"),
        ("unix:///run/agent.sock/v1", "/v1"),
        ("unix:///run/agent\x07.sock", "control characters"),
        (f"unix:///run/{'x' * 104}", "bytes"),
        ("http+unix://%2Frun%2Fagent.sock", "http://"),
    ],
)
@pytest.mark.parametrize("variable", ["VAULT_URL", "VAULTS__PARTNER__URL"])
def test_a_wrong_socket_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str, why: str
) -> None:
    """Its path is absolute, stands there as it is, and is short enough."""
    problem, *others = problems(monkeypatch, **{variable: url})
    assert problem.startswith(f"{variable}: ")
    assert why in problem
    assert [other for other in others if other.startswith(variable)] == []


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("unix:///run/agent.sock", "unix:///run/agent.sock"),
        ("UNIX:///run/agent.sock/", "unix:///run/agent.sock"),
        ("unix:/run/agent.sock", "unix:///run/agent.sock"),
        (" unix:///run/a gent%20?#.sock\n", "unix:///run/a gent%20?#.sock"),
    ],
)
def test_a_socket_is_an_address(monkeypatch: pytest.MonkeyPatch, url: str, meant: str) -> None:
    """In production, too: what goes through it does not leave the machine."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("VAULT_URL", url)
    assert get_settings().vault.url == meant


@pytest.mark.parametrize("username", ["a/b", ".", "..", "a\x00b"])
def test_a_user_name_that_would_lead_elsewhere_is_refused(username: str) -> None:
    """It is one segment of the path to which the password is sent."""
    with pytest.raises(ValidationError, match="must be a name, without slashes"):
        VaultSettings.model_validate({"auth_method": "userpass", "username": username})


@pytest.mark.parametrize(
    "url",
    [
        "ht\ttp://vault.example.com",
        "http://vault.exa mple.com",
        "https://vault\u200b.example.com",
        "https://vault.example.com/a\nb",
        "https://vault.example.com/a b",
    ],
)
@pytest.mark.parametrize(
    "variable",
    [
        "VAULT_URL",
        "VAULTS__PARTNER__URL",
        "CONJUR_APPLIANCE_URL",  # extra: conjur
    ],
)
def test_blanks_inside_an_address_are_refused(monkeypatch: pytest.MonkeyPatch, variable: str, url: str) -> None:
    """Python's own parser would drop some of them, and lead to another address than the one that stands there."""
    if variable.startswith("VAULTS__"):
        monkeypatch.setenv("VAULTS__PARTNER__TOKEN", "x")
    (problem,) = problems(monkeypatch, **{variable: url})
    assert problem == f"{variable}: must not contain blanks or control characters"


NORMAL = {
    "HTTPS://Vault.Example.com": "https://vault.example.com",
    "Https://VAULT.example.com:8200/": "https://vault.example.com:8200",
    " https://vault.example.com/Team/Vault/ \r\n": "https://vault.example.com/Team/Vault",
    "HTTP://LocalHost:8200": "http://localhost:8200",
    "http://[FE80::A]:8200": "http://[fe80::a]:8200",
    "https://vault.example.com:": "https://vault.example.com",
    "\u00a0https://vault.example.com?": "https://vault.example.com",
}


@pytest.mark.parametrize("url", NORMAL)
def test_scheme_and_host_of_an_address_are_in_lower_case(url: str) -> None:
    """Whatever the case in which they are given; the path is kept as it is."""
    assert VaultSettings(url=url).url == NORMAL[url]
    assert ConjurSettings(appliance_url=url).appliance_url == NORMAL[url]  # extra: conjur
    named = Settings.model_validate({"vaults": {"partner": {"url": url, "token": "x"}}})
    assert named.vault_settings("partner").url == NORMAL[url]


AROUND = {
    "a line end": "{}\n",
    "a line end of Windows": "{}\r\n",
    "blanks": " \t{}  ",
    "a no-break space": "\u00a0{}",
    "a mark": "\ufeff{}\u200b",
}
GIVEN = {
    "ENVIRONMENT": "staging",
    "ALLOW_INSECURE": "http",
    "LOG_LEVEL": "debug",
    "STATUS_PAGE": "true",  # extra: status
    "VAULT_ENABLED": "true",
    "VAULT_ADDR": "https://vault.example.com",
    "VAULT_AUTH_METHOD": "approle",
    "VAULT_TOKEN": "hvs.canary",
    "VAULT_ROLE_ID": "canary-role-id",
    "VAULT_SECRET_ID_FILE": "/run/secret-id",
    "VAULT_CACERT": "/run/ca.pem",
    "VAULT_NAMESPACE": "team",
    "VAULT_SECRET_PATH": "app",
    "VAULT_KV_VERSION": "2",
    "VAULT_TIMEOUT": "7",
    "VAULT_FAIL_FAST": "yes",
    "VAULT_REFRESH_INTERVAL": "60",
    # extra: conjur
    "CONJUR_ENABLED": "true",
    "CONJUR_APPLIANCE_URL": "https://conjur.example.com",
    "CONJUR_ACCOUNT": "default",
    "CONJUR_AUTHN_LOGIN": "host/app",
    "CONJUR_AUTHN_API_KEY": "canary-api-key",
    "CONJUR_VARIABLES": "app/db",
    # /extra
    "VAULTS__PARTNER__URL": "https://partner.example.com",
    "VAULTS__PARTNER__TOKEN": "hvs.canary-of-partner",
    "VAULTS__PARTNER__ROLE": "shop",
}


@pytest.mark.parametrize("where", ["environment", ".env"])
@pytest.mark.parametrize("around", AROUND)
def test_blanks_around_a_value_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, around: str, where: str
) -> None:
    """A file that was made with `echo`, or on Windows, ends with a line end; a SECRET_<NAME> stays exactly as it is."""

    def read(form: str) -> Settings:
        given = {name: form.format(value) for name, value in {**GIVEN, "SECRET_A": "canary-value"}.items()}
        (tmp_path / ".env").write_text("")
        with monkeypatch.context() as patch:
            patch.delenv("VAULT_TOKEN")
            if where == "environment":
                for name, value in given.items():
                    patch.setenv(name, value)
            else:
                escaped = {name: value.encode("unicode_escape").decode() for name, value in given.items()}
                escaped |= {name: value for name, value in given.items() if not value.isascii()}
                (tmp_path / ".env").write_text("".join(f'{name}="{value}"\n' for name, value in escaped.items()))
            Settings.settings_clear_cache()
            return get_settings()

    plain, padded = read("{}"), read(AROUND[around])
    assert padded.model_copy(update={"secrets": {}}) == plain.model_copy(update={"secrets": {}})
    assert padded.secrets["a"].get_secret_value() == AROUND[around].format("canary-value")


@pytest.mark.parametrize("blank", [" ", "\n", "\t \r\n"])
def test_a_variable_of_blanks_is_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blank: str) -> None:
    """The default counts, or what `.env` says, also by another name; what is needed is asked for."""
    monkeypatch.setenv("VAULT_TOKEN", blank)
    monkeypatch.setenv("VAULT_TIMEOUT", blank)
    monkeypatch.setenv("VAULT_ADDR", blank)
    monkeypatch.setenv("VAULTS__PARTNER__URL", blank)
    monkeypatch.setenv("SECRET_BLANK", blank)
    (tmp_path / ".env").write_text("VAULT_TOKEN_FILE=/run/token\n")
    settings = get_settings()
    assert (settings.vault.token, settings.vault.token_file) == (None, Path("/run/token"))
    assert (settings.vault.timeout, settings.vault.url, settings.vaults) == (5, "http://127.0.0.1:8200", {})
    assert settings.secrets["blank"].get_secret_value() == blank
    (tmp_path / ".env").unlink()
    Settings.settings_clear_cache()
    (problem,) = problems(monkeypatch, VAULT_ENABLED="true")
    assert problem.startswith("VAULT_TOKEN: VAULT_AUTH_METHOD=token needs VAULT_TOKEN or VAULT_TOKEN_FILE")


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
        *((group, *pair) for group in ("VAULT_", "VAULTS__PARTNER__") for pair in VaultSettings.value_or_file.items()),
        *(("CONJUR_", *pair) for pair in ConjurSettings.value_or_file.items()),  # extra: conjur
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
            own = getattr(settings, group.strip("_").lower(), None) or settings.vaults["partner"]
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


def test_the_settings_are_ready_before_the_first_use() -> None:
    """Pydantic would build them under a lock, which a child may inherit held by a thread of its parent's."""
    code = "from app.config import Settings; assert Settings.__pydantic_complete__"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        ("app??", "one ?"),
        ("?", "is empty"),
        ("app,app-{enviroment}", "only {environment} is understood"),
        ("app-{environment", "only {environment} is understood"),
        ("app-${environment}", "only {environment} is understood"),
        ("app-{{environment}}", "only {environment} is understood"),
        ("{environment}/../x", "segments"),
    ],
)
def test_a_path_that_cannot_be_meant_is_refused(monkeypatch: pytest.MonkeyPatch, paths: str, why: str) -> None:
    """A misspelt placeholder would be a path that is never there, and an optional one would say nothing."""
    (problem,) = problems(monkeypatch, VAULT_SECRET_PATH=paths)
    assert problem.startswith("VAULT_SECRET_PATH: ")
    assert why in problem


def test_every_vault_has_the_name_of_the_environment_in_its_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """And which of them may be missing."""
    monkeypatch.setenv("ENVIRONMENT", "staging")
    monkeypatch.setenv("VAULT_SECRET_PATH", "app, {environment}/app ?, app?")
    monkeypatch.setenv("VAULTS__PARTNER__URL", "https://partner.example.com")
    monkeypatch.setenv("VAULTS__PARTNER__TOKEN", "x")
    monkeypatch.setenv("VAULTS__PARTNER__SECRET_PATH", "{environment}")
    assert get_settings().vault.paths == {"app": False, "staging/app": True}
    assert get_settings().vaults["partner"].paths == {"staging": False}


def test_a_vault_that_nobody_has_named_is_refused_with_those_that_there_are() -> None:
    """And with the variable that would name it."""
    settings = Settings.model_validate(
        {"vaults": {"partner": {"enabled": True, "url": "http://127.0.0.1:1", "token": "t"}}}
    )
    assert settings.vault_settings("partner").url == "http://127.0.0.1:1"
    with pytest.raises(
        BadSettings, match="VAULTS__OTHER_ONE__URL: there is no Vault named other-one; there is: vault, partner"
    ):
        settings.vault_settings("other-one")


@pytest.mark.parametrize("wrong", [{"secrets": 5}, {"environment": "moon", "vault": {}}], ids=str)
def test_one_wrong_group_keeps_no_other_from_being_looked_at(wrong: dict[str, object]) -> None:
    """It is the one fault that is told."""
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(wrong)
    assert [error["loc"] for error in caught.value.errors()] == [(next(iter(wrong)),)]
