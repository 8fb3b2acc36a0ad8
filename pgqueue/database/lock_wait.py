"""Waits for a migration, says whose locks it waits for, and gives up after a while.

A migration that waits for a lock on a table has everybody wait who comes after it. So it must not wait for
long, and whoever runs it has to learn at once which session to end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg

from pgqueue.database.outages import CONNECTION_ERRORS
from pgqueue.database.sql import load_statements
from pgqueue.errors import DatabaseUnavailableError, SchemaLockedError

if TYPE_CHECKING:
    from asyncpg import Record

    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.database")

T = TypeVar("T")

LOOK_AFTER: Final = 2.0
"""Seconds after which one looks whether a migration waits for a lock, and between two such looks."""
LOOK_AGAIN_AFTER: Final = 0.1
"""Seconds after which one looks once more, if it did not wait."""
REMIND_AFTER: Final = 30.0
"""Seconds between two log lines that say for whose."""


async def with_lock_limit(
    pid: int,
    connect: Callable[[], Awaitable[asyncpg.Connection[Record]]],
    schema: str,
    work: Coroutine[Any, Any, T],
    limit: float | None,
) -> T:
    """Await *work*, done in the session of process *pid*; say whose locks it waits for.

    *connect* opens another session, to look from. *limit*: seconds that it may wait for locks at a stretch;
    None: no limit. Raises SchemaLockedError, and what *work* raises.
    """
    task = asyncio.ensure_future(work)
    blocked_since: float | None = None
    told_at = float("-inf")
    try:
        while not (await asyncio.wait((task,), timeout=LOOK_AFTER))[0]:
            blockers = await _find_blockers(pid, connect, schema)
            if not blockers:
                # It lets others go on now and then, and then waits again.
                await asyncio.sleep(LOOK_AGAIN_AFTER)
                blockers = await _find_blockers(pid, connect, schema)
            if not blockers:
                blocked_since = None
                continue
            now = time.monotonic()
            blocked_since = now - LOOK_AFTER if blocked_since is None else blocked_since
            if now - told_at >= REMIND_AFTER:
                told_at = now
                logger.warning("migrate: waiting for a lock of %s", "; ".join(blockers))
            if limit is not None and now - blocked_since >= limit:
                raise SchemaLockedError(
                    f"schema {schema!r} was not migrated: waited {now - blocked_since:.0f} s for a lock of "
                    f"{'; '.join(blockers)}; end that transaction, or try again later"
                )
        return task.result()
    finally:
        if not task.done():
            # Its transaction is rolled back.
            task.cancel()
            await asyncio.wait((task,))


async def _find_blockers(
    pid: int, connect: Callable[[], Awaitable[asyncpg.Connection[Record]]], schema: str
) -> list[str]:
    try:
        connection = await connect()
        try:
            return [_described(row) for row in await _fetch(connection, schema, pid)]
        finally:
            await connection.close()
    except (*CONNECTION_ERRORS, DatabaseUnavailableError, asyncpg.PostgresError):
        # No other session can be had. The migration goes on without being looked at.
        return []


async def _fetch(connection: Connection, schema: str, pid: int) -> list[Record]:
    async with connection.transaction():
        return await connection.fetch(load_statements(schema)["find_blockers"], pid)


def _described(row: Record) -> str:
    name = row["application_name"]
    application = f" ({name})" if name else ""
    return (
        f"process {row['pid']}{application} of role {row['role']}, {row['state']}, its transaction "
        f"{row['seconds'] or 0:.0f} s old: "
        f"{' '.join((row['query'] or '').split())}"
    )
