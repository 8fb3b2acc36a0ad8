"""What workflows of different shapes take in tables and indexes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import common
import crew

from pgqueue import Canvas, PgQueue, WorkflowHandle

WIDE = 4
"""Members of each chord in the one nested chord; those of the many are pairs."""
PATIENCE = 600.0


async def measure(server: str, *, members: int, depth: int) -> common.Figures:
    """Write workflows of about as many jobs in each shape, and run them, one shape after the other."""
    # Many small ones have as many jobs as the large one: depth 6 has 5,461 in one of width 4 and in 43 of 2.
    many = round(nested_jobs(WIDE, depth) / nested_jobs(2, depth))
    figures: common.Figures = {}
    async with (
        common.database(server) as dsn,
        crew.make_queue(dsn) as pgq,
        common.connected(dsn) as watcher,
    ):
        shapes = {
            "one": [flat_chord(pgq, members)],
            "hundred": [flat_chord(pgq, members // 100)] * 100,
            "nested": [nested_chord(pgq, WIDE, depth)],
            "many_nested": [nested_chord(pgq, 2, depth)] * many,
        }
        # Afterwards every table and index that is used has its first pages.
        await finish(pgq, [await nested_chord(pgq, 2, 2).enqueue()])
        sizes = {what: await bytes_a_job(pgq, watcher, shape) for what, shape in shapes.items()}
    for place, when in enumerate(("written", "ended")):
        size = {what: each[place] for what, each in sizes.items()}
        figures[f"{when}_one_to_hundred"] = size["one"] / size["hundred"]
        figures[f"{when}_nested_to_many_nested"] = size["nested"] / size["many_nested"]
        figures[f"{when}_nested_to_one"] = size["nested"] / size["one"]
        figures |= {f"{when}_{what}_bytes_a_job": each for what, each in size.items()}
    return figures


async def bytes_a_job(
    pgq: PgQueue, watcher: asyncpg.Connection[asyncpg.Record], workflows: Sequence[Canvas[float]]
) -> tuple[float, float]:
    """Return the bytes that a job of *workflows* adds: once written, and once all have ended."""
    before = await stored(watcher)
    handles = [await each.enqueue() for each in workflows]
    new = [jobs for each in handles for jobs in (await each.counts()).values()]
    written = await stored(watcher)
    await finish(pgq, handles)
    return (written - before) / sum(new), (await stored(watcher) - before) / sum(new)


async def finish(pgq: PgQueue, handles: Sequence[WorkflowHandle[Any]]) -> None:
    """Run workflows to their ends."""
    async with pgq.worker(concurrency=100):
        for handle in handles:
            await handle.join(timeout=PATIENCE)


async def stored(watcher: asyncpg.Connection[asyncpg.Record]) -> int:
    """Return the bytes of pgqueue's tables and indexes, without room that only waits to be used again."""
    tables = (
        "select {} from pg_class where relnamespace = 'pgqueue'::regnamespace "
        "and relkind = 'r' and pg_relation_size(oid) > 0"
    )
    names = await watcher.fetchval(tables.format("string_agg(oid::regclass::text, ', ')"))
    await watcher.execute(f"vacuum full {names}")
    size: int = await watcher.fetchval(tables.format("sum(pg_total_relation_size(oid))::bigint"))
    return size


def flat_chord(pgq: PgQueue, members: int) -> Canvas[float]:
    """Return a chord."""
    return crew.chord_of(pgq, crew.calls(pgq, "member", members))


def nested_chord(pgq: PgQueue, width: int, depth: int) -> Canvas[float]:
    """Return a chord of chords of chords: its jobs are `nested_jobs`."""
    if depth == 0:
        return crew.calls(pgq, "member", 1)[0]
    return crew.chord_of(pgq, [nested_chord(pgq, width, depth - 1) for _ in range(width)])


def nested_jobs(width: int, depth: int) -> int:
    """Count the jobs of a nested chord, bodies among them."""
    return sum(width**level for level in range(depth + 1))
