"""A database for each test, in milliseconds: copies of one that was migrated once."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit
from uuid import uuid4

import asyncpg
from anyio.from_thread import BlockingPortal, start_blocking_portal

from pgqueue.app import PgQueue

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

Prepare = Callable[[str], Awaitable[object] | object]
"""Is called with the DSN of the database that others are copies of: makes the tables of the application."""

FIRST_WITH_STRATEGIES: Final = 150000
"""The first version whose `create database` has strategies."""

_PATH: Final = re.compile(r"(://(?:.*@)?[^/?@]*)(?:/[^?]*)?")
"""What is before the database of a URL, and the database."""


def with_database(dsn: str, database: str) -> str:
    """Return *dsn* for another database of the same server."""
    if "://" in dsn:
        return _PATH.sub(rf"\1/{quote(database, safe='')}", dsn, count=1)
    return f"{re.sub(r'(?:^|(?<= ))dbname *= *[^ ]*', '', dsn).strip()} dbname={database}"


class Databases:
    """Makes databases for tests, and drops them, all in a thread of its own.

        with Databases.on(server) as databases:
            dsn = databases.clone()
            ...
            databases.drop(dsn)

    The next copy is made while a test has the one before, and nobody waits for a database to go. Its methods
    are called without `await`, from any test and fixture.
    """

    def __init__(self, server: str, owner: str, portal: BlockingPortal, pool: Pool, template: str) -> None:
        self._server = server
        self._owner = owner
        self._portal = portal
        self._pool = pool
        self._from_template = f"template {template}"
        if portal.call(self._is_unsafe):
            # The other strategy writes each page of the template to the log. This one waits for the disk.
            self._from_template += " strategy file_copy"
        self._next_clone = portal.start_task_soon(self._make, self._from_template)
        self._drops: list[Future[None]] = []

    @classmethod
    @contextmanager
    def on(
        cls,
        server: str,
        *,
        schema: str = "pgqueue",
        prepare: Prepare | None = None,
        owner: str | None = None,
    ) -> Iterator[Databases]:
        """Make databases on *server*, a DSN, while the block lasts; drops all of them in the end.

        They are copies of one with pgqueue's *schema* and whatever *prepare* makes in it: a function, or a
        coroutine function, of the DSN. *owner*: a DSN of the same server, of the role that owns the databases
        and that tests connect as, to test with no more rights than in production; if not given, it is
        *server*. Raises what `PgQueue.migrate` and *prepare* raise.
        """
        owner = server if owner is None else owner
        template = f"pgqueue_template_{uuid4().hex[:12]}"
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(_connections(server)) as pool,
        ):
            portal.call(pool.execute, f"create database {template} {_owned(owner)}")
            try:
                portal.call(_prepare, with_database(owner, template), schema, prepare)
                databases = cls(server, owner, portal, pool, template)
                try:
                    yield databases
                finally:
                    databases.drop_all()
            finally:
                portal.call(pool.execute, f"drop database {template} with (force)")

    def clone(self) -> str:
        """Return the DSN of a fresh copy."""
        dsn = self._next_clone.result()
        self._next_clone = self._portal.start_task_soon(self._make, self._from_template)
        return dsn

    def make_empty(self, options: str = "") -> str:
        """Return the DSN of a database with nothing in it. *options*: of `create database`."""
        return self._portal.call(self._make, options)

    def drop(self, dsn: str) -> None:
        """Have a database dropped, whoever is connected; does not wait for it."""
        name = unquote(urlsplit(dsn).path[1:]) if "://" in dsn else dsn.rpartition("dbname=")[2]
        self._drops.append(self._portal.start_task_soon(self._drop, name))

    def drop_all(self) -> None:
        """Drop what is left, and wait for all that was dropped; raises what went wrong."""
        self.drop(self._next_clone.result())
        for drop in self._drops:
            drop.result()

    async def _make(self, options: str) -> str:
        name = f"pgqueue_test_{uuid4().hex[:12]}"
        await self._pool.execute(f"create database {name} {_owned(self._owner)} {options}")
        return with_database(self._owner, name)

    async def _drop(self, name: str) -> None:
        await self._pool.execute(f'drop database if exists "{name}" with (force)')

    async def _is_unsafe(self) -> bool:
        """Whether the server copies files without waiting for the disk, and can be told to."""
        settings = await self._pool.fetchrow(
            "select current_setting('server_version_num')::int >= $1 and current_setting('fsync') = 'off'",
            FIRST_WITH_STRATEGIES,
        )
        return bool(settings and settings[0])


def _owned(owner: str) -> str:
    if "://" in owner:
        name = unquote(urlsplit(owner).username or "")
    else:
        found = re.search(r"(?:^| )user *= *([^ ]+)", owner)
        name = found[1] if found else ""
    quoted = name.replace('"', '""')
    return f'owner "{quoted}"' if quoted else ""


async def _prepare(dsn: str, schema: str, prepare: Prepare | None) -> None:
    await PgQueue(dsn, schema=schema).migrate()
    if prepare is not None:
        made = prepare(dsn)
        if inspect.isawaitable(made):
            await made


@asynccontextmanager
async def _connections(server: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(server, min_size=1, max_size=2) as pool:
        yield pool
