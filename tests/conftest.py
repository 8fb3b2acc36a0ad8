"""A real server, and a database of its own for every test, cloned from a migrated template.

Which server is one setting, PGQUEUE_TEST_SERVER: `embedded` (the default), `testcontainers` (the image is
PGQUEUE_TEST_IMAGE), or the DSN of a server on which databases may be made.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import anyio
import asyncpg
import pytest
from hypothesis import settings

from pgqueue import PgQueue
from pgqueue.embedded import embedded_server

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

# A shell that starts the tests in the background has them ignore SIGINT, and all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's business, and never a reason to fail.
settings.register_profile("pgqueue", deadline=None)
settings.load_profile("pgqueue")


def with_database(dsn: str, database: str) -> str:
    """Return *dsn* for another database of the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The DSN of the server's maintenance database."""
    setting = os.environ.get("PGQUEUE_TEST_SERVER", "embedded")
    with ExitStack() as stack:
        if setting == "embedded":
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pgqueue-tests-"))
            dsn = stack.enter_context(embedded_server(Path(directory) / "data"))
            # These data need not survive the machine, and each test makes and drops a database.
            asyncio.run(_admin(dsn, "alter system set fsync = off", "select pg_reload_conf()"))
            yield dsn
        elif setting == "testcontainers":
            from testcontainers.community.postgres import PostgresContainer

            image = os.environ.get("PGQUEUE_TEST_IMAGE", "postgres:17")
            container = stack.enter_context(PostgresContainer(image, driver=None))
            yield container.get_connection_url()
        else:
            yield setting


async def _admin(server: str, *statements: str) -> None:
    connection = await asyncpg.connect(server)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """The name of a migrated database that tests clone."""
    name = f"pgqueue_template_{uuid4().hex[:12]}"

    async def make() -> None:
        await _admin(server, f"create database {name}")
        await PgQueue(with_database(server, name)).migrate()

    asyncio.run(make())
    yield name
    asyncio.run(_admin(server, f"drop database {name} with (force)"))


@pytest.fixture
async def empty_dsn(server: str) -> AsyncIterator[str]:
    """A database without pgqueue's schema."""
    name = f"pgqueue_test_{uuid4().hex[:12]}"
    await _admin(server, f"create database {name}")
    yield with_database(server, name)
    await _admin(server, f"drop database {name} with (force)")


@pytest.fixture
async def dsn(server: str, template: str) -> AsyncIterator[str]:
    """A migrated database of the test's own."""
    name = f"pgqueue_test_{uuid4().hex[:12]}"
    await _admin(server, f"create database {name} template {template}")
    yield with_database(server, name)
    await _admin(server, f"drop database {name} with (force)")


@pytest.fixture
async def pgq(dsn: str) -> AsyncIterator[PgQueue]:
    """An open PgQueue; declare tasks on it."""
    async with PgQueue(dsn) as queue:
        yield queue


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Connection]:
    """A plain connection to the test's database: what somebody with psql has."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def eventually(condition: Callable[[], Awaitable[bool]], *, within: float = 60.0) -> None:
    """Wait until *condition* holds; fail if it does not *within* so many seconds."""
    with anyio.fail_after(within):
        while not await condition():  # noqa: ASYNC110  # what is waited for tells nobody
            await anyio.sleep(0.01)
