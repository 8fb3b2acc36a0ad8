"""A table crowded with dead letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from kit.plans import FILL, connected, freeze_statistics

if TYPE_CHECKING:
    from kit.plans import Bench


MANY = 20_000


BURY = """
    insert into pgqueue.dead_letter (job_id, failed_at, task, queue, reason, fingerprint, attempt)
    select gen_random_uuid(), now() - n * interval '1 second', 'old', 'default', 'exception', (n % 5)::text, 1
    from generate_series(1, $1) as n
"""


READ = """
    select relname, seq_tup_read, coalesce(idx_tup_fetch, 0) as fetched
    from pg_stat_xact_all_tables
    where schemaname = 'pgqueue' and seq_tup_read + coalesce(idx_tup_fetch, 0) > 0
"""


@asynccontextmanager
async def crowded(dsn: str) -> AsyncIterator[Bench]:
    """A worker's connection to a database of many jobs and dead letters, with statistics of an empty one."""
    async with connected(dsn) as bench:
        await freeze_statistics(bench.connection)
        await bench.connection.execute("vacuum analyze")
        await bench.connection.execute(FILL, MANY)
        await bench.connection.execute(BURY, MANY)
        yield bench


async def rows_read(
    connection: asyncpg.Connection[asyncpg.Record], call: Callable[[], Awaitable[object]]
) -> Counter[str]:
    """Return how many rows of each table *call* reads; fail if it reads a large one from end to end."""
    transaction = connection.transaction()
    await transaction.start()
    before = {row["relname"]: row for row in await connection.fetch(READ)}
    await call()
    fetched: Counter[str] = Counter()
    for row in await connection.fetch(READ):
        earlier = before.get(row["relname"], {"seq_tup_read": 0, "fetched": 0})
        assert row["seq_tup_read"] - earlier["seq_tup_read"] <= 50, row["relname"]
        fetched[row["relname"]] += row["fetched"] - earlier["fetched"]
    await transaction.rollback()
    return +fetched
