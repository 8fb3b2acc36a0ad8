"""How many jobs per second: enqueued in bulk, and drained by one worker.

Every enqueue and every outcome is committed durably; status, times and result of each job are kept.
"""

from __future__ import annotations

import time

import asyncpg
import bare
import common

from pgqueue import JobHandle, PgQueue

BATCH = 10_000

ADD_SCHEDULED = """
with new as (
    insert into pgqueue.job (id, lane, task, arguments, run_at)
    select pgqueue.uuid7(), 1, 'noop', '{}', now() + interval '1 year' from generate_series(1, $1::integer)
    returning id, lane, run_at
)
insert into pgqueue.scheduled (job_id, scheduled_at, lane) select id, run_at, lane from new
"""


async def measure(dsn: str, *, jobs: int, concurrency: int, scheduled: int) -> common.Figures:
    """Enqueue *jobs* no-op jobs and drain them with one worker; then once more with bare statements."""
    pgq = PgQueue(dsn)

    @pgq.task
    async def noop(to: str, number: int, amount: float) -> None:
        """Do nothing."""

    watcher = await asyncpg.connect(dsn)

    async def enqueue() -> tuple[JobHandle[None], float]:
        seconds = 0.0
        for start in range(0, jobs, BATCH):
            numbers = range(start, min(start + BATCH, jobs))
            calls = [noop.s("user@example.com", number, 1.5) for number in numbers]
            started = time.perf_counter()
            handles = await pgq.enqueue_many(calls)
            seconds += time.perf_counter() - started
        # What follows starts from the same state of the tables each time.
        await watcher.execute("vacuum analyze")
        await watcher.execute("checkpoint")
        return handles[-1], seconds

    async with pgq:
        if scheduled:
            await watcher.execute("set pgqueue.writer to 'on'")
            await watcher.execute(ADD_SCHEDULED, scheduled)
        last, enqueue_seconds = await enqueue()
        memory_before = common.resident_mib()
        cpu_started, started = time.process_time(), time.perf_counter()
        async with pgq.worker(concurrency=concurrency):
            await last.result()
            # The last one to be claimed need not be the last one to end.
            while await watcher.fetchval("select exists (select from pgqueue.running)"):
                pass
            drain_seconds = time.perf_counter() - started
            cpu_seconds = time.process_time() - cpu_started
        memory_after = common.resident_mib()

        await enqueue()
        bare_seconds = await bare.drain(dsn, jobs=jobs, concurrency=concurrency)

        succeeded = await watcher.fetchval("select count(*) from pgqueue.job where status = 'succeeded'")
        if succeeded != 2 * jobs:
            raise SystemExit(f"benchmark: {succeeded} of {2 * jobs} jobs succeeded: nothing measured")
    await watcher.close()
    return {
        "enqueue_jobs_per_s": jobs / enqueue_seconds,
        "drain_jobs_per_s": jobs / drain_seconds,
        "bare_statements_jobs_per_s": jobs / bare_seconds,
        "drain_to_bare_ratio": bare_seconds / drain_seconds,
        "worker_cpu_us_per_job": cpu_seconds / jobs * 1e6,
        "resident_mib_before_drain": memory_before,
        "resident_mib_after_drain": memory_after,
    }


def main() -> None:
    """Read the command line and measure."""
    parser = common.arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--scheduled", type=int, default=0, help="jobs that wait for next year meanwhile")
    options = parser.parse_args()

    async def benchmark() -> None:
        with common.server(options.dsn) as server:
            machine = await common.describe(server, options.loop)
            rounds = []
            for _ in range(options.rounds):
                async with common.database(server) as dsn:
                    rounds.append(
                        await measure(
                            dsn,
                            jobs=options.jobs,
                            concurrency=options.concurrency,
                            scheduled=options.scheduled,
                        )
                    )
        what = (
            f"throughput: {options.jobs:,} no-op jobs with three arguments, one worker, "
            f"concurrency {options.concurrency}, {options.scheduled:,} scheduled jobs beside them"
        )
        common.report(what, machine, rounds, as_json=options.json)

    common.run(options.loop, benchmark)


if __name__ == "__main__":
    main()
