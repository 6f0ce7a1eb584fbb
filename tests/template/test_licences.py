"""What the service installs may be handed on with it."""

import pytest

from infrastructure.licences import RUNTIME, Package, installed, licence_of
from tests.support import ROOT


def test_what_is_installed_names_its_licence() -> None:
    """And none asks for the source of the service."""
    packages = installed((ROOT / RUNTIME).read_text())
    assert {"fastapi", "hvac"} <= {each.name for each in packages}
    assert [(each.name, each.problem) for each in packages if each.problem] == []


def test_what_is_for_another_system_is_left_out() -> None:
    """Which is pinned for it, and not installed here."""
    assert installed("no-such-package==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n") == []
    (missing,) = installed("no-such-package==1.0 \\\n    --hash=sha256:00\n")
    assert missing.problem == "it is not installed: run `make setup`"


@pytest.mark.parametrize(
    ("licence", "problem"),
    [
        ("MIT", ""),
        ("LGPL-3.0-or-later", ""),
        ("GNU Lesser General Public License v3 (LGPLv3)", ""),
        ("MPL-2.0", ""),
        ("", "it names no licence"),
        ("UNKNOWN", "it names no licence"),
        ("OSI Approved", "it names no licence"),
        ("agpl-3.0-only", "its licence asks for the source of the service"),
        ("SSPL-1.0", "its licence asks for the source of the service"),
        ("GPL-3.0-only", "its licence asks for the source of the service"),
        ("MIT AND AGPL-3.0-only", "its licence asks for the source of the service"),
        ("GNU General Public License v2 (GPLv2)", "its licence asks for the source of the service"),
        ("GNU Affero General Public License v3", "its licence asks for the source of the service"),
    ],
)
def test_what_somebody_should_look_into_is_told(licence: str, problem: str) -> None:
    """A copyleft that reaches the service, and silence."""
    assert Package("a", "1", licence).problem == problem


@pytest.mark.parametrize(
    ("expression", "classifiers", "text", "licence"),
    [
        ("MIT", ["BSD License"], "x", "MIT"),
        (None, ["Apache Software License", "MIT License"], "x", "Apache Software License and MIT License"),
        (None, [], "BSD-3-Clause\nRedistribution …", "BSD-3-Clause"),
        (None, [], None, ""),
    ],
)
def test_the_expression_counts_first(
    expression: str | None, classifiers: list[str], text: str | None, licence: str
) -> None:
    """Then the classifiers, then the first line of the text."""
    assert licence_of(expression, classifiers, text) == licence
