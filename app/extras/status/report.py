"""What does the service hold, from where, how fresh, and what went wrong? The data of the status page.

Looks at memory only: names, paths and versions; never a value, nor anything derived from one. All times are in seconds:
`at` and `…_at` since 1970, `age` back and `next_round` on from `Status.at`.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.core.errors import SecretsIncomplete
from app.core.logs.event_log import Event
from app.core.store.declaration import Origin
from app.core.store.readiness import readiness
from app.core.store.refresh import Refresher
from app.core.store.source import Connection
from app.core.store.source_refresher import SourceRefresher

SourceState = Literal["good", "failing", "refused", "stale", "waiting"]
SecretState = Literal["in force", "kept", "refused", "stale", "malformed", "missing"]

Age = Annotated[float | None, Field(description="How long ago the source last confirmed what is held; null: never.")]
MaxAge = Annotated[float | None, Field(description="How old that may be; null: as old as it likes.")]
NextRound = Annotated[float | None, Field(description="In how many seconds it is read again; null: not planned.")]


class SourceStatus(BaseModel):
    """One place that secrets come from."""

    name: str
    state: SourceState
    connection: Connection
    age: Age
    max_age: MaxAge
    next_round: NextRound
    failures: int = Field(description="Rounds that failed in a row.")
    fault: str | None = Field(description="Why the last round failed, and what to do; null if it did not.")
    last_fault: Event | None = Field(description="What failed last, be it fixed or not.")


class SecretStatus(BaseModel):
    """One entry of the mapping that handlers use, or one that is declared and not there."""

    name: str
    state: SecretState
    problem: str | None = Field(None, description="What is wrong with it, or with the version that was refused.")
    source: str | None = Field(None, description="`defaults`, `environment` (an override), or the name of a source.")
    path: str | None = None
    version: int | None = None
    written_at: float | None = Field(None, description="When this version was written.")
    rotated_at: float | None = Field(None, description="When the service last took in another value; null: never.")
    age: Age = None
    max_age: MaxAge = None
    next_round: NextRound = None


class ObjectStatus(BaseModel):
    """One object that is built from secrets and rebuilt when they change."""

    name: str
    needs: tuple[str, ...]
    is_built: bool
    fault: str | None = Field(description="Why the last building failed: the class of the error.")


class Status(BaseModel):
    """Everything that the service knows about its secrets, without the secrets."""

    at: float
    environment: str
    is_ready: bool
    findings: tuple[str, ...] = Field(description="Why it is not ready; if it is: what went wrong last.")
    sources: tuple[SourceStatus, ...]
    secrets: tuple[SecretStatus, ...]
    objects: tuple[ObjectStatus, ...]
    events: tuple[Event, ...] = Field(description="What happened lately, oldest first.")


def collect(refresher: Refresher, events: Sequence[Event], environment: str, now: float) -> Status:
    """Put together what is known at the time `now`, in seconds since 1970; asks nobody."""
    found = readiness(refresher)
    keepers = {keeper.source: keeper for keeper in refresher.sources}
    origins, problems = refresher.store.snapshot().origins, refresher.store.problems
    held = {name: _held(name, origin, keepers.get(origin.source)) for name, origin in origins.items()}
    return Status(
        at=now,
        environment=environment,
        is_ready=found.is_ready,
        findings=found.findings,
        sources=tuple(_source(keeper, events) for keeper in refresher.sources),
        secrets=tuple(secret for _, secret in sorted({**held, **_lacking(problems)}.items())),
        objects=tuple(
            ObjectStatus(name=each.name, needs=each.needs, is_built=each.is_built, fault=each.fault)
            for each in refresher.rotating.values()
        ),
        events=tuple(events),
    )


def _source(keeper: SourceRefresher, events: Sequence[Event]) -> SourceStatus:
    failed = (event for event in reversed(events) if event.source == keeper.source and event.outcome == "failed")
    state: SourceState = "good"
    if keeper.is_stale:
        state = "stale"
    elif keeper.fault is not None:
        state = "refused" if isinstance(keeper.fault, SecretsIncomplete) else "failing"
    elif keeper.age is None:
        state = "waiting"
    return SourceStatus(
        name=keeper.source,
        state=state,
        connection=keeper.connection(),
        age=keeper.age,
        max_age=keeper.max_staleness or None,
        next_round=keeper.next_round,
        failures=keeper.failures,
        fault=str(keeper.fault) if keeper.fault else None,
        last_fault=next(failed, None),
    )


def _held(name: str, origin: Origin, keeper: SourceRefresher | None) -> SecretStatus:
    """Describe an entry; without a `keeper` it is a default or an override, which no rotation reaches."""
    found = SecretStatus(
        name=name,
        state="in force",
        source=origin.source,
        path=origin.path,
        version=origin.version,
        written_at=origin.created_at,
    )
    if keeper is None:
        return found
    state: SecretState = "in force"
    problem = None
    if isinstance(keeper.fault, SecretsIncomplete):
        state, refused = "refused", keeper.fault.problems
        problem = refused.get(name, f"held back because of {', '.join(refused)}")
    elif keeper.fault is not None:
        state = "kept"
    return found.model_copy(
        update={
            "state": "stale" if keeper.is_stale else state,
            "problem": problem,
            "rotated_at": keeper.rotated.get((origin.path, origin.key or name)),
            "age": keeper.age,
            "max_age": keeper.max_staleness or None,
            "next_round": keeper.next_round,
        }
    )


def _lacking(problems: dict[str, str]) -> dict[str, SecretStatus]:
    """Describe what is declared, and is not there or not as declared."""
    return {
        name: SecretStatus(name=name, state="missing" if problem == "missing" else "malformed", problem=problem)
        for name, problem in problems.items()
    }
