"""The doctor names the one cause and the remedy of every mistake in the list, and changes nothing in Vault."""

import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.core.errors import BackendError, BlueprintError
from app.extras.doctor.diagnosis import doctor, examine
from app.vault import close_sessions, read_secret
from infrastructure.dev_vault import start_embedded
from infrastructure.faulty_proxy import FaultyProxy
from tests.auto_auth import auto_auth
from tests.command_line import BLUEPRINT
from tests.extras.doctor.integration.mistakes import MISTAKES, World
from tests.extras.doctor.integration.mistakes.of_the_login import in_namespace, role_of, with_secret_id
from tests.extras.doctor.integration.mistakes.of_the_secrets import may_write
from tests.pki import Authority
from tests.support import (
    READ_POLICY,
    ROOT,
    SECRETS,
    Vault,
    enable_kv,
    environment,
    free_port,
    load_all,
    unique,
)

LISTENER = (
    'listener "tcp" {{ address = "127.0.0.1:{port}" tls_cert_file = "{pair[0]}" tls_key_file = "{pair[1]}" {more} }}'
)
CHAIN = ["host name", "connection", "TLS", "status", "login", "token", "mount point", "secrets"]
HARMLESS = {"auth/token/revoke-self", "sys/capabilities-self", "sys/wrapping/lookup"}  # of what counts as an update
Servers = tuple[Vault, dict[str, str], Authority]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Start one Vault with a plain listener for the tests, and others with TLS that differ in their certificates."""
    directory = tmp_path_factory.mktemp("doctor")
    authority = Authority(directory / "ca")
    month = dt.timedelta(days=30)
    pairs = {
        "good": authority.issue("vault", month),
        "mutual": authority.issue("vault", month),
        "soon": authority.issue("soon", dt.timedelta(days=10)),
        "expired": authority.issue("expired", dt.timedelta(hours=-1)),
        "elsewhere": authority.issue("elsewhere", month, "10.0.0.1"),
    }
    ports = {name: free_port() for name in pairs}
    client_ca = f'tls_client_ca_file = "{authority.file}" tls_require_and_verify_client_cert = "true"'
    config = "\n".join(
        LISTENER.format(port=ports[name], pair=pair, more=client_ca if name == "mutual" else "")
        for name, pair in pairs.items()
    )
    embedded = start_embedded(free_port(), directory / "vault", "root-of-this-test", config)
    vault = Vault(embedded.url, "root-of-this-test", embedded.audit_log)
    vault.client.sys.enable_auth_method("approle")
    yield vault, {name: f"https://127.0.0.1:{port}" for name, port in ports.items()}, authority
    vault.client.adapter.close()
    embedded.stop()


@pytest.fixture
def world(servers: Servers, tmp_path: Path) -> Iterator[World]:
    """Return a good service and its Vault."""
    with ExitStack() as stack:
        yield World(*servers, tmp_path, stack)


@dataclass
class Report:
    """What the doctor said."""

    code: int
    findings: list[dict[str, str]]
    output: str

    def of(self, status: str) -> list[dict[str, str]]:
        """Return the findings with this status."""
        return [finding for finding in self.findings if finding["status"] == status]

    def warnings(self, step: str) -> str:
        """Return what the warnings of a step say."""
        return "\n".join(f"{each['text']} → {each['remedy']}" for each in self.of("warning") if each["step"] == step)


Diagnose = Callable[..., Report]


@pytest.fixture
def diagnose(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: World) -> Diagnose:
    """Return a function that runs the doctor with these variables; whatever it finds, it must be discreet."""

    def run(variables: dict[str, Any], tokens_left: int = 0, **options: Any) -> Report:
        made = variables if all(name.isupper() for name in variables) else environment(variables)
        for name, text in made.items():
            monkeypatch.setenv(name, str(text))
        Settings.settings_clear_cache()
        tokens = accessors(world.vault)
        with world.vault.audited() as calls:
            code = doctor(BLUEPRINT, as_json=True, **options)
        output, errors = capsys.readouterr()
        assert errors == ""
        assert [canary for canary in world.canaries if canary in output] == []
        assert [(operation, path) for operation, path in calls if changes(operation, path)] == []
        assert len(accessors(world.vault) - tokens) == tokens_left
        report = json.loads(output)
        assert report["well"] == (code == 0)
        return Report(code, report["findings"], output)

    return run


def changes(operation: str, path: str) -> bool:
    """Tell whether a request changes more than a login and the revocation of its token do."""
    harmless = path in HARMLESS or re.fullmatch(r"auth/.+/login(/[^/]+)?|auth/approle/role/.+/secret-id/lookup", path)
    return not (operation in {"read", "list"} or (operation == "update" and harmless))


def accessors(vault: Vault) -> set[str]:
    """Return which tokens there are."""
    return set(vault.client.list("auth/token/accessors")["data"]["keys"])


RESETS = [name for name, mistake in MISTAKES.items() if "reset" in mistake.cause]
IN_BETWEEN = ("proxy", "load_balancer", "gateway", "firewall", "standby", "login_page", "https", "hangs", "port")


@pytest.mark.parametrize("name", [name for name in MISTAKES if any(each in name for each in IN_BETWEEN)])
def test_the_service_names_the_same_party(world: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """In the same words: whoever reads the log need not ask the doctor who is at fault."""
    for variable, text in MISTAKES[name].variables(world).items():
        monkeypatch.setenv(variable, str(text))
    for _ in range(20):  # a server that wants TLS answers, and hangs up: either may be noticed first
        said = why_nothing_is_read()
        if "reset by peer" not in said or name in RESETS:
            break
    assert MISTAKES[name].cause in said
    assert not [canary for canary in world.canaries if canary in said]


def why_nothing_is_read() -> str:
    """Return the error of the service's first read."""
    with pytest.raises(BackendError) as caught:
        read_secret()
    close_sessions()
    return str(caught.value)


@pytest.mark.parametrize("name", MISTAKES)
def test_the_cause_and_the_remedy_are_named(world: World, diagnose: Diagnose, name: str) -> None:
    """In the right step, and nowhere else; what depends on it is not reached, and what does not is looked at."""
    mistake = MISTAKES[name]
    report = diagnose(mistake.variables(world), tokens_left=name == "tokens_for_other_machines")
    assert report.code == 1
    first, *others = report.of("fault")
    assert (first["source"], first["step"]) == (mistake.source, mistake.step)
    assert mistake.cause in f"{first['subject']}: {first['text']}"
    assert mistake.remedy in first["remedy"]
    assert others == []
    of_this_vault = [each for each in report.findings if each["source"] == mistake.source]
    if mistake.step in CHAIN[:-1]:
        later = CHAIN[CHAIN.index(mistake.step) + 1 :]
        assert [each["step"] for each in of_this_vault if each["status"] == "not reached"] == later
    for each in report.findings:
        if each["source"] not in {mistake.source, "declared secrets"}:
            assert each["status"] in {"ok", "warning", *(["not reached"] if mistake.source == "settings" else [])}


@pytest.mark.parametrize(
    "name", [name for name, each in MISTAKES.items() if each.step in {"settings", "mount point", "secrets"}]
)
def test_the_service_blames_the_same(world: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What stands in its log and its readiness has the cause and the remedy that the doctor names."""
    mistake = MISTAKES[name]
    for variable, text in mistake.variables(world).items():
        monkeypatch.setenv(variable, text)
    Settings.settings_clear_cache()
    with pytest.raises(BlueprintError) as caught:
        load_all()
    assert mistake.cause in str(caught.value)
    if mistake.step != "settings":  # there the doctor adds in which place the variable is set
        assert mistake.remedy in str(caught.value)


def test_there_are_enough_mistakes() -> None:
    """The list is long, and no two of them have the same name."""
    assert len(MISTAKES) >= 60


@pytest.mark.parametrize(
    "where",
    [
        "plain",
        "TLS",
        "mutual TLS",
        "namespace",
        "KV version 1",
        "auto",
        "reading and writing",
        "a Proxy",
        "TLS by another name",
    ],
)
def test_all_is_well(world: World, diagnose: Diagnose, where: str) -> None:
    """Each step says so, without a warning, and the exit code is 0."""
    settings: dict[str, Any] = world.good()
    if "TLS" in where:
        pair = world.authority.issue("app", dt.timedelta(days=30))
        settings = world.over_tls()
    if where == "TLS by another name":
        settings = world.over_tls("elsewhere", tls_server_name="localhost")
    if where == "mutual TLS":
        settings = world.over_tls("mutual", client_cert=pair[0], client_key=pair[1])
    if where == "namespace":
        settings, namespace = in_namespace(world)
        settings |= {"namespace": namespace}
    if where == "KV version 1":
        mount = enable_kv(world.vault.client, unique("kv"), "1")
        world.vault.client.secrets.kv.v1.create_or_update_secret(world.path, SECRETS, mount_point=mount)
        policy = f'path "{mount}/*" {{{{ capabilities = ["read"] }}}}\n{READ_POLICY}'
        settings = {**world.good(policy), "mount_point": mount, "kv_version": "1"}
    if where == "a Proxy":
        proxy = world.stack.enter_context(auto_auth(world.vault, world.directory, world.path))
        settings = world.good() | {"auth_method": "none", "url": proxy.address}
    if where == "auto":
        settings["kv_version"] = "auto"
    if where == "reading and writing":
        settings = world.good(may_write("patch")) | {"access_mode": "read_and_write"}
    report = diagnose(settings)
    assert report.code == 0
    assert {each["status"] for each in report.findings} == {"ok"}
    steps = [each["step"] for each in report.findings if each["source"] == "vault"]
    order = [*CHAIN, *(["write prefix"] if where == "reading and writing" else [])]
    assert [step for step, following in pairwise([*steps, ""]) if step != following] == order
    assert [each["subject"] for each in report.findings if each["step"] == "form"] == list(SECRETS)


def test_every_finding_has_the_same_fields(world: World, diagnose: Diagnose) -> None:
    """What reads the JSON can rely on them."""
    report = diagnose({**world.good(), "secret_id": "canary"})
    for finding in report.findings:
        assert list(finding) == ["status", "text", "remedy", "subject", "step", "source"]
        assert finding["status"] in {"ok", "warning", "fault", "not reached"}
        assert finding["text"]
        assert finding["step"]
        assert bool(finding["remedy"]) == (finding["status"] in {"fault", "warning"})


def test_references_are_followed(world: World, diagnose: Diagnose) -> None:
    """Each with the path it leads to; an optional one may lead nowhere."""
    path = world.path
    references = {
        "SECRET_STRIPE_KEY": f"{{vault://vault/{path}/api_key}}",
        "SECRET_REGION": f"{{vault://vault/{path}/region?default=eu}}",
        "SECRET_EXTRA": f"{{vault://vault/{path}/extra?optional=true}}",
    }
    report = diagnose({**environment(world.good()), **references})
    said = {each["subject"]: each["text"] for each in report.findings if each["step"] == "secrets"}
    assert said["SECRET_STRIPE_KEY"] == said["SECRET_REGION"] == f"secret/{path} version 1; the token may read"
    assert said["SECRET_EXTRA"] == "left out: it is optional, and leads nowhere"
    assert report.code == 0


def test_what_is_for_tls_does_nothing_over_a_socket(world: World, diagnose: Diagnose) -> None:
    """A CA or a client certificate: what goes over a socket does not leave the machine."""
    proxy = world.stack.enter_context(auto_auth(world.vault, world.directory, world.path))
    settings = {"enabled": "true", "auth_method": "none", "url": proxy.address, "secret_path": world.path}
    report = diagnose({**settings, "cacert": world.authority.file})
    assert (
        report.warnings("TLS") == "it is ignored: there is no TLS over a socket of this machine → Unset VAULT_CACERT."
    )
    pair = world.authority.issue("app", dt.timedelta(days=30))
    report = diagnose({**settings, "client_cert": pair[0], "client_key": pair[1]})
    assert "unix:// presents no client certificate" in report.warnings("TLS")
    assert report.code == 0


def test_a_path_that_may_be_missing_is_said_to_be_left_out(world: World, diagnose: Diagnose) -> None:
    """By its name in Vault; where the policy does not let the service look, that is a fault."""
    policy = f'path "secret/data/{world.path}-development" {{{{ capabilities = ["read"] }}}}\n{READ_POLICY}'
    settings = world.good(policy)
    report = diagnose({**settings, "secret_path": f"{world.path},{world.path}-{{environment}}?"})
    said = {each["subject"]: each["text"] for each in report.findings if each["step"] == "secrets"}
    assert said[f"secret/{world.path}-development"] == "left out: it is optional, and leads nowhere"
    assert report.code == 0
    (fault,) = diagnose({**settings, "secret_path": f"{world.path},elsewhere?"}).of("fault")
    assert "lacks the capability read" in fault["text"]


def test_a_vault_that_nothing_refers_to_needs_no_mount_point(world: World, diagnose: Diagnose) -> None:
    """It is there, and that is all that is wanted of it."""
    made = {"URL": world.vault.url, "TOKEN": world.with_token()["token"], "MOUNT_POINT": "nowhere"}
    partner = {f"VAULTS__PARTNER__{name}": text for name, text in made.items()}
    report = diagnose({**environment(world.good()), **partner})
    assert report.code == 0
    assert "no SECRET_<NAME> refers to this Vault" in report.output


def test_what_is_declared_is_not_blamed_for_a_vault_that_fails(world: World, diagnose: Diagnose) -> None:
    """It is not known whether it would be there; what another source holds is known."""
    settings = environment({**world.good(), "url": f"http://127.0.0.1:{free_port()}"})
    report = diagnose({**settings, "SECRET_API_KEY": "canary-of-the-environment"})
    said = {each["subject"]: each["status"] for each in report.findings if each["step"] == "form"}
    assert said == {"database_url": "not reached", "api_key": "ok", "jwt_secret": "not reached"}


def test_without_vault_everything_may_come_from_the_environment(world: World, diagnose: Diagnose) -> None:
    """Nothing is asked of Vault then; what is missing is named with its variable."""
    local = {"SECRET_DATABASE_URL": "sqlite:///app.db", "SECRET_API_KEY": "canary"}
    with world.vault.audited() as calls:
        report = diagnose(local)
    assert [path for _, path in calls if path != "auth/token/accessors/"] == []
    (fault,) = report.of("fault")
    assert fault["subject"] == "jwt_secret"
    assert "VAULT_ENABLED=true" in fault["remedy"]
    assert "SECRET_JWT_SECRET" in fault["remedy"]
    assert diagnose({**local, "SECRET_JWT_SECRET": "canary" * 8}).code == 0


# --- warnings ---


def test_certificates_that_expire_soon_are_pointed_out(world: World, diagnose: Diagnose) -> None:
    """The server's and the client's, before they stop the service."""
    pair = world.authority.issue("app", dt.timedelta(days=10))
    report = diagnose(world.over_tls("soon", client_cert=pair[0], client_key=pair[1]))
    assert report.code == 0
    assert "the server's certificate is good until" in report.warnings("TLS")
    assert "the client certificate is good until" in report.warnings("TLS")


def test_clocks_that_differ_are_pointed_out(world: World) -> None:
    """With how much, and which is ahead."""
    settings = Settings.model_validate({"vault": world.good()})
    now = dt.datetime.now(dt.UTC).timestamp()
    for offset, said in ((3600, "ahead of Vault's"), (-3600, "behind Vault's")):
        found = list(examine(BLUEPRINT, settings, clock=lambda offset=offset: now + offset))  # type: ignore[misc]
        (skewed,) = [each for each in found if each.step == "status" and each.status == "warning"]
        assert re.search(rf"36\d\d s {said}|359\d s {said}", skewed.text)


def test_an_unencrypted_way_to_another_machine_is_pointed_out(world: World, diagnose: Diagnose) -> None:
    """0.0.0.0 stands for this machine, but does not look like it."""
    report = diagnose({**world.good(), "url": world.vault.url.replace("127.0.0.1", "0.0.0.0")})
    assert "in the clear" in report.warnings("TLS")
    assert report.code == 0


def test_a_proxy_in_between_is_pointed_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the reason why nothing works; it is what the next steps are about; its password is not shown."""
    settings = Settings.model_validate({"vault": {**world.good(), "url": "http://vault.invalid:8200"}})
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", f"http://app:canary@127.0.0.1:{free_port()}")
    found = list(examine(BLUEPRINT, settings))
    assert any(each.status == "warning" and "NO_PROXY=vault.invalid" in each.remedy for each in found)
    assert [each.step for each in found if each.status == "fault"] == ["connection"]
    assert "canary" not in str(found)


def test_a_root_token_is_pointed_out(world: World, diagnose: Diagnose) -> None:
    """It works, but may do too much."""
    settings = {**world.with_token(), "token": world.vault.root_token}
    report = diagnose(settings)
    assert "may do everything" in report.warnings("token")
    assert report.code == 0


def test_a_token_that_will_end_is_pointed_out(world: World, diagnose: Diagnose) -> None:
    """One that was handed in, and that nobody can renew."""
    report = diagnose(world.with_token(ttl="1h", renewable=False))
    assert "nobody can renew the token" in report.warnings("token")
    assert report.code == 0


def test_a_policy_that_is_too_wide_is_pointed_out(world: World, diagnose: Diagnose) -> None:
    """A service that only reads need not be able to write."""
    report = diagnose(world.good(READ_POLICY.replace('["read"]', '["read", "update", "delete"]', 1)))
    assert "more than read: delete, update" in report.warnings("secrets")
    assert 'capabilities = ["read"]' in report.warnings("secrets")
    assert report.code == 0


def test_a_policy_that_lacks_what_the_token_does_with_itself_is_pointed_out(world: World, diagnose: Diagnose) -> None:
    """The service works without; one login is made all the same, not a second one."""
    everything = READ_POLICY.splitlines()
    for lacking in (["lookup"], ["renew"], ["revoke"], ["lookup", "capabilities"], ["renew", "revoke"]):
        policy = "\n".join(line for line in everything if not re.search(f"({'|'.join(lacking)})-self", line))
        with world.vault.audited() as calls:
            report = diagnose(world.good(policy), tokens_left="revoke" in lacking)
        (said,) = [each["remedy"] for each in report.of("warning") if each["step"] == "token"]
        assert re.findall(r"(\w+)-self", said) == lacking
        assert report.code == 0
        assert [path for _, path in calls].count("auth/approle/login") == 1


def test_quotes_and_variables_that_are_set_twice_are_pointed_out(world: World, diagnose: Diagnose) -> None:
    """Docker's `--env-file` leaves quotes where they are; of what `.env` sets twice the last one counts."""
    (world.directory / ".env").write_text("VAULT_TIMEOUT=1\nLOG_LEVEL=INFO\nvault_timeout=7\n")
    report = diagnose({**environment(world.good()), "VAULT_CACERT": "'/run/canary'"})
    said = {each["subject"]: f"{each['text']} → {each['remedy']}" for each in report.of("warning")}
    assert said["VAULT_CACERT"] == "it has quotes around it, which are part of the value → Leave them out."
    assert said["VAULT_TIMEOUT"] == "it is set in lines 1 and 3; the last one counts → Remove it from .env once."


def test_a_variable_that_looks_misspelt_is_pointed_out(world: World, diagnose: Diagnose) -> None:
    """It would be ignored without a word; and the environment wins over the file."""
    (world.directory / ".env").write_text("VAULT_URL=https://vault.example.com\nVAULT_NAMSPACE=canary\n")
    report = diagnose({**environment(world.good()), "VAULT_TIMOUT": "canary", "VAULT_FORMAT": "json"})
    assert "Set VAULT_TIMEOUT in the environment" in report.warnings("settings")
    assert "Set VAULT_NAMESPACE in .env" in report.warnings("settings")
    said = [(each["status"], each["text"]) for each in report.findings if each["subject"] == "VAULT_FORMAT"]
    assert said == [("ok", "it is for Vault's own tools, and ignored here")]
    assert "the environment wins over .env for VAULT_URL" in report.findings[0]["text"]


def test_what_only_vaults_own_tools_understand_is_pointed_out(world: World, diagnose: Diagnose) -> None:
    """With what to set instead; what asks for nothing that would be ignored is no fault."""
    (world.directory / ".env").write_text("VAULT_SKIP_VERIFY=false\nVAULT_AGENT_ADDR=http://127.0.0.1:8100\n")
    tools = {"VAULT_CLIENT_TIMEOUT": "60s", "BAO_MAX_RETRIES": "5", "VAULT_SRV_LOOKUP": "true", "BAO_SKIP_VERIFY": "1"}
    report = diagnose({**environment(world.good()), **tools})
    said = {each["subject"]: each["remedy"] for each in report.of("warning")}
    assert said.keys() == {*tools, "VAULT_AGENT_ADDR"}
    assert said["VAULT_CLIENT_TIMEOUT"] == "Set VAULT_TIMEOUT, in seconds."
    assert "VAULT_CACERT" in said["BAO_SKIP_VERIFY"]
    assert report.code == 0


def test_openbaos_names_are_understood_and_two_that_differ_pointed_out(world: World, diagnose: Diagnose) -> None:
    """The address tells whose names go first; the same value twice is no fault."""
    settings = world.with_token()
    bao = {"BAO_ADDR": settings.pop("url"), "BAO_TOKEN": settings.pop("token"), "VAULT_ADDR": "http://127.0.0.1:1"}
    same = {"BAO_NAMESPACE": "/", "VAULT_NAMESPACE": "/"}
    report = diagnose({**environment(settings), **bao, **same, "VAULT_TOKEN": "junk"})
    assert {each["subject"]: each["text"] for each in report.of("warning") if each["step"] == "settings"} == {
        "VAULT_ADDR": "it is ignored, since BAO_ADDR is set in the environment, too",
        "VAULT_TOKEN": "it is ignored, since BAO_TOKEN is set in the environment, too",
    }
    assert report.code == 0


def test_two_names_for_one_credential_are_pointed_out(world: World, diagnose: Diagnose) -> None:
    """In one place the file counts; otherwise the environment does, by whatever name, and nothing is ignored in it."""
    settings = world.good()
    secret_id = {"VAULT_SECRET_ID_FILE": world.file(settings.pop("secret_id"), "secret-id")}
    secret_id["VAULT_SECRET_ID_FILE"].chmod(0o600)
    (world.directory / ".env").write_text("VAULT_ROLE_ID_FILE=nowhere\nVAULT_JWT_FILE=nowhere\n")
    report = diagnose({**environment(settings), **secret_id, "VAULT_SECRET_ID": "canary", "VAULT_JWT": "not-used"})
    (said,) = report.of("warning")
    assert (said["subject"], said["remedy"]) == ("VAULT_SECRET_ID", "Unset VAULT_SECRET_ID or VAULT_SECRET_ID_FILE.")
    assert "it is ignored, since VAULT_SECRET_ID_FILE is set too" in said["text"]
    assert "the environment wins over .env for VAULT_JWT_FILE, VAULT_ROLE_ID_FILE" in report.findings[0]["text"]
    assert report.code == 0


def test_credentials_that_others_may_read_are_pointed_out(world: World, diagnose: Diagnose) -> None:
    """A file that the method uses, and `.env` if it holds a credential; neither once only its owner may read it."""
    settings = world.good()
    secret_id = world.file(settings.pop("secret_id"), "secret-id")
    dotenv = world.file(f"VAULT_ROLE_ID={settings.pop('role_id')}\n", ".env")
    for file in (secret_id, dotenv):
        file.chmod(0o644)
    variables = {**environment(settings), "VAULT_SECRET_ID_FILE": secret_id}
    report = diagnose(variables)
    assert [each["subject"] for each in report.of("warning")] == [f"VAULT_SECRET_ID_FILE={secret_id}"]
    assert f"its mode is 0644 → `chmod 600 {secret_id}`." in report.warnings("settings")
    assert report.code == 0
    secret_id.chmod(0o600)
    for line, held in (
        ("SECRET_REGION=canary", True),
        ("VAULTS__PARTNER__TOKEN=canary\nVAULTS__PARTNER__ENABLED=false\nVAULTS__PARTNER__URL=http://x", True),
        (f"SECRET_REGION={{vault://vault/{world.path}/api_key}}", False),
    ):
        dotenv.write_text(f"{dotenv.read_text().splitlines()[0]}\n{line}\n")
        said = diagnose(variables).of("warning")
        assert [(each["subject"], each["remedy"]) for each in said] == [(".env", "`chmod 600 .env`.")] * held
    region = world.file("canary", "region")
    region.chmod(0o644)
    dotenv.write_text(f"{dotenv.read_text().splitlines()[0]}\nSECRET_REGION_FILE={region}\n")
    assert [each["subject"] for each in diagnose(variables).of("warning")] == [f"SECRET_REGION_FILE={region}"]
    region.chmod(0o600)
    assert diagnose(variables).of("warning") == []
    dotenv.write_text(f"{dotenv.read_text()}VAULT_JWT=canary\n")
    assert len(diagnose(variables).of("warning")) == 1
    dotenv.chmod(0o600)
    assert diagnose(variables).of("warning") == []


def test_what_is_wrong_in_a_file_is_said_by_the_name_of_the_file(world: World, diagnose: Diagnose) -> None:
    """Of a declared secret; and what the file holds counts like any other literal."""
    file = world.file("canary\n", "api-key")
    file.chmod(0o600)
    report = diagnose({**environment(world.good()), "SECRET_API_KEY_FILE": file})
    assert report.code == 0
    file.write_text("canary and a blank\n")
    report = diagnose({**environment(world.good()), "SECRET_API_KEY_FILE": file})
    (fault,) = report.of("fault")
    assert (fault["subject"], fault["remedy"]) == ("api_key", "Fix SECRET_API_KEY_FILE.")


# --- what is good for one use only ---


@pytest.mark.parametrize(("uses", "left"), [(1, 0), (2, 1), (50, 49)])
def test_a_token_for_few_requests_is_not_used_up(world: World, diagnose: Diagnose, uses: int, left: int) -> None:
    """Asking for how many takes one of them; the others are the service's."""
    settings = world.with_token(num_uses=uses)
    with world.vault.audited() as calls:
        report = diagnose(settings)
    assert f"good for {left} more requests" in report.warnings("login")
    assert report.of("fault") == []
    assert [each["step"] for each in report.of("not reached")] == [*CHAIN[CHAIN.index("login") + 1 :], *["form"] * 3]
    assert report.code == 1  # it is not known whether all is well
    assert [path for _, path in calls].count("auth/token/lookup-self") == 1
    if left:
        assert world.vault.client.auth.token.lookup(settings["token"])["data"]["num_uses"] == left


def test_a_role_that_gives_tokens_for_few_requests_is_pointed_out(world: World, diagnose: Diagnose) -> None:
    """The service logs in again when one is used up."""
    report = diagnose(world.good(token_num_uses=50))
    assert "token_num_uses=0" in report.warnings("token")
    assert report.code == 0


def test_a_wrapped_secret_id_is_looked_at_but_not_used_up(world: World, diagnose: Diagnose) -> None:
    """Unless a login is asked for; then it is said that the service needs another one."""
    settings, wrapped = with_secret_id(world, wrap_ttl="60s")
    variables = {**settings, "secret_id": wrapped, "secret_id_wrapped": "true"}
    report = diagnose(variables)
    assert "not unwrapped, since that works once → `python -m app doctor --login`" in report.warnings("login")
    assert [each["step"] for each in report.of("not reached")] == [*CHAIN[CHAIN.index("login") + 1 :], *["form"] * 3]
    assert report.code == 1  # it is not known whether all is well


def test_a_login_on_request_uses_a_wrapped_secret_id_up(world: World, diagnose: Diagnose) -> None:
    """And everything is reached."""
    settings, wrapped = with_secret_id(world, wrap_ttl="60s")
    variables = {**settings, "secret_id": wrapped, "secret_id_wrapped": "true"}
    unwrapped = HARMLESS | {"sys/wrapping/unwrap"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.extras.doctor.integration.test_doctor.HARMLESS", unwrapped)
        report = diagnose(variables, login=True)
    assert report.code == 0
    assert "Deliver a new one" in report.warnings("login")


def test_no_login_is_made_against_the_persons_will(world: World, diagnose: Diagnose) -> None:
    """For a secret id that may be good for one login only."""
    with world.vault.audited() as calls:
        report = diagnose(world.good(), login=False)
    assert "auth/approle/login" not in [path for _, path in calls]
    assert [each["step"] for each in report.of("not reached")] == [*CHAIN[CHAIN.index("login") :], *["form"] * 3]
    assert report.code == 1


@pytest.mark.parametrize(
    ("uses", "said"),
    [
        (3, "good for 2 more logins"),
        (1, "used up by this login: the next start needs a new one"),
        (0, "good for any number of logins"),
    ],
)
def test_a_secret_id_for_few_logins_is_pointed_out(world: World, diagnose: Diagnose, uses: int, said: str) -> None:
    """If the token may ask; the doctor's own login counts."""
    may_ask = 'path "auth/approle/role/+/secret-id/lookup" {{ capabilities = ["update"] }}'
    settings, secret_id = with_secret_id(world, world.good(READ_POLICY + may_ask), num_uses=uses)
    report = diagnose({**settings, "secret_id": secret_id})
    (finding,) = [each for each in report.findings if each["subject"] == "secret id"]
    assert finding["text"].startswith(said)
    assert finding["status"] == ("warning" if uses else "ok")
    assert report.code == 0


def test_a_role_without_secret_ids_has_none_that_could_be_used_up(world: World, diagnose: Diagnose) -> None:
    """So nothing is said of it."""
    settings = world.good()
    role = {"bind_secret_id": False, "token_bound_cidrs": ["127.0.0.0/8"]}
    world.vault.client.adapter.post(f"/v1/auth/approle/role/{role_of(world, settings)}", json=role)
    report = diagnose({**settings, "secret_id": ""})
    assert report.code == 0
    assert [each["subject"] for each in report.findings if each["step"] == "token"] == [""]


# --- the command ---


def command(
    world: World, variables: dict[str, str], *arguments: str, module: str = "tests.command_line"
) -> subprocess.CompletedProcess[str]:
    """Run `python -m app doctor` as a person does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VAULT_", "SECRET_"))}
    return subprocess.run(
        [sys.executable, "-m", module, "doctor", *arguments],
        cwd=world.directory,
        env={**kept, "PYTHONPATH": str(ROOT), "VAULT_TOKEN": "junk", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_reports_for_people(world: World) -> None:
    """A line a finding, the remedy below it, a summary, and an exit code."""
    good, wrong = environment(world.good()), {"VAULT_SECRET_ID": "canary"}
    well, ill = command(world, good), command(world, {**good, **wrong})
    assert (well.returncode, ill.returncode) == (0, 1)
    assert well.stdout.endswith("All is well.\n")
    assert re.search(r"\n  fault +login .*the secret id is wrong", ill.stdout)
    assert re.search(r"\n +-> Put a new one into VAULT_SECRET_ID: `vault write -f ", ill.stdout)
    assert re.search(r"\n  not reached +token +waits for: login\n", ill.stdout)
    assert ill.stdout.endswith("fault: 1, not reached: 6\n")
    assert well.stderr == ill.stderr == ""
    assert not [canary for canary in world.canaries if canary in well.stdout + ill.stdout]


def test_the_command_reports_for_programs(world: World) -> None:
    """Nothing but one JSON object."""
    finished = command(world, environment(world.good()), "--json", "--no-login")
    assert finished.returncode == 1
    assert json.loads(finished.stdout)["well"] is False
    assert finished.stderr == ""


def test_the_command_needs_no_command_line(world: World, tmp_path: Path) -> None:
    """Where the extra of that name is gone, in a copy of the service."""
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("cli", "__pycache__"))
    variables = {"PYTHONPATH": str(tmp_path)}
    well = command(world, environment(world.good()) | variables, "--json", module="app")
    steps = [each for each in json.loads(well.stdout)["findings"] if each["source"] == "vault"]
    assert {each["step"]: each["status"] for each in steps} == dict.fromkeys(CHAIN, "ok")
    ill = command(world, environment(world.good()) | variables, "--no-login", module="app")
    assert (ill.returncode, "not reached: " in ill.stdout) == (1, True)
    wrong = command(world, variables, "--nonsense", module="app")
    assert (wrong.returncode, "usage: python -m app doctor" in wrong.stderr) == (2, True)


def test_a_step_that_hangs_does_not_hold_back_what_was_found(world: World) -> None:
    """Findings come one by one; the chain may be left at any of them, and the token is given back."""
    proxy = FaultyProxy(world.vault.url)
    with proxy.running() as url:
        settings = Settings.model_validate({"vault": {**world.good(), "url": url}})
        findings = examine(BLUEPRINT, settings)
        assert next(each for each in findings if each.step == "login").status == "ok"
        findings.close()  # type: ignore[attr-defined]
    assert proxy.requests[-1] == ("POST", "/v1/auth/token/revoke-self")
