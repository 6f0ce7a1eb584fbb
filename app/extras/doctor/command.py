"""How is the doctor asked from a terminal where there is no command line? `python -m app doctor`, too."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from app.core.store.provider import Blueprint
from app.extras.doctor.diagnosis import doctor


def main(blueprint: Blueprint, arguments: Sequence[str]) -> NoReturn:
    """Say what is wrong between the settings and the secrets, and what fixes it; exit with 0 only if all is well."""
    parser = argparse.ArgumentParser("python -m app doctor", description=main.__doc__)
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--login", action=argparse.BooleanOptionalAction, help="even where that uses something up")
    parser.add_argument("--production", action="store_true", help="ask also for what must hold before production")
    parser.add_argument("--issue", action="store_true", help="have dynamic secrets issued, and give them back")
    given = parser.parse_args(arguments)
    sys.exit(doctor(blueprint, as_json=given.json, login=given.login, production=given.production, issue=given.issue))
