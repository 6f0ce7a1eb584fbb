"""Can the service do its work, and if not, why? Looks at memory only."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.core.errors import SecretsIncomplete
from app.core.store.refresh import Refresher


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the service is ready, and what people should know either way."""

    is_ready: bool
    findings: tuple[str, ...]  # ready: what went wrong last, while good secrets are held; else: why it is not
    names: tuple[str, ...]  # the same for strangers: what it is about, without path, address, cause and remedy


def readiness(refresher: Refresher) -> Readiness:
    """Tell whether every declared secret is there and fresh enough, and every object built from them.

    A source that has not answered yet is named, and makes unready only by what is missing.
    An outage, or a rotation that was refused, makes nothing unready as long as good secrets are held. A service that is
    stopping still serves, but wants no more requests.
    """
    if refresher.is_stopping:
        stopping = ("the service is stopping",)
        return Readiness(is_ready=False, findings=stopping, names=stopping)
    faults = list(dict.fromkeys(str(keeper.fault) for keeper in refresher.sources if keeper.fault is not None))
    idle = refresher.idle()
    waiting = [f"{keeper.source}: has not answered yet" for keeper in refresher.sources if keeper.is_waiting]
    faults += [str(idle)] if idle else waiting
    faults += [
        f"{task}: failed in the background ({why}), and is tried again" for task, why in refresher.failing.items()
    ]
    gaps = [str(SecretsIncomplete(refresher.store.problems))] if refresher.store.problems else []
    stale = [
        f"the secrets from {keeper.source} were last confirmed {keeper.age:.0f} s ago, longer than VAULT_MAX_STALENESS"
        for keeper in refresher.sources
        if keeper.is_stale
    ]
    ended = [
        f"{keeper.source}: the credentials of the dynamic secret {name} have ended"
        for keeper in refresher.sources
        for name in keeper.ended
    ]
    failed = [each for each in refresher.rotating.values() if each.fault]
    unbuilt = [f"{each.name}: could not be built ({each.why})" for each in failed if not each.is_built]
    names = tuple(_names(refresher))
    if gaps or stale or ended or unbuilt or idle:
        return Readiness(is_ready=False, findings=(*faults, *stale, *ended, *gaps, *unbuilt), names=names)
    kept = [f"{each.name}: the new one failed ({each.why}), the old one stays" for each in failed]
    return Readiness(is_ready=True, findings=(*faults, *kept), names=names)


def _names(refresher: Refresher) -> Iterator[str]:
    for keeper in refresher.sources:
        if keeper.fault is not None:
            yield f"{keeper.source}: the last round failed"
        if keeper.is_waiting:
            yield f"{keeper.source}: has not answered yet"
        yield from (f"{keeper.source}: credentials have ended" for _ in keeper.ended)
        if keeper.is_stale:
            yield f"{keeper.source}: not confirmed for too long"
    for name, problem in refresher.store.problems.items():
        yield f"{name}: {problem if problem == 'missing' else 'not as declared'}"
    for each in refresher.rotating.values():
        if each.fault:
            yield f"{each.name}: could not be built"
    yield from (f"{task}: failed in the background" for task in refresher.failing)
