"""When is a lease renewed, and what if nobody can replace it? It is kept as long as it can be, and its end is told.

A command that holds credentials in its environment keeps them: new ones would not reach it.
"""

import random
from collections.abc import Callable, Iterable, Sequence

from app.core.errors import BackendError, BadRequest, PathMissing, PermissionDenied, UnexpectedAnswer
from app.core.logs.event_log import journal
from app.core.logs.logging_config import get_logger
from app.core.store.source_refresher import pause_after
from app.core.vault.leases import Lease, renew
from app.core.vault.session import VaultSession

RENEW_AT = 0.6, 0.7  # of its time, spread so that a fleet that started together does not renew together
FIRST_AT = 0.02, 0.67  # when the first ones are replaced: instances that started together part here
LOOK_AGAIN = 60.0  # seconds between two ticks, at most
LAST_PART = 0.2  # of its time: when that is left, its end is told
LAST_TRY = 0.15  # of its time: with less left, a lease that cannot be renewed is replaced
REFUSALS = BadRequest, PermissionDenied, PathMissing, UnexpectedAnswer  # all else passes by

log = get_logger(__name__)


def schedule(lease: Lease, jitter: Callable[[float, float], float]) -> None:
    """Say when it is to be renewed, or replaced."""
    is_static = not lease.lease_id and lease.rotated is not None
    share = 1.0 if is_static else jitter(*(FIRST_AT if lease.is_first else RENEW_AT))
    lease.due = lease.since + lease.duration * share


def is_tended(session: VaultSession, lease: Lease, jitter: Callable[[float, float], float]) -> bool:
    """Renew, or see that it must be replaced; tell whether that is settled."""
    if not (lease.lease_id and lease.renewable):
        lease.replace = True
        return True
    try:
        duration = renew(session, lease)
    except REFUSALS as error:
        log.info("lease_renewal_refused", dynamic=lease.secret.name, reason=str(error))
        lease.replace = True
        return True
    except BackendError as error:  # the credentials are good for a while yet
        lease.replace = lease.seconds_left(session.clock()) < lease.full * LAST_TRY
        log.warning("lease_renewal_failed", dynamic=lease.secret.name, error=type(error).__name__, reason=str(error))
        journal.record("lease", session.name, "failed", f"{lease.secret.name}: {type(error).__name__}")
        return False
    if duration < lease.full / 2:  # its max TTL is near
        lease.replace = True
    else:
        log.info("lease_renewed", dynamic=lease.secret.name, ttl=round(duration))
        journal.record("lease", session.name, detail=f"{lease.secret.name}: renewed for {duration:.0f} s")
        schedule(lease, jitter)
    return True


def pause_before_retry(
    failures: int, leases: Iterable[Lease], now: float, jitter: Callable[[float, float], float]
) -> float:
    """Return how many seconds to wait after so many failures in a row: never so many that a lease ends meanwhile."""
    lives = [left / 4 for lease in leases if (left := lease.seconds_left(now))]
    return max(0.1, min([pause_after(failures, jitter), LOOK_AGAIN, *lives]))


class Keeping:
    """Keeps what nobody replaces."""

    def __init__(self, session: VaultSession, jitter: Callable[[float, float], float] = random.uniform) -> None:
        self._session = session
        self._jitter = jitter
        self._told: set[Lease] = set()  # those whose end the log has named
        self._failures = 0

    def tick(self, held: Sequence[Lease]) -> float:
        """Renew what is due as long as that helps; return the seconds to the next call. Raises no `BackendError`."""
        now, retry, dues = self._session.clock(), False, []
        for lease in held:
            is_due = not lease.replace and now >= lease.due and not lease.ends_with_token(now)
            if is_due and not is_tended(self._session, lease, self._jitter):
                retry, lease.replace = True, False  # there is nothing better than another try
            now = self._session.clock()
            until_told = self._tell(lease, now)
            dues.append(until_told)
            if not lease.replace and not lease.ends_with_token(now):
                dues.append(lease.due - now)
        self._failures = self._failures + 1 if retry else 0
        if retry:
            return pause_before_retry(self._failures, held, self._session.clock(), self._jitter)
        return max(0.1, min([LOOK_AGAIN, *dues]))

    def _tell(self, lease: Lease, now: float) -> float:
        """Name a lease that is about to end, once; return in how many seconds that may be."""
        left, whole = lease.seconds_left(now), lease.full
        if lease.lease_id and (token := lease.login.lifetime):
            whole = min(whole, token)
        if left > whole * LAST_PART:
            self._told.discard(lease)
            return left - whole * LAST_PART
        if lease not in self._told:
            self._told.add(lease)
            log.warning("lease_ends", dynamic=lease.secret.name, path=lease.secret.path, seconds=round(left))
            journal.record("lease", self._session.name, "failed", f"{lease.secret.name}: ends in {left:.0f} s")
        return LOOK_AGAIN
