"""How do rows get in and out, with credentials that change? A sample to copy or delete: docs/database.md."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import asyncpg
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query
from pydantic import BaseModel, StringConstraints
from sqlalchemy import DateTime, Identity, event, exc, func, make_url, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.core.store.rotating import Rotating
from app.core.web.dependencies import AllRotating, get_caller
from app.core.web.key_first import KeyFirst
from app.core.web.problems import RETRY_AFTER, responses
from app.core.web.readiness_checks import sqlstate

REFUSED = {"28P01", "28000"}  # SQLSTATEs: the user is gone, has another password, or may not log in
AWAY = ("08", "57P", "53300")  # how they begin: no connection; the server stops or starts; it has too many connections

router = APIRouter(tags=["database"], route_class=KeyFirst, dependencies=[Depends(get_caller)])


class Base(DeclarativeBase):
    """Your tables; Alembic compares them to those of the database."""


class Note(Base):
    """A row."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    text: Mapped[str]
    written_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Database:
    """An engine, since when it is there, and whether anybody has ever answered: before that, nobody is missed."""

    def __init__(self, database_url: str, *, was_reached: bool = False) -> None:
        self.since, self.was_reached = datetime.now(UTC), was_reached
        url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)

        async def connect() -> Any:  # by asyncpg, which knows what such a URL may say: `?sslmode=verify-full`
            try:
                return await asyncpg.connect(url, timeout=5, command_timeout=10)
            except OSError as error:  # also a TimeoutError
                raise asyncpg.CannotConnectNowError(type(error).__name__) from error

        options = {"hide_parameters": True, "pool_size": 5, "max_overflow": 5, "pool_timeout": 3}
        self.engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, **options)
        event.listen(self.engine.sync_engine, "checkout", self._ask_who)

    @staticmethod
    def _ask_who(connection: Any, record: Any, _: object) -> None:
        """Have a connection replaced whose user was dropped, before a request uses it; `SELECT 1` would still work."""
        try:
            user = connection.run_async(lambda raw: raw.fetchval("SELECT session_user", timeout=2))
            record.info["session_user"] = str(user)
        except Exception as error:  # whatever is wrong with it, another one is better
            raise exc.DisconnectionError from error

    async def close(self) -> None:
        """Disconnect; everybody has given back what was lent."""
        await self.engine.dispose()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Connect."""
        async with self.engine.connect() as connection:
            self.was_reached = True
            async with AsyncSession(connection, info={**connection.info, "since": self.since}) as session:
                yield session

    @asynccontextmanager
    async def checked(self) -> AsyncIterator["Database"]:
        """Connect once; nobody has to answer who never did."""
        try:
            async with asyncio.timeout(5 if self.was_reached else 1), self.session():
                pass
        except (exc.SQLAlchemyError, TimeoutError) as error:
            if self.was_reached or not is_away(error):
                raise
        yield self


def is_refused(error: BaseException) -> bool:
    """Tell whether new credentials would help."""
    return sqlstate(error) in REFUSED


def is_away(error: BaseException) -> bool:
    """Tell whether there is no connection to the database, or none is free."""
    is_lost = isinstance(error, TimeoutError | exc.TimeoutError) or getattr(error, "connection_invalidated", False)
    return is_lost or sqlstate(error).startswith(AWAY)


async def build(secrets: Mapping[str, Any], old: Database | None) -> Database:
    """Return a new engine that works."""
    async with Database(secrets["database_url"], was_reached=old is not None and old.was_reached).checked() as database:
        return database


def install(app: FastAPI) -> None:
    """Add the engine, which follows the secret `database_url`, what readiness asks, and the routes."""
    rotating = Rotating("database", ("database_url",), build, close=Database.close, refused=is_refused)

    async def check() -> None:
        async with rotating.opened(Database.checked):
            pass

    app.state.rotating["database"], app.state.readiness_checks["database"] = rotating, check
    app.state.tags["database"] = "A table of notes, and as whom the service is logged in to the database."
    app.include_router(router, responses=responses(401, 503))


async def get_session(rotating: AllRotating) -> AsyncIterator[AsyncSession]:
    """Lend a session; what it did is committed, or after an error rolled back, before the answer leaves."""
    try:
        async with rotating["database"].opened(Database.session) as session, session.begin():
            yield session
    except (exc.SQLAlchemyError, TimeoutError) as error:
        if not is_away(error):
            raise
        raise HTTPException(503, "The database does not answer.", {"Retry-After": str(RETRY_AFTER)}) from None


Session = Annotated[AsyncSession, Depends(get_session, scope="function")]


class NewNote(BaseModel):
    """What to write; PostgreSQL has no NUL in a text."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]


class WrittenNote(NewNote, from_attributes=True):
    """What was written."""

    id: int
    written_at: datetime


@router.get("/database")
async def get_database(session: Session) -> dict[str, str]:
    """Say as whom the service is logged in, as the database has just told, and since when."""
    return {"session_user": session.info["session_user"], "since": session.info["since"].isoformat()}


@router.post("/notes", status_code=201, response_model=WrittenNote)
async def write_note(session: Session, new: NewNote) -> Note:
    """Write a note."""
    session.add(note := Note(text=new.text))
    await session.flush()
    return note


@router.get("/notes", response_model=list[WrittenNote])
async def get_notes(session: Session, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> list[Note]:
    """Return the latest notes, the newest first."""
    return list(await session.scalars(select(Note).order_by(Note.id.desc()).limit(limit)))
