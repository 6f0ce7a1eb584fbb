"""Whoever is woken up by an alert finds it in the runbook."""

import re

import yaml

from tests.support import ROOT

ALERTS = ROOT / "infrastructure/prometheus/alerts.yml"
RUNBOOK = ROOT / "docs/operate.md"


def test_each_alert_has_its_row_in_the_runbook() -> None:
    """In the order of the rules, and no other; with what it means, what to look at and what to do."""
    named = [rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    section = RUNBOOK.read_text().split("\n### Alerts\n")[1]
    rows = re.findall(r"^\| `(\w+)` \|(.+)\|(.+)\|(.+)\|$", section, re.MULTILINE)
    assert [name for name, *_ in rows] == named
    assert all(cell.strip() for row in rows for cell in row)
