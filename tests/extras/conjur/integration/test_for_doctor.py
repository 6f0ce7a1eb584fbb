"""The doctor walks to Conjur as it does to Vault, and names the cause and the remedy there, too."""
# ruff: noqa: D103 - the names say what the mistake is

import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.core.errors import ServerFault
from app.extras.conjur.index import conjur_source
from app.extras.doctor.diagnosis import examine, is_well
from app.extras.doctor.findings import Finding
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.command_line import BLUEPRINT
from tests.extras.conjur import wire
from tests.extras.conjur.in_front import MISTAKES as IN_FRONT
from tests.extras.conjur.jwt_mistakes import MISTAKES as JWT_MISTAKES
from tests.extras.conjur.jwt_mistakes import JwtWorld, Mistake
from tests.extras.conjur.standin import StandIn
from tests.extras.conjur.support import Conjur
from tests.extras.conjur.wire import Answer
from tests.pki import Authority
from tests.support import SECRETS, Vault, free_port, unique

CHAIN = ["host name", "connection", "TLS", "status", "login", "secrets"]


@dataclass
class World:
    """A service that gets all its secrets from Conjur, for one mistake."""

    conjur: Conjur
    directory: Path
    stack: ExitStack
    variables: dict[str, str] = field(default_factory=dict)
    login: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        folder = unique("service")
        self.variables = {name: self.conjur.variable(value, f"{folder}/{name}") for name, value in SECRETS.items()}
        self.login = self.conjur.host(self.permits())

    def settings(self, **more: Any) -> Settings:
        """Return settings with which all is well, but for what is given."""
        names = more.pop("names", self.variables)
        listed = ",".join(f"{name}={each}" for name, each in names.items())
        return self.conjur.settings(self.login, variables=listed, **more)

    def permits(self) -> dict[str, list[str]]:
        """Return what the service's host must be permitted."""
        return {variable: ["read", "execute"] for variable in self.variables.values()}


@pytest.fixture
def world(conjur: Conjur, tmp_path: Path) -> Iterator[World]:
    """Prepare the service."""
    with ExitStack() as stack:
        yield World(conjur, tmp_path, stack)


def wrong_port(world: World) -> Settings:
    return world.settings(appliance_url=f"http://127.0.0.1:{free_port()}")


def unknown_host(world: World) -> Settings:
    return world.settings(appliance_url="http://conjur.invalid")


def unknown_ca(world: World) -> Settings:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(world.directory / "ca").issue("conjur"))
    standin = world.stack.enter_context(StandIn(tls=context))
    return world.settings(appliance_url=standin.url)


def missing_ca_file(world: World) -> Settings:
    return world.settings(appliance_url="https://127.0.0.1:" + world.conjur.url.split(":")[-1], cert_file="nowhere.pem")


def hanging(world: World) -> Settings:
    proxy = FaultyProxy(world.conjur.url, lambda _method, _path: Fault(hang=True))
    return world.settings(appliance_url=world.stack.enter_context(proxy.running()), timeout=0.2)


def not_conjur(world: World) -> Settings:
    proxy = FaultyProxy(world.conjur.url, lambda _method, _path: Fault(status=404))
    return world.settings(appliance_url=world.stack.enter_context(proxy.running()))


def wrong_key(world: World) -> Settings:
    return world.settings(authn_api_key="canary")


def expired_token(world: World) -> Settings:
    (world.directory / "token").write_text('{"payload": "eyJzdWIiOiJhcHAiLCJpYXQiOjF9"}')
    more: dict[str, Any] = {"authn_token_file": world.directory / "token", "authn_api_key": None, "authn_login": None}
    return world.settings(**more)


def missing_variable(world: World) -> Settings:
    return world.settings(names={**world.variables, "api_key": "nowhere/api_key"})


def variable_without_value(world: World) -> Settings:
    unset = world.conjur.variable()
    world.login = world.conjur.host({**world.permits(), unset: ["read", "execute"]})
    return world.settings(names={**world.variables, "api_key": unset})


def forbidden_variable(world: World) -> Settings:
    seen = world.conjur.variable("canary")
    world.login = world.conjur.host({**world.permits(), seen: ["read"]})
    return world.settings(names={**world.variables, "api_key": seen})


def dangling_reference(world: World) -> Settings:
    return world.settings(secrets={"stripe": "{vault://conjur/nowhere/stripe}"})


def missing_branch(world: World) -> Settings:
    return world.settings(access_mode="read_and_write", policy_branch=unique("nowhere"))


def forbidden_branch(world: World) -> Settings:
    world.conjur.load(f"- !policy {(branch := unique('branch'))}\n")
    host = world.login[0].removeprefix(f"host/{world.conjur.branch}/")
    world.conjur.load(f"- !permit\n  role: !host {host}\n  privileges: [read]\n  resource: !policy {branch}\n")
    return world.settings(access_mode="read_and_write", policy_branch=f"{world.conjur.branch}/{branch}")


def unnamed_variable(world: World) -> Settings:
    names = {name: variable for name, variable in world.variables.items() if name != "api_key"}
    return world.settings(names=names)


def malformed_value(world: World) -> Settings:
    world.conjur.set(world.variables["api_key"], "canary with blanks")
    return world.settings()


Make = Callable[[World], Settings]
MISTAKES: dict[Make, tuple[str, str, str]] = {
    wrong_port: ("connection", "Connection refused", "Check the port in CONJUR_APPLIANCE_URL"),
    unknown_host: ("host name", "does not resolve", "the host in CONJUR_APPLIANCE_URL"),
    unknown_ca: ("TLS", "a CA that is not trusted", "Put this CA into CONJUR_CERT_FILE"),
    missing_ca_file: ("TLS", "CONJUR_CERT_FILE=nowhere.pem: cannot be loaded", "Set CONJUR_CERT_FILE"),
    hanging: ("status", "no answer within VAULT_TIMEOUT", "Check CONJUR_APPLIANCE_URL"),
    not_conjur: ("login", "the answer is not Conjur's", "CONJUR_APPLIANCE_URL is Conjur's address"),
    wrong_key: ("login", "Conjur refuses the login", "Check CONJUR_AUTHN_LOGIN (hosts: host/…), CONJUR_AUTHN_API_KEY"),
    expired_token: ("login", "CONJUR_AUTHN_TOKEN_FILE=", "Check what should keep it fresh"),
    missing_variable: (
        "secrets",
        "nowhere/api_key: it is missing, or cannot be seen",
        "conjur resource show",
    ),
    variable_without_value: ("secrets", "it has no value yet", "Set it: `conjur variable set -i "),
    forbidden_variable: ("secrets", "lacks the privilege execute", "privileges [execute]"),
    dangling_reference: ("secrets", "SECRET_STRIPE: ", "conjur resource permitted-roles"),
    missing_branch: ("policy branch", "there is no such policy branch", "or set CONJUR_POLICY_BRANCH"),
    forbidden_branch: ("policy branch", "lacks the privilege create on it", "`python -m app policy --vault conjur`"),
    unnamed_variable: ("form", "api_key: missing", "in CONJUR_VARIABLES: api_key=path/to/variable"),
    malformed_value: ("form", "api_key: malformed in conjur: ", "`conjur variable set -i"),
}


def problems(findings: list[Finding]) -> list[Finding]:
    """Return the faults, and make sure that nothing is shown that must not be."""
    assert "canary" not in str(findings)
    assert not any(value in str(findings) for value in SECRETS.values())
    return [finding for finding in findings if finding.status == "fault"]


@pytest.mark.parametrize("make", MISTAKES, ids=lambda make: make.__name__)
def test_the_cause_and_the_remedy_are_named(world: World, make: Make) -> None:
    """In the right step, and nowhere else; what depends on it is not reached."""
    step, cause, remedy = MISTAKES[make]
    findings = list(examine(BLUEPRINT, make(world)))
    (fault,) = problems(findings)
    assert fault.step == step
    assert cause in f"{fault.subject}: {fault.text}"
    assert remedy in fault.remedy
    assert not is_well(findings)
    if step in CHAIN[:-1]:
        not_reached = [each.step for each in findings if each.source == "conjur" and each.status == "not reached"]
        assert not_reached == CHAIN[CHAIN.index(step) + 1 :]


@pytest.mark.parametrize("mistake", JWT_MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_refused_jwt_is_told_as_the_service_tells_it(tmp_path: Path, mistake: Mistake) -> None:
    """At the login, with what to fix."""
    with StandIn() as server:
        conjur = Conjur(server.url, server.account, "admin", server.admin_api_key, server)
        mistake(jwt := JwtWorld(conjur, tmp_path / "jwt"))
        (fault,) = (each for each in examine(BLUEPRINT, jwt.settings()) if each.status == "fault" and each.source)
    assert (fault.source, fault.step) == ("conjur", "login")
    assert re.search(JWT_MISTAKES[mistake], f"{fault.text}. {fault.remedy}")


OWN = "Conjur has a fault of its own"
FAULTS = {  # of Conjur's, or of something in front of it
    "its database is down": (wire.as_json({"error": "no database"}, 500), f"{OWN} (HTTP 500) about "),
    "500": (wire.unrouted(500), f"{OWN} (HTTP 500) about "),
    "501": (wire.unrouted(501), f"{OWN} (HTTP 501) about "),
    **{
        f"{status}{kind}": (
            Answer(status, {"Content-Type": "text/html", "Content-Length": str(len(page))}, page),
            f"something in front of Conjur, such as a load balancer, answers with HTTP {status}, not Conjur itself",
        )
        for status, kind, page in [
            (502, "", b""),
            (503, "", b""),
            (504, "", b""),
            (500, " page", b"<p>"),
            (503, " page", b"<p>"),
        ]
    },
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_server_shows_in_its_status(name: str) -> None:
    """And the service names the same party when it comes to log in."""
    answer, cause = FAULTS[name]
    with StandIn() as server:
        conjur = Conjur(server.url, server.account, "admin", server.admin_api_key, server)
        settings = conjur.settings(variables=conjur.variable("x"))
        server.fail_next(answer.status, times=1000, answer=answer)
        (fault,) = (each for each in examine(BLUEPRINT, settings) if each.status == "fault" and each.source)
        with pytest.raises(ServerFault) as caught:
            conjur_source(settings).load()
    about = ("its status", "admin in account default") if cause.startswith(OWN) else ("", "")
    assert (fault.source, fault.step, fault.text) == ("conjur", "status", f"{cause}{about[0]}")
    assert (caught.value.cause, caught.value.remedy) == (f"{cause}{about[1]}", fault.remedy)


@pytest.mark.parametrize("status", [301, 302, 403, 404])
def test_a_server_that_shows_nothing_of_itself_is_asked_on(status: int) -> None:
    """The status page is no part of the API: something in front may keep it to itself, and a redirect leads astray."""
    with StandIn() as server, StandIn() as elsewhere:
        conjur = Conjur(server.url, server.account, "admin", server.admin_api_key, server)
        settings = conjur.settings(variables=conjur.variable("x"))
        headers = {"Location": f"{elsewhere.url}/", "Content-Length": "0"}
        server.fail_next(status, method="GET", answer=Answer(status, headers))
        found = {each.step: each for each in examine(BLUEPRINT, settings) if each.source}
        assert not elsewhere.requests
    assert (found["status"].status, found["login"].status) == ("ok", "ok")


def test_all_is_well(world: World) -> None:
    """Each step says so, the policy branch included where the service writes."""
    branch = unique("own")
    world.login = world.conjur.host(world.permits(), owns=branch)
    more = {"access_mode": "read_and_write", "policy_branch": f"{world.conjur.branch}/{branch}"}
    reference = f"{{vault://conjur/{world.variables['api_key']}}}"
    findings = list(examine(BLUEPRINT, world.settings(secrets={"stripe": reference}, **more)))
    assert problems(findings) == []
    assert is_well(findings)
    steps = [each.step for each in findings if each.source == "conjur"]
    assert list(dict.fromkeys(steps)) == [*CHAIN, "policy branch"]
    assert steps.count("secrets") == 4


def test_before_production_it_is_said_what_conjur_does_not_tell(world: World) -> None:
    """What a host may do beside is nobody's to ask; that is no fault."""
    found = [each for each in examine(BLUEPRINT, world.settings(), production=True) if each.source == "conjur"]
    (told,) = [each for each in found if each.status == "reminder"]
    assert told.step == "policy"
    assert "`python -m app policy --vault conjur`" in told.remedy
    assert is_well(found)


def test_nothing_is_changed_and_no_login_made_against_the_persons_will(world: World) -> None:
    """Only reads, and one login."""
    if world.conjur.standin is None:
        pytest.skip("only the stand-in tells what was asked of it")
    before = len(world.conjur.standin.requests)
    assert is_well(list(examine(BLUEPRINT, world.settings())))
    asked = [(each.method, each.path.rpartition("/")[2]) for each in world.conjur.standin.requests[before:]]
    assert [each for each in asked if each[0] != "GET"] == [("POST", "authenticate")]
    before = len(world.conjur.standin.requests)
    assert not is_well(list(examine(BLUEPRINT, world.settings(), login=False)))
    assert all(each.method == "GET" for each in world.conjur.standin.requests[before:])


def test_a_conjur_that_is_down_does_not_hide_a_vault_that_is_well(world: World, vault: Vault) -> None:
    """Nor the other way round; what both bring together is what counts."""
    vault.write(path := unique("app"), SECRETS)
    settings = wrong_port(world).model_dump()
    both = Settings.model_validate({**settings, "vault": {**settings["vault"], **vault.app_role(path)}})
    findings = list(examine(BLUEPRINT, both))
    assert {each.status for each in findings if each.source == "vault"} == {"ok"}
    assert [each.step for each in problems(findings)] == ["connection"]
    assert {each.status for each in findings if each.step == "form"} == {"ok"}


@pytest.mark.parametrize("name", IN_FRONT)
def test_what_answers_in_conjurs_place_is_named(world: World, name: str) -> None:
    """In the words of the service."""
    with FaultyProxy(world.conjur.url, IN_FRONT[name].answer).running() as url:
        found = list(examine(BLUEPRINT, world.settings(appliance_url=url)))
    first = next(each for each in found if each.status == "fault")
    assert first.step == "status"
    assert IN_FRONT[name].said in f"{first.text}. {first.remedy}"
