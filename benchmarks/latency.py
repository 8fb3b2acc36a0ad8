"""How long from the enqueue call to the handler's start and to the awaited result: idle, and at half load.

The worker is another process, with concurrency 100, and all processes read the machine's one monotonic
clock. The floor beside the idle worker is the least that the same way of working can take: a one-row insert,
a notification and a claim, on raw connections. Half load is half of the rate at which that worker
has just drained no-op jobs, enqueued meanwhile by a third process into the same queue; the measured jobs
queue behind those, and because somebody awaits results, workers announce those of all jobs.
"""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import Process
from typing import Any

import bare
import common
import crew

WARM_UP = 10
"""Jobs that are not counted: the first ones prepare statements."""
TICK = 0.01
"""Seconds between two batches that are fed."""


async def measure(dsn: str, *, jobs: int, loop: str) -> common.Figures:
    """Enqueue *jobs* jobs one after the other with an idle worker; then the same on raw connections."""
    async with crew.workers(dsn, 1, concurrency=100, loop=loop):
        figures = await one_by_one(dsn, jobs)
    floors = await bare.pick_up(dsn, jobs)
    return {**figures, **percentiles("floor", floors)}


async def measure_at_half_load(dsn: str, *, jobs: int, drained: int, loop: str) -> common.Figures:
    """Do the same while another process feeds the worker, which drains *drained* jobs first for the rate."""
    async with crew.workers(dsn, 1, concurrency=100, loop=loop) as workers:
        rate = (await crew.drain(dsn, workers, "noop", drained))["jobs_per_s"]
        async with crew.feeder(dsn, loop=loop) as feeder:
            fed = Fed(feeder, rate / 2)
            async with common.meanwhile(fed.keep_feeding):
                figures = await one_by_one(dsn, jobs)
    return {
        "drain_jobs_per_s": rate,
        "fed_jobs_per_s": fed.jobs_per_s,
        **{f"half_load_{name}": value for name, value in figures.items()},
    }


class Fed:
    """A feeder that is told to enqueue at a steady rate, and what came of it."""

    def __init__(self, feeder: Process, rate: float) -> None:
        self._feeder = feeder
        self._rate = rate
        self.jobs_per_s = 0.0
        """The rate so far: lower than it should be if the feeder does not keep up."""

    async def keep_feeding(self) -> None:
        """Feed what is due, until cancelled."""
        started, total = time.monotonic(), 0
        while True:
            seconds = time.monotonic() - started
            due = int(seconds * self._rate) - total
            if due > 0:
                total = await crew.feed(self._feeder, due)
                self.jobs_per_s = total / (time.monotonic() - started)
            await asyncio.sleep(TICK)


async def one_by_one(dsn: str, jobs: int) -> common.Figures:
    """Enqueue jobs that say when they started, each after the last one's result."""
    pickups, enqueues, results = [], [], []
    async with crew.make_queue(dsn) as pgq:
        for number in range(jobs + WARM_UP):
            started = time.monotonic()
            handle = await pgq.enqueue(pgq.signature("clock", number))
            enqueued = time.monotonic()
            handler_started = await handle.result(timeout=60)
            resulted = time.monotonic()
            if number >= WARM_UP:
                pickups.append((handler_started - started) * 1000)
                enqueues.append((enqueued - started) * 1000)
                results.append((resulted - started) * 1000)
            await asyncio.sleep(bare.PAUSE)
    return {
        **percentiles("pickup", pickups),
        **percentiles("enqueue", enqueues),
        **percentiles("result", results),
    }


def percentiles(what: str, milliseconds: list[float]) -> common.Figures:
    """Return p50, p95 and p99."""
    return {f"{what}_ms_p{number}": common.percentile(milliseconds, number / 100) for number in (50, 95, 99)}


async def measure_both(server: str, options: Any) -> common.Figures:
    """Measure an idle worker and one at half load, on a database each."""
    async with common.database(server) as dsn:
        idle = await measure(dsn, jobs=options.jobs, loop=options.loop)
    async with common.database(server) as dsn:
        at_half_load = await measure_at_half_load(
            dsn, jobs=options.jobs, drained=options.drained, loop=options.loop
        )
    return {**idle, **at_half_load}


def main() -> None:
    """Read the command line and measure."""
    parser = common.arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=300, help="measured, idle and at half load (%(default)s)")
    parser.add_argument(
        "--drained", type=int, default=100_000, help="jobs that give the drain rate (%(default)s)"
    )
    options = parser.parse_args()

    async def benchmark() -> None:
        with common.server(options.dsn) as server:
            machine = await common.describe(server, options.loop)
            rounds = [await measure_both(server, options) for _ in range(options.rounds)]
        common.report(
            f"latency: {options.jobs} jobs, one at a time, worker in another process, idle and at half load",
            machine,
            rounds,
            as_json=options.json,
        )

    common.run(options.loop, benchmark)


if __name__ == "__main__":
    main()
