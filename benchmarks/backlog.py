"""What a claim costs and what one worker drains, with jobs pending, scheduled and kept, and many queues.

Each case has a database of its own, beside one with the smallest backlog and one queue. In each round the
same number of jobs is added to both and drained in both, in turn; the ratio is of rates of the same round.
The backlog is what stays pending behind them. Rates are of a worker that has warmed up. The buffers are
those of a claim of a hundred jobs as the worker would make it next, carried out and undone.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import asyncpg
import bare
import common
from counting import Counter

from pgqueue import PgQueue
from pgqueue.store import Store
from pgqueue.worker.claim.lanes import LaneBook

CHUNK = 100_000
_HOUR = 3600.0

MAKE_QUEUES = "insert into pgqueue.lane (queue, priority) select unnest($1::text[]), 0 on conflict do nothing"
FILL_PENDING = """
with lanes as materialized (select array_agg(id) as ids from pgqueue.lane where queue = any($2::text[])),
new as (
    insert into pgqueue.job (id, lane, task, arguments)
    select pgqueue.uuid7(), lanes.ids[1 + n % cardinality(lanes.ids)], 'noop', $3
    from lanes, generate_series(1, $1::integer) as n
    returning id, lane
)
insert into pgqueue.ready (job_id, lane) select id, lane from new
"""
FILL_SCHEDULED = """
with new as (
    insert into pgqueue.job (id, lane, task, arguments, run_at)
    select pgqueue.uuid7(), 1, 'noop', $2, now() + interval '1 year' from generate_series(1, $1::integer)
    returning id, lane, run_at
)
insert into pgqueue.scheduled (job_id, scheduled_at, lane) select id, run_at, lane from new
"""
FILL_FINISHED = """
insert into pgqueue.job (id, lane, task, arguments, status, attempt, started_at, completed_at, worker, result)
select pgqueue.uuid7(), 1, 'noop', $2, 'succeeded', 1, now(), now(), 'worker', 'null'
from generate_series(1, $1::integer)
"""


@dataclass(frozen=True, slots=True)
class Case:
    """What is in a database while its worker drains."""

    pending: int
    scheduled: int = 0
    finished: int = 0
    served: int = 1
    """Queues that the worker serves."""
    busy: int = 1
    """... and those of them that have jobs."""

    @property
    def queues(self) -> list[str]:
        """The names of the queues that the worker serves, busy ones first."""
        return ["default", *(f"queue-{number:04}" for number in range(1, self.served))]


class Scene:
    """A database of a case."""

    def __init__(self, dsn: str, case: Case, connection: bare.Connection) -> None:
        self._dsn = dsn
        self._case = case
        self._connection = connection

    async def fill(self) -> None:
        """Put in what the case says."""
        await self._connection.execute(MAKE_QUEUES, self._case.queues)
        await self._repeat(FILL_FINISHED, self._case.finished)
        await self._repeat(FILL_SCHEDULED, self._case.scheduled)
        await self._add(self._case.pending)

    async def drain(self, jobs: int, concurrency: int) -> float:
        """Add *jobs* jobs and some to warm up, drain as many with one worker; return jobs per second."""
        warm_up = max(concurrency, jobs // 10)
        await self._add(warm_up + jobs)
        # What follows starts from the same state of the tables each time.
        await self._connection.execute("vacuum analyze", timeout=_HOUR)
        await self._connection.execute("checkpoint", timeout=_HOUR)
        pgq, counter = PgQueue(self._dsn), Counter()
        counter.declare(pgq)
        async with pgq, pgq.worker(queues=self._case.queues, concurrency=concurrency):
            await counter.wait_until(warm_up)
            first, started = counter.count, time.perf_counter()
            await counter.wait_until(warm_up + jobs)
            rate = (counter.count - first) / (time.perf_counter() - started)
        # Until it had stopped it went on.
        await self._add(counter.count - warm_up - jobs)
        return rate

    async def claim_buffers(self) -> int:
        """Return the buffers of the next claim."""
        store, book = Store("pgqueue"), LaneBook()
        async with bare.connect(self._dsn, durable=False) as connection, bare.lease(connection) as lease_id:
            book.learn(await store.find_lanes(connection, self._case.queues, ["noop"]))
            book.swept(await store.sweep(connection, book.ids), book.ids)
            return await bare.claim_buffers(connection, lease_id, book.walk())

    async def _add(self, jobs: int) -> None:
        await self._repeat(FILL_PENDING, jobs, self._case.queues[: self._case.busy])

    async def _repeat(self, sql: str, count: int, *arguments: object) -> None:
        for first in range(0, count, CHUNK):
            await self._connection.execute(
                sql, min(CHUNK, count - first), *arguments, bare.ARGUMENTS, timeout=_HOUR
            )


@asynccontextmanager
async def scene(server: str, case: Case) -> AsyncIterator[Scene]:
    """Make a database for *case*, and drop it afterwards."""
    async with common.database(server) as dsn:
        connection = await asyncpg.connect(
            dsn, server_settings={"pgqueue.writer": "on", "synchronous_commit": "off"}
        )
        try:
            made = Scene(dsn, case, connection)
            await made.fill()
            yield made
        finally:
            await connection.close()


async def measure(small: Scene, other: Scene, *, jobs: int, concurrency: int, turn: int) -> common.Figures:
    """Drain in both, in turn."""
    rates, buffers = {}, {}
    for each in (small, other) if turn % 2 else (other, small):
        rates[each] = await each.drain(jobs, concurrency)
        buffers[each] = await each.claim_buffers()
    return {
        "jobs_per_s": rates[other],
        "to_smallest": rates[other] / rates[small],
        "claim_buffers": buffers[other],
        "claim_buffers_smallest": buffers[small],
    }


def cases_of(
    pending: list[int], scheduled: list[int], finished: list[int], queues: list[int]
) -> tuple[Case, dict[str, Case]]:
    """Return the smallest case, and those to be measured beside it, by name."""
    smallest = Case(pending=min(pending))
    cases = {f"pending_{count}": Case(pending=count) for count in sorted(pending)}
    cases |= {f"scheduled_{count}": replace(smallest, scheduled=count) for count in scheduled}
    cases |= {f"finished_{count}": replace(smallest, finished=count) for count in finished}
    cases |= {f"queues_{count}": replace(smallest, served=count, busy=count) for count in queues}
    cases |= {f"queues_{count}_one_busy": replace(smallest, served=count) for count in queues if count > 1}
    return smallest, cases


def main() -> None:
    """Read the command line and measure."""
    parser = common.arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=50_000, help="drained in each turn (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=100)
    sizes = [
        ("pending", [1000, 100_000, 1_000_000, 10_000_000], "jobs that stay pending"),
        ("scheduled", [10_000_000], "jobs that wait for next year"),
        ("finished", [10_000_000], "jobs that have ended and are kept"),
        ("queues", [1, 10, 100, 1000], "queues that the worker serves"),
    ]
    for name, default, what in sizes:
        parser.add_argument(f"--{name}", type=int, nargs="*", default=default, help=f"{what} (%(default)s)")
    options = parser.parse_args()
    if not options.pending:
        parser.error("--pending: one at least, the smallest is what all others are compared with")
    smallest, cases = cases_of(options.pending, options.scheduled, options.finished, options.queues)

    async def benchmark() -> None:
        rounds: list[common.Figures] = [{} for _ in range(options.rounds)]
        with common.server(options.dsn) as server:
            machine = await common.describe(server, options.loop)
            async with scene(server, smallest) as small:
                for name, case in cases.items():
                    async with scene(server, case) as other:
                        for turn, figures in enumerate(rounds):
                            measured = await measure(
                                small, other, jobs=options.jobs, concurrency=options.concurrency, turn=turn
                            )
                            figures |= {f"{name}_{what}": value for what, value in measured.items()}
        what = (
            f"backlog: {options.jobs:,} no-op jobs drained by one worker, concurrency {options.concurrency}, "
            f"beside a database with {smallest.pending:,} pending jobs in one queue"
        )
        common.report(what, machine, rounds, as_json=options.json)

    common.run(options.loop, benchmark)


if __name__ == "__main__":
    main()
