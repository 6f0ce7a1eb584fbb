"""References against a real server: what they bring, what they cost, and what is said when they lead nowhere."""

from pathlib import Path
from typing import Any

import pytest

from app.config import Settings, get_settings
from app.core.errors import (
    BadReference,
    BadSettings,
    MountMissing,
    PermissionDenied,
    SeveralFailed,
    VersionDeleted,
    VersionMissing,
)
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.support import READ_POLICY, SECRETS, Service, Vault, environment, free_port, load_all, unique, until


class SecretRef:
    """A main secret and a second one, and the variables of a service that reads both."""

    def __init__(self, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
        self.vault = vault
        self.main, self.other = unique("main"), unique("other")
        vault.write(self.main, SECRETS)
        vault.write(self.other, {"user": "app", "password": "canary-p@ss", "db": {"port": 5432}})
        policy = READ_POLICY + f'path "secret/data/{self.other}" {{{{ capabilities = ["read"] }}}}'
        self.variables = environment(vault.app_role(self.main, policy=policy))
        self._monkeypatch = monkeypatch

    def settings(self, **secrets: str) -> Settings:
        """Return settings with these `SECRET_…` variables; `OTHER` stands for the second secret's path."""
        for name, value in {**self.variables, **self.named(secrets)}.items():
            self._monkeypatch.setenv(name, value)
        Settings.settings_clear_cache()
        return get_settings()

    def named(self, secrets: dict[str, str]) -> dict[str, str]:
        """Return the variables."""
        return {f"SECRET_{name.upper()}": value.replace("OTHER", self.other) for name, value in secrets.items()}


@pytest.fixture
def place(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> SecretRef:
    """Prepare the two secrets."""
    return SecretRef(vault, monkeypatch)


def load(place: SecretRef, **secrets: str) -> Any:
    """Load everything with these references, without the main secret."""
    loaded = dict(load_all(place.settings(**secrets)))
    return {name: value for name, value in loaded.items() if value != SECRETS.get(name)}


def test_references_add_and_replace_entries(place: SecretRef) -> None:
    """Whole values, parts of a URL, nested fields, a whole secret; a literal stays one."""
    url = "postgresql://{vault://vault/OTHER/user}:{vault://vault/OTHER/password}@db/app"
    assert load(
        place,
        database_url=url,
        jdbc="jdbc:postgresql://h/{vault://vault/OTHER/user}?password={vault://vault/OTHER/password}&ssl=true",
        port="{vault://vault/OTHER/db.port}",
        everything="{vault://vault/OTHER/}",
        literal="{{vault://vault/OTHER/user}",
    ) == {
        "database_url": "postgresql://app:canary-p%40ss@db/app",
        "jdbc": "jdbc:postgresql://h/app?password=canary-p%40ss&ssl=true",
        "port": 5432,
        "everything": {"user": "app", "password": "canary-p@ss", "db": {"port": 5432}},
        "literal": f"{{vault://vault/{place.other}/user}}",
    }


def test_one_request_a_path_however_many_keys(place: SecretRef) -> None:
    """So that values that belong together rotate together."""
    with place.vault.audited() as calls:
        load(place, a="{vault://vault/OTHER/user}", b="{vault://vault/OTHER/password}")
    assert sorted(where for _, where in calls if "data" in where) == sorted(
        f"secret/data/{path}" for path in (place.main, place.other)
    )


def test_a_version_can_be_asked_for(place: SecretRef) -> None:
    """The old one stays readable."""
    place.vault.write(place.other, {"user": "second"})
    assert load(place, old="{vault://vault/OTHER/user#1}", new="{vault://vault/OTHER/user}") == {
        "old": "app",
        "new": "second",
    }


def test_defaults_count_where_something_is_missing_and_nowhere_else(place: SecretRef) -> None:
    """Never for a denied path or a deleted version."""
    assert load(
        place,
        a="{vault://vault/OTHER/nope?default=d%20x}",
        c="{vault://vault/OTHER/nope?optional=true}",
        d="x-{vault://vault/OTHER/nope?optional=true}",
    ) == {"a": "d x"}
    with pytest.raises(PermissionDenied):
        load(place, a="{vault://vault/forbidden/x?default=d}", c="c", d="d")
    place.vault.client.secrets.kv.v2.delete_latest_version_of_secret(place.other)
    with pytest.raises(VersionDeleted):
        load(place, a="{vault://vault/OTHER/user?default=d}", c="c", d="d")


@pytest.mark.parametrize("kv_version", ["1", "2"])
@pytest.mark.parametrize("option", ["default=d", "optional=true"])
def test_a_default_does_not_hide_wrong_settings(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, kv_version: str, option: str
) -> None:
    """Where nothing is mounted, or there is no such namespace, it is not the secret that is missing."""
    for name, value in {"URL": vault.url, "TOKEN": vault.root_token, "KV_VERSION": kv_version}.items():
        monkeypatch.setenv(f"VAULTS__PARTNER__{name}", value)
    monkeypatch.setenv("SECRET_A", f"{{vault://partner/x/y?{option}}}")
    for setting, cause in (
        ("MOUNT_POINT", "nothing is mounted there.*VAULTS__PARTNER__MOUNT_POINT"),
        ("NAMESPACE", "there is no such namespace.*VAULTS__PARTNER__NAMESPACE"),
    ):
        if setting == "NAMESPACE" and vault.audit_log is None:
            pytest.skip("HashiCorp's image has no namespaces")
        with monkeypatch.context() as changed:
            changed.setenv(f"VAULTS__PARTNER__{setting}", unique("nowhere"))
            Settings.settings_clear_cache()
            with pytest.raises(MountMissing, match=cause):
                load_all()


def test_a_missing_version_is_no_missing_secret(place: SecretRef) -> None:
    """Whether the latest one is there or deleted; where there is no secret at all, the default counts."""
    for _ in range(2):
        for option in ("default=d", "optional=true"):
            with pytest.raises(VersionMissing, match="there is no version 9 of it"):
                load(place, a=f"{{vault://vault/OTHER/user?{option}#9}}")
        place.vault.client.secrets.kv.v2.delete_latest_version_of_secret(place.other)
    place.vault.client.secrets.kv.v2.delete_metadata_and_all_versions(place.other)
    assert load(place, a="{vault://vault/OTHER/user?default=d#9}") == {"a": "d"}


def test_all_that_fail_are_reported_together(place: SecretRef) -> None:
    """Each with its variable and reference, cause and remedy, and without a value; both where one text has two."""
    nope, key = "{vault://vault/OTHER/nope}".replace("OTHER", place.other), "{vault://vault/forbidden/x}"
    with pytest.raises(SeveralFailed) as caught:
        load(place, a=key, b=f"x {nope} {{vault://vault/OTHER/user}} {key} {nope} {{vault://vault/OTHER/db}}", c=nope)
    lines = str(caught.value).split("\n  ")
    assert lines[0] == "4 failures:"
    missing = "there is no key 'nope'; the keys: db, password, user. Check the key in this reference."
    assert [line.partition(": the token")[0] for line in lines[1:]] == [
        f"SECRET_A: {key}: secret/forbidden: permission denied",
        f"SECRET_B: {nope}: {missing}",
        f"SECRET_B: {key}: secret/forbidden: permission denied",
        f"SECRET_C: {nope}: {missing}",
    ]
    with pytest.raises(BadReference, match=r"^SECRET_A: {vault://vault/[^ ]*/db}: inside a longer text only strings"):
        load(place, a="x {vault://vault/OTHER/db}", b="b", c="c")
    assert "canary" not in str(caught.value)


def test_entries_that_miss_the_same_secret_are_told_apart(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable to check is the one with the reference."""
    for name, value in {"ENABLED": "true", "URL": vault.url, "TOKEN": vault.root_token, "SECRET_PATH": "gone"}.items():
        monkeypatch.setenv(f"VAULT_{name}", value)
    for name in "AB":
        monkeypatch.setenv(f"SECRET_{name}", f"{{vault://vault/gone/{name}}}")
    with pytest.raises(SeveralFailed) as caught:
        load_all()
    assert [(each.subject, each.remedy.partition("check ")[2]) for each in caught.value.errors] == [
        ("secret/gone", "VAULT_SECRET_PATH."),
        ("SECRET_A: {vault://vault/gone/A}: secret/gone", "SECRET_A."),
        ("SECRET_B: {vault://vault/gone/B}: secret/gone", "SECRET_B."),
    ]


def test_the_failures_of_all_vaults_are_reported_together(place: SecretRef, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only those of the first that fails."""
    addresses = {name: f"http://127.0.0.1:{free_port()}" for name in ("ONE", "TWO")}
    for name, address in addresses.items():
        for field, value in {"URL": address, "TOKEN": "x", "SECRET_PATH": "a"}.items():
            monkeypatch.setenv(f"VAULTS__{name}__{field}", value)
    with pytest.raises(SeveralFailed) as caught:
        load(place, a="{vault://vault/OTHER/nope}", b="{vault://vault/forbidden/x}")
    assert [each.subject.partition(": ")[0] for each in caught.value.errors] == [
        "SECRET_A",
        "SECRET_B",
        *addresses.values(),
    ]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("{vault://vault/../x/y}", "the segments . and .. are not allowed"),
        ("{vault://other/x/y}", "no Vault named other; there is: vault"),
        ("{vault://vault/x/y?host=evil}", "no option host"),
        ("postgresql://{vault://vault/x}@h:{vault://nope/x/y}/", "no Vault named nope"),
        (" https://canary:{vault://vault/x/y}@h", "must be one URL from its first character on"),
        ("url=https://canary:{vault://vault/x/y}@h", "must be one URL from its first character on"),
        ("{vault://vault/x/y}://canary:{vault://vault/x/y}@h", "must be one URL from its first character on"),
        ("https://h?to=https://h/{vault://vault/x/y}", "must be one URL from its first character on"),
        ("postgresql://app:canary{vault://vault/x/y@h", "a reference is not closed"),
        ("{{vault://vault/x/y} {vault://vault/x", "a reference is not closed"),
        ("{vault://vault/x/y?optional=yes}", "the option optional is true or false"),
    ],
)
def test_what_cannot_be_resolved_is_reported_at_the_start(place: SecretRef, value: str, why: str) -> None:
    """With the variable, before anything is sent."""
    with pytest.raises(BadSettings) as caught:
        place.settings(url=value)
    assert caught.value.problems[0].startswith("SECRET_URL: ")
    assert why in caught.value.problems[0]
    assert "canary" not in caught.value.problems[0]


def test_a_reference_without_vault_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to resolve it with."""
    monkeypatch.setenv("SECRET_URL", "{vault://vault/x/y}")
    with pytest.raises(BadSettings, match="VAULT_ENABLED=true"):
        get_settings()


def test_references_rotate_with_the_rest(place: SecretRef, tmp_path: Path) -> None:
    """The service takes the new value in, and the log names the entry."""
    variables = {**place.variables, **place.named({"api_key": "{vault://vault/OTHER/password}"})}
    with Service(tmp_path, {**variables, "VAULT_REFRESH_INTERVAL": "0.3"}) as service:
        assert service.post("/caller", headers={"X-API-Key": "canary-p@ss"}).status_code == 200
        place.vault.write(place.other, {"password": "canary-two"})
        until(
            lambda: service.post("/caller", headers={"X-API-Key": "canary-two"}).status_code == 200,
            "the rotation",
        )
        rotated = [event for event in service.events if event["event"] == "vault_secrets_rotated"]
    assert [(event["path"], event["new"], event["keys"]) for event in rotated] == [("SECRET_API_KEY", 2, ["api_key"])]
    assert "canary" not in service.output


def test_a_further_vault_has_its_own_login_and_does_not_disturb_the_others(
    vault: Vault, place: SecretRef, tmp_path: Path
) -> None:
    """It is down at the start: what comes from the main one is served, and its own arrives when it is there."""
    path = unique("partner")
    vault.write(path, {"key": "canary-partner-key"})
    partner = {name.replace("VAULT_", "VAULTS__BIG_PARTNER__"): value for name, value in place.variables.items()}
    proxy = FaultyProxy(vault.url, lambda *_: Fault(hang=True))
    with proxy.running() as url:
        variables = {
            **place.variables,
            **partner,
            **{
                f"VAULTS__BIG_PARTNER__{name.removeprefix('VAULT_')}": value
                for name, value in environment(vault.app_role(path)).items()
                if name not in {"VAULT_SECRET_PATH", "VAULT_ENABLED"}
            },
            "VAULTS__BIG_PARTNER__URL": url,
            "VAULTS__BIG_PARTNER__TIMEOUT": "0.5",
            "VAULTS__BIG_PARTNER__REFRESH_INTERVAL": "0.5",
            "VAULT_REFRESH_INTERVAL": "0.5",
            "SECRET_API_KEY": f"{{vault://big-partner/{path}/key}}",
        }
        variables.pop("VAULTS__BIG_PARTNER__SECRET_PATH")
        with Service(tmp_path, variables) as service:
            ready = service.get("/health/ready")
            assert ready.status_code == 200, "the main Vault has an api_key too"
            late = "no answer within VAULTS__BIG_PARTNER__TIMEOUT"
            until(lambda: late in service.get("/health/ready").text, "the cause to show")
            assert service.post("/caller", headers={"X-API-Key": SECRETS["api_key"]}).status_code == 200
            place.vault.write(place.main, {**SECRETS, "api_key": "canary-rotated-meanwhile"})
            until(
                lambda: service.post("/caller", headers={"X-API-Key": "canary-rotated-meanwhile"}).status_code == 200,
                "the main Vault's rotation",
            )
            proxy.fault = lambda *_: None
            until(
                lambda: service.post("/caller", headers={"X-API-Key": "canary-partner-key"}).status_code == 200,
                "the partner's secret",
            )
            assert "warnings" not in service.get("/health/ready").json()
    assert "canary" not in service.output


def test_mistakes_about_a_further_vault_name_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, with the unknown names in references."""
    for name, value in {
        "VAULTS__PARTNER__URL": "partner",
        "VAULTS__PARTNER__AUTH_METHOD": "approle",
        "VAULTS__VAULT__URL": "http://x",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as caught:
        get_settings()
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "VAULTS__PARTNER__URL",
        "VAULTS__PARTNER__ROLE_ID",
        "VAULTS__VAULT",
        "VAULTS__VAULT__TOKEN",
    ]
    assert "VAULTS__PARTNER__AUTH_METHOD=approle needs VAULTS__PARTNER__ROLE_ID or" in caught.value.problems[1]


def test_a_token_never_goes_to_an_address_that_nobody_gave(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable of a further Vault is no variable, and its address has no default."""
    monkeypatch.setenv("VAULTS__PARTNER__TOKEN", vault.root_token)
    monkeypatch.setenv("VAULTS__PARTNER__UR", vault.url)
    with vault.audited() as calls, pytest.raises(BadSettings) as caught:
        load_all()
    assert caught.value.problems == [
        "VAULTS__PARTNER__URL: is needed",
        "VAULTS__PARTNER__UR: there is no such variable; check its name",
    ]
    assert calls == []


def test_what_refers_to_a_vault_that_is_switched_off_is_not_dropped(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever it is."""
    for name, value in {"URL": vault.url, "TOKEN": vault.root_token, "ENABLED": "false"}.items():
        monkeypatch.setenv(f"VAULTS__BIG_PARTNER__{name}", value)
    assert dict(load_all()) == {}
    Settings.settings_clear_cache()
    monkeypatch.setenv("SECRET_A", "{vault://big-partner/x/y}")
    with pytest.raises(BadSettings, match=r"SECRET_A: {vault://big-partner/x/y}: needs VAULTS__BIG_PARTNER__ENABLED=t"):
        load_all()


def test_a_text_cannot_mix_vaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parts would not rotate together."""
    monkeypatch.setenv("VAULTS__PARTNER__TOKEN", "x")
    monkeypatch.setenv("VAULTS__PARTNER__URL", "https://partner.example.com")
    monkeypatch.setenv("VAULT_ENABLED", "true")
    monkeypatch.setenv("SECRET_URL", "a:{vault://vault/x/y}:{vault://partner/x/y}")
    with pytest.raises(BadSettings, match="refers to more than one Vault"):
        get_settings()
