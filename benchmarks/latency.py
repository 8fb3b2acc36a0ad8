"""How long from the enqueue call to the start of the handler, with an idle worker in another process.

Both processes read the machine's one monotonic clock. The floor beside it is the least that the same
way of working can take: a one-row insert, a notification and a claim, on raw connections.
"""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process

import bare
import common

from pgqueue import PgQueue


def make_queue(dsn: str) -> PgQueue:
    """Return the queue of both processes."""
    pgq = PgQueue(dsn)

    @pgq.task
    async def clock(number: int) -> float:  # noqa: ARG001  # something to validate, as real jobs have
        """Say when this started."""
        return time.monotonic()

    return pgq


async def work(dsn: str) -> None:
    """Be the worker, until standard input ends."""
    pgq = make_queue(dsn)
    async with pgq, pgq.worker(concurrency=10) as worker:
        await worker.wait_ready()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def start_worker(dsn: str, loop: str) -> Process:
    """Start the worker's process and wait until it claims."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--loop", loop, "--work-on", dsn, stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    if await process.stdout.readline() != b"ready\n":
        raise SystemExit("benchmark: the worker did not start: nothing measured")
    return process


async def measure(dsn: str, *, jobs: int, loop: str) -> common.Figures:
    """Enqueue *jobs* jobs, one after the other."""
    worker = await start_worker(dsn, loop)
    pgq = make_queue(dsn)
    [definition] = [pgq.registry.get(name) for name in pgq.registry.names]
    assert definition is not None
    pickups, enqueues, results = [], [], []
    async with pgq:
        for number in range(jobs + 10):
            started = time.monotonic()
            handle = await pgq.enqueue(pgq.signature("clock", number))
            enqueued = time.monotonic()
            handler_started = await handle.result(timeout=30)
            resulted = time.monotonic()
            if number >= 10:  # the first ones prepare statements
                pickups.append((handler_started - started) * 1000)
                enqueues.append((enqueued - started) * 1000)
                results.append((resulted - started) * 1000)
            await asyncio.sleep(bare.PAUSE)
    assert worker.stdin is not None
    worker.stdin.close()
    await worker.wait()
    floors = await bare.pick_up(dsn, jobs)
    return {
        "pickup_ms_p50": common.percentile(pickups, 0.5),
        "pickup_ms_p95": common.percentile(pickups, 0.95),
        "pickup_ms_p99": common.percentile(pickups, 0.99),
        "enqueue_ms_p50": common.percentile(enqueues, 0.5),
        "result_ms_p50": common.percentile(results, 0.5),
        "result_ms_p99": common.percentile(results, 0.99),
        "floor_ms_p50": common.percentile(floors, 0.5),
        "floor_ms_p99": common.percentile(floors, 0.99),
    }


def main() -> None:
    """Read the command line and measure."""
    parser = common.arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--work-on", help="(internal) be the worker on this database")
    options = parser.parse_args()

    async def benchmark() -> None:
        if options.work_on:
            await work(options.work_on)
            return
        with common.server(options.dsn) as server:
            machine = await common.describe(server, options.loop)
            rounds = []
            for _ in range(options.rounds):
                async with common.database(server) as dsn:
                    rounds.append(await measure(dsn, jobs=options.jobs, loop=options.loop))
        common.report(
            f"latency: {options.jobs} jobs, one at a time, idle worker in another process",
            machine,
            rounds,
            as_json=options.json,
        )

    common.run(options.loop, benchmark)


if __name__ == "__main__":
    main()
