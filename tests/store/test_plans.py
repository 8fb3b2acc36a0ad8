"""What the hot statements read: rows by index, whatever the statistics say and however much is waiting.

Counts of buffers, not times: those are the same on every machine.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from kit.plans import BATCH, FILL, Bench, connected, freeze_statistics

from pgqueue import PgQueue
from pgqueue.model.ids import new_id
from pgqueue.store import NewJobs, Template
from pgqueue.testing.databases import Databases
from pgqueue.worker.claim.lanes import PAGE, WALK_LIMIT

if TYPE_CHECKING:
    from conftest import Connection

MILLION = 1_000_000

PER_JOB = 40
"""Buffers that one job may cost in one statement: some index descents of three levels, and its tuples."""
FIXED = 300
"""Buffers that a statement may cost besides."""

# Without their records: a claim looks at those of its batch only.
FILL_READY = (
    "insert into pgqueue.ready (job_id, lane) select gen_random_uuid(), 1 from generate_series(1, $1)"
)
FILL_SCHEDULED = """
    insert into pgqueue.scheduled (job_id, scheduled_at, lane)
    select gen_random_uuid(), now() + (n % 86400 + 3600) * interval '1 second', 1
    from generate_series(1, $1) as n
"""
KILL_READY = """
    with gone as (delete from pgqueue.ready returning job_id, lane, position)
    insert into pgqueue.running (job_id, lease_id, ready_at, position, lane, attempt, losses)
    select job_id, gen_random_uuid(), now(), position, lane, 1, 0 from gone
"""


def check(few: dict[str, int], bench: Bench) -> None:
    """Fail unless a round read by index, within bounds, and about what it read with *few* jobs waiting."""
    assert bench.scans == set()
    for name, buffers in bench.costs.items():
        assert buffers <= FIXED + PER_JOB * BATCH, (name, bench.costs)
        # An index of a million is a level or two deeper.
        assert buffers <= 3 * few[name] + 50, (name, few, bench.costs)


async def test_empty_tables_cost_little(dsn: str) -> None:
    async with connected(dsn) as bench:
        few = await bench.round()

        check(few, bench)


async def test_statistics_of_empty_tables_do_no_harm_when_they_are_full(dsn: str) -> None:
    async with connected(dsn) as bench:
        await freeze_statistics(bench.connection)
        await bench.connection.execute(FILL, 500)
        few = await bench.round()
        await bench.connection.execute("truncate pgqueue.ready, pgqueue.job")
        await bench.connection.execute("vacuum analyze")
        await bench.connection.execute(FILL, 50_000)

        await bench.round()

        check(few, bench)


async def test_statistics_of_full_tables_do_no_harm_when_they_are_empty(dsn: str) -> None:
    async with connected(dsn) as bench:
        await freeze_statistics(bench.connection)
        await bench.connection.execute(FILL, 50_000)
        await bench.connection.execute("vacuum analyze")
        few = await bench.round()
        await bench.connection.execute("truncate pgqueue.ready, pgqueue.job")
        await bench.connection.execute(FILL, 500)

        await bench.round()

        check(few, bench)


async def test_dead_rows_that_cannot_be_vacuumed_cost_a_worker_little(dsn: str, db: Connection) -> None:
    async with connected(dsn) as bench:
        await freeze_statistics(bench.connection)
        await bench.connection.execute(FILL, 500)
        few = await bench.round()
        async with db.transaction(isolation="repeatable_read"):
            # A snapshot that may see them all: nothing can be cleared away.
            await db.fetchval("select count(*) from pgqueue.ready")
            for _ in range(3):
                await bench.connection.execute(FILL_READY, 20_000)
                await bench.connection.execute(KILL_READY)
                await bench.connection.execute("delete from pgqueue.running")
            await bench.connection.execute("vacuum pgqueue.ready")
            await bench.connection.execute(FILL, 500)

            await bench.claim_and_finish()

        for name in ("claim", "finish"):
            assert bench.costs[name] <= 3 * few[name] + 50, (name, few, bench.costs)
        assert bench.scans == set()


# Many lanes

LANES = 200
FILL_LANES = """
    with lanes as (
        insert into pgqueue.lane (queue, priority)
        select 'queue-' || n, 0 from generate_series(1, $1) as n
        returning id
    )
    insert into pgqueue.ready (job_id, lane)
    select gen_random_uuid(), id from lanes, generate_series(1, 100) as n order by n, id
"""
PER_LANE = 6
"""Buffers that a look at one lane may cost: an index descent of three levels, and change."""


@pytest.mark.parametrize("is_analysed", [False, True])
async def test_many_lanes_cost_a_look_at_each_and_not_their_jobs(dsn: str, *, is_analysed: bool) -> None:
    async with connected(dsn) as bench:
        await freeze_statistics(bench.connection)
        await bench.connection.execute(FILL, 500)
        few = await bench.round()
        await bench.connection.execute(FILL_LANES, LANES)
        if is_analysed:
            await bench.connection.execute("analyze")
        found = await bench.connection.fetch("select id from pgqueue.lane where id <> 1")
        lanes = [row["id"] for row in found]
        # Exhausted from the positions that are remembered; the lane with jobs comes last.
        exhausted = [*((lane, 2**62) for lane in lanes[: WALK_LIMIT - 1]), (1, 0)]
        # The first one has as many jobs as are asked for.
        full = [(lane, 0) for lane in lanes[:WALK_LIMIT]]

        async def cost(name: str, call: Callable[[Any], Coroutine[Any, Any, object]]) -> int:
            # The first execution on a connection reads the catalogues too.
            for _ in range(2):
                await bench.explain(name, call)
            return bench.costs[name]

        sweep = await cost("sweep", lambda connection: bench.store.sweep(connection, lanes))

        async def claim(connection: Any, walk: list[tuple[int, int]]) -> None:
            await bench.store.claim(connection, bench.lease_id, BATCH, walk)

        past_exhausted = await cost("claim", partial(claim, walk=exhausted))
        of_full = await cost("claim", partial(claim, walk=full))

        assert bench.scans == set()
        assert sweep <= PER_LANE * LANES
        assert past_exhausted <= 2 * few["claim"] + PER_LANE * WALK_LIMIT
        assert of_full <= 3 * few["claim"]


MADE_UP = (
    "insert into pgqueue.lane (queue, priority) select 'made up ' || n, 0 from generate_series(1, 20000) as n"
)
OF_THE_QUEUE = (
    "insert into pgqueue.lane (queue, priority) select 'default', n from generate_series(1, 20000) as n"
)


@pytest.mark.contract("W13")
async def test_names_that_clients_make_up_are_not_read_for_a_claim(dsn: str) -> None:
    async def enqueue(connection: Any, jobs: NewJobs) -> None:
        await bench.store.enqueue(connection, jobs)

    async def look(bench: Bench) -> dict[str, int]:
        for _ in range(2):
            jobs = NewJobs()
            jobs.add(new_id(), "{}", Template(("default", 0), "work"))
            await bench.explain(
                "lanes", lambda connection: bench.store.find_lanes(connection, ["default"], ["work"], 0, PAGE)
            )
            await bench.explain("enqueue_one", partial(enqueue, jobs=jobs))
            await bench.claim_and_finish()
        return dict(bench.costs)

    async with connected(dsn) as bench:
        await freeze_statistics(bench.connection)
        await bench.connection.execute(FILL, 500)
        few = await look(bench)
        for is_analysed in (False, True):
            if is_analysed:
                await bench.connection.execute("analyze pgqueue.lane")
            else:
                await bench.connection.execute(MADE_UP)
            many = await look(bench)
            for name, buffers in many.items():
                # An index of more rows is a level or two deeper.
                assert buffers <= 1.2 * few[name] + 15, (name, few, many)

        # Priorities of the worker's own queue: as many at a time as a sweep takes.
        await bench.connection.execute(OF_THE_QUEUE)
        page = await bench.store.find_lanes(bench.connection, ["default"], ["work"], 0, PAGE)
        await bench.explain(
            "sweep", lambda connection: bench.store.sweep(connection, [lane.id for lane in page])
        )
        assert len(page) == PAGE
        assert bench.costs["sweep"] <= PER_LANE * PAGE


# A million


def database_with(databases: Databases, *statements: tuple[str, int]) -> Iterator[str]:
    """Yield a database in which *statements* have been run, never vacuumed and never analysed."""
    dsn = databases.clone()

    async def fill() -> None:
        connection = await asyncpg.connect(dsn)
        # What the guards want of whoever writes the queue tables.
        await connection.execute("set pgqueue.writer = 'on'; set synchronous_commit = off")
        await freeze_statistics(connection)
        for statement, count in statements:
            await connection.execute(statement, count)
        await connection.close()

    asyncio.run(fill())
    yield dsn
    databases.drop(dsn)


@pytest.fixture(scope="module")
def ready_dsn(databases: Databases) -> Iterator[str]:
    """A database with a million ready jobs."""
    yield from database_with(databases, (FILL, 2000), (FILL_READY, MILLION))


@pytest.fixture(scope="module")
def scheduled_dsn(databases: Databases) -> Iterator[str]:
    """A database with a million scheduled jobs."""
    yield from database_with(databases, (FILL_SCHEDULED, MILLION))


async def test_a_million_ready_jobs_cost_a_round_no_more_than_few(dsn: str, ready_dsn: str) -> None:
    async with connected(dsn) as bench:
        await bench.connection.execute(FILL, 500)
        few = await bench.round()

    async with connected(ready_dsn) as bench:
        await bench.round()
        check(few, bench)

        await bench.connection.execute("analyze")
        await bench.round()
        check(few, bench)


@pytest.mark.contract("P2.24")
async def test_a_million_scheduled_jobs_cost_a_round_no_more_than_none(dsn: str, scheduled_dsn: str) -> None:
    async with connected(dsn) as bench:
        await bench.connection.execute(FILL, 500)
        few = await bench.round()

    async with connected(scheduled_dsn) as bench:
        await bench.connection.execute(FILL, 500)
        await bench.round()
        check(few, bench)

        await bench.connection.execute("analyze")
        await bench.round()
        check(few, bench)
        await bench.connection.execute("truncate pgqueue.ready")


@pytest.mark.contract("P2.24", "P1.12")
async def test_a_worker_holds_nothing_of_a_million_scheduled_jobs(scheduled_dsn: str) -> None:
    async with PgQueue(scheduled_dsn) as pgq:

        @pgq.task
        async def work(number: int) -> int:
            return number

        async with pgq.worker(concurrency=10, prefetch_multiplier=4):
            await (await work.enqueue(0)).result(timeout=60)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for job in await pgq.enqueue_many([work.s(number) for number in range(500)]):
                await job.result(timeout=60)
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            async with connected(scheduled_dsn) as bench:
                claimed = await bench.connection.fetchval("select count(*) from pgqueue.running")
                waiting = await bench.connection.fetchval("select count(*) from pgqueue.scheduled")

    assert (claimed, waiting) == (0, MILLION)
    # In KiB. The ids of a million jobs alone would be some 60 MiB.
    assert after - before < 20_000


async def test_a_batch_ends_on_the_pages_where_it_began(dsn: str) -> None:
    async with connected(dsn) as bench:
        await bench.connection.execute(FILL, 10 * BATCH)

        async with bench.connection.transaction():
            for _ in range(10):
                await bench.claim_and_finish()
            updated = await bench.connection.fetchrow(
                "select sum(n_tup_upd)::integer as all, sum(n_tup_hot_upd)::integer as hot "
                "from pg_stat_xact_user_tables where schemaname = 'pgqueue' and relname like 'job\\_2%'"
            )

        assert updated is not None
        assert updated["all"] == 10 * BATCH
        assert updated["hot"] >= 9 * BATCH


async def test_finishing_looks_into_the_days_of_its_jobs_alone(dsn: str) -> None:
    async with connected(dsn) as bench:
        await bench.connection.execute(FILL, 2 * BATCH)

        await bench.claim_and_finish()

        assert len({table for table in bench.tables["finish"] if table.startswith("job_")}) == 1
