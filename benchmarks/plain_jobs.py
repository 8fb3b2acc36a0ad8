"""What plain jobs cost: enqueued in bulk and one by one, and drained by one worker.

`compare.py` runs this with the pgqueue of two revisions in turn, so it uses only what users import. It works
on the database that --dsn names, makes the schema there, and prints one JSON object: rates, and the processor
time of this process and of the server for each job.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from server_time import find_postmaster, processor_seconds

from pgqueue import PgQueue

LARGE = 100_000
SMALL = 1000
"""Jobs in a call."""
Figures = dict[str, float]


class Meter:
    """Reads clocks around a phase."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], postmaster: int | None) -> None:
        self._connection = connection
        self._postmaster = postmaster
        self.figures: Figures = {}

    @asynccontextmanager
    async def phase(self, name: str, jobs: int) -> AsyncIterator[None]:
        """Measure what happens inside, from the same state of the tables each time."""
        await self._connection.execute("vacuum analyze")
        await self._connection.execute("checkpoint")
        server, client, started = self._server_seconds(), time.process_time(), time.perf_counter()
        yield
        self.figures[f"{name}_jobs_per_s"] = jobs / (time.perf_counter() - started)
        self.figures[f"{name}_client_cpu_us"] = (time.process_time() - client) / jobs * 1e6
        if self._postmaster is not None:
            self.figures[f"{name}_server_cpu_us"] = (self._server_seconds() - server) / jobs * 1e6

    def _server_seconds(self) -> float:
        return 0.0 if self._postmaster is None else processor_seconds(self._postmaster)


async def measure(dsn: str, *, jobs: int, singles: int, concurrency: int) -> Figures:
    """Go through the phases."""
    pgq = PgQueue(dsn)
    await pgq.migrate()
    watcher = await asyncpg.connect(dsn)
    meter = Meter(
        watcher,
        find_postmaster(
            await watcher.fetchval("select pg_backend_pid()"),
            await watcher.fetchval("select current_database()"),
        ),
    )

    @pgq.task
    async def noop(to: str, number: int, amount: float) -> None:
        """Do nothing."""

    calls = [noop.s("user@example.com", number, 1.5) for number in range(jobs)]
    async with pgq:
        await noop.enqueue("user@example.com", 0, 1.5)
        async with meter.phase("calls_of_1000", jobs):
            for start in range(0, jobs, SMALL):
                await pgq.enqueue_many(calls[start : start + SMALL])
        async with meter.phase("calls_of_100000", jobs):
            for start in range(0, jobs, LARGE):
                await pgq.enqueue_many(calls[start : start + LARGE])
        async with meter.phase("singles", singles):
            for number in range(singles):
                last = await noop.enqueue("user@example.com", number, 1.5)
        total = 1 + 2 * jobs + singles
        async with meter.phase("drain", total), pgq.worker(concurrency=concurrency):
            await last.result()
            # The last one to be claimed need not be the last one to end.
            while await watcher.fetchval("select exists (select from pgqueue.running)"):
                pass
        succeeded = await watcher.fetchval("select count(*) from pgqueue.job where status = 'succeeded'")
    await watcher.close()
    if succeeded != total:
        raise SystemExit(f"benchmark: {succeeded} of {total} jobs succeeded: nothing measured")
    return meter.figures


def main() -> None:
    """Read the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--jobs", type=int, default=50_000, help="in each way of bulk enqueue (%(default)s)")
    parser.add_argument("--singles", type=int, default=1000, help="enqueued one by one (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=100, help="of the worker (%(default)s)")
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    options = parser.parse_args()
    measuring = measure(
        options.dsn, jobs=options.jobs, singles=options.singles, concurrency=options.concurrency
    )
    if options.loop == "uvloop":
        import uvloop

        print(json.dumps(uvloop.run(measuring)))
    else:
        print(json.dumps(asyncio.run(measuring)))


if __name__ == "__main__":
    main()
