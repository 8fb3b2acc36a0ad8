"""What looking at the whole system costs: no more as the queues grow, whatever the statistics say.

Counts of buffers, not times: those are the same on every machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from kit.plans import connected, freeze_statistics

from pgqueue.model.filters import FIRST_ID, LAST_ID

if TYPE_CHECKING:
    from kit.plans import Bench

FEW = 5_000
MANY = 40_000
CAP = 500
BLOCKS = 20
TABLES: Final = ("ready", "scheduled", "blocked", "dead_letter")

FILL = """
    with job as (
        insert into pgqueue.job (id, lane, task, arguments, status, completed_at)
        select pgqueue.uuid7(), 1, 'work', '{}', 'succeeded', now() from generate_series(1, $1)
    ),
    ready as (
        insert into pgqueue.ready (job_id, lane) select gen_random_uuid(), 1 from generate_series(1, $1)
    ),
    scheduled as (
        insert into pgqueue.scheduled (job_id, scheduled_at, lane, attempt)
        select gen_random_uuid(), now() + interval '1 day', 1, n % 2 from generate_series(1, $1) as n
    ),
    blocked as (
        insert into pgqueue.blocked (job_id, lane) select gen_random_uuid(), 1 from generate_series(1, $1)
    )
    insert into pgqueue.dead_letter (job_id, failed_at, task, queue, reason, fingerprint, attempt)
    select gen_random_uuid(), now(), 'work', 'default', 'exception', 'same', 1 from generate_series(1, $1)
"""
RUN = """
    insert into pgqueue.running (job_id, lease_id, ready_at, started_at, position, lane, attempt, losses)
    select gen_random_uuid(), lease.id, now(), now(), n, 1, 1, 0
    from pgqueue.lease, generate_series(1, $1) as n
"""
WRITE_DOWN = """
    insert into pgqueue.stat (id, at, seconds, queue, enqueued, claimed, succeeded, failed, cancelled,
                              expired, retried, lost)
    select gen_random_uuid(), now() - interval '1 hour' - n * interval '1 second', 1, 'default',
           1, 1, 1, 0, 0, 0, 0, 0
    from generate_series(1, $1) as n
"""


async def look(bench: Bench) -> dict[str, int]:
    """Look at everything; return the buffers of each statement."""
    store = bench.store
    bench.costs = {}
    # Twice: the first execution on a connection reads the catalogues too.
    for _ in range(2):
        await bench.explain("measure", lambda connection: store.measure(connection, CAP, CAP))
        await bench.explain("dead", lambda connection: store.count_dead_letters(connection, CAP))
        await bench.explain("estimate", lambda connection: store.estimate(connection, BLOCKS, TABLES))
        await bench.explain("span", lambda connection: store.read_stat_span(connection, 300))
        await bench.explain(
            "stats",
            lambda connection: store.read_stats(connection, 300, 30, queue=None, by_queue=True),
        )
        await bench.explain(
            "workers",
            lambda connection: store.list_workers(connection, most_running=CAP, jobs=0, limit=100),
        )
        await bench.explain(
            "task",
            lambda connection: store.measure_task(
                connection, "work", 3600, 60, looks=CAP, window=(FIRST_ID, LAST_ID)
            ),
        )
        await bench.explain(
            "running", lambda connection: store.list_running(connection, most_running=CAP, jobs=10)
        )
    return bench.costs


@pytest.mark.contract("BP10")
async def test_looking_at_many_jobs_costs_no_more_than_looking_at_few(dsn: str) -> None:
    async with connected(dsn) as bench:
        await freeze_statistics(bench.connection)
        await bench.connection.execute("select pgqueue.lane_of('default', 0::smallint)")
        await bench.connection.execute("vacuum analyze")
        for statement in (FILL, RUN, WRITE_DOWN):
            await bench.connection.execute(statement, FEW)
        few = dict(await look(bench))
        for statement in (FILL, RUN, WRITE_DOWN):
            await bench.connection.execute(statement, MANY - FEW)

        many = dict(await look(bench))
        await bench.connection.execute("analyze")
        analysed = dict(await look(bench))

    assert bench.scans == set()
    for costs in (many, analysed):
        for name, buffers in costs.items():
            # An index of more rows is a level or two deeper.
            assert buffers <= 1.5 * few[name] + 100, (name, few, costs)
            # Capped, four kinds of jobs, and the sampled blocks of four tables.
            assert buffers <= 8 * CAP, (name, few, costs)
