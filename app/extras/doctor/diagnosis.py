"""What is wrong, and what fixes it? `python -m app doctor` walks from the settings to each declared secret.

It shows no value and changes nothing: it reads, and logs in where that uses nothing up; that token it revokes.
A kind of source that has steps of its own brings them: `chain` in its `for_doctor.py`.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Protocol

from rich.console import Console
from rich.text import Text

from app.core.errors import BadSettings
from app.core.settings.app import AppSettings
from app.core.settings.vault import MAIN_VAULT
from app.core.store.overrides import local_overrides
from app.core.store.provider import Blueprint, adapter
from app.core.store.secret_store import merge
from app.core.store.source import Secret
from app.extras.doctor.declared import examine_declared
from app.extras.doctor.findings import WELL, Finding, walk
from app.extras.doctor.local_servers import examine_local_servers
from app.extras.doctor.production import what_settings_tell
from app.extras.doctor.settings import good_settings, refused_settings
from app.extras.doctor.vault_chain import VaultChain

COLOURS = {"ok": "green", "reminder": "cyan", "warning": "yellow", "fault": "bold red", "not reached": "dim"}


class Chain(Protocol):
    """The steps of one source."""

    name: str
    secrets: list[Secret]  # what it brings
    promised: list[str]  # entries that it would issue, or the beginning of their names
    complete: bool  # whether that is all that is wanted of it

    def findings(self) -> Iterator[Finding]:
        """Take the steps."""
        ...


def doctor(
    blueprint: Blueprint,
    *,
    as_json: bool = False,
    login: bool | None = None,
    production: bool = False,
    issue: bool = False,
) -> int:
    """Examine the settings, Vaults and secrets of a service and print what was found; return 0 if all is well, else 1.

    `login` forces or forbids a login; by default there is one unless it would use up a wrapped secret id.
    `production` also asks for what must hold before the service goes there; `issue` has credentials issued.
    """
    console = Console(highlight=False, soft_wrap=True)
    found: list[Finding] = []
    logging.disable()  # what the log would say, the findings say better
    try:
        for finding in examine(blueprint, login=login, production=production, issue=issue):
            if not as_json:
                _show(console, finding, is_first=not found or found[-1].source != finding.source)
            found.append(finding)
    finally:
        logging.disable(logging.NOTSET)
    if as_json:
        print(json.dumps({"well": is_well(found), "findings": [asdict(each) for each in found]}, indent=2))  # noqa: T201
    else:
        console.print(_summary(found))
    return 0 if is_well(found) else 1


def examine(
    blueprint: Blueprint,
    settings: AppSettings | None = None,
    *,
    login: bool | None = None,
    production: bool = False,
    issue: bool = False,
    clock: Callable[[], float] = time.time,
) -> Iterator[Finding]:
    """Walk every chain; without `settings` they come from the environment, and are what is examined first.

    A Vault that fails does not keep the next one from being examined.
    """
    try:
        settings = settings or blueprint.settings.of_environment()
    except BadSettings as error:
        yield from (replace(each, source="settings", step="settings") for each in refused_settings(error))
        yield Finding("not reached", "waits for: settings", step="everything else", source=MAIN_VAULT)
        return
    yield from walk("settings", {"settings": lambda: good_settings(settings)})
    if production:
        yield from walk("before production", what_settings_tell(settings, blueprint.declared.model_fields))
    chains = _chains(blueprint, settings, clock, login=login, production=production, issue=issue)
    for chain in chains:
        yield from chain.findings()
    unread = [chain.name for chain in chains if not chain.complete]
    found = {chain.name: chain.secrets for chain in chains}
    held = merge({**found, "environment": local_overrides(settings.secrets)})  # in the order in which they count
    promised = [name for chain in chains for name in chain.promised]
    yield from walk(
        "declared secrets",
        {
            "form": lambda: examine_declared(blueprint, settings, held, unread, promised),
            "local server": lambda: examine_local_servers(settings, [*blueprint.declared.model_fields], held),
        },
    )


def is_well(found: Sequence[Finding]) -> bool:
    """Tell whether everything was reached and nothing is wrong; a warning is well, and so is a reminder."""
    return all(finding.status in WELL for finding in found)


def _chains(
    blueprint: Blueprint,
    settings: AppSettings,
    clock: Callable[[], float],
    *,
    login: bool | None,
    production: bool,
    issue: bool,
) -> list[Chain]:
    chains: list[Chain] = []
    for provider, name in blueprint.providers.enabled(settings):
        own = adapter(provider, "doctor")
        chain = own.chain if own else VaultChain
        chains.append(chain(settings, name, login=login, production=production, issue=issue, clock=clock))
    return chains


def _show(console: Console, finding: Finding, *, is_first: bool) -> None:
    if is_first:
        console.print(Text(finding.source, "bold"))
    line = Text.assemble("  ", (f"{finding.status:<12}", COLOURS[finding.status]), f"{finding.step:<13} ")
    line.append(f"{finding.subject}: {finding.text}" if finding.subject else finding.text)
    console.print(line)
    if finding.remedy:
        console.print(Text(f"{'':<14}-> {finding.remedy}", COLOURS[finding.status]))


def _summary(found: Sequence[Finding]) -> Text:
    if is_well(found):
        reminders = sum(each.status == "reminder" for each in found)
        return Text(
            f"All is well, but for what is yours to look at: {reminders}." if reminders else "All is well.", "green"
        )
    counts = {status: sum(each.status == status for each in found) for status in ("fault", "warning", "not reached")}
    return Text(", ".join(f"{status}: {count}" for status, count in counts.items() if count), "bold red")
