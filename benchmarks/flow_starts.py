"""When jobs start that wait for a rate, or for their tenants' turn: parts of flow.py."""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import common
import flow_crew
import parts
from flow_crew import Start

from pgqueue import PgQueue

WINDOW = 10
"""Jobs of a tenant that are let through ahead of the others' turn."""
EVERY = 0.02
"""Seconds between two jobs of quiet tenants."""


async def measure_rate(server: str, options: argparse.Namespace, _number: int) -> common.Figures:
    """Have more jobs than their rate allows, and then two seconds without workers."""
    jobs = flow_crew.RATE * (options.seconds + 10)
    async with (
        common.database(server) as dsn,
        flow_crew.workers(
            dsn, options.processes, ["rated"], concurrency=options.concurrency, loop=options.loop
        ) as workers,
        flow_crew.make_queue(dsn, ["rated"]) as pgq,
    ):
        await pgq.enqueue_many([pgq.signature("rated", n, 0.0) for n in range(jobs)])
        await asyncio.sleep(options.seconds + 1.0)
        before = await flow_crew.take_starts(workers)
        with flow_crew.stopped(workers):
            ends_at = time.monotonic() + 2.0
            # Who enqueues lets others through as well.
            while time.monotonic() < ends_at:
                await pgq.enqueue(pgq.signature("rated", 0, 0.0))
                await asyncio.sleep(0.05)
        await asyncio.sleep(3.0)
        after = await flow_crew.take_starts(workers)
    times = [start.started_at for start in before]
    held = [at for at in times if at < times[0] + options.seconds]
    return {
        "rate_to_allowed": len(held) / (flow_crew.RATE * options.seconds),
        "rate_per_s": len(held) / options.seconds,
        "rate_most_in_any_second": most_within(times, 1.0),
        "rate_most_in_any_second_after_outage": most_within([start.started_at for start in after], 1.0),
        "rate_most_in_100_ms": most_within(times, 0.1),
    }


def most_within(times: Sequence[float], seconds: float) -> float:
    """Return how many of the ascending *times* are within any stretch of *seconds*, at most."""
    return max(bisect_left(times, at + seconds) - number for number, at in enumerate(times))


async def measure_fair(server: str, options: argparse.Namespace, _number: int) -> common.Figures:
    """Enqueue jobs of quiet tenants one by one, with nothing else there and beside a very large tenant."""
    async with (
        common.database(server) as dsn,
        flow_crew.workers(dsn, 1, ["share"], concurrency=options.slots, loop=options.loop) as workers,
        flow_crew.make_queue(dsn, ["share"]) as pgq,
    ):
        await send_quiet(pgq, options)
        await flow_crew.take_starts(workers)
        await send_quiet(pgq, options)
        unloaded = [start.started_at - start.sent_at for start in await flow_crew.take_starts(workers)]
        with flow_crew.stopped(workers):
            for first in range(0, options.million, flow_crew.BATCH):
                count = min(flow_crew.BATCH, options.million - first)
                await pgq.enqueue_many([pgq.signature("share", 0, 0.0) for _ in range(count)])
            await parts.settle(dsn)
        await asyncio.sleep(1.0)
        await flow_crew.take_starts(workers)
        began_at = time.monotonic()
        await send_quiet(pgq, options)
        starts = await flow_crew.take_starts(workers)
        seconds = time.monotonic() - began_at
    waits = [start.started_at - start.sent_at for start in starts if start.key != 0]
    p50 = common.percentile(unloaded, 0.5)
    return {
        # Those that have not started have waited for longer than all others.
        "fair_quiet_to_unloaded": common.percentile(
            [*waits, *[flow_crew.PATIENCE] * (options.quiet - len(waits))], 0.5
        )
        / p50,
        "fair_quiet_ms_p50": common.percentile(waits, 0.5) * 1000,
        "fair_quiet_ms_p99": common.percentile(waits, 0.99) * 1000,
        "fair_unloaded_ms_p50": p50 * 1000,
        "fair_not_started": options.quiet - len(waits),
        "fair_jobs_per_s": len(starts) / seconds,
    }


async def send_quiet(pgq: PgQueue, options: argparse.Namespace) -> None:
    """Enqueue single jobs of tenants other than 0, and give the last one a moment."""
    chosen = random.Random(1)  # the same in each run
    for _ in range(options.quiet):
        await pgq.enqueue(pgq.signature("share", chosen.randrange(1, options.tenants), time.monotonic()))
        await asyncio.sleep(EVERY)
    await asyncio.sleep(1.0)


async def measure_tenants(server: str, options: argparse.Namespace, _number: int) -> common.Figures:
    """Have new tenants come when very many wait; count what starts before their first jobs."""
    news = range(-1, -6, -1)
    async with (
        common.database(server) as dsn,
        flow_crew.workers(dsn, 1, ["share"], concurrency=options.slots, loop=options.loop) as workers,
        flow_crew.make_queue(dsn, ["share"]) as pgq,
    ):
        with flow_crew.stopped(workers):
            keys = [key for _ in range(5 * WINDOW) for key in range(options.tenants)]
            for first in range(0, len(keys), flow_crew.BATCH):
                await pgq.enqueue_many(
                    [pgq.signature("share", key, 0.0) for key in keys[first : first + flow_crew.BATCH]]
                )
            await parts.settle(dsn)
        await asyncio.sleep(1.0)
        committed_at = {}
        for new in news:
            await pgq.enqueue(pgq.signature("share", new, time.monotonic()))
            # What starts while it is being written was not ahead of it.
            committed_at[new] = time.monotonic()
            await asyncio.sleep(0.2)
        starts: list[Start] = []
        async with asyncio.timeout(flow_crew.PATIENCE):
            while not {start.key for start in starts} >= set(news):
                await asyncio.sleep(0.2)
                starts += await flow_crew.take_starts(workers)
    before = [
        Counter(each.key for each in starts if committed_at[first.key] <= each.started_at < first.started_at)
        for first in starts
        if first.key < 0
    ]
    return {
        "tenants_most_of_one_before_a_new_one": max(max(counts.values(), default=0) for counts in before),
        "tenants_started_before_a_new_one": statistics.median(counts.total() for counts in before),
        "tenants_new_one_waits_ms": statistics.median(
            (start.started_at - start.sent_at) * 1000 for start in starts if start.key < 0
        ),
    }
