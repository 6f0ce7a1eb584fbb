"""When is one source read? At the start, then once an interval; after a failure sooner, with growing pauses."""

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from app.core import forks
from app.core.errors import BackendError, BlueprintError, RoundOverdue, SecretsIncomplete
from app.core.logs.event_log import journal
from app.core.logs.logging_config import get_logger, where_raised
from app.core.store.secret_store import Change
from app.core.store.source import Connection, Source

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries while a source fails
SPREAD = 0.9, 1.1  # of the interval, so that a fleet does not march in step
OVERDUE = 30.0  # seconds after which a round that has not ended, or not begun, is a fault

log = get_logger(__name__)


def pause_after(failures: int, jitter: Callable[[float, float], float]) -> float:
    """Return how many seconds to wait after so many failures in a row: growing, bounded, and spread by jitter."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 16))
    return jitter(longest / 2, longest)


class RefreshTarget(Protocol):
    """What is kept fresh: the `SecretStore`, for one."""

    @property
    def problems(self) -> Mapping[str, str]:
        """What is missing or malformed in it."""
        ...

    def publish(self, source: str, loaded: Any) -> tuple[Change, ...]:
        """Take in what was loaded; return what changed."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Return what the log may say of it."""
        ...


class SourceRefresher:
    """Keeps what comes from one source fresh."""

    def __init__(
        self,
        source: str,
        load: Callable[[], Any],
        store: RefreshTarget,
        *,
        interval: float,  # seconds between two rounds; 0: none after the first good one
        max_staleness: float = 0.0,  # seconds after which what is held no longer counts; 0: never
        awaited: bool = True,  # whether the start waits for the first round also without `fail_fast`
        connection: Callable[[], Connection] = lambda: Connection("", ""),  # how the source is reached
        upstream: Source | None = None,  # what is told when what it brought is in force, and when that is refused
        drained: Callable[[], Callable[[], bool]] = lambda: bool,  # what tells when nothing uses what was before
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.source = source
        self.awaited = awaited
        self.connection = connection
        self.max_staleness = max_staleness if interval else 0.0  # seconds; 0: what is held counts for ever
        self.failures = 0  # in a row
        self.rotated: dict[tuple[str, str], float] = {}  # when a path's key last changed, in seconds since 1970
        self._fault: BlueprintError | None = None
        self.upstream = upstream
        self._drained = drained
        self._load = load
        self._store = store
        self._interval = interval
        self._clock = clock
        self._jitter = jitter
        self._one_at_a_time = forks.Lock()
        self._confirmed: float | None = None  # when Vault last said what is held
        self._due: float | None = None  # the next beat of the interval; None before the first good round
        self._planned: float | None = None  # when the next round is, be it on the beat or sooner after a failure
        self._began: float | None = None  # when the round under way began
        self._ended = clock()  # when the last one did, or this was made
        self._told: float | None = None  # since when the round was late that the log has named

    def round(self) -> tuple[Change, ...]:
        """Load, check and swap in; return what changed. A failure is kept in `fault`, and what is held stays."""
        with self._one_at_a_time, self._under_way():
            try:
                changes = self._store.publish(self.source, self._load())
            except BlueprintError as error:
                self._take_in_the_rest(error)
                event = "vault_secrets_refused" if isinstance(error, SecretsIncomplete) else "vault_secrets_load_failed"
                log.warning(event, source=self.source, error=type(error).__name__, reason=str(error))
                self._fail(error, "refused" if isinstance(error, SecretsIncomplete) else "load")
            except Exception as error:  # noqa: BLE001 - a bug must not end the rounds
                self.failed(error)
            else:
                self._published()
                self._succeed(changes)
                return changes
        return ()

    def _take_in_the_rest(self, error: BlueprintError) -> None:
        """Take in what a load that failed brought all the same: new credentials, while a path cannot be read."""
        if isinstance(error, BackendError) and error.usable:
            try:
                changes = self._store.publish(self.source, error.usable)
            except SecretsIncomplete as refused:
                log.warning("vault_secrets_refused", source=self.source, reason=str(refused))
            else:
                self._tell_of(changes)
                self._published()

    def _published(self) -> None:
        if self.upstream is not None:
            self.upstream.swapped(self._drained())

    @property
    def fault(self) -> BlueprintError | None:
        """Why the last round failed, or why there is none: the one under way, or the one that is due, is overdue."""
        return self._lateness() or self._fault

    @property
    def is_overdue(self) -> bool:
        """Whether a round should have ended, or begun, long ago."""
        return self._lateness() is not None

    def tell_if_overdue(self) -> None:
        """Log and record a round that is overdue, once."""
        late = self._lateness()
        since = self._began if self._began is not None else self._planned
        if late is not None and since != self._told:
            self._told = since
            log.error("vault_secrets_overdue", source=self.source, reason=str(late))
            journal.record("load", self.source, "failed", "overdue")

    def failed(self, error: Exception) -> tuple[Change, ...]:
        """Take in that a bug, or a lack of threads or memory, has ended a round; return that nothing changed."""
        log.error("vault_secrets_load_failed", source=self.source, **where_raised(error))
        self._fail(BlueprintError(self.source, f"a fault of our own ({type(error).__name__})", "See the log."))
        return ()

    def pause(self) -> float | None:
        """Return how many seconds to wait before the next round; None: no further round is wanted."""
        pause = self._pause()
        self._planned = None if pause is None else self._clock() + pause
        return pause

    def _pause(self) -> float | None:
        if self.failures:
            pause = pause_after(self.failures, self._jitter)
            return min(pause, self._interval) if self._interval else pause
        if self._store.problems:
            pause = self._jitter(LONGEST_PAUSE / 2, LONGEST_PAUSE)
            return min(pause, self._interval) if self._interval else pause
        if not self._interval:
            return None
        now = self._clock()
        if self._due is None:  # spread over a whole interval: instances that started together part here
            self._due = now + self._jitter(0.0, self._interval)
        else:
            self._due += self._interval * self._jitter(*SPREAD)
            if self._due <= now:  # after an outage, back to the old beat: those who lost Vault together stay apart
                self._due += math.ceil((now - self._due) / self._interval) * self._interval
        return max(self._due - now, 0.0)

    @property
    def age(self) -> float | None:
        """How many seconds ago Vault last confirmed what is held; None: never."""
        return None if self._confirmed is None else self._clock() - self._confirmed

    @property
    def is_waiting(self) -> bool:
        """Whether the first round is still to come or under way."""
        return self._confirmed is None and self.fault is None

    @property
    def is_stale(self) -> bool:
        """Whether what is held is older than it may be."""
        return bool(self.max_staleness and (self.age or 0.0) > self.max_staleness)

    @property
    def ended(self) -> tuple[str, ...]:
        """The names of credentials that were issued, and whose time is over; looks at memory only."""
        leases = {} if self.upstream is None else self.connection().leases
        return tuple(name for name, life in leases.items() if life.left == 0)

    @property
    def next_round(self) -> float | None:
        """In how many seconds the next round is planned; None: none is."""
        return None if self._planned is None else max(self._planned - self._clock(), 0.0)

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        self._began = self._clock()
        try:
            yield
        finally:
            self._began, self._ended = None, self._clock()

    def _lateness(self) -> BlueprintError | None:
        """Look at memory only: whatever keeps a round from ending does not keep people from seeing that."""
        began, planned = self._began, self._planned
        since = began if began is not None else max(planned, self._ended) if planned is not None else None
        late = 0.0 if since is None else self._clock() - since
        if late <= OVERDUE:
            return None
        what = "a round has not ended" if began is not None else "a round that is due has not begun"
        remedy = "Look for what holds it up in the log, in the machine's load, and between here and the server."
        return RoundOverdue(self.source, f"{what} for {late:.0f} s", remedy)

    def _fail(self, error: BlueprintError, kind: Literal["refused", "load"] = "load") -> None:
        self.failures += 1
        self._fault = error
        journal.record(kind, self.source, "failed", type(error).__name__)

    def _succeed(self, changes: tuple[Change, ...]) -> None:
        first = self._confirmed is None
        healed, self._fault, self.failures, self._confirmed = self._fault is not None, None, 0, self._clock()
        if first:
            log.info("vault_secrets_loaded", source=self.source, **self._store.describe())
            journal.record("load", self.source)
            return
        self._tell_of(changes)
        if healed:
            log.info("vault_secrets_fresh_again", source=self.source)
            journal.record("load", self.source, detail="after a fault")
        elif not changes:
            log.debug("vault_secrets_unchanged", source=self.source)

    def _tell_of(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self.rotated |= dict.fromkeys(((change.path, key) for key in change.keys), time.time())
            log.info("vault_secrets_rotated", source=self.source, **change.describe())
            journal.record("rotation", self.source, detail=f"{change.path}: {', '.join(change.keys)}")
