"""Random workflows under faults: each node ends, each body runs once or is cancelled, none starts early."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from typing import TYPE_CHECKING

import asyncpg
import pytest
from kit.graphs import Crew, random_graph

from pgqueue import PgQueue

if TYPE_CHECKING:
    from conftest import Connection

ROUNDS = int(os.environ.get("PGQUEUE_STRESS_ROUNDS", "3"))
"""More of them find more: 30 take about a minute."""
GRAPHS = 25
TABLES = "job, ready, blocked, edge, barrier, workflow, note, attempt, dead_letter, action, lease"


async def run_round(pgq: PgQueue, db: Connection, dice: random.Random, *, cancels: bool) -> dict[str, int]:
    """Run random workflows to their end, redrive what failed, and return what must not be."""
    async with Crew(pgq, dice) as crew:
        jobs = []
        for _ in range(GRAPHS):
            graph = random_graph(dice, dice.randint(1, 4))
            await crew.store.submit_workflow(db, graph)
            jobs += [node.id for node in graph.nodes if node.job is not None]
            if cancels and dice.random() < 0.5:
                await again_on_deadlock(db, "select pgqueue.cancel($1, 'by hand')", dice.choice(jobs))
        await crew.settled(db)
        if found := await crew.violations(db):
            return found
        crew.heals = True
        failed = [row["id"] for row in await db.fetch("select id from pgqueue.job where status = 'failed'")]
        for job_id in dice.sample(failed, len(failed)):
            crew.ended.pop(job_id)
            await again_on_deadlock(db, "select pgqueue.redrive($1)", job_id)
            if dice.random() < 0.3:
                await asyncio.sleep(dice.random() * 0.01)
        await crew.settled(db)
        if found := await crew.violations(db):
            return {f"{name}, after redriving": count for name, count in found.items()}
        if not cancels:
            unfinished = await db.fetch(
                "select id from pgqueue.job where status is distinct from 'succeeded' "
                # Members that were cancelled because another failed are not redriven with it.
                "and not exists (select from pgqueue.job as doomed where doomed.reason = 'fail_fast')"
            )
            return (
                {"jobs did not succeed although all that failed was redriven": len(unfinished)}
                if unfinished
                else {}
            )
        return {}


async def meddle(pgq: PgQueue, db: Connection, crew: Crew, dice: random.Random) -> None:
    """Do to workflows what operators do, while their jobs end."""
    for _ in range(60):
        workflow = await db.fetchval("select id from pgqueue.workflow order by random() limit 1")
        failed = await db.fetch("select id from pgqueue.job where status = 'failed' and reason = 'exception'")
        # One that a member of the crew has not yet counted would be counted twice.
        known = [row["id"] for row in failed if crew.ended[row["id"]]]
        match dice.choice(["pause", "resume", "cancel", "redrive", "redrive", "discard"]):
            case "pause":
                await again_on_deadlock(db, "select pgqueue.pause_workflow($1, true)", workflow)
            case "resume":
                await again_on_deadlock(db, "select pgqueue.pause_workflow($1, false)", workflow)
            case "cancel" if dice.random() < 0.3:
                await pgq.cancel_workflow(workflow)
            case "redrive" if known:
                chosen = dice.choice(known)
                crew.ended.pop(chosen)
                await again_on_deadlock(db, "select pgqueue.redrive($1)", chosen)
            case "discard" if known:
                with contextlib.suppress(asyncpg.PostgresError):
                    await pgq.discard(dice.choice(known))
            case _:
                await asyncio.sleep(dice.random() * 0.01)
    for row in await db.fetch("select id from pgqueue.workflow"):
        await again_on_deadlock(db, "select pgqueue.pause_workflow($1, false)", row["id"])


@pytest.mark.contract("P5.7", "P7.7", "P7.11", "P7.21")
async def test_what_operators_do_while_jobs_end_leaves_no_workflow_standing(
    pgq: PgQueue, db: Connection
) -> None:
    dice = random.Random(2027)
    await db.execute("select pgqueue.lane_of('default', 0::smallint)")
    async with Crew(pgq, dice) as crew:
        for _ in range(ROUNDS):
            for _ in range(GRAPHS):
                await crew.store.submit_workflow(db, random_graph(dice, dice.randint(1, 4)))
            await meddle(pgq, db, crew, dice)
        await crew.settled(db)

        assert await crew.violations(db) == {}


async def again_on_deadlock(db: Connection, sql: str, job_id: object) -> None:
    """Call a function that locks what workers lock, as its callers do."""
    while True:
        try:
            await db.execute(sql, job_id)
        except asyncpg.DeadlockDetectedError:
            continue
        return


@pytest.mark.contract("P2.18", "P5.7", "P7.3", "P7.7", "P7.10", "P7.11", "P7.13")
async def test_every_node_of_random_workflows_ends_as_it_must_whatever_crashes(
    pgq: PgQueue, db: Connection
) -> None:
    dice = random.Random(2026)
    await db.execute("select pgqueue.lane_of('default', 0::smallint)")
    for number in range(ROUNDS):
        assert await run_round(pgq, db, dice, cancels=number % 2 == 1) == {}
        await db.execute("set pgqueue.writer to 'on'")
        await db.execute(f"truncate {', '.join('pgqueue.' + table for table in TABLES.split(', '))}")


SABOTAGES = {
    "the lock of a workflow is not taken": (
        "attend",
        "perform pgqueue.hold_workflows(coalesce(nodes, '{}') || written || doomed);",
        "",
    ),
    "an edge is counted each time that it is noted": (
        "attend",
        "and edge.outcome is null and over.outcome is not null",
        "and over.outcome is not null",
    ),
    "what follows is not noted": (
        "attend",
        "where edge.upstream = any(ended)",
        "where edge.upstream = any('{}')",
    ),
    "a link moves on whatever became of the one before": (
        "settle",
        "where job.id = any(links) and job.status = 'succeeded'",
        "where job.id = any(links)",
    ),
    "a barrier is not armed again": (
        "rearm",
        "failed = barrier.failed - behind.undone",
        "failed = barrier.failed",
    ),
    "what was cancelled is not blocked again": (
        "rearm",
        "job.reason = 'upstream_failed'",
        "job.reason = 'no'",
    ),
}
"""Each is one line of a function, and what stands there instead."""


@pytest.mark.parametrize("sabotage", SABOTAGES)
async def test_each_line_that_keeps_workflows_whole_is_missed(
    pgq: PgQueue, db: Connection, sabotage: str
) -> None:
    function, line, instead = SABOTAGES[sabotage]
    definition = await db.fetchval("select pg_get_functiondef(('pgqueue.' || $1)::regproc)", function)
    assert line in definition
    await db.execute(definition.replace(line, instead))
    await db.execute("select pgqueue.lane_of('default', 0::smallint)")
    dice = random.Random(2026)
    found: dict[str, int] = {}
    for _ in range(20):
        found = await run_round(pgq, db, dice, cancels=False)
        if found:
            break

    assert found
