"""How do migrations reach the database? `python -m app exec -- alembic upgrade head` gives them its URL."""

import asyncio
import logging
import os
from functools import partial

import asyncpg
from alembic import context
from sqlalchemy import Connection, NullPool, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.routes.database import Base

LOCK = 7_061_632_011  # any number that nothing else locks in this database


def run(connection: Connection) -> None:
    """Go the steps in one transaction, one process at a time: of several that start at once the others find it done."""
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        # who waits for a table holds up all who come after; rather end, and be started again
        connection.execute(text("SET LOCAL lock_timeout = '10s'"))
        context.run_migrations()


async def migrate(database_url: str) -> None:
    """Connect, and go them."""
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    connect = partial(asyncpg.connect, url, timeout=5)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)


logging.basicConfig(format="%(message)s")
logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)  # each step
if "DATABASE_URL" not in os.environ:
    raise SystemExit("error: DATABASE_URL is not set; start it as: python -m app exec -- alembic …")
if context.is_offline_mode():
    raise SystemExit("error: `--sql` is not supported; the database has to be there")
try:
    asyncio.run(migrate(os.environ["DATABASE_URL"]))
except OSError as error:
    raise SystemExit(f"error: the database does not answer ({type(error).__name__})") from None
