"""How do credentials that Vault issues stay good? Renewed in time, replaced before they end, revoked after their use.

A lease dies with the token that asked for it. So each lease keeps its login from ending: a re-login brings a new token,
then new credentials, and the old token is revoked when the last user of the old ones is done.
"""

import random
import time
from collections.abc import Callable, Collection, Mapping

from app.core import forks
from app.core.errors import BackendError, WouldIssue
from app.core.logs.event_log import journal
from app.core.logs.logging_config import get_logger
from app.core.settings.dynamic import DynamicSecret
from app.core.store.source import Secret, TokenLife
from app.core.vault.leases import Lease, issue, revoke, variable_of
from app.core.vault.renewal import LOOK_AGAIN, Keeping, is_tended, pause_before_retry, schedule
from app.core.vault.session import VaultSession

DRAIN = 10.0, 60.0  # seconds that replaced credentials stay good: at least, and at most
NOT_TWICE_IN = 30.0  # seconds between two replacements because a consumer was refused
ROTATING = 2.0  # seconds that Vault may take to change the password of a static role, once that is due

log = get_logger(__name__)


class DynamicCredentials:
    """What Vault has issued for one session."""

    def __init__(
        self,
        session: VaultSession,
        jitter: Callable[[float, float], float] = random.uniform,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.wake: Callable[[], None] | None = None  # says, from any thread, that a round should read them anew
        self._session = session
        self._jitter = jitter
        self._wall = wall
        self._held: dict[str, Lease] = {}  # by name
        self._keeping = Keeping(session, jitter)
        self._former: list[Lease] = []  # those that were replaced, and whose users may not be done
        self._refused_at: dict[str, float] = {}
        self._failures = 0
        self._one_at_a_time = forks.Lock()  # held while one is issued: all who need it wait for the same
        self._lock = forks.Lock()  # guards those above; never held during network I/O
        forks.watch(self)

    def start_afresh(self) -> None:
        """Leave the parent's to the parent: they are neither renewed nor revoked here."""
        self._held, self._former, self._refused_at = {}, [], {}

    def current(self, secret: DynamicSecret, *, may_issue: bool = True) -> Secret:
        """Return the credentials in force, issued where there are none or they are to be replaced.

        Raises a `BackendError` if Vault issues none, and `WouldIssue` if it would have to and must not.
        """
        with self._one_at_a_time:
            held = self._held.get(secret.name)
            if held is not None and not self._is_to_be_replaced(held):
                return held.as_secret()
            if not may_issue and secret.has_lease:
                raise WouldIssue(variable_of(secret, self._session.name), f"would have Vault issue {secret.path}", "")
            return self._replaced(secret, held).as_secret()

    def lease(self, name: str) -> Lease:
        """Return what is in force of a dynamic secret that was issued."""
        return self._held[name]

    def lives(self) -> Mapping[str, TokenLife]:
        """Return how long each is good for, by name; looks at memory only."""
        now = self._session.clock()
        return {name: lease.life(now) for name, lease in self._held.items()}

    def refused(self, names: Collection[str]) -> None:
        """Take in that a consumer was turned away: the next round brings other credentials.

        Of those that are issued at most one in `NOT_TWICE_IN` seconds: what refuses those refuses the next ones, too.
        """
        now = self._session.clock()
        for name in names:
            lease = self._held.get(name)
            if lease is None:
                continue
            if lease.secret.has_lease and now - self._refused_at.get(name, -NOT_TWICE_IN) < NOT_TWICE_IN:
                continue
            self._refused_at[name] = now
            lease.replace = lease.refused = True
            log.warning("lease_refused", dynamic=name, path=lease.secret.path)

    def swapped(self, is_drained: Callable[[], bool]) -> None:
        """Take in that what was replaced is out of force; `is_drained` tells when nothing built from it is in use."""
        with self._lock:
            for lease in self._former:
                if lease.is_drained is None:
                    lease.is_drained, lease.retired_at = is_drained, self._session.clock()

    def tick(self) -> float:
        """Renew what is due, release what is drained, and wake who replaces the rest; return the seconds to the next.

        Where nobody replaces them, keep them as long as they can be. Raises no `BackendError`.
        """
        if self.wake is None:
            return self._keeping.tick([*self._held.values()])
        now = self._session.clock()
        self._release_drained(now)
        retry = False
        for lease in [*self._held.values()]:
            if not self._is_to_be_replaced(lease) and now >= lease.due and not lease.ends_with_token(now):
                if lease.is_first:
                    lease.replace = True
                else:
                    retry |= not is_tended(self._session, lease, self._jitter)
        waiting = any(self._is_to_be_replaced(lease) for lease in self._held.values())
        if waiting:
            self.wake()
        self._failures = self._failures + 1 if waiting or retry else 0
        return self._pause(self._session.clock())

    def token_replaced(self) -> None:
        """Have what came by the former token replaced."""
        if self.wake is not None and any(lease.lease_id for lease in self._held.values()):
            self.wake()

    def close(self) -> None:
        """Revoke, one by one, what does not end with a token of ours; end the logins that were kept for the rest."""
        with self._lock:
            leases = [lease for lease in (*self._held.values(), *self._former) if lease.lease_id]
            self._held, self._former = {}, []
        for lease in leases:
            self._end(lease, is_last=True)

    def _replaced(self, secret: DynamicSecret, old: Lease | None) -> Lease:
        try:
            lease = self._issued(secret, old)
        except BackendError as error:
            if old is not None and old.is_first and not self._is_needed(old):
                old.is_first = old.replace = False  # from now on they are renewed
                schedule(old, self._jitter)
                return old
            log.warning("lease_failed", dynamic=secret.name, error=type(error).__name__, reason=str(error))
            journal.record("lease", self._session.name, "failed", f"{secret.name}: {type(error).__name__}")
            raise
        lease.is_first = old is None
        schedule(lease, self._jitter)
        with self._lock:
            self._held[secret.name] = lease
            if old is not None and old.lease_id:
                self._former.append(old)
        if old is None or lease.data != old.data:
            event = "lease_issued" if old is None else "lease_replaced"
            log.info(event, dynamic=secret.name, path=secret.path, ttl=round(lease.duration))
            journal.record("lease", self._session.name, detail=f"{secret.name}: for {lease.duration:.0f} s")
        return lease

    def _issued(self, secret: DynamicSecret, old: Lease | None) -> Lease:
        """Have it issued; where a static role's password is just being changed, wait for the new one."""
        lease = issue(self._session, secret, self._wall())
        end = self._session.clock() + ROTATING
        while self._is_about_to_change(lease, old) and self._session.clock() < end:
            self._session.wait(0.2)
            lease = issue(self._session, secret, self._wall())
        return lease

    @staticmethod
    def _is_about_to_change(lease: Lease, old: Lease | None) -> bool:
        if lease.secret.has_lease or lease.rotated is None:
            return False
        return lease.duration == 0 or (old is not None and old.refused and old.rotated == lease.rotated)

    def _is_to_be_replaced(self, lease: Lease) -> bool:
        """Look at memory only."""
        return lease.replace or self._is_needed(lease)

    def _is_needed(self, lease: Lease) -> bool:
        """Tell whether another one is needed at once: its token is gone, or it is over, or was refused."""
        is_former = lease.lease_id != "" and lease.login is not self._session.current()
        return is_former or lease.refused or lease.seconds_left(self._session.clock()) <= 0

    def _pause(self, now: float) -> float:
        if self._failures:
            return pause_before_retry(self._failures, [*self._held.values()], now, self._jitter)
        dues = [lease.due for lease in self._held.values() if not lease.ends_with_token(now)]
        dues += [now + 1.0 for lease in self._former if lease.is_drained is not None]
        return max(0.1, min([LOOK_AGAIN, *(due - now for due in dues)]))

    def _release_drained(self, now: float) -> None:
        with self._lock:
            done = [lease for lease in self._former if self._is_done(lease, now)]
            self._former = [lease for lease in self._former if lease not in done]
        for lease in done:
            self._end(lease)

    @staticmethod
    def _is_done(lease: Lease, now: float) -> bool:
        margin = min(DRAIN[0], lease.full / 10)
        if lease.seconds_left(now) <= margin:
            return True
        if lease.is_drained is None:  # what was to replace it is not in force
            return False
        waited = now - lease.retired_at
        return waited >= DRAIN[1] or (waited >= DRAIN[0] and lease.is_drained())

    def _end(self, lease: Lease, *, is_last: bool = False) -> None:
        """Give credentials back: with their token where that ends now and is ours, else by themselves."""
        login = lease.login
        is_revoked = login.auth.obtained and login.auth.token_type != "batch" and not login.behind_proxy  # noqa: S105
        if not (is_revoked and (login.retired or is_last)) and not login.dead:
            try:
                revoke(self._session, lease)
            except BackendError as error:
                left = round(lease.seconds_left(self._session.clock()))
                log.warning("lease_revocation_failed", dynamic=lease.secret.name, error=type(error).__name__, ttl=left)
            else:
                log.info("lease_revoked", dynamic=lease.secret.name)
                journal.record("lease", self._session.name, detail=f"{lease.secret.name}: revoked")
        self._session.give_back(login)


_making = forks.Lock()


def credentials_of(session: VaultSession) -> DynamicCredentials:
    """Return what was issued over a session, which has one of these."""
    with _making:
        held = session.credentials
        if not isinstance(held, DynamicCredentials):
            session.credentials = held = DynamicCredentials(session)
        return held
