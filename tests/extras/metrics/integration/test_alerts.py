"""Each alert fires at a real fault of a real service, and none while all is well.

Who adds a rule to `infrastructure/prometheus/alerts.yml` adds what makes it fire to `FAULTS`.
"""

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from app.extras.metrics.metrics import PREFIX
from infrastructure.faulty_proxy import Fault, FaultyProxy
from tests.extras.metrics.integration.test_monitoring import ALERT, alerts
from tests.extras.metrics.promql import Scrape, is_firing
from tests.support import DEADLINE, SECRETS, Service, Vault, environment, unique

NO_GOOD, BUG = "no-good-", "brings-out-the-bug-"  # what fragile.py does not bear: how the API key begins then
BETWEEN = 0.1  # seconds between two scrapes; each stands for a minute


class World:
    """A service whose Vault, behind a proxy, can be made to fail; and what it told Prometheus."""

    def __init__(self, vault: Vault, directory: Path, stack: ExitStack) -> None:
        self.vault = vault
        self.path = unique("alerts")
        vault.write(self.path, SECRETS)
        self.proxy = FaultyProxy(vault.url)
        url = stack.enter_context(self.proxy.running())
        quick = {"url": url, "refresh_interval": "0.5", "max_staleness": "20", "timeout": "1"}
        self.variables = environment({**vault.app_role(self.path), **quick})
        self.scrapes: list[Scrape] = []
        self.service: Service
        self._directory = directory
        self._stack = stack

    def start(self) -> None:
        """Start the service."""
        self.service = self._stack.enter_context(
            Service(self._directory, self.variables, "tests.extras.metrics.integration.fragile:app")
        )

    def scrape(self) -> None:
        """Ask once, as Prometheus does; who does not answer tells nothing."""
        time.sleep(BETWEEN)
        found: Scrape = {}
        try:
            text = self.service.get("/metrics").text
        except requests.ConnectionError:
            text = ""
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = {"job": "app", "instance": "a", **sample.labels}
                found[sample.name, frozenset(labels.items())] = sample.value
        self.scrapes.append(found)

    def loses_vault(self) -> None:
        """Break every connection from now on."""
        self.proxy.fault = lambda *_: Fault(reset=True)

    def writes(self, **secrets: str) -> None:
        """Rotate some secrets."""
        self.vault.write(self.path, {**SECRETS, **secrets})


# --- what makes each alert fire: before the start of the service, or after it ---


def secret_missing(world: World) -> None:
    """Forget one secret."""
    world.vault.write(world.path, {name: value for name, value in SECRETS.items() if name != "api_key"})


def short_token(world: World) -> None:
    """Hand in a token that nobody renews; it outlives a slow start."""
    token = world.vault.client.auth.token.create(policies=["root"], ttl="30s", renewable=False)
    world.variables["VAULT_AUTH_METHOD"] = "token"
    world.variables["VAULT_TOKEN"] = token["auth"]["client_token"]


def short_certificate(world: World) -> None:
    """Have something issued that is good for a while."""
    client, mount = world.vault.client, unique("pki")
    client.sys.enable_secrets_engine("pki", path=mount)
    client.write_data(f"{mount}/root/generate/internal", data={"common_name": "CA", "ttl": "1h", "key_type": "ec"})
    client.write_data(f"{mount}/roles/shop", data={"allow_any_name": True, "key_type": "ec"})
    token = client.auth.token.create(policies=["root"], ttl="1h")
    world.variables["VAULT_AUTH_METHOD"] = "token"
    world.variables["VAULT_TOKEN"] = token["auth"]["client_token"]
    world.variables["VAULT_DYNAMIC__TLS"] = f"{mount}/issue/shop?common_name=shop.internal&ttl=20s"


def short_bound(world: World) -> None:
    """Let secrets grow stale soon."""
    world.variables["VAULT_MAX_STALENESS"] = "2"


def nothing(_world: World) -> None:
    """Let the fault come later, or by itself."""


def login_lost(world: World) -> None:
    """Revoke the token, and let nobody log in."""
    world.proxy.fault = lambda _, path: Fault(reset=True) if path.endswith("/login") else None
    world.vault.client.adapter.put("/v1/sys/leases/revoke-prefix/auth/approle", json={})


def patient(world: World) -> None:
    """Let a call take longer than a round may."""
    world.variables["VAULT_TIMEOUT"] = "300"


def hanging(world: World) -> None:
    """Have no request answered."""
    world.proxy.fault = lambda *_: Fault(hang=True)


def guessing(world: World) -> None:
    """Try many keys."""
    for n in range(70):
        world.service.post("/caller", headers={"X-API-Key": f"guessed-{n}"})


Step = Callable[[World], Any]
FAULTS: dict[str, tuple[Step, Step]] = {
    "SecretMissing": (secret_missing, nothing),
    "SecretsStale": (short_bound, World.loses_vault),
    "SecretsAging": (nothing, World.loses_vault),
    "RefreshFailing": (nothing, World.loses_vault),
    "RotationRefused": (nothing, lambda world: world.writes(jwt_secret="short")),
    "RebuildFailing": (nothing, lambda world: world.writes(api_key=f"{NO_GOOD}{SECRETS['api_key']}")),
    "LoginFailing": (nothing, login_lost),
    "TokenDying": (short_token, nothing),
    "CredentialsDying": (short_certificate, World.loses_vault),
    "BackgroundFailing": (nothing, lambda world: world.writes(api_key=f"{BUG}{SECRETS['api_key']}")),
    "RoundOverdue": (patient, hanging),
    "CredentialsGuessed": (nothing, guessing),
    "NotScraped": (nothing, lambda world: world.service.stop()),
}
RULES = {rule["alert"].removeprefix(ALERT): rule for rule in alerts()}


def test_every_alert_has_a_fault_that_makes_it_fire() -> None:
    """And every fault its alert: whoever adds a rule adds one here."""
    assert FAULTS.keys() == RULES.keys()


def firing(name: str, world: World) -> list[dict[str, str]]:
    """Return the labels for which the alert fires now."""
    return is_firing(RULES[name]["expr"], RULES[name].get("for", "0m"), world.scrapes)


SLOW = {"RoundOverdue": pytest.mark.slow}  # half a minute


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in FAULTS])
def test_an_alert_fires_at_its_fault_and_not_before(vault: Vault, tmp_path: Path, name: str) -> None:
    """With the labels that its summary names."""
    prepare, bring_about = FAULTS[name]
    with ExitStack() as stack:
        world = World(vault, tmp_path, stack)
        prepare(world)
        world.start()
        world.scrape()
        if bring_about is not nothing:
            for _ in range(3):
                world.scrape()
                assert not firing(name, world)
        bring_about(world)
        end = time.monotonic() + DEADLINE
        while not (fired := firing(name, world)):
            assert time.monotonic() < end, f"{name} does not fire: {world.scrapes[-1]}"
            world.scrape()
    named = set(re.findall(r"\$labels\.(\w+)", RULES[name]["annotations"]["summary"]))
    assert all(named <= labels.keys() for labels in fired)


def test_no_alert_fires_while_all_is_well(vault: Vault, tmp_path: Path) -> None:
    """Through rotations, too, and longer than the longest alert waits."""
    with ExitStack() as stack:
        world = World(vault, tmp_path, stack)
        world.start()
        for n in range(20):
            if n % 5 == 0:
                world.writes(api_key=f"{SECRETS['api_key']}-{n}")
            world.scrape()
            assert {name: found for name in RULES if (found := firing(name, world))} == {}
        assert is_firing(f'{PREFIX}_rotations_total{{source="vault"}} > 0', "0m", world.scrapes), "there were rotations"


@pytest.mark.parametrize(
    ("expression", "duration", "fires"),
    [
        ("a == 1", "0m", True),
        ("a == 1", "2m", False),
        ("a > 0.5 * b", "0m", True),
        ("a >= 0.5 * b + 1", "0m", False),
        ("sum by (x) (a) < 2 - 0.5", "0m", True),
        ("sum by (y) (a) == 2", "0m", True),
        ("increase(counted[3m]) > 2", "0m", False),
        ("sum by (x) (increase(counted[4m])) > 2", "0m", True),
        ("increase(new[4m]) > 0", "0m", False),
        ("rate(counted[4m]) > 1", "0m", False),
        ("absent(a)", "0m", False),
        ("absent(nothing) ", "3m", True),
        ('a{x!="1"} == 1', "0m", True),
        ('a{x=~"1|2"} == 1', "0m", True),
        ('a{x="3"} == 1', "0m", False),
        ("a == 1 and b == 1", "0m", True),
        ("a == 1 unless b == 1", "0m", False),
        ("1 < b or a == 7", "0m", False),
        ("max by (x) (a) > min by (x) (nothing)", "0m", False),
    ],
)
def test_what_fires_is_worked_out_as_prometheus_does(expression: str, duration: str, *, fires: bool) -> None:
    """Or the tests above could not fail."""
    one, two = frozenset({("x", "1")}), frozenset({("x", "2")})
    scrapes: list[Scrape] = [
        {("a", one): 0.0, ("a", two): 0.0, ("b", one): 1.0, ("b", two): 1.0, ("counted", one): float(n)}
        for n in range(4)
    ]
    scrapes[-1] |= {("a", one): 1.0, ("a", two): 1.0, ("new", one): 9.0}
    assert bool(is_firing(expression, duration, scrapes)) is fires


@pytest.mark.parametrize(
    "expression", ["a offset 5m", "sum without (x) (a)", "a == 1 == ", "histogram_quantile(0.9, a)"]
)
def test_what_is_not_understood_is_no_alert(expression: str) -> None:
    """It raises, instead of looking quiet."""
    with pytest.raises((SyntaxError, IndexError)):
        is_firing(expression, "0m", [{("a", frozenset()): 1.0}])
