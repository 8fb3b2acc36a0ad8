"""Workflows whose workers are processes that are killed with SIGKILL, or end their jobs in one instant."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from kit.app_for_tests import make_tables, worker_process
from kit.faults import lossy_proxy
from kit.waiting import eventually

from pgqueue import JobStatus, PgQueue
from pgqueue.tasks.combining import chain, chord

if TYPE_CHECKING:
    from conftest import Connection

ROUNDS = int(os.environ.get("PGQUEUE_STRESS_ROUNDS", "3"))
"""As for test_stress.py: 100 make a thousand chords."""
MEMBERS = 60
WITHIN = 180.0


def call(pgq: PgQueue, task: str, **arguments: int) -> Any:
    """Return a call of a task of kit.app_for_tests."""
    return pgq.signature(task, options={"max_losses": 100}, **arguments)


async def runs_of(db: Connection, job_id: object) -> int:
    count: int = await db.fetchval("select count(*) from execution where job_id = $1", job_id)
    return count


@pytest.mark.contract("P7.7", "P7.11", "P2.18")
async def test_a_chord_goes_on_whoever_of_its_workers_is_killed(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    await make_tables(db)
    work = [call(pgq, "work", number=number) for number in range(MEMBERS)]
    handle = await pgq.enqueue_workflow(chain(chord(work, call(pgq, "total")), call(pgq, "work")))

    async def have_run(least: int) -> bool:
        return bool(await db.fetchval("select count(*) >= $1 from execution", least))

    with ExitStack() as processes:
        for kill in range(3):
            victim = processes.enter_context(worker_process(dsn, name=f"victim-{kill}", lease_ttl=2))
            await eventually(lambda least=(kill + 1) * MEMBERS // 6: have_run(least))  # type: ignore[misc]
            victim.kill()
        processes.enter_context(worker_process(dsn, name="last", lease_ttl=2))
        assert await handle.result(WITHIN) == sum(range(MEMBERS))

    assert await handle.counts() == {JobStatus.SUCCEEDED: MEMBERS + 2}
    body = await db.fetchval("select id from pgqueue.job where task = 'total'")
    assert await runs_of(db, body) == 1 + len(await pgq.attempts(body))


@pytest.mark.contract("P7.7", "P7.3", "P2.18")
async def test_what_follows_the_last_success_is_done_though_its_worker_is_killed_before_it_hears_of_it(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    await make_tables(db)
    members = [call(pgq, "work", number=number) for number in (1, 2)]
    handle = await pgq.enqueue_workflow(chain(chord(members, call(pgq, "total")), call(pgq, "work")))

    async with lossy_proxy(dsn) as proxy:
        # The server records the second success; the worker that sent it never learns it, and dies.
        proxy.lose_statement("finish", is_carried_out=True, is_held=True, skip=1)
        with worker_process(proxy.dsn, name="first", concurrency=1, lease_ttl=2) as first:
            await asyncio.wait_for(proxy.lost.wait(), WITHIN)
            first.kill()
    with worker_process(dsn, name="second", lease_ttl=2):
        assert await handle.result(WITHIN) == 3

    rows = await db.fetch("select id from pgqueue.job where workflow_id = $1", handle.workflow_id)
    assert [await runs_of(db, row["id"]) for row in rows] == [1, 1, 1, 1]


@pytest.mark.contract("P7.7")
async def test_of_members_that_end_at_once_on_several_processes_the_body_runs_once(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    await make_tables(db)
    handles = [
        await pgq.enqueue_workflow(
            chord([call(pgq, "quick", number=number) for number in range(9)], call(pgq, "total"))
        )
        for _ in range(10 * ROUNDS)
    ]
    with ExitStack() as processes:
        for number in range(3):
            processes.enter_context(worker_process(dsn, name=f"worker-{number}", concurrency=3))
        assert [await handle.result(WITHIN) for handle in handles] == [36] * len(handles)

    assert await db.fetchval("select count(*) from execution") == len(handles)
    assert await db.fetchval("select count(distinct job_id) from execution") == len(handles)
