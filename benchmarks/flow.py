"""What flow control costs and how well it holds: limits, rates, order, fair shares, and very many schedules.

Each part compares in turn, in one run, and prints the ratio beside its bar, and whether that is met. `--only`
names parts.

* `drain`: the rate at which jobs with a limit are drained over that of plain jobs: one slot for each of
  10,000 keys, one key with 200 slots for all, and groups in order; at the disk's own speed, and with commits
  that take 3 ms (`commit_delay = 3000, commit_siblings = 0`).
* `enqueue`: the same of the calls that enqueue them.
* `rate`: 200 a second, burst 20: how many start in half a minute, the most in any second, and the same after
  two seconds in which no worker runs and more jobs come.
* `fair`: one tenant of a million jobs, and 999 that now and then enqueue one: how long these wait, over the
  same with nothing else there.
* `tenants`: jobs of each of 1,000 tenants that start before the first one of a new tenant.
* `schedules`: buffers that a look for due schedules touches, with 100,000 of them.
* `claims`: buffers that a claim touches beside a million blocked jobs, over those beside none, and over
  those beside as many ended ones.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from asyncio.subprocess import Process
from collections.abc import Sequence

import common
import crew
import flow_crew
import flow_plans
import flow_starts
import parts

KINDS = ("plain", "keyed", "hot", "ordered")
QUICK = {
    "rounds": 1,
    "jobs": 600,
    "keys": 300,
    "turns": 1,
    "seconds": 3,
    "million": 3000,
    "tenants": 30,
    "quiet": 40,
    "schedules": 1000,
}
BARS: parts.Bars = {
    "disk_keyed_to_plain": (0.45, None),
    "disk_hot_to_plain": (0.35, None),
    "disk_ordered_to_plain": (0.45, None),
    "3ms_keyed_to_plain": (0.7, None),
    "3ms_hot_to_plain": (0.5, None),
    "3ms_ordered_to_plain": (0.7, None),
    "*_keyed_enqueue_to_plain": (0.35, None),
    "*_ordered_enqueue_to_plain": (0.35, None),
    "*_hot_enqueue_to_plain": (0.8, None),
    "rate_to_allowed": (0.98, 1.02),
    "rate_most_in_any_second*": (None, flow_crew.RATE + 2 * flow_crew.BURST),
    "fair_quiet_to_unloaded": (None, 3.0),
    "tenants_most_of_one_before_a_new_one": (None, flow_starts.WINDOW),
    "schedules_buffers_a_tick": (None, 20),
    "claim_buffers_to_none_blocked": (None, 1.05),
}


async def measure_drain(server: str, options: argparse.Namespace, number: int) -> common.Figures:
    """Drain jobs of each kind in turn, in each cell."""
    figures: common.Figures = {}
    for commits, settings in parts.COMMITS.items():
        async with common.database(server) as dsn:
            if not await parts.set_for_all(dsn, settings):
                continue
            async with flow_crew.workers(
                dsn, options.processes, KINDS, concurrency=options.concurrency, loop=options.loop
            ) as workers:
                for kind in KINDS:
                    # Statements are prepared, pages are there.
                    await drain(dsn, workers, kind, max(100, options.jobs // 10), options.keys)
                rates = {
                    kind: await drain(dsn, workers, kind, options.jobs, options.keys)
                    for kind in parts.in_turn(number, *KINDS)
                }
        figures |= ratios(commits, rates, "")
    return figures


async def drain(dsn: str, workers: Sequence[Process], kind: str, jobs: int, keys: int) -> float:
    """Enqueue *jobs* jobs while the workers are stopped; return how many of them then end a second."""
    before = sum(int(each["finished"]) for each in await crew.counts(workers))
    for process in workers:
        await common.ask(process, "anew")
    with flow_crew.stopped(workers):
        async with flow_crew.make_queue(dsn, [kind]) as pgq:
            for first in range(0, jobs, flow_crew.BATCH):
                numbers = range(first, min(jobs, first + flow_crew.BATCH))
                await pgq.enqueue_many([pgq.signature(kind, n % keys) for n in numbers])
        await parts.settle(dsn)
    async with asyncio.timeout(flow_crew.PATIENCE):
        now = await crew.wait_finished(workers, before + jobs)
    return jobs / (max(each["last_finish_at"] for each in now) - min(each["first_claim_at"] for each in now))


async def measure_enqueue(server: str, options: argparse.Namespace, number: int) -> common.Figures:
    """Enqueue jobs of each kind in turn, in each cell; nobody works."""
    figures: common.Figures = {}
    for commits, settings in parts.COMMITS.items():
        seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        async with common.database(server) as dsn:
            if not await parts.set_for_all(dsn, settings):
                continue
            async with flow_crew.make_queue(dsn, KINDS) as pgq:
                for turn in range(-1, options.turns):
                    for kind in parts.in_turn(number + turn, *KINDS):
                        calls = [pgq.signature(kind, n % options.keys) for n in range(options.jobs)]
                        await parts.settle(dsn)
                        started = time.perf_counter()
                        await pgq.enqueue_many(calls)
                        if turn >= 0:  # before that, statements are prepared
                            seconds[kind].append(time.perf_counter() - started)
        rates = {kind: options.jobs / statistics.median(took) for kind, took in seconds.items()}
        figures |= ratios(commits, rates, "_enqueue")
    return figures


def ratios(commits: str, rates: dict[str, float], what: str) -> common.Figures:
    """Return rates, and those over that of plain jobs."""
    return {
        **{
            f"{commits}_{kind}{what}_to_plain": rate / rates["plain"]
            for kind, rate in rates.items()
            if kind != "plain"
        },
        **{f"{commits}_{kind}{what}_per_s": rate for kind, rate in rates.items()},
    }


async def measure_schedules(server: str, options: argparse.Namespace, _number: int) -> common.Figures:
    """Explain what looks for due schedules, beside few and beside very many."""
    return await flow_plans.schedules(server, options.schedules)


async def measure_claims(server: str, options: argparse.Namespace, _number: int) -> common.Figures:
    """Explain a claim of pending jobs, beside very many blocked ones, none, and as many ended ones."""
    return await flow_plans.claims(server, options.million)


PARTS: dict[str, parts.Measure] = {
    "drain": measure_drain,
    "enqueue": measure_enqueue,
    "rate": flow_starts.measure_rate,
    "fair": flow_starts.measure_fair,
    "tenants": flow_starts.measure_tenants,
    "schedules": measure_schedules,
    "claims": measure_claims,
}
ONCE = {"rate", "fair", "tenants", "schedules", "claims"}
"""Parts that take long, or do not depend on the machine's day."""


def command_line() -> argparse.Namespace:
    """Read the command line."""
    parser = common.arguments(__doc__, rounds=3)
    parts.add_only(parser, PARTS)
    parser.add_argument("--jobs", type=int, default=20_000, help="drained or enqueued at once (%(default)s)")
    parser.add_argument("--keys", type=int, default=10_000, help="of those jobs (%(default)s)")
    parser.add_argument("--turns", type=int, default=1, help="enqueues of each kind a round (%(default)s)")
    parser.add_argument("--processes", type=int, default=4, help="of workers (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=100, help="of each (%(default)s)")
    parser.add_argument("--seconds", type=int, default=30, help="for which the rate is held (%(default)s)")
    parser.add_argument("--slots", type=int, default=50, help="of the worker of tenants (%(default)s)")
    parser.add_argument("--million", type=int, default=1_000_000, help="jobs of one tenant (%(default)s)")
    parser.add_argument("--tenants", type=int, default=1000, help="that share (%(default)s)")
    parser.add_argument("--quiet", type=int, default=500, help="jobs of quiet tenants (%(default)s)")
    parser.add_argument("--schedules", type=int, default=100_000, help="(%(default)s)")
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
            rounds = await parts.measure(PARTS, server, options, once=ONCE)
        what = (
            f"flow: {options.jobs:,} jobs of {options.keys:,} keys, {options.processes} worker processes; "
            f"a tenant of {options.million:,} jobs; "
            f"{options.tenants:,} tenants; {options.schedules:,} schedules"
        )
        parts.report(what, machine, rounds, BARS, as_json=options.json)

    common.run(options.loop, benchmark)


if __name__ == "__main__":
    main()
