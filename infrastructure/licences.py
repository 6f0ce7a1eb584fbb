"""Under which licences is what the service installs? `make licences`.

It lists what `requirements/runtime.txt` pins, as far as it is installed here: what is for another system is not.
"""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

RUNTIME = Path("requirements/runtime.txt")
MISSING = "-"  # instead of a version
# whoever hands on a service with one of these has to hand on its source, too; the LGPL asks for less
STRONG = re.compile(r"\b(?:A?GPL|SSPL)|Affero|(?<!Lesser )General Public License", re.IGNORECASE)
SILENT = {"", "unknown", "osi approved", "other/proprietary license"}  # as good as nothing


@dataclass(frozen=True)
class Package:
    """One package, and what it says of its licence; "" if it says nothing."""

    name: str
    version: str
    licence: str

    @property
    def problem(self) -> str:
        """Return what somebody should look into, or ""."""
        if self.version == MISSING:
            return "it is not installed: run `make setup`"
        if self.licence.lower() in SILENT:
            return "it names no licence"
        return "its licence asks for the source of the service" if STRONG.search(self.licence) else ""


def installed(requirements: str) -> list[Package]:
    """Return the packages that are pinned and installed."""
    found = []
    pinned = r"^([A-Za-z0-9._-]+)(?:\[\S+\])?==[^\s;]+( ;)?"
    for name, is_for_some in re.findall(pinned, requirements, re.MULTILINE):
        try:
            told = metadata(name)
        except PackageNotFoundError:
            found += [] if is_for_some else [Package(name, MISSING, "")]
            continue
        classifiers = [each.rpartition(" :: ")[2] for each in told.get_all("Classifier", ()) if "License ::" in each]
        found.append(
            Package(name, told["Version"], licence_of(told["License-Expression"], classifiers, told["License"]))
        )
    return found


def licence_of(expression: str | None, classifiers: Iterable[str], text: str | None) -> str:
    """Return the SPDX expression where there is one; older packages have classifiers, or the first line of a text."""
    first = (text or "").strip().partition("\n")[0][:60]
    return expression or " and ".join(classifiers) or first


def main() -> None:
    """Print the list; fail if there is something to look into."""
    packages = installed(RUNTIME.read_text())
    for each in packages:
        print(f"{each.name:<22} {each.version:<12} {each.licence}")
    problems = [f"{each.name} {each.version}: {each.problem} ({each.licence})" for each in packages if each.problem]
    if problems:
        sys.exit("error: " + "; ".join(problems))


if __name__ == "__main__":
    main()
