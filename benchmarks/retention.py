"""What retention costs a worker: jobs per second and buffers of a claim, with old jobs being removed or not.

Finished jobs of ten past days are there from the start; in every second day some are to be kept, so that its
jobs are removed singly and the other days are dropped. With and without take turns.
"""

from __future__ import annotations

import time

import asyncpg
import bare
import common

from pgqueue import PgQueue
from pgqueue.options.retention import RetentionOptions
from pgqueue.upkeep import retention as purger

DAYS = range(10, 20)
FOR_EVER: RetentionOptions = {"succeeded": None, "failed": None, "cancelled": None, "expired": None}
FILL = """
insert into pgqueue.job (id, created_at, lane, task, arguments, status, completed_at, attempt, worker, result)
select (left(pgqueue.id_at(moment)::text, 14) || '7' || substr(gen_random_uuid()::text, 16))::uuid,
       moment, 1, 'noop', '{"to": "user@example.com", "number": 1, "amount": 1.5}',
       case when $1::integer % 2 = 0 and n % 1000 = 0 then 'failed' else 'succeeded' end::pgqueue.job_status,
       moment, 1, 'worker', 'null'
from (
    select n, date_trunc('day', now(), 'UTC') - $1::integer * interval '1 day'
              + n * interval '1 day' / ($2::integer + 1) as moment
    from generate_series(1, $2::integer) as n
) as each_one
"""


async def fill(connection: asyncpg.Connection[asyncpg.Record], finished: int) -> None:
    """Make the finished jobs."""
    for day in DAYS:
        await connection.execute("select pgqueue.make_partition(now() - $1::integer * interval '1 day')", day)
        await connection.execute(FILL, day, finished // len(DAYS), timeout=3600)
    await connection.execute("vacuum analyze", timeout=3600)


async def drain(dsn: str, *, jobs: int, retention: RetentionOptions) -> tuple[float, int]:
    """Drain *jobs* jobs with one worker; return jobs per second, and the buffers of a claim at its start."""
    pgq = PgQueue(dsn, retention=retention)

    @pgq.task
    async def noop(to: str, number: int, amount: float) -> None:
        """Do nothing."""

    watcher = await asyncpg.connect(dsn)
    await watcher.execute("delete from pgqueue.chore")
    async with pgq:
        calls = [noop.s("user@example.com", number, 1.5) for number in range(jobs)]
        last = (await pgq.enqueue_many(calls))[-1]
        # What follows starts from the same state of the tables each time.
        await watcher.execute("vacuum analyze", timeout=3600)
        async with (
            # Works on nothing but the retention.
            pgq.worker(queues=["none"]),
            bare.connect(dsn, durable=False) as connection,
            bare.lease(connection) as lease_id,
        ):
            buffers = await bare.claim_buffers(connection, lease_id, [(bare.LANE, 0)])
        await watcher.execute("delete from pgqueue.chore")
        started = time.perf_counter()
        async with pgq.worker(concurrency=100):
            await last.result()
            # The last one to be claimed need not be the last one to end.
            while await watcher.fetchval("select exists (select from pgqueue.running)"):
                pass
            seconds = time.perf_counter() - started
    await watcher.close()
    return jobs / seconds, buffers


async def measure(dsn: str, *, jobs: int) -> common.Figures:
    """Drain with and without retention, in turn."""
    watcher = await asyncpg.connect(dsn)
    without, buffers_without = await drain(dsn, jobs=jobs, retention=FOR_EVER)
    before = await old_jobs(watcher)
    with_, buffers_with = await drain(dsn, jobs=jobs, retention={})
    after = await old_jobs(watcher)
    await watcher.close()
    return {
        "drain_jobs_per_s_without": without,
        "drain_jobs_per_s_with": with_,
        "with_to_without_ratio": with_ / without,
        "claim_buffers_without": buffers_without,
        "claim_buffers_with": buffers_with,
        "old_jobs_removed_meanwhile": before - after,
        "old_jobs_left": after,
    }


async def old_jobs(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    """Return how many of the finished jobs are still there."""
    count: int = await connection.fetchval(
        "select count(*) from pgqueue.job where id < pgqueue.id_at(now() - interval '8 days')", timeout=3600
    )
    return count


def main() -> None:
    """Read the command line and measure."""
    parser = common.arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="drained in each turn (%(default)s)")
    parser.add_argument("--finished", type=int, default=10_000_000, help="old jobs (%(default)s)")
    options = parser.parse_args()
    purger.FIRST_PASS = 0.0

    async def benchmark() -> None:
        with common.server(options.dsn) as server:
            machine = await common.describe(server, options.loop)
            async with common.database(server) as dsn:
                connection = await asyncpg.connect(dsn)
                await fill(connection, options.finished)
                await connection.close()
                rounds = [await measure(dsn, jobs=options.jobs) for _ in range(options.rounds)]
        what = (
            f"retention: {options.jobs:,} no-op jobs a turn, one worker, concurrency 100, "
            f"{options.finished:,} finished jobs past their retention"
        )
        common.report(what, machine, rounds, as_json=options.json)

    common.run(options.loop, benchmark)


if __name__ == "__main__":
    main()
