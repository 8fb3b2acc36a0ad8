"""Whether the rate lasts while something holds the vacuum back: pgqueue and its peers, at full speed.

One process enqueues, so that the backlog stays about the same, and one worker process drains. Meanwhile
another connection holds nothing, a read-only snapshot, or a transaction that has an id and writes nothing.
What is counted are handlers that ran. Contestants and holders take turns, each with a database of its own.

* `first_jobs_per_s`, `last_jobs_per_s`: in the first and last minute, or half of the time if that is less.
* `last_to_first`: their ratio.
* `dead_rows`: in all tables of the database at the end, while still held, as `analyze` estimates them.
* `buffers_per_job_first`, `_last`: pages that all statements touched, a job, in the first and last interval.
* `claim_buffers_first`, `_last`: pages that a claim of a hundred jobs touches; pgqueue's alone.

`--json` has the rate of each interval as `series`, and dead rows by table, of the last round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import bare
import common
from contest import Board, Settings
from peers import (
    PEERS,
    STALLED,
    Contest,
    ContestantFailedError,
    Peer,
    Program,
    chosen,
    fresh_server,
    running,
)

from pgqueue.worker.claim.lanes import LATE

DEFAULT = "pgqueue,pgqueuer,awa"
"""The two fastest peers on PostgreSQL beside it."""
MINUTE = 60.0
CELLS_PER_SECOND = 400
"""Job numbers go round: a number's cell on the board counts to 255, which is enough for 100,000 jobs/s."""
WARM = 1000
"""Jobs before the time begins."""

HOLDERS: dict[str, tuple[str, ...]] = {
    "none": (),
    "snapshot": ("begin isolation level repeatable read, read only", "select count(*) from pg_class"),
    "xid": ("begin", "select pg_current_xact_id()"),
}
"""What the other connection does at first; then it is idle in its transaction."""

READ_DEAD_ROWS = """
select schemaname || '.' || relname as name, n_dead_tup as rows from pg_stat_user_tables where n_dead_tup > 0
"""
READ_PAGES = """
select coalesce(sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0)), 0)::bigint
from pg_statio_user_tables
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one moment."""

    second: float
    done: int
    pages: int
    claim_buffers: int | None


@dataclass(slots=True)
class Course:
    """What was seen of one contestant beside one holder."""

    samples: list[Sample] = field(default_factory=list)
    dead_rows: dict[str, int] = field(default_factory=dict)
    """By table, at the end."""

    def rates(self) -> list[tuple[float, float]]:
        """Return (second, jobs per second until then since the one before) of each interval."""
        pairs = zip(self.samples, self.samples[1:], strict=False)
        return [
            (late.second, (late.done - early.done) / (late.second - early.second)) for early, late in pairs
        ]

    def figures(self) -> common.Figures:
        """Return what comes of it."""
        first, last = self.samples[0], self.samples[-1]
        window = min(MINUTE, (last.second - first.second) / 2)
        beginning = next(each for each in self.samples if each.second >= first.second + window)
        end = next(each for each in reversed(self.samples) if each.second <= last.second - window)
        figures = {
            "first_jobs_per_s": (beginning.done - first.done) / (beginning.second - first.second),
            "last_jobs_per_s": (last.done - end.done) / (last.second - end.second),
            "dead_rows": float(sum(self.dead_rows.values())),
            "buffers_per_job_first": _pages_per_job(first, self.samples[1]),
            "buffers_per_job_last": _pages_per_job(self.samples[-2], last),
        }
        figures["last_to_first"] = figures["last_jobs_per_s"] / figures["first_jobs_per_s"]
        if self.samples[1].claim_buffers is not None and last.claim_buffers is not None:
            figures["claim_buffers_first"] = self.samples[1].claim_buffers
            figures["claim_buffers_last"] = last.claim_buffers
        return figures


def _pages_per_job(early: Sample, late: Sample) -> float:
    return (late.pages - early.pages) / max(1, late.done - early.done)


@asynccontextmanager
async def held(dsn: str, statements: Sequence[str]) -> AsyncIterator[None]:
    """Hold on another connection what *statements* begin."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
        yield
    finally:
        connection.terminate()


class Looker:
    """Looks at a database and a board, from time to time."""

    def __init__(self, dsn: str, board: Board, *, is_pgqueue: bool) -> None:
        self._dsn = dsn
        self._board = board
        self._is_pgqueue = is_pgqueue

    def done(self) -> int:
        """Count the handlers that ran."""
        return self._board.ran_in_all()

    async def look(self, second: float) -> Sample:
        """Return what is to be seen now."""
        done = self.done()
        connection = await asyncpg.connect(self._dsn)
        try:
            pages = await connection.fetchval(READ_PAGES)
        finally:
            await connection.close()
        buffers = await self._claim_buffers(done) if self._is_pgqueue else None
        return Sample(second, done, pages, buffers)

    async def count_dead_rows(self) -> dict[str, int]:
        """Return how many there are in which table, by a new estimate of the server's."""
        connection = await asyncpg.connect(self._dsn)
        try:
            # What it goes by otherwise counts rows that went without a vacuum, too.
            await connection.execute("analyze")
            return {row["name"]: row["rows"] for row in await connection.fetch(READ_DEAD_ROWS)}
        finally:
            await connection.close()

    async def _claim_buffers(self, done: int) -> int:
        """Return the buffers of a claim from about where the worker claims."""
        # Positions count the jobs, and the worker is a little further than what is done.
        position = max(0, done - LATE)
        async with bare.connect(self._dsn, durable=False) as connection, bare.lease(connection) as lease_id:
            return await bare.claim_buffers(connection, lease_id, [(bare.LANE, position)])


async def watch(program: Program, board: Board, *, seconds: float, every: float) -> Course:
    """Have *program* enqueue and drain for so long; return what was seen meanwhile."""
    course = Course()
    looker = Looker(program.settings.url, board, is_pgqueue=program.peer.name == "pgqueue")
    async with running(await program.start("work")) as worker, running(await program.start("feed")) as feeder:
        await _moves(looker, program, beyond=WARM)
        started = time.monotonic()
        course.samples.append(await looker.look(0.0))
        while course.samples[-1].second < seconds:
            await asyncio.sleep(started + every * len(course.samples) - time.monotonic())
            for process in (worker, feeder):
                if process.returncode is not None:
                    raise program.failure(f"it ended with {process.returncode}")
            course.samples.append(await looker.look(time.monotonic() - started))
    course.dead_rows = await looker.count_dead_rows()
    if course.samples[-1].done == course.samples[-2].done:
        raise program.failure("no job ran at the end")
    return course


async def _moves(looker: Looker, program: Program, *, beyond: int) -> None:
    deadline = time.monotonic() + STALLED
    while looker.done() < beyond:
        if time.monotonic() > deadline:
            raise program.failure(f"{looker.done()} jobs ran in the first {STALLED:g} s")
        await asyncio.sleep(0.02)


class Horizon:
    """What came of it, by contestant and holder."""

    def __init__(self, contest: Contest, *, seconds: float, every: float, loop: str) -> None:
        self.contest = contest
        self._seconds = seconds
        self._every = every
        self._loop = loop
        self.rounds: list[dict[str, Course]] = []

    async def one_round(self, postgresql: str) -> None:
        """Have each contestant run beside each holder; each comes first in one round."""
        courses: dict[str, Course] = {}
        peers = self.contest.peers
        first = len(self.rounds) % len(peers)
        for holder in HOLDERS:
            for peer in [*peers[first:], *peers[:first]]:
                if peer.name in self.contest.failures:
                    continue
                try:
                    courses[f"{peer.name}/{holder}"] = await self._run(peer, holder, postgresql)
                except ContestantFailedError as error:
                    # What it did before is not the same work: it has no figures.
                    self.contest.failures[peer.name] = str(error)
        self.rounds.append(courses)

    async def _run(self, peer: Peer, holder: str, postgresql: str) -> Course:
        cells = max(20_000, int(CELLS_PER_SECOND * self._seconds))
        with tempfile.TemporaryDirectory(prefix="pgqueue-horizon-") as folder:
            async with fresh_server(peer, postgresql) as url:
                file = Path(folder) / "board"
                settings = Settings(url, str(file), cells, self._loop)
                program = Program(peer, self.contest.pythons[peer.name], settings, Path(folder) / "log")
                board = Board.create(file, cells)
                await program.prepare()
                async with held(url, HOLDERS[holder]):
                    return await watch(program, board, seconds=self._seconds, every=self._every)

    def report(self, what: str, machine: dict[str, object], *, as_json: bool) -> None:
        """Print the figures, and the rates of the last round."""
        failed = self.contest.failures
        rounds = [
            {name: course for name, course in courses.items() if name.partition("/")[0] not in failed}
            for courses in self.rounds
        ]
        figures = [
            {
                f"{name}/{figure}": value
                for name, course in each.items()
                for figure, value in course.figures().items()
            }
            for each in rounds
        ]
        series = {name: course.rates() for name, course in rounds[-1].items()}
        if as_json:
            whole = {
                "benchmark": what,
                "machine": machine,
                "versions": self.contest.versions,
                "median": {name: statistics.median(each[name] for each in figures) for name in figures[0]},
                "rounds": figures,
                "series": series,
                "dead_rows": {name: course.dead_rows for name, course in rounds[-1].items()},
                "failed": failed,
            }
            print(json.dumps(whole))
            return
        common.report(what, machine, figures, as_json=False)
        for name, rates in series.items():
            print(f"  {name}, jobs/s: " + " ".join(f"{rate:,.0f}" for _, rate in rates))
        for name, why in failed.items():
            print(f"  {name}: NOT MEASURED: {why}")


def command_line() -> argparse.Namespace:
    """Read the command line."""
    parser = common.arguments(__doc__)
    parser.set_defaults(rounds=1)
    parser.add_argument("--seconds", type=float, default=300.0, help="beside each holder (%(default)s)")
    parser.add_argument("--every", type=float, default=10.0, help="seconds of an interval (%(default)s)")
    parser.add_argument(
        "--only", help=f"names of contestants, with commas; each has to succeed ({DEFAULT} if not given)"
    )
    parser.add_argument(
        "--environments", type=Path, help="where their environments are kept; a temporary folder if not given"
    )
    options = parser.parse_args()
    if options.seconds < 2 * options.every:
        parser.error("--seconds: two intervals at least")
    return options


async def benchmark(options: argparse.Namespace, environments: Path) -> Contest:
    """Measure, and report."""
    contest = Contest(chosen(PEERS, options.only or DEFAULT))
    if redis := [peer.name for peer in contest.peers if peer.server == "redis"]:
        sys.exit(f"benchmark: nothing measured: {', '.join(redis)}: no PostgreSQL, so nothing to hold")
    horizon = Horizon(contest, seconds=options.seconds, every=options.every, loop=options.loop)
    with common.server(options.dsn) as postgresql:
        machine = await common.describe(postgresql, options.loop)
        contest.install(environments)
        for _ in range(options.rounds):
            await horizon.one_round(postgresql)
    what = (
        f"horizon: no-op jobs enqueued by one process and drained by one worker process, concurrency 100, "
        f"for {options.seconds:g} s beside each holder"
    )
    horizon.report(what, machine, as_json=options.json)
    return contest


def main() -> None:
    """Read the command line, measure, and fail if one that was named did."""
    options = command_line()

    async def run() -> None:
        with tempfile.TemporaryDirectory(prefix="pgqueue-environments-") as folder:
            contest = await benchmark(options, (options.environments or Path(folder)).resolve())
        measured = [peer for peer in contest.peers if peer.name not in contest.failures]
        if contest.failures and (options.only or not measured):
            sys.exit(f"benchmark: not measured: {', '.join(contest.failures)}")

    # Contestants run on the loop that was asked for; this only watches them.
    common.run("asyncio", run)


if __name__ == "__main__":
    main()
