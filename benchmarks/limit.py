"""How near pgqueue comes to its limit: its own SQL on raw connections with hardly any Python around it.

Draining, bulk enqueue (by the statement, and by COPY into the same tables), a single durable enqueue beside a
one-row INSERT, and the pick-up by an idle worker: each by pgqueue and by the bare loop, in turn, in one run.
Ratios are of figures of the same round: of rates pgqueue's share, of times pgqueue's multiple.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from uuid import UUID

import asyncpg
import bare
import common
import latency
from counting import Counter, wait_written

from pgqueue import PgQueue
from pgqueue.model.ids import new_ids

BATCH = 10_000

Call = Callable[[], Awaitable[object]]

MAKE_TABLE = "create table bare_insert (id uuid primary key, task text not null, arguments json not null)"
INSERT = "insert into bare_insert (id, task, arguments) values ($1, $2, $3)"


async def time_of(call: Call) -> float:
    """Return the seconds that *call* takes."""
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


async def take_turns(calls: dict[str, Call], *, turn: int, pause: float = 0.0) -> dict[str, float]:
    """Return the seconds of each of *calls*, made one after the other; each *turn* begins with another."""
    names = list(calls)
    seconds = {}
    for place in range(len(names)):
        name = names[(turn + place) % len(names)]
        seconds[name] = await time_of(calls[name])
        await asyncio.sleep(pause)
    return seconds


# Draining


async def measure_drain(dsn: str, *, jobs: int, concurrency: int, turn: int) -> common.Figures:
    """Drain *jobs* jobs by a worker, and as many by the bare loop."""
    seconds: dict[str, float] = {}

    async def drain_by_worker() -> None:
        seconds["worker"] = await drain(dsn, jobs=jobs, concurrency=concurrency)

    async def drain_bare() -> None:
        seconds["bare"] = await bare.drain(dsn, jobs=jobs, concurrency=concurrency)

    contestants = [drain_by_worker, drain_bare]
    async with bare.connect(dsn, durable=True) as connection:
        for place in range(2):
            await bare.copy(connection, new_ids(jobs), "noop")
            # Both start from the same state of the tables.
            await connection.execute("vacuum analyze")
            await connection.execute("checkpoint")
            await contestants[(turn + place) % 2]()
        succeeded = await connection.fetchval("select count(*) from pgqueue.job where status = 'succeeded'")
    if succeeded != 2 * jobs:
        raise SystemExit(f"benchmark: {succeeded} of {2 * jobs} jobs succeeded: nothing measured")
    return {
        "drain_jobs_per_s": jobs / seconds["worker"],
        "drain_limit_jobs_per_s": jobs / seconds["bare"],
        "drain_to_limit": seconds["bare"] / seconds["worker"],
    }


async def drain(dsn: str, *, jobs: int, concurrency: int) -> float:
    """Have one worker run *jobs* jobs; return seconds."""
    pgq, counter = PgQueue(dsn), Counter()
    counter.declare(pgq)
    watcher = await asyncpg.connect(dsn)
    async with pgq:
        started = time.perf_counter()
        async with pgq.worker(concurrency=concurrency):
            await counter.wait_until(jobs)
            await wait_written(watcher)
            seconds = time.perf_counter() - started
    await watcher.close()
    return seconds


# Enqueueing


Write = Callable[["bare.Connection", Sequence[UUID], str], Awaitable[None]]


async def write(how: Write, connection: bare.Connection, count: int) -> None:
    """Write *count* new jobs; that their ids are made is part of it."""
    await how(connection, new_ids(count), "noop")


async def measure_enqueue(dsn: str, *, jobs: int, turn: int) -> common.Figures:
    """Enqueue *jobs* jobs in each way, batches in turn."""
    pgq = PgQueue(dsn)
    noop = Counter().declare(pgq)
    sums = {"pgqueue": 0.0, "statement": 0.0, "copy": 0.0}
    batches = -(-jobs // BATCH)
    async with pgq, bare.connect(dsn, durable=True) as connection:
        for number in range(batches):
            size = min(BATCH, jobs)
            calls = [noop.s("user@example.com", each, 1.5) for each in range(size)]
            seconds = await take_turns(
                {
                    "pgqueue": partial(pgq.enqueue_many, calls),
                    "statement": partial(write, bare.enqueue_many, connection, size),
                    "copy": partial(write, bare.copy, connection, size),
                },
                turn=turn + number,
            )
            for name in sums:
                sums[name] += seconds[name]
    total = batches * min(BATCH, jobs)
    return {
        "enqueue_jobs_per_s": total / sums["pgqueue"],
        "enqueue_limit_jobs_per_s": total / sums["statement"],
        "copy_jobs_per_s": total / sums["copy"],
        "enqueue_to_limit": sums["statement"] / sums["pgqueue"],
        "enqueue_to_copy": sums["copy"] / sums["pgqueue"],
    }


async def measure_single(dsn: str, *, count: int, turn: int) -> common.Figures:
    """Enqueue one durable job at a time, and insert one row at a time into a table of three columns."""
    pgq = PgQueue(dsn)
    noop = Counter().declare(pgq)
    took: dict[str, list[float]] = {"pgqueue": [], "statement": [], "insert": []}
    async with pgq, bare.connect(dsn, durable=True) as connection:
        await connection.execute(MAKE_TABLE)
        for number in range(count + 10):
            seconds = await take_turns(
                {
                    "pgqueue": partial(noop.enqueue, "user@example.com", 1, 1.5),
                    "statement": partial(write, bare.enqueue, connection, 1),
                    "insert": partial(connection.execute, INSERT, *new_ids(1), "noop", bare.ARGUMENTS),
                },
                turn=turn + number,
                # Until the notification of the job is out.
                pause=bare.PAUSE,
            )
            if number >= 10:  # the first ones prepare statements
                for name, times in took.items():
                    times.append(seconds[name] * 1000)
    medians = {name: common.percentile(times, 0.5) for name, times in took.items()}
    return {
        "single_enqueue_ms_p50": medians["pgqueue"],
        "single_statement_ms_p50": medians["statement"],
        "insert_ms_p50": medians["insert"],
        "single_enqueue_to_insert": medians["pgqueue"] / medians["insert"],
    }


# Pick-up


async def measure_pick_up(dsn: str, *, count: int, loop: str) -> common.Figures:
    """Have an idle worker in another process pick up one job at a time; then the same on raw connections."""
    figures = await latency.measure(dsn, jobs=count, loop=loop)
    return {
        "pickup_ms_p50": figures["pickup_ms_p50"],
        "pickup_floor_ms_p50": figures["floor_ms_p50"],
        "pickup_to_floor_p50": figures["pickup_ms_p50"] / figures["floor_ms_p50"],
        "pickup_ms_p99": figures["pickup_ms_p99"],
        "pickup_floor_ms_p99": figures["floor_ms_p99"],
        "pickup_to_floor_p99": figures["pickup_ms_p99"] / figures["floor_ms_p99"],
    }


def main() -> None:
    """Read the command line and measure."""
    parser = common.arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="drained, and enqueued (%(default)s)")
    parser.add_argument("--singles", type=int, default=300, help="jobs one at a time (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=100)
    options = parser.parse_args()

    async def benchmark() -> None:
        with common.server(options.dsn) as server:
            machine = await common.describe(server, options.loop)
            rounds = []
            for number in range(options.rounds):
                figures: common.Figures = {}
                async with common.database(server) as dsn:
                    figures |= await measure_drain(
                        dsn, jobs=options.jobs, concurrency=options.concurrency, turn=number
                    )
                    figures |= await measure_enqueue(dsn, jobs=options.jobs, turn=number)
                    figures |= await measure_single(dsn, count=options.singles, turn=number)
                async with common.database(server) as dsn:
                    figures |= await measure_pick_up(dsn, count=options.singles, loop=options.loop)
                rounds.append(figures)
        what = (
            f"limit: {options.jobs:,} no-op jobs drained and enqueued, {options.singles:,} one at a time, "
            f"one worker, concurrency {options.concurrency}, beside the same SQL on raw connections"
        )
        common.report(what, machine, rounds, as_json=options.json)

    common.run(options.loop, benchmark)


if __name__ == "__main__":
    main()
