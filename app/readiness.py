"""Can the service do its work, and if not, why? Looks at memory only."""

from dataclasses import dataclass

from app.errors import SecretsIncomplete
from app.refresh import Refresher


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the service is ready, and what people should know either way."""

    is_ready: bool
    findings: tuple[str, ...]  # ready: what went wrong last, while good secrets are held; else: why it is not


def readiness(refresher: Refresher) -> Readiness:
    """Tell whether every declared secret is there and fresh enough, and every object built from them.

    A source that has not answered yet is named, and makes unready only by what is missing.
    An outage, or a rotation that was refused, makes nothing unready as long as good secrets are held.
    """
    faults = list(dict.fromkeys(str(keeper.fault) for keeper in refresher.keepers if keeper.fault is not None))
    faults += [f"{keeper.source}: has not answered yet" for keeper in refresher.keepers if keeper.is_waiting]
    gaps = [str(SecretsIncomplete(refresher.store.problems))] if refresher.store.problems else []
    stale = [
        f"the secrets from {keeper.source} were last confirmed {keeper.age:.0f} s ago, longer than VAULT_MAX_STALENESS"
        for keeper in refresher.keepers
        if keeper.is_stale
    ]
    failed = [each for each in refresher.rotating.values() if each.fault]
    unbuilt = [f"{each.name}: could not be built ({each.fault})" for each in failed if not each.is_built]
    if gaps or stale or unbuilt:
        return Readiness(is_ready=False, findings=(*faults, *stale, *gaps, *unbuilt))
    kept = [f"{each.name}: the new one failed ({each.fault}), the old one stays" for each in failed]
    return Readiness(is_ready=True, findings=(*faults, *kept))
