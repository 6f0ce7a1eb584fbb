"""The runbook in docs/operate.md knows each reason that readiness can give, and quotes what is really said."""

import ast
import inspect
import re

from app.core.store import readiness
from tests.support import ROOT

RUNBOOK = (ROOT / "docs/operate.md").read_text().split("\n## Runbook\n")[1]
HEADINGS = re.findall(r"^### (.+)$", RUNBOOK, re.MULTILINE)


def said_to_strangers() -> set[str]:
    """Return the constant words of every reason, without what it is about."""
    tree = ast.parse(inspect.getsource(readiness))
    (names,) = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == "_names"]
    given = [each.value for each in ast.walk(names) if isinstance(each, ast.Yield | ast.YieldFrom) and each.value]
    texts = [node.value for each in given for node in ast.walk(each) if isinstance(node, ast.Constant)]
    return {str(text).removeprefix(": ") for text in texts} - {""} | {"the service is stopping"}


def test_each_reason_has_a_heading() -> None:
    """In the words that strangers read; and there is none that nobody says."""
    reasons = said_to_strangers()
    assert len(reasons) >= 8
    told = [heading.lower() for heading in HEADINGS if heading != "Alerts"]
    assert not [reason for reason in reasons if not any(reason in heading for heading in told)]
    assert not [heading for heading in told if not any(reason in heading for reason in reasons)]


def test_each_reason_says_what_it_means_what_to_look_at_and_what_to_do() -> None:
    """In this order."""
    for section in re.split(r"^### ", RUNBOOK, flags=re.MULTILINE)[1:]:
        if not section.startswith("Alerts"):
            assert re.findall(r"^- \*\*(.+?)\*\*", section, re.MULTILINE) == ["Means", "Look at", "Do"], section[:40]


def test_the_causes_that_are_quoted_are_those_that_the_service_gives() -> None:
    """Word for word, in `app/core/`; every row has something to look at and something to do."""
    sources = "".join(file.read_text() for file in (ROOT / "app/core").rglob("*.py"))
    rows = [[cell.strip() for cell in row.split("|")[1:4]] for row in RUNBOOK.splitlines() if row.startswith("| `")]
    causes = [row for row in rows if not re.match(r"`\w+`$", row[0])]
    assert len(causes) >= 10
    assert all(all(row) for row in causes)
    quoted = [quote for row in causes for quote in re.findall(r"`([^`]+)`", row[0])]
    assert not [quote for quote in quoted if quote not in sources]
