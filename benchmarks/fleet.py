"""What more worker processes on one database bring: their total rate, what they wait for, and empty claims.

Each count of processes drains as many jobs from a database of its own; the counts take turns in each round.
What the workers' connections wait for is looked at some twenty times a second: shares are of those looks
at which a connection was carrying a statement out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import common
import crew

LOOK_EVERY = 0.05
LOOK = """
select count(*) as busy,
       count(*) filter (where wait_event_type = 'Lock') as lock,
       count(*) filter (where wait_event_type = 'LWLock') as lwlock,
       count(*) filter (where wait_event_type = 'IO') as io
from pg_stat_activity
where datname = current_database() and backend_type = 'client backend' and state = 'active'
  and pid <> pg_backend_pid()
"""


async def watch(connection: asyncpg.Connection[asyncpg.Record], seen: list[asyncpg.Record]) -> None:
    """Note what the connections wait for, until cancelled."""
    while True:
        seen += await connection.fetch(LOOK)
        await asyncio.sleep(LOOK_EVERY)


def shares(seen: Sequence[asyncpg.Record]) -> common.Figures:
    """Return the shares of busy connections that waited."""
    busy = sum(look["busy"] for look in seen)
    return {
        f"waiting_for_{name}_share": sum(look[name] for look in seen) / busy if busy else 0.0
        for name in ("lock", "lwlock", "io")
    }


async def measure(dsn: str, processes: int, options: Any) -> common.Figures:
    """Drain jobs with so many processes."""
    connection = await asyncpg.connect(dsn)
    seen: list[asyncpg.Record] = []
    async with crew.workers(dsn, processes, concurrency=options.concurrency, loop=options.loop) as workers:
        drained = await crew.drain(
            dsn, workers, options.handler, options.jobs, beside=lambda: watch(connection, seen)
        )
    await connection.close()
    return {**drained, **shares(seen)}


def main() -> None:
    """Read the command line and measure."""
    parser = common.arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="drained by each fleet (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=100, help="of each process (%(default)s)")
    parser.add_argument(
        "--processes", type=common.numbers, default=[1, 2, 3, 4, 6, 8], help="how many, as 1,2,4"
    )
    parser.add_argument("--handler", choices=crew.HANDLERS, default="noop")
    options = parser.parse_args()

    async def benchmark() -> None:
        rounds: list[dict[common.Cell, common.Figures]] = []
        with common.server(options.dsn) as server:
            machine = await common.describe(server, options.loop)
            for _ in range(options.rounds):
                rounds.append({})
                for processes in options.processes:
                    async with common.database(server) as dsn:
                        rounds[-1][(("processes", processes),)] = await measure(dsn, processes, options)
        what = (
            f"fleet: {options.jobs:,} jobs that {crew.HANDLERS[options.handler]}, drained by so many worker "
            f"processes on one database, concurrency {options.concurrency} each"
        )
        common.report_cells(what, machine, rounds, as_json=options.json)

    common.run(options.loop, benchmark)


if __name__ == "__main__":
    main()
