"""Whether one worker stays as it is over millions of jobs: its memory, the dead rows, and its rate.

Another process enqueues meanwhile, as much as keeps the backlog at a bound, so that the worker never lacks
jobs and nothing grows but what is kept. Every few seconds it is noted how many jobs are done, the resident
set of the worker's process, dead rows by the server's own statistics, and the size of the tables that turn
over.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import time
from asyncio.subprocess import Process
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import common
import crew

WARM = 100_000
"""Jobs after which nothing may grow any more; a twentieth of them all in a short run."""
LOOK_EVERY = 0.2
FED_AT_ONCE = 5_000

LOOK = """
select sum(n_dead_tup)::bigint as dead_rows,
       (pg_total_relation_size('pgqueue.ready') + pg_total_relation_size('pgqueue.running')) / 2 ^ 20
           as queue_mib
from pg_stat_user_tables
where schemaname = 'pgqueue'
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stand."""

    second: float
    jobs: int
    resident_mib: float
    backlog: int
    dead_rows: int
    queue_mib: float


class Soak:
    """One run: what is enqueued, what is done, and what was noted."""

    def __init__(self, worker: Process, feeder: Process, *, jobs: int, backlog: int) -> None:
        self._worker = worker
        self._feeder = feeder
        self._jobs = jobs
        self._backlog = backlog
        self._enqueued = 0
        self._finished = 0
        self.samples: list[Sample] = []

    async def feed(self) -> None:
        """Keep the backlog at its bound until all jobs are enqueued."""
        while self._enqueued < self._jobs:
            room = self._backlog - (self._enqueued - self._finished)
            if room > 0:
                count = min(room, FED_AT_ONCE, self._jobs - self._enqueued)
                self._enqueued = await crew.feed(self._feeder, count)
            else:
                await asyncio.sleep(LOOK_EVERY / 10)

    async def watch(self, connection: asyncpg.Connection[asyncpg.Record], every: float) -> None:
        """Note how things stand until all jobs are done."""
        started = time.monotonic()
        # A rate lies between two notes, and a quick worker may be done before the second look.
        await self._note(connection, started)
        due = started + every
        while self._finished < self._jobs:
            await asyncio.sleep(LOOK_EVERY)
            if time.monotonic() >= due or await self._are_all_done():
                due += every
                await self._note(connection, started)

    async def _are_all_done(self) -> bool:
        [counts] = await crew.counts([self._worker])
        self._finished = int(counts["finished"])
        return self._finished >= self._jobs

    async def _note(self, connection: asyncpg.Connection[asyncpg.Record], started: float) -> None:
        [counts] = await crew.counts([self._worker])
        self._finished = int(counts["finished"])
        [row] = await connection.fetch(LOOK)
        self.samples.append(
            Sample(
                second=time.monotonic() - started,
                jobs=self._finished,
                resident_mib=counts["resident_mib"],
                backlog=self._enqueued - self._finished,
                dead_rows=row["dead_rows"],
                queue_mib=row["queue_mib"],
            )
        )


async def measure(dsn: str, options: Any) -> list[Sample]:
    """Have one worker do all jobs; return what was noted."""
    connection = await asyncpg.connect(dsn)
    async with (
        crew.workers(dsn, 1, concurrency=options.concurrency, loop=options.loop) as [worker],
        crew.feeder(dsn, loop=options.loop) as feeder,
    ):
        soak = Soak(worker, feeder, jobs=options.jobs, backlog=options.backlog)
        async with asyncio.TaskGroup() as group:
            group.create_task(soak.feed())
            group.create_task(soak.watch(connection, options.every))
    succeeded = await connection.fetchval(
        "select count(*) from pgqueue.job where status = 'succeeded'", timeout=3600
    )
    await connection.close()
    if succeeded != options.jobs:
        raise SystemExit(f"benchmark: {succeeded} of {options.jobs} jobs succeeded: nothing measured")
    return soak.samples


def rates(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """Return the jobs per second between neighbouring samples, each with the second at which it ends."""
    return [
        (after.second, (after.jobs - before.jobs) / (after.second - before.second))
        for before, after in itertools.pairwise(samples)
    ]


def minutes(samples: Sequence[Sample]) -> list[Sample]:
    """Return the first sample of each minute: its ends, without a last one that is not whole.

    Of a run that is over within a minute, the first and the last.
    """
    firsts = {int(sample.second // 60): sample for sample in reversed(samples)}
    chosen = [firsts[minute] for minute in sorted(firsts)]
    return chosen if len(chosen) > 1 else [samples[0], samples[-1]]


def figures(samples: Sequence[Sample], jobs: int) -> common.Figures:
    """Return what is to be said of a run in a few figures."""
    warm = [sample for sample in samples if sample.jobs >= min(WARM, jobs // 20)]
    by_minute = [rate for _, rate in rates(minutes(samples))]
    return {
        "jobs_per_s": jobs / samples[-1].second,
        "jobs_per_s_first_minute": by_minute[0],
        "jobs_per_s_median_minute": statistics.median(by_minute),
        "jobs_per_s_slowest_minute": min(by_minute),
        "resident_mib_warm": warm[0].resident_mib,
        "resident_mib_most": max(sample.resident_mib for sample in samples),
        "resident_mib_at_end": samples[-1].resident_mib,
        "dead_rows_most": max(sample.dead_rows for sample in samples),
        "queue_mib_warm": warm[0].queue_mib,
        "queue_mib_at_end": samples[-1].queue_mib,
    }


def report(what: str, machine: dict[str, object], samples: Sequence[Sample], options: Any) -> None:
    """Print the figures, and minute by minute how they came about."""
    found = figures(samples, options.jobs)
    if options.json:
        series = {
            "jobs_per_s": rates(samples),
            "resident_mib": [(sample.jobs, sample.resident_mib) for sample in samples],
            "dead_rows": [(sample.second, sample.dead_rows) for sample in samples],
            "backlog": [(sample.second, sample.backlog) for sample in samples],
            "queue_mib": [(sample.second, sample.queue_mib) for sample in samples],
        }
        shape = {"benchmark": what, "machine": machine, "median": found, "rounds": [found], "series": series}
        print(json.dumps(shape))
        return
    common.report(what, machine, [found], as_json=False)
    heads = ("second", "jobs", "jobs/s", "MiB", "backlog", "dead rows", "queue MiB")
    print("  " + "".join(f"{head:>12}" for head in heads))
    table = minutes(samples)
    for sample, (_, rate) in zip(table[1:], rates(table), strict=True):
        print(
            f"  {sample.second:>12.0f}{sample.jobs:>12,}{rate:>12,.0f}{sample.resident_mib:>12.1f}"
            f"{sample.backlog:>12,}{sample.dead_rows:>12,}{sample.queue_mib:>12.1f}"
        )


def main() -> None:
    """Read the command line and measure."""
    parser = common.arguments(__doc__, rounds=None)
    parser.add_argument("--jobs", type=int, default=2_000_000)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--backlog", type=int, default=50_000, help="jobs that wait at most (%(default)s)")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between notes (%(default)s)")
    options = parser.parse_args()

    async def benchmark() -> None:
        with common.server(options.dsn) as server:
            machine = await common.describe(server, options.loop)
            async with common.database(server) as dsn:
                samples = await measure(dsn, options)
        what = (
            f"soak: {options.jobs:,} no-op jobs through one worker, concurrency {options.concurrency}, "
            f"enqueued meanwhile by another process, {options.backlog:,} waiting at most"
        )
        report(what, machine, samples, options)

    common.run(options.loop, benchmark)


if __name__ == "__main__":
    main()
