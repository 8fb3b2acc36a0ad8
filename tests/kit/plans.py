"""Large tables, and what the planner makes of statements on them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from pgqueue.database.pool import Database
from pgqueue.model.ids import new_id, new_ids
from pgqueue.store import NewJobs, Store, Template

BATCH = 100


TABLES = ("job", "job_default", "ready", "running", "scheduled", "blocked", "lease")


FILL = """
    with added as (
        insert into pgqueue.job (id, lane, task, arguments)
        select pgqueue.uuid7(), 1, 'work', '{"number": 1}' from generate_series(1, $1)
        returning id
    )
    insert into pgqueue.ready (job_id, lane) select id, 1 from added
"""


class Sent(Exception):  # noqa: N818  # no error: it carries what was sent
    """A statement that is not executed."""

    def __init__(self, sql: str, arguments: tuple[Any, ...]) -> None:
        self.sql = sql
        self.arguments = arguments


class Recorder:
    """Stands for a connection, to see what the store would send over one."""

    async def fetch(self, sql: str, *arguments: Any) -> Any:
        raise Sent(sql, arguments)

    execute = fetchrow = fetchval = fetch


class Bench:
    """A connection as a worker has it, a lease, and the costs of one round of its statements."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.connection = connection
        self.lease_id = uuid4()
        self.store = Store("pgqueue")
        self.costs: dict[str, int] = {}
        self.scans: set[str] = set()
        self.tables: dict[str, set[str]] = {}
        """Those that each statement read."""

    async def open(self) -> None:
        """Take the lease."""
        await self.connection.execute(
            "insert into pgqueue.lease (id, worker, queues, expires_at) values ($1, 'w', '{default}', $2)",
            self.lease_id,
            datetime.now(UTC) + timedelta(hours=1),
        )

    async def explain(self, name: str, call: Callable[[Any], Coroutine[Any, Any, object]]) -> None:
        """Run what the store sends, and note the buffers that it touches."""
        with pytest.raises(Sent) as sent:
            await call(Recorder())
        [row] = await self.connection.fetch(
            f"explain (analyze, buffers, timing off, format json) {sent.value.sql}", *sent.value.arguments
        )
        [explained] = json.loads(row[0])
        self.scans |= set(sequential_scans(explained["Plan"]))
        self.tables[name] = set(read_tables(explained["Plan"]))
        buffers = explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"]
        self.costs[name] = buffers

    async def round(self) -> dict[str, int]:
        """Enqueue, sweep, promote, read, claim and finish a batch; return the buffers of each."""
        template = Template(("default", 0), "work")
        jobs = NewJobs()
        for job_id in new_ids(BATCH):
            jobs.add(job_id, "{}", template)
        # Before anything is counted: the first execution on a connection reads the catalogues too.
        await self.claim_and_finish()
        self.costs, self.scans = {}, set()
        await self.explain("enqueue", lambda connection: self.store.enqueue(connection, jobs))
        one = NewJobs()
        one.add(new_id(), "{}", template)
        await self.explain("enqueue_one", lambda connection: self.store.enqueue(connection, one))
        await self.explain("sweep", lambda connection: self.store.sweep(connection, [1]))
        await self.explain("promote", lambda connection: self.store.promote(connection, 1000))
        await self.explain("read_jobs", lambda connection: self.store.read_jobs(connection, jobs.ids))
        await self.explain("read_versions", lambda connection: self.store.read_versions(connection, jobs.ids))
        await self.claim_and_finish()
        return dict(self.costs)

    async def claim_and_finish(self) -> None:
        """Claim a batch from where the lane begins, as a worker that remembers does, and finish it."""
        first = (await self.store.sweep(self.connection, [1])).get(1, 0)
        await self.explain(
            "claim", lambda connection: self.store.claim(connection, self.lease_id, BATCH, [(1, first)])
        )
        rows = await self.connection.fetch(
            "select job_id from pgqueue.running where lease_id = $1", self.lease_id
        )
        ids = [row[0] for row in rows]
        results = ["null"] * len(ids)
        await self.explain(
            "finish", lambda connection: self.store.finish(connection, self.lease_id, "w", ids, results)
        )


def read_tables(plan: dict[str, Any]) -> Iterator[str]:
    """Yield the tables that *plan* reads in any way."""
    if plan["Node Type"].endswith("Scan") and "Relation Name" in plan:
        yield plan["Relation Name"]
    for below in plan.get("Plans", ()):
        yield from read_tables(below)


def sequential_scans(plan: dict[str, Any]) -> Iterator[str]:
    """Yield the tables that *plan* reads from end to end."""
    if plan["Node Type"] == "Seq Scan" and plan["Relation Name"].startswith(TABLES):
        yield plan["Relation Name"]
    for below in plan.get("Plans", ()):
        yield from sequential_scans(below)


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Bench]:
    """Yield a bench on a connection with pgqueue's own settings."""
    database = Database(
        dsn,
        schema="pgqueue",
        max_connections=1,
        connect_timeout=5,
        force_generic_plans=True,
        connect_options={},
    )
    bench = Bench(await database.connect(durable=False))
    await bench.open()
    try:
        yield bench
    finally:
        await bench.connection.close()


async def freeze_statistics(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Keep autovacuum away from the tables: what it knows of them stays as it is."""
    tables = await connection.fetch(
        "select oid::regclass::text as name from pg_class "
        "where relkind = 'r' and relnamespace = 'pgqueue'::regnamespace"
    )
    for table in tables:
        await connection.execute(f"alter table {table['name']} set (autovacuum_enabled = off)")
