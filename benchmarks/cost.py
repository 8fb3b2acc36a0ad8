"""What a job costs on both sides: WAL bytes, commits, statements and processor time, and the room it keeps.

Three phases, each from a checkpoint on: jobs enqueued in bulk, jobs enqueued one by one, and both drained by
one worker process. What the server does by itself meanwhile (autovacuum, statistics) is part of it. WAL
contains whole pages after a checkpoint, so its bytes per job are those of a run as long as this one.

The server's processor time is read from /proc, so for a server on this machine alone. Statements are those of
pg_stat_statements, which the embedded server has and which costs some time itself; of another server where
it is loaded. What cannot be read is left out.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import common
import crew
from server_time import find_postmaster, processor_seconds

from pgqueue.database.sql import load_statements
from pgqueue.embedded import embedded_server

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

COMMENT = re.compile(r"--[^\n]*")
CONSTANT = re.compile(r"'(?:[^']|'')*'|\$\d+|\b\d+(?:\.\d+)?\b|\b(?:null|true|false|epoch)\b")
PRINTED = 6
"""Statements of each phase in the table; JSON has them all."""
GONE_WITHIN = 30.0
"""Seconds that the server has to end closed connections: until then their statistics are not all there."""

READ = """
select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 as wal_bytes,
       (select wal_records from pg_stat_wal)::float8 as wal_records,
       (select wal_fpi from pg_stat_wal)::float8 as wal_whole_pages,
       (select xact_commit from pg_stat_database where datname = current_database())::float8 as commits
"""
OTHERS = """
select count(*) from pg_stat_activity
where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
"""
STATEMENTS = """
select query, calls::float8 as calls, total_exec_time as ms, wal_bytes::float8 as wal_bytes
from pg_stat_statements
where dbid = (select oid from pg_database where datname = current_database())
"""
KEPT = """
select sum(pg_total_relation_size(relid))::float8
from pg_partition_tree('pgqueue.job')
where isleaf
"""


@dataclass(slots=True)
class Phase:
    """What one phase has cost in all."""

    jobs: int
    figures: common.Figures = field(default_factory=dict)
    statements: dict[str, common.Figures] = field(default_factory=dict)
    """By the statement's name: calls and milliseconds per 1,000 jobs, WAL bytes per job."""


@contextmanager
def server(dsn: str | None) -> Iterator[str]:
    """Yield the DSN of a server: the given one, or an embedded one that counts statements."""
    if dsn is not None:
        yield dsn
        return
    with tempfile.TemporaryDirectory(prefix="pgqueue-") as folder:
        data = Path(folder) / "data"
        with embedded_server(data):
            pass
        with (data / "postgresql.conf").open("a", encoding="utf-8") as settings:
            settings.write("shared_preload_libraries = 'pg_stat_statements'\n")
        with embedded_server(data) as embedded:
            yield embedded


class Meter:
    """Reads what a server has done: the differences are what a phase has cost."""

    def __init__(self, connection: Connection, postmaster: int | None, *, counts_statements: bool) -> None:
        self._connection = connection
        self._postmaster = postmaster
        self._counts_statements = counts_statements

    @asynccontextmanager
    async def phase(self, jobs: int) -> AsyncIterator[Phase]:
        """Measure what happens inside, which leaves no connection open."""
        phase = Phase(jobs)
        await self._connection.execute("vacuum analyze", timeout=3600)
        await self._connection.execute("checkpoint", timeout=3600)
        if self._counts_statements:
            await self._connection.execute("select pg_stat_statements_reset()")
        before, started = await self._read(), time.monotonic()
        yield phase
        seconds = time.monotonic() - started
        await self._wait_alone()
        after = await self._read()
        spent = {name: (after[name] - before[name]) / jobs for name in after}
        phase.figures = {
            "jobs_per_s": jobs / seconds,
            "wal_bytes_per_job": spent["wal_bytes"],
            "wal_records_per_job": spent["wal_records"],
            "whole_pages_per_1000_jobs": 1000 * spent["wal_whole_pages"],
            "commits_per_1000_jobs": 1000 * spent["commits"],
            "client_cpu_us_per_job": 1e6 * spent["client_seconds"],
        }
        if "server_seconds" in spent:
            phase.figures["server_cpu_us_per_job"] = 1e6 * spent["server_seconds"]
        if self._counts_statements:
            phase.statements = by_name(await self._connection.fetch(STATEMENTS), jobs)
            calls = sum(each["calls_per_1000_jobs"] for each in phase.statements.values())
            phase.figures["statements_per_1000_jobs"] = calls

    async def _read(self) -> common.Figures:
        [row] = await self._connection.fetch(READ)
        own, ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        client = sum(each.ru_utime + each.ru_stime for each in (own, ended))
        figures: common.Figures = {**row, "client_seconds": client}
        if self._postmaster is not None:
            figures["server_seconds"] = processor_seconds(self._postmaster)
        return figures

    async def _wait_alone(self) -> None:
        async with asyncio.timeout(GONE_WITHIN):
            while True:
                if not await self._connection.fetchval(OTHERS):
                    return
                await asyncio.sleep(0.05)


def by_name(rows: Sequence[asyncpg.Record], jobs: int) -> dict[str, common.Figures]:
    """Return what each of pgqueue's statements has cost, the dearest first; all others are `other`."""
    names = {shape_of(sql): name for name, sql in load_statements("pgqueue").items()}
    statements: dict[str, common.Figures] = {}
    for row in sorted(rows, key=lambda row: -row["ms"]):
        sums = statements.setdefault(
            names.get(shape_of(row["query"]), "other"),
            {"calls_per_1000_jobs": 0.0, "ms_per_1000_jobs": 0.0, "wal_bytes_per_job": 0.0},
        )
        sums["calls_per_1000_jobs"] += 1000 * row["calls"] / jobs
        sums["ms_per_1000_jobs"] += 1000 * row["ms"] / jobs
        sums["wal_bytes_per_job"] += row["wal_bytes"] / jobs
    return statements


def shape_of(sql: str) -> str:
    """Return a statement without what pg_stat_statements leaves out of it: comments and constants."""
    return " ".join(CONSTANT.sub("?", COMMENT.sub(" ", sql)).split()).rstrip("; ")


# The phases


async def measure(dsn: str, options: Any) -> dict[str, Phase]:
    """Go through the phases; return each by its name."""
    singles = max(1, options.jobs // 20)
    connection = await asyncpg.connect(dsn)
    counts_statements = "pg_stat_statements" in await connection.fetchval("show shared_preload_libraries")
    if counts_statements:
        await connection.execute("create extension if not exists pg_stat_statements")
    postmaster = find_postmaster(
        await connection.fetchval("select pg_backend_pid()"),
        await connection.fetchval("select current_database()"),
    )
    meter = Meter(connection, postmaster, counts_statements=counts_statements)

    async with meter.phase(options.jobs) as bulk, crew.make_queue(dsn) as pgq:
        for first in range(0, options.jobs, crew.BATCH):
            await pgq.enqueue_many(crew.calls(pgq, "noop", min(crew.BATCH, options.jobs - first)))
    async with meter.phase(singles) as single, crew.make_queue(dsn) as pgq:
        for call in crew.calls(pgq, "noop", singles):
            await pgq.enqueue(call)
    jobs = options.jobs + singles
    async with (
        meter.phase(jobs) as drain,
        crew.workers(dsn, 1, concurrency=options.concurrency, loop=options.loop) as workers,
    ):
        await crew.wait_finished(workers, jobs)
    succeeded = await connection.fetchval("select count(*) from pgqueue.job where status = 'succeeded'")
    if succeeded != jobs:
        raise SystemExit(f"benchmark: {succeeded} of {jobs} jobs succeeded: nothing measured")
    drain.figures["kept_bytes_per_job"] = await connection.fetchval(KEPT) / jobs
    await connection.close()
    return {"enqueue_bulk": bulk, "enqueue_single": single, "drain": drain}


def report(what: str, machine: dict[str, object], rounds: Sequence[dict[str, Phase]], options: Any) -> None:
    """Print the figures of each phase, and what each statement had of them in the last round."""
    flat = [
        {f"{name}_{figure}": value for name, phase in each.items() for figure, value in phase.figures.items()}
        for each in rounds
    ]
    statements = {name: phase.statements for name, phase in rounds[-1].items()}
    if options.json:
        medians = {name: statistics.median(each[name] for each in flat) for name in flat[0]}
        shape = {"benchmark": what, "machine": machine, "median": medians, "rounds": flat}
        print(json.dumps({**shape, "statements": statements}))
        return
    common.report(what, machine, flat, as_json=False)
    heads = f"{'calls':>12} {'ms':>12} {'WAL bytes':>12}   of 1,000 jobs; WAL bytes of one"
    print(f"  {'dearest statements, last round':<34} {heads}")
    for phase, named in statements.items():
        for name, sums in islice(named.items(), PRINTED):
            calls, milliseconds, wal = sums.values()
            print(f"  {f'{phase}: {name}':<34} {calls:>12,.2f} {milliseconds:>12,.2f} {wal:>12,.1f}")


def main() -> None:
    """Read the command line and measure."""
    parser = common.arguments(__doc__)
    parser.add_argument(
        "--jobs", type=int, default=100_000, help="in bulk, and a twentieth one by one (%(default)s)"
    )
    parser.add_argument("--concurrency", type=int, default=100)
    options = parser.parse_args()

    async def benchmark() -> None:
        with server(options.dsn) as its_dsn:
            machine = await common.describe(its_dsn, options.loop)
            rounds = []
            for _ in range(options.rounds):
                async with common.database(its_dsn) as dsn:
                    rounds.append(await measure(dsn, options))
        what = f"cost: {options.jobs:,} no-op jobs, one worker, concurrency {options.concurrency}"
        report(what, machine, rounds, options)

    common.run(options.loop, benchmark)


if __name__ == "__main__":
    main()
