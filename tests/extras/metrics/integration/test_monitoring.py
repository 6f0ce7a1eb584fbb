"""Alerts and dashboard ask for what /metrics tells, by the right names, and every alert leads to what to do."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.config import Settings
from app.core.logs.event_log import Kind, Outcome, journal
from app.extras.metrics.metrics import PREFIX
from tests.declared import create_app
from tests.support import READ_POLICY, ROOT, SECRETS, Service, Vault, environment, unique

ALERTS = ROOT / "infrastructure/prometheus/alerts.yml"
DASHBOARD = ROOT / "infrastructure/grafana/dashboard.json"
ALERT = PREFIX.title().replace("_", "")  # how the name of each alert begins
OF_THE_SCRAPE = {"job", "instance"}  # labels that Prometheus adds
WORDS = {"by", "without", "on", "ignoring", "and", "or", "unless", "bool", "offset", "group_left", "group_right"}

Exported = dict[str, dict[str, set[str]]]  # a sample's name, its labels, their values


def alerts() -> list[dict[str, Any]]:
    """Return all alerting rules."""
    rules: list[dict[str, Any]] = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    return rules


def expressions() -> Iterator[str]:
    """Return every query in the alerts and the dashboard; the dashboard's variables stand for a value."""
    yield from (rule["expr"] for rule in alerts())
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"].replace("$__rate_interval", "5m") for target in panel.get("targets", ()))
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r"label_values\((.*), (\w+)\)", r"group by (\2) (\1)", variable["definition"])


def problems(expression: str, exported: Exported) -> list[str]:
    """Return what in a PromQL expression asks for something that is not exported."""
    found, asked = [], set[str]()
    for name, matchers in re.findall(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}", expression):
        for label, operator, value in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', matchers):
            values = exported.get(name, {}).get(label)
            if label not in OF_THE_SCRAPE and (values is None or (operator == "=" and value not in values)):
                found.append(f"{name}{{{label}{operator}{value}}}")
    bare = re.sub(r'\{[^}]*\}|"[^"]*"|\[[^\]]*\]', " ", expression)
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", bare))))
    bare = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", bare)
    for name, call in re.findall(r"\b([a-zA-Z_:][\w:]*)\b(\s*\()?", bare):
        if not call and name not in WORDS:
            asked.add(name)
    found += [name for name in sorted(asked) if name not in exported]
    labels = OF_THE_SCRAPE.union(*(exported.get(name, {}) for name in asked))
    return found + [f"by ({label})" for label in sorted(grouped - labels)]


@pytest.fixture
def exported(vault: Vault) -> Exported:
    """Return all that a service tells which reads from a real Vault and has noted each kind of event."""
    vault.write(path := unique("monitored"), SECRETS)
    mount = unique("pki")  # of which something is issued
    vault.client.sys.enable_secrets_engine("pki", path=mount)
    vault.client.write_data(
        f"{mount}/root/generate/internal", data={"common_name": "CA", "ttl": "1h", "key_type": "ec"}
    )
    vault.client.write_data(f"{mount}/roles/shop", data={"allow_any_name": True, "key_type": "ec"})
    grant = f'path "{mount}/issue/shop" {{{{ capabilities = ["update"] }}}}'
    role = vault.app_role(path, policy=READ_POLICY + grant)
    role["dynamic"] = {"tls": f"{mount}/issue/shop?common_name=shop.internal&ttl=30m"}
    settings = Settings.model_validate({"vault": role, "log_level": "CRITICAL"})
    names: Exported = {}
    with TestClient(create_app(settings)) as client:
        for kind, outcome in product(get_args(Kind), get_args(Outcome)):
            journal.record(kind, "vault", outcome)
        client.get("/health/live")
        families = text_string_to_metric_families(client.get("/metrics").text)
        for sample in (sample for family in families for sample in family.samples):
            labels = names.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return names


def test_every_query_finds_what_it_asks_for(exported: Exported) -> None:
    """Each name, each label, and each value of a label that is asked for is one that a service tells."""
    asked = list(expressions())
    assert len(asked) > 30
    wrong = {expression: found for expression in asked if (found := problems(expression, exported))}
    assert not wrong


KNOWN: Exported = {"logins_total": {"outcome": {"ok"}}, "up": {}}


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('sum by (job, outcome) (rate(logins_total{outcome="ok", job=~"$job"}[5m])) > 0.5 * up', []),
        ("histogram_quantile(0.9, logins_total) unless on (instance) up", []),
        ("absent(login_total)", ["login_total"]),
        ("up + logins", ["logins"]),
        ('logins_total{outcome="canary"}', ["logins_total{outcome=canary}"]),
        ('logins_total{result=~"o."}', ["logins_total{result=~o.}"]),
        ("sum by (source) (logins_total)", ["by (source)"]),
        ("min without (outcome) (up)", ["by (outcome)"]),
    ],
)
def test_a_query_that_asks_for_something_else_is_found(expression: str, found: list[str]) -> None:
    """Or the test above could not fail."""
    assert problems(expression, KNOWN) == found


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    """Its runbook is a heading of the page that it points to, and every such heading has its alert."""
    named = [rule["alert"] for rule in alerts()]
    assert len(set(named)) == len(named)
    for rule in alerts():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook"] == f"docs/metrics.md#{rule['alert'].lower()}"
    headings = re.findall(rf"^### ({ALERT}\w+)$", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    assert headings == named


def test_the_page_on_metrics_explains_every_number(exported: Exported) -> None:
    """And no other."""
    text = (ROOT / "docs/metrics.md").read_text()
    explained = {name.partition("{")[0] for name in re.findall(rf"^\| `({PREFIX}_[^`]+)`", text, re.MULTILINE)}
    told = {re.sub("_(bucket|count|sum|created)$", "", name) for name in exported if name.startswith(f"{PREFIX}_")}
    assert explained == {name for name in told if f"{name}_total" not in told}


def test_many_wrong_keys_make_the_alert_fire(vault: Vault, tmp_path: Path) -> None:
    """As many as its rule asks for, sent to a real service; what one client sends by mistake does not."""
    (rule,) = [rule for rule in alerts() if rule["alert"] == f"{ALERT}CredentialsGuessed"]
    found = re.fullmatch(r"sum by \(job, instance\) \(increase\((\w+)\[5m\]\)\) >= (\d+)", rule["expr"])
    assert found is not None
    name, least = found[1], int(found[2])
    vault.write(path := unique("guessed"), SECRETS)
    with Service(tmp_path, environment(vault.app_role(path)) | {"ENVIRONMENT": "production"}) as service:

        def counted() -> float:
            families = text_string_to_metric_families(service.get("/metrics").text)
            return sum(sample.value for family in families for sample in family.samples if sample.name == name)

        before = counted()
        assert before == 0, "shown from the start, or the rise would be no increase"
        for n in range(least):
            assert service.post("/caller", headers={"X-API-Key": f"wrong-{n}"}).status_code == 401
        assert counted() - before >= least
        for _ in range(10):
            service.post("/caller", headers={"X-API-Key": SECRETS["api_key"]})
            service.post("/caller")
        assert counted() - before == least
        assert len([event for event in service.events if event["event"] == "credentials_refused"]) < least / 2


def test_every_panel_of_the_dashboard_is_its_own() -> None:
    """Ids are unique, nothing overlaps, and each panel asks for something."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    covered: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = set(product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])))
        assert not cells & covered
        assert place["x"] + place["w"] <= 24
        covered |= cells
    assert all(panel["type"] == "row" or panel["targets"] for panel in panels)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on the PATH (Debian: prometheus)")
def test_each_alert_fires_when_it_should_and_stays_quiet_otherwise() -> None:
    """Prometheus's own tool says so; each alert is tried both ways."""
    cases = yaml.safe_load((ALERTS.parent / "alerts_test.yml").read_text())["tests"]
    tried = [(each["alertname"], bool(each["exp_alerts"])) for case in cases for each in case["alert_rule_test"]]
    assert set(tried) == set(product((rule["alert"] for rule in alerts()), (True, False)))
    for arguments in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(["promtool", *arguments], cwd=ALERTS.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
