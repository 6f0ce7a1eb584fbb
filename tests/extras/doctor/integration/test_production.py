"""`doctor --production` exits with 0 only where each point of the list holds, and says which does not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.auto_auth import auto_auth
from tests.core.integration.test_policy import with_exactly_its_policy
from tests.extras.doctor.integration.mistakes import World
from tests.extras.doctor.integration.test_doctor import Diagnose, Report, diagnose, servers, world
from tests.support import READ_POLICY, ROOT, SECRETS, environment

__all__ = ["diagnose", "servers", "world"]

LOOK_UP = 'path "auth/approle/role/+/secret-id/lookup" {{ capabilities = ["update"] }}\n'
OF_SETTINGS = [
    "environment",
    "dev server",
    "TLS",
    "files",
    "variables",
    "API docs",
    "hosts",
    "staleness",
    "limits",
    "metrics",  # extra: metrics
]
BOUNDED = {"token_ttl": "20m", "token_explicit_max_ttl": "1h", "secret_id_ttl": "1h"}


def ready(world: World, policy: str = READ_POLICY, **changes: Any) -> dict[str, str]:
    """Return the environment of a service that may go to production, but for what is changed."""
    role = {**BOUNDED, **{name: changes.pop(name) for name in [*changes] if name.startswith(("token_", "secret_id_"))}}
    made = world.good(policy, **role)
    file = world.directory / "secret-id"
    file.write_text(made.pop("secret_id"))
    file.chmod(0o600)
    made |= {"secret_id_file": file, "url": world.tls["good"], "cacert": world.authority.file}
    good = {"ENVIRONMENT": "production", "ALLOWED_HOSTS": "api.example.com", "API_DOCS": "", "VAULT_TOKEN": ""}
    return environment(made) | good | changes


def said(report: Report, status: str) -> dict[str, str]:
    """Return what was found with this status, by the step."""
    return {each["step"]: f"{each['subject']}: {each['text']} → {each['remedy']}" for each in report.of(status)}


def test_all_holds(world: World, diagnose: Diagnose) -> None:
    """Each point says so; what cannot be seen from inside is a reminder, and does not count."""
    report = diagnose(ready(world, READ_POLICY + LOOK_UP), production=True)
    assert report.code == 0, report.of("fault")
    assert report.of("warning") == []
    steps = [each["step"] for each in report.findings if each["source"] == "before production"]
    assert list(dict.fromkeys(steps)) == OF_SETTINGS
    assert set(said(report, "reminder")) <= {"limits", "metrics"}
    assert "limits" in said(report, "reminder")
    told = said(report, "ok")
    assert "no more than `python -m app policy` prints" in told["policy"]
    assert "it ends after 1:00:00" in told["token life"]
    assert "good for 1:00:00" in told["secret id"] or "good for 0:59:5" in told["secret id"]


def test_nothing_of_it_is_asked_without_the_option(world: World, diagnose: Diagnose) -> None:
    """A developer's service is well as it is."""
    report = diagnose(world.good())
    assert report.code == 0
    assert not {each["source"] for each in report.findings} & {"before production"}
    assert not {each["step"] for each in report.findings} & {"policy", "token life", "secret id"}


@dataclass(frozen=True)
class Change:
    """What is otherwise, and what must be said of it."""

    step: str
    text: str
    remedy: str
    variables: dict[str, str]


CHANGES = {
    "development": Change(
        "environment", "shows details", "ENVIRONMENT=production", {"ENVIRONMENT": "development", "API_DOCS": "false"}
    ),
    "insecure": Change("environment", "put up with http", "Unset it", {"ALLOW_INSECURE": "http"}),
    "docs": Change("API docs", "everybody may read", "API_DOCS=false", {"API_DOCS": "true"}),
    "any host": Change("hosts", "any name", "ALLOWED_HOSTS=api.example.com", {"ALLOWED_HOSTS": ""}),
    "every host": Change("hosts", "any name", "ALLOWED_HOSTS=api.example.com", {"ALLOWED_HOSTS": "*"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_that_does_not_hold_is_a_fault(world: World, diagnose: Diagnose, name: str) -> None:
    """It alone, with what fixes it."""
    change = CHANGES[name]
    report = diagnose(ready(world, **change.variables), production=True)
    assert report.code == 1
    faults = said(report, "fault")
    assert list(faults) == [change.step]
    assert change.text in faults[change.step]
    assert change.remedy in faults[change.step]


def test_an_address_in_the_clear_is_a_fault_in_staging_too(world: World, diagnose: Diagnose) -> None:
    """Where nothing refuses it at the start; it goes on, since 0.0.0.0 is this machine after all."""
    url = world.vault.url.replace("127.0.0.1", "0.0.0.0")
    report = diagnose(ready(world, ENVIRONMENT="staging", API_DOCS="false", VAULT_URL=url), production=True)
    assert list(said(report, "fault")) == ["TLS"]
    assert "Set VAULT_URL to https://" in said(report, "fault")["TLS"]


def test_a_credential_that_others_may_read_is_a_fault(world: World, diagnose: Diagnose) -> None:
    """Without the option it is a warning."""
    variables = ready(world)
    Path(variables["VAULT_SECRET_ID_FILE"]).chmod(0o644)
    assert diagnose(variables).code == 0
    report = diagnose(variables, production=True)
    assert list(said(report, "fault")) == ["files"]
    assert "chmod 600" in said(report, "fault")["files"]


def test_a_credential_in_the_environment_is_a_fault(world: World, diagnose: Diagnose) -> None:
    """A file could hold it; what may or may not be a secret is a warning."""
    variables = ready(world)
    secret_id = Path(variables.pop("VAULT_SECRET_ID_FILE")).read_text()
    given = {"VAULT_SECRET_ID": secret_id, "SECRET_API_KEY": "canary" * 4, "SECRET_MODE": "canary"}
    report = diagnose(variables | given, production=True)
    credential, declared = report.of("fault")
    assert {credential["step"], declared["step"]} == {"variables"}
    assert (credential["subject"], declared["subject"]) == ("VAULT_SECRET_ID", "SECRET_API_KEY")
    assert "set VAULT_SECRET_ID_FILE to that" in credential["remedy"]
    assert "use SECRET_API_KEY_FILE" in declared["remedy"]
    assert "use SECRET_MODE_FILE" in said(report, "warning")["variables"]


def test_a_wrapped_secret_id_may_be_in_the_environment(world: World, diagnose: Diagnose) -> None:
    """It is worth nothing once the service has started. It is not unwrapped unasked, so not all is reached."""
    variables = ready(world)
    variables.pop("VAULT_SECRET_ID_FILE")
    role = next(iter(world.vault.client.auth.approle.list_roles()["data"]["keys"]))
    wrapped = world.vault.client.auth.approle.generate_secret_id(role, wrap_ttl="5m")["wrap_info"]["token"]
    given = {"VAULT_SECRET_ID": wrapped, "VAULT_SECRET_ID_WRAPPED": "true"}
    report = diagnose(variables | given, tokens_left=0, production=True)
    assert "no credential" in said(report, "ok")["variables"]
    assert {"policy", "token life", "secret id"} <= set(said(report, "not reached"))
    assert report.code == 1


def test_what_the_dev_server_made_is_a_fault(world: World, diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token, in a file too, and the files that `make seed` writes."""
    variables = ready(world, ENVIRONMENT="staging", API_DOCS="false")
    world.file("dev-token-12345\n", "token").chmod(0o600)
    (world.directory / ".dev").mkdir()
    monkeypatch.chdir(world.directory)
    role_id = world.file(variables.pop("VAULT_ROLE_ID"), ".dev/role-id")
    role_id.chmod(0o600)
    given = {"VAULT_ROLE_ID_FILE": ".dev/role-id", "VAULT_TOKEN_FILE": "token"}
    report = diagnose(variables | given, production=True)
    subjects = [each["subject"] for each in report.of("fault")]
    assert subjects == ["VAULT_TOKEN_FILE", "VAULT_ROLE_ID_FILE=.dev/role-id"]
    assert "files of the dev servers are here" in said(report, "warning")["dev server"]


WIDER = {
    "a neighbour": ('path "secret/data/{path}*" {{ capabilities = ["read"] }}', "read at secret/data/"),
    "all secrets": ('path "secret/*" {{ capabilities = ["list"] }}', "list at secret/metadata/…"),
    "writing": ('path "secret/data/{path}" {{ capabilities = ["read", "update"] }}', "update at secret/data/"),
    "mounts": ('path "sys/mounts/*" {{ capabilities = ["sudo", "update"] }}', "sudo, update at sys/mounts/…"),
    "more tokens": ('path "auth/token/create" {{ capabilities = ["update"] }}', "update at auth/token/create"),
    "its own role": ('path "auth/approle/role/+" {{ capabilities = ["update"] }}', "update at auth/approle/role/"),
    "more secret ids": ('path "auth/approle/role/+/secret-id" {{ capabilities = ["update"] }}', "/secret-id"),
}


@pytest.mark.parametrize("name", WIDER)
def test_a_policy_that_is_wider_than_the_printed_one_is_a_fault(world: World, diagnose: Diagnose, name: str) -> None:
    """The path is named, and what the token may do there."""
    more, told = WIDER[name]
    policy = "\n".join(each for each in READ_POLICY.splitlines() if "/data/" not in each or '/data/{path}"' not in more)
    report = diagnose(ready(world, f"{policy}\n{more}"), production=True)
    assert report.code == 1
    assert list(said(report, "fault")) == ["policy"]
    assert told in said(report, "fault")["policy"]
    assert "`python -m app policy` prints" in said(report, "fault")["policy"]


@pytest.mark.parametrize(("wide", "told"), [("+", "/deep…"), ("deep/*", "/deep/…")])
def test_secrets_beside_and_below_its_own_are_asked_for(world: World, diagnose: Diagnose, wide: str, told: str) -> None:
    """Also where the path has several segments."""
    path = f"{world.path}/deep"
    world.vault.write(path, SECRETS)
    policy = READ_POLICY.replace("{path}", "{path}/deep")
    more = f'path "secret/data/{{path}}/{wide}" {{{{ capabilities = ["read"] }}}}'
    report = diagnose(ready(world, policy + more, VAULT_SECRET_PATH=path), production=True)
    assert list(said(report, "fault")) == ["policy"]
    assert f"read at secret/data/{world.path}{told}" in said(report, "fault")["policy"]


def test_what_cannot_be_asked_is_not_passed_over(world: World, diagnose: Diagnose) -> None:
    """A token that may not ask has not shown that it holds; of the secret id it need not be able to know."""
    policy = "\n".join(
        each for each in READ_POLICY.splitlines() if "lookup" not in each and "capabilities-self" not in each
    )
    report = diagnose(ready(world, policy), production=True)
    assert set(said(report, "fault")) == {"policy", "token life"}
    assert 'path "sys/capabilities-self"' in said(report, "fault")["policy"]
    assert 'path "auth/token/lookup-self"' in said(report, "fault")["token life"]
    report = diagnose(ready(world), production=True)
    assert report.code == 0
    assert "could not be looked up" in said(report, "reminder")["secret id"]


def test_vaults_default_policy_is_pointed_out(world: World, diagnose: Diagnose) -> None:
    """It harms little, but is not in what is printed."""
    report = diagnose(ready(world, token_no_default_policy=False), production=True)
    assert report.code == 0
    assert "token_no_default_policy=true" in said(report, "warning")["policy"]


LIVES = {
    "of Vault's default": ({"token_ttl": "0", "token_explicit_max_ttl": "0"}, "lives for 32 days", "token_ttl=20m"),
    "periodic": ({"token_period": "20m", "token_explicit_max_ttl": "0"}, "for ever", "token_explicit_max_ttl"),
}


@pytest.mark.parametrize("name", LIVES)
def test_a_token_that_lives_too_long_is_a_fault(world: World, diagnose: Diagnose, name: str) -> None:
    """Whoever steals it has it for as long."""
    role, told, remedy = LIVES[name]
    report = diagnose(ready(world, **role), production=True)
    assert list(said(report, "fault")) == ["token life"]
    assert told in said(report, "fault")["token life"]
    assert remedy in said(report, "fault")["token life"]


def test_what_bounds_the_renewals_of_a_token_may_not_be_seen(world: World, diagnose: Diagnose) -> None:
    """`token_max_ttl` of the role is not said of the token."""
    report = diagnose(ready(world, token_explicit_max_ttl="0", token_max_ttl="1h"), production=True)
    assert report.code == 0
    assert "Look at token_max_ttl" in said(report, "reminder")["token life"]


def test_a_root_token_is_a_fault(world: World, diagnose: Diagnose) -> None:
    """In each way: it may do everything, never expires, and is in the environment."""
    variables = {**ready(world), "VAULT_AUTH_METHOD": "token", "VAULT_TOKEN": world.vault.root_token}
    report = diagnose(variables, production=True)
    faults = said(report, "fault")
    assert list(faults) == ["variables", "policy", "token life"]
    assert "root token" in faults["policy"]
    assert "never expires" in faults["token life"]


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        ({"secret_id_ttl": "0"}, "good for ever"),
        ({"secret_id_ttl": "0", "secret_id_num_uses": 5}, "for 4 more logins"),
        ({"secret_id_ttl": "0", "secret_id_num_uses": 1}, "used up"),
    ],
)
def test_a_secret_id_must_be_bounded(world: World, diagnose: Diagnose, bounds: dict[str, Any], told: str) -> None:
    """By its time or by its uses, if the token may look it up."""
    report = diagnose(ready(world, READ_POLICY + LOOK_UP, **bounds), production=True)
    is_fault = told == "good for ever"
    assert report.code == is_fault
    assert told in said(report, "fault" if is_fault else "ok")["secret id"]


def test_a_proxy_that_adds_the_token_is_looked_through(world: World, diagnose: Diagnose) -> None:
    """Its address does not leave the machine; what its token may do is asked all the same."""
    proxy = world.stack.enter_context(auto_auth(world.vault, world.directory, world.path))
    made = {"enabled": "true", "auth_method": "none", "url": proxy.address, "secret_path": world.path}
    production = {"ENVIRONMENT": "production", "ALLOWED_HOSTS": "api.example.com"}
    report = diagnose(environment(made) | production, production=True)
    assert [each["subject"] for each in report.of("ok") if "should listen" in each["text"]] == [
        f"VAULT_URL={proxy.address}"
    ]
    assert "no more than" in said(report, "ok")["policy"]
    assert "not needed" in said(report, "ok")["secret id"]


@pytest.mark.parametrize("mode", ["read_only", "read_and_write", "write_only"])
def test_the_printed_policy_is_never_too_wide(
    world: World, diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Whatever it prints, the doctor finds nothing beyond it."""
    variables = environment({"secret_path": world.path, "access_mode": mode, "write_prefix": f"{world.path}/keys"})
    variables |= {"VAULT_KV_VERSION": "auto"} if mode == "read_and_write" else {}
    variables |= {"SECRET_OTHER": f"{{vault://vault/{world.path}/api_key}}"} if mode != "write_only" else {}
    settings = with_exactly_its_policy(world.vault, variables, monkeypatch)
    assert settings.vault.access_mode == mode
    report = diagnose({}, production=True)
    assert "no more than" in said(report, "ok")["policy"]


def test_the_page_lists_the_steps() -> None:
    """Each of them, and no other."""
    text = (ROOT / "docs/doctor.md").read_text()
    listed = [row.split("|")[1].strip() for row in text.splitlines() if row.startswith("| ")][2:]
    assert listed == [*OF_SETTINGS, "policy", "token life", "secret id"]
