"""How many jobs per second: enqueued in bulk, and drained by one worker.

Every enqueue and every outcome is committed durably; status, times and result of each job are kept.

With `--matrix`, drained by worker processes: each kind of handler, one and two processes, each concurrency,
all cells in turn in each round, on a database of its own each. The plain run is one cell with the worker in
this process: quick, and with its memory and the bare statements beside it.
"""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import asyncpg
import bare
import common
import crew

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


async def measure_matrix(server: str, options: Any) -> dict[common.Cell, common.Figures]:
    """Drain as many jobs in each cell."""
    cells: dict[common.Cell, common.Figures] = {}
    for handler, processes, concurrency in product(
        options.handlers, options.processes, options.concurrencies
    ):
        cell = ("handler", handler), ("processes", processes), ("concurrency", concurrency)
        async with (
            common.database(server) as dsn,
            crew.workers(dsn, processes, concurrency=concurrency, loop=options.loop) as workers,
        ):
            cells[cell] = await crew.drain(dsn, workers, handler, options.jobs)
    return cells


async def report_matrix(server: str, machine: dict[str, object], options: Any) -> None:
    """Measure and print the matrix."""
    rounds = [await measure_matrix(server, options) for _ in range(options.rounds)]
    handlers = ", ".join(f"{name}: {crew.HANDLERS[name]}" for name in options.handlers)
    what = f"throughput matrix: {options.jobs:,} jobs with three arguments a cell; handlers {handlers}"
    common.report_cells(what, machine, rounds, as_json=options.json)


async def report_one(server: str, machine: dict[str, object], options: Any) -> None:
    """Measure and print the plain run."""
    rounds = []
    for _ in range(options.rounds):
        async with common.database(server) as dsn:
            rounds.append(
                await measure(
                    dsn, jobs=options.jobs, concurrency=options.concurrency, scheduled=options.scheduled
                )
            )
    what = (
        f"throughput: {options.jobs:,} no-op jobs with three arguments, one worker, "
        f"concurrency {options.concurrency}, {options.scheduled:,} scheduled jobs beside them"
    )
    common.report(what, machine, rounds, as_json=options.json)


def main() -> None:
    """Read the command line and measure."""
    parser = common.arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="drained, in each cell (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=100, help="of the plain run (%(default)s)")
    parser.add_argument("--scheduled", type=int, default=0, help="jobs that wait for next year meanwhile")
    parser.add_argument("--matrix", action="store_true", help="measure all cells instead of the one")
    parser.add_argument(
        "--handlers", type=crew.handlers, default=list(crew.HANDLERS), help="of the matrix, as noop,nap,burn"
    )
    parser.add_argument("--processes", type=common.numbers, default=[1, 2], help="of the matrix, as 1,2")
    parser.add_argument(
        "--concurrencies", type=common.numbers, default=[10, 50, 100, 500], help="of the matrix, as 10,100"
    )
    options = parser.parse_args()

    async def benchmark() -> None:
        with common.server(options.dsn) as server:
            machine = await common.describe(server, options.loop)
            await (report_matrix if options.matrix else report_one)(server, machine, options)

    common.run(options.loop, benchmark)


if __name__ == "__main__":
    main()
