"""What workflows cost beside plain jobs: links of a chain, a chord's submission, members, body and bytes.

Each part compares in turn, in one run, and prints the ratio beside its bar, and whether that is met. `--only`
names parts.

* `chain`: the time from one link's start to the next one's, over a plain job's from the call to its start;
  one idle worker process.
* `submit`: the call that enqueues a chord over `enqueue_many` of as many calls, both already made.
* `drain`: the rate at which a chord's members end over that of as many plain jobs of the same task, by worker
  processes; at the disk's own speed, and with commits that take 3 ms (`commit_delay = 3000,
  commit_siblings = 0`).
* `body`: from the end of a chord's last member to the start of its body, which takes the list of results.
  Chords run one after the other; those of all rounds are taken together.
* `storage`: bytes a job, indexes and all: one chord beside a hundred smaller ones; one of depth 6 beside the
  flat one, and beside many smaller ones of depth 6. Once written, and once all have ended.

* `sleepers`: the rate of plain jobs and the memory of their worker beside a million durable functions that
  sleep, over the same with none; a new database and a new worker for each.

`workflow_peers.py` runs the same chord and chain through others.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import common
import crew
import latency
import parts
import workflow_storage

from pgqueue import PgQueue, chain

PATIENCE = 600.0
SLEEPERS = """
    with added as (
        insert into pgqueue.job (id, lane, task, arguments)
        select pgqueue.uuid7(), (select min(id) from pgqueue.lane), 'sleeper', '{}'
        from generate_series(1, $1)
        returning id, lane
    )
    insert into pgqueue.blocked (job_id, lane, attempt, losses, position, wake_at)
    select id, lane, 0, 0, nextval('pgqueue.position'), now() + interval '1 day' from added
"""
QUICK = {
    "rounds": 1,
    "processes": [1],
    "links": 20,
    "pings": 2,
    "members": 300,
    "chords": 2,
    "of": 50,
    "depth": 2,
    "turns": 1,
    "sleepers": 2000,
}

BARS = {
    "link_to_plain": (None, 2.0),
    "submit_to_enqueue_many": (None, 1.5),
    "disk_*_members_to_plain": (0.4, None),
    "3ms_*_members_to_plain": (0.5, None),
    "*_body_ms_p50": (None, 20.0),
    "*_body_ms_p99": (None, 1000.0),
    "sleepers_rate_to_none": (0.95, None),
    "sleepers_memory_to_none": (None, 1.05),
    "*_one_to_hundred": (0.9, 1.1),
    "*_nested_to_many_nested": (0.9, 1.1),
}
"""The least and the most that a figure may be, by its name, with wildcards."""


async def measure_chain(server: str, options: argparse.Namespace, _number: int) -> common.Figures:
    """Time the links of a chain between plain jobs that are picked up one by one."""
    async with common.database(server) as dsn, crew.workers(dsn, 1, concurrency=100, loop=options.loop):
        before = await latency.one_by_one(dsn, options.pings)
        async with crew.make_queue(dsn) as pgq:
            links = [pgq.signature("link", 0.0), *[pgq.signature("link")] * (options.links - 1)]
            await (await chain(*links).enqueue()).result(timeout=PATIENCE)
        async with common.connected(dsn) as watcher:
            rows = await watcher.fetch("select result from pgqueue.job where task = 'link' order by id")
        after = await latency.one_by_one(dsn, options.pings)
    starts = [float(row["result"]) for row in rows]
    steps = [(later - earlier) * 1000 for earlier, later in pairwise(starts)]
    plain = statistics.mean(each["pickup_ms_p50"] for each in (before, after))
    return {
        "link_to_plain": statistics.median(steps) / plain,
        "link_ms_p50": statistics.median(steps),
        "link_ms_mean": statistics.mean(steps),
        "link_ms_p99": common.percentile(steps, 0.99),
        "plain_ms_p50": plain,
    }


async def measure_submit(server: str, options: argparse.Namespace, number: int) -> common.Figures:
    """Enqueue as many plain jobs and a chord in turn; nobody works."""
    seconds: dict[str, list[float]] = {"plain": [], "chord": []}
    async with common.database(server) as dsn, crew.make_queue(dsn) as pgq:
        for turn in range(options.turns):
            for what in parts.in_turn(number + turn, "plain", "chord"):
                calls = crew.calls(pgq, "member", options.members)
                await parts.settle(dsn)
                started = time.perf_counter()
                if what == "plain":
                    await pgq.enqueue_many(calls)
                else:
                    await crew.chord_of(pgq, calls).enqueue()
                seconds[what].append(time.perf_counter() - started)
    chord_seconds, plain_seconds = statistics.median(seconds["chord"]), statistics.median(seconds["plain"])
    return {
        "submit_to_enqueue_many": chord_seconds / plain_seconds,
        "submit_ms": chord_seconds * 1000,
        "enqueue_many_ms": plain_seconds * 1000,
    }


async def measure_drain(server: str, options: argparse.Namespace, number: int) -> common.Figures:
    """Drain a chord's members and as many plain jobs in turn, in each cell."""
    figures: common.Figures = {}
    for commits, settings in parts.COMMITS.items():
        for processes in options.processes:
            async with common.database(server) as dsn:
                if not await parts.set_for_all(dsn, settings):
                    continue
                async with crew.workers(
                    dsn, processes, concurrency=options.concurrency, loop=options.loop
                ) as workers:
                    # Statements are prepared, pages are there.
                    await crew.drain(dsn, workers, "member", max(100, options.members // 10))
                    rates = {
                        what: await drain(dsn, workers, options.members, is_chord=what == "chord")
                        for what in parts.in_turn(number, "plain", "chord")
                    }
            cell = f"{commits}_{processes}"
            figures[f"{cell}_members_to_plain"] = rates["chord"] / rates["plain"]
            figures[f"{cell}_members_per_s"] = rates["chord"]
            figures[f"{cell}_plain_per_s"] = rates["plain"]
    return figures


async def drain(dsn: str, workers: Sequence[Any], members: int, *, is_chord: bool) -> float:
    """Drain a chord's members, or as many plain jobs; return how many ended a second.

    They say themselves when they ended, so the time of a chord's body is not in it.
    """

    async def enqueue(pgq: PgQueue) -> None:
        calls = crew.calls(pgq, "member", members)
        if is_chord:
            await crew.chord_of(pgq, calls).enqueue()
        else:
            await pgq.enqueue_many(calls)

    began_at = time.monotonic()
    await crew.drain_what(dsn, workers, enqueue, members + is_chord)
    async with common.connected(dsn) as watcher:
        ended = await watcher.fetchrow(
            "select max(ended_at) - min(ended_at) as seconds, count(*) as jobs from ("
            "  select (result #>> '{}')::float8 as ended_at from pgqueue.job where task = 'member'"
            ") as member where ended_at > $1",
            began_at,
        )
    assert ended is not None
    assert ended["jobs"] == members
    return members / float(ended["seconds"])


async def measure_body(server: str, options: argparse.Namespace, _number: int) -> dict[int, list[float]]:
    """Run chords one after the other; return, by worker processes, the milliseconds before their bodies."""
    gaps: dict[int, list[float]] = {}
    for processes in options.processes:
        async with (
            common.database(server) as dsn,
            crew.workers(dsn, processes, concurrency=options.concurrency, loop=options.loop),
            crew.make_queue(dsn) as pgq,
        ):
            calls = crew.calls(pgq, "member", options.of)
            gaps[processes] = []
            for _ in range(-(-options.chords // options.rounds)):
                handle = await crew.chord_of(pgq, calls).enqueue()
                gaps[processes].append(await handle.result(timeout=PATIENCE) * 1000)
    return gaps


def body_figures(rounds: Sequence[Mapping[int, Sequence[float]]]) -> common.Figures:
    """Return the figures of all rounds' chords together."""
    figures: common.Figures = {}
    for processes in rounds[0]:
        gaps = [gap for each in rounds for gap in each[processes]]
        figures[f"{processes}_body_ms_p50"] = common.percentile(gaps, 0.5)
        figures[f"{processes}_body_ms_p99"] = common.percentile(gaps, 0.99)
        figures[f"{processes}_body_ms_max"] = max(gaps)
    return figures


async def measure_storage(server: str, options: argparse.Namespace, _number: int) -> common.Figures:
    """Write workflows of different shapes, and run them."""
    return await workflow_storage.measure(server, members=options.members, depth=options.depth)


async def measure_sleepers(server: str, options: argparse.Namespace, number: int) -> common.Figures:
    """Drain plain jobs beside very many jobs that wait for a time, and beside none."""
    rates: dict[str, float] = {}
    memory: dict[str, float] = {}
    for what in parts.in_turn(number, "none", "many"):
        async with (
            common.database(server) as dsn,
            crew.workers(dsn, 1, concurrency=options.concurrency, loop=options.loop) as workers,
        ):
            # Statements are prepared, the lane is there.
            await crew.drain(dsn, workers, "noop", max(100, options.members // 10))
            if what == "many":
                async with common.connected(dsn) as connection:
                    await connection.execute(SLEEPERS, options.sleepers, timeout=PATIENCE)
            drained = await crew.drain(dsn, workers, "noop", options.members)
            rates[what] = drained["jobs_per_s"]
            memory[what] = resident_mib(workers[0].pid)
    return {
        "sleepers_rate_to_none": rates["many"] / rates["none"],
        "sleepers_memory_to_none": memory["many"] / memory["none"],
        "beside_sleepers_per_s": rates["many"],
        "beside_none_per_s": rates["none"],
        "worker_mib_beside_sleepers": memory["many"],
    }


def resident_mib(pid: int) -> float:
    """Return how much memory a process has."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


PARTS: dict[str, parts.Measure] = {
    "chain": measure_chain,
    "submit": measure_submit,
    "drain": measure_drain,
    "body": measure_body,
    "storage": measure_storage,
    "sleepers": measure_sleepers,
}
ONCE = {"storage"}
"""Parts whose figures do not depend on the machine's day."""


async def measure(server: str, options: argparse.Namespace) -> dict[str, list[common.Figures]]:
    """Go through the parts in each round; return each one's rounds."""
    rounds = await parts.measure(PARTS, server, options, once=ONCE)
    if "body" in rounds:
        rounds["body"] = [body_figures(rounds["body"])]
    return rounds


def command_line() -> argparse.Namespace:
    """Read the command line."""
    parser = common.arguments(__doc__, rounds=5)
    parts.add_only(parser, PARTS)
    parser.add_argument("--links", type=int, default=1000, help="of the chain (%(default)s)")
    parser.add_argument("--pings", type=int, default=100, help="plain jobs before and after it (%(default)s)")
    parser.add_argument("--members", type=int, default=10_000, help="of the large chord (%(default)s)")
    parser.add_argument(
        "--chords", type=int, default=1000, help="whose body is timed, in all rounds (%(default)s)"
    )
    parser.add_argument("--of", type=int, default=1000, help="members of each of those (%(default)s)")
    parser.add_argument("--depth", type=int, default=6, help="of nested chords (%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="submissions of each kind a round (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=100, help="of each worker process (%(default)s)")
    parser.add_argument("--processes", type=common.numbers, default=[1, 4], help="of workers, as 1,4")
    parser.add_argument("--sleepers", type=int, default=1_000_000, help="that wait (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="go through everything in a tiny size, once")
    if parser.parse_args().quick:
        parser.set_defaults(**QUICK)
    return parser.parse_args()


def main() -> None:
    """Read the command line and measure."""
    options = command_line()

    async def benchmark() -> None:
        with common.server(options.dsn) as server:
            machine = await common.describe(server, options.loop)
            rounds = await measure(server, options)
        what = (
            f"workflows: a chain of {options.links:,}; a chord of {options.members:,}; "
            f"{options.chords:,} chords of {options.of:,}; chords in chords to a depth of {options.depth}"
        )
        parts.report(what, machine, rounds, BARS, as_json=options.json)

    common.run(options.loop, benchmark)


if __name__ == "__main__":
    main()
