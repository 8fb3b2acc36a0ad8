"""pgqueue's own statements with nothing around them: the least that the same way of working can take.

The same SQL on connections that are set up as a worker's or a caller's are, and as little Python as sends
it: no handlers, no validation, no events, no upkeep.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg

from pgqueue import PgQueue
from pgqueue.enqueueing.batch import CHUNK
from pgqueue.model.ids import new_ids
from pgqueue.store import Claimed, NewJobs, Store, Template
from pgqueue.worker.claim.lanes import LATE

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

ARGUMENTS = '{"to": "user@example.com", "number": 1, "amount": 1.5}'
"""What a job of the benchmarks is called with, as it is stored."""
LANE = 1
"""The lane of the queue `default`, which every database has from the start."""
PAUSE = 0.03
"""Seconds between two jobs: an idle worker has gone to sleep by then."""
_HOUR = 3600.0

_store = Store("pgqueue")


@asynccontextmanager
async def connect(dsn: str, *, durable: bool) -> AsyncIterator[Connection]:
    """Lend a connection set up as pgqueue's own are. Not *durable*: commits do not wait for the disk."""
    connection = await PgQueue(dsn)._database.connect(durable=durable)  # noqa: SLF001  # there is no other door to it
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def lease(connection: Connection) -> AsyncIterator[UUID]:
    """Hold a lease on the queue `default`; yield its id."""
    lease_id = uuid4()
    await _store.register_lease(
        connection, lease_id, "bare", ["default"], _HOUR, prefetch=0, lock_key=None, max_losses={}
    )
    yield lease_id
    await _store.delete_lease(connection, lease_id)


async def drain(dsn: str, *, jobs: int, concurrency: int) -> float:
    """Claim and finish *jobs* jobs of one lane; return seconds.

    One claim and one finish at a time, side by side, as a worker has them.
    """
    claimed: asyncio.Queue[list[Claimed]] = asyncio.Queue(maxsize=1)

    async def claim() -> None:
        position, left = 0, jobs
        while left:
            batch = await _store.claim(claiming, lease_id, concurrency, [(LANE, position)])
            left -= len(batch)
            position = max((job.position for job in batch), default=LATE) - LATE
            await claimed.put(batch)

    async def finish() -> None:
        left = jobs
        while left:
            batch = await claimed.get()
            left -= len(batch)
            await _store.finish(finishing, lease_id, "bare", [job.id for job in batch], ["null"] * len(batch))

    async with (
        connect(dsn, durable=False) as claiming,
        connect(dsn, durable=True) as finishing,
        lease(finishing) as lease_id,
    ):
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(claim())
            group.create_task(finish())
        return time.perf_counter() - started


async def enqueue(connection: Connection, ids: Sequence[UUID], task: str) -> None:
    """Write jobs by one enqueue statement: at most CHUNK of them."""
    jobs, template = NewJobs(), Template(("default", 0), task)
    for job_id in ids:
        jobs.add(job_id, ARGUMENTS, template)
    await _store.enqueue(connection, jobs)


async def enqueue_many(connection: Connection, ids: Sequence[UUID], task: str) -> None:
    """Write jobs by enqueue statements, in one transaction."""
    async with connection.transaction():
        for first in range(0, len(ids), CHUNK):
            await enqueue(connection, ids[first : first + CHUNK], task)


async def copy(connection: Connection, ids: Sequence[UUID], task: str) -> None:
    """Write jobs by COPY into the tables that an enqueue writes, in one transaction."""
    async with connection.transaction():
        await connection.copy_records_to_table(
            "job",
            schema_name="pgqueue",
            columns=["id", "lane", "task", "arguments"],
            records=[(job_id, LANE, task, ARGUMENTS) for job_id in ids],
        )
        await connection.copy_records_to_table(
            "ready",
            schema_name="pgqueue",
            columns=["job_id", "lane"],
            records=[(job_id, LANE) for job_id in ids],
        )


async def pick_up(dsn: str, count: int) -> list[float]:
    """Insert, notify and claim one job at a time; return the milliseconds of each."""
    async with (
        connect(dsn, durable=True) as sender,
        connect(dsn, durable=False) as speaker,
        connect(dsn, durable=False) as receiver,
        lease(receiver) as lease_id,
    ):
        heard = asyncio.Event()
        await receiver.add_listener("floor", lambda *_: heard.set())
        floors = []
        for job_id in new_ids(count):
            heard.clear()
            started = time.monotonic()
            await enqueue(sender, [job_id], "clock")
            await speaker.execute("select pg_notify('floor', '')")
            await heard.wait()
            jobs = await _store.claim(receiver, lease_id, 1, [(LANE, 0)])
            floors.append((time.monotonic() - started) * 1000)
            if [job.id for job in jobs] != [job_id]:
                raise SystemExit("benchmark: somebody else has claimed the job: nothing measured")
            await asyncio.sleep(PAUSE)
        return floors


class _Explaining:
    """Stands for a connection, to see what one statement touches."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.buffers = 0

    async def fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """Carry the statement out, note its buffers, and undo it."""
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            [row] = await self._connection.fetch(f"explain (analyze, buffers, format json) {sql}", *arguments)
        finally:
            await transaction.rollback()
        plan = json.loads(row[0])[0]["Plan"]
        self.buffers = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        return []


async def claim_buffers(
    connection: Connection, lease_id: UUID, walk: Sequence[tuple[int, int]], *, limit: int = 100
) -> int:
    """Return the buffers that a claim of (lane, position) pairs touches: the median of some, all undone."""
    explaining: Any = _Explaining(connection)
    seen: list[int] = []
    for _ in range(6):
        await _store.claim(explaining, lease_id, limit, walk)
        seen.append(explaining.buffers)
    # The first on a connection reads the catalogues too. The others differ by where their rows find room.
    return statistics.median_low(seen[1:])
