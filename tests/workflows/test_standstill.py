"""A workflow stands still if nothing in it moves or will by itself; its age says nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from kit.waiting import eventually

from pgqueue import JobContext, JobStatus, PgQueue, Reject, chain, chord
from pgqueue.model.workflows import Standstill

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P7.22")


class Tasks:
    """Tasks that wait, or fail, in different ways."""

    def __init__(self, pgq: PgQueue) -> None:
        self.is_mended = False

        @pgq.task
        async def part(number: int) -> int:
            return number

        @pgq.task(max_retries=0)
        async def odd(number: int) -> int:
            if number % 2 == 0 and not self.is_mended:
                raise Reject("even")
            return number

        @pgq.task
        async def ask(ctx: JobContext) -> None:
            await ctx.wait_for_event("approved", str)

        @pgq.task
        async def ask_for_a_day(ctx: JobContext) -> None:
            await ctx.wait_for_event("approved", str, timeout=timedelta(days=1))

        @pgq.task
        async def rest(ctx: JobContext) -> None:
            await ctx.sleep("a while", timedelta(days=1))

        @pgq.task
        async def delegate(ctx: JobContext) -> None:
            await ctx.run("child", chain(rest.s(), part.si(2)))

        @pgq.task
        async def add_up(numbers: list[int]) -> int:
            return sum(numbers)

        self.part, self.odd, self.add_up = part, odd, add_up
        self.ask, self.ask_for_a_day, self.rest, self.delegate = ask, ask_for_a_day, rest, delegate


@pytest.fixture
def tasks(pgq: PgQueue) -> Tasks:
    return Tasks(pgq)


async def watched(pgq: PgQueue, db: Connection) -> dict[UUID, bool]:
    """Have all open workflows looked at; return which of them stand still."""
    await db.fetchrow("select * from pgqueue.watch_workflows($1, 1000)", UUID(int=0))
    return {each.id: each.stalled_at is not None for each in (await pgq.workflows()).workflows}


async def test_it_stands_still_exactly_where_nothing_moves_or_will_by_itself(
    pgq: PgQueue, tasks: Tasks, db: Connection
) -> None:
    canvases: dict[str, Any] = {
        "an event": chain(tasks.ask.s(), tasks.part.si(1)),
        "an event, for a day": chain(tasks.ask_for_a_day.s(), tasks.part.si(1)),
        "a time": chain(tasks.rest.s(), tasks.part.si(1)),
        "a child": chain(tasks.delegate.s(), tasks.part.si(1)),
        "a delay": chain(tasks.part.s(1).set(delay=3600), tasks.part.si(1)),
    }
    handles = {name: await canvas.enqueue() for name, canvas in canvases.items()}

    async def all_wait() -> bool:
        jobs = await db.fetchval("select count(*) from pgqueue.ready") + await db.fetchval(
            "select count(*) from pgqueue.running"
        )
        return bool(jobs == 0)

    async with pgq.worker():
        await eventually(all_wait)
    pending = await chord([tasks.part.s(1), tasks.part.s(2)], tasks.add_up.s()).enqueue()
    found = await watched(pgq, db)
    measured = await pgq.measure_workflows()

    assert {name for name, handle in handles.items() if found[handle.workflow_id]} == {"an event"}
    assert not found[pending.workflow_id]
    # With the child.
    assert (measured.live, measured.stalled) == (7, 1)
    assert measured.stalled_age is not None
    [asking] = [
        job for job in (await pgq.workflow_jobs(handles["an event"].workflow_id)).jobs if job.task == "ask"
    ]
    still = await pgq.find_standstill(handles["an event"].workflow_id)
    assert still == Standstill(asking.id, "ask", "approved", is_blocked=True)
    assert "waits for event 'approved' and has no time limit" in str(still)
    assert await pgq.find_standstill(handles["a child"].workflow_id) is None
    # What is paused stands still because somebody wants it to.
    await pgq.pause_workflow(handles["an event"].workflow_id)
    assert not any((await watched(pgq, db)).values())


async def test_one_in_which_a_job_was_lost_by_hand_is_found(
    pgq: PgQueue, tasks: Tasks, db: Connection
) -> None:
    handle = await chain(tasks.part.s(1), tasks.part.si(2)).enqueue()
    [first, _] = (await pgq.workflow_jobs(handle.workflow_id)).jobs
    async with db.transaction():
        await db.execute("set local pgqueue.writer = 'on'")
        await db.execute("delete from pgqueue.ready where job_id = $1", first.id)

    assert (await watched(pgq, db))[handle.workflow_id]
    still = await pgq.find_standstill(handle.workflow_id)
    assert still == Standstill(first.id, "part", None, is_blocked=False)
    assert "stands in no queue" in str(still)


async def test_one_that_is_redriven_is_open_again_and_counts_again(
    pgq: PgQueue, tasks: Tasks, db: Connection
) -> None:
    handle = await chord([tasks.odd.s(1), tasks.odd.s(2)], tasks.add_up.s()).enqueue()
    single = await tasks.odd.map([2, 4]).enqueue()
    async with pgq.worker():
        await handle.join(60)
        await single.join(60)
        await eventually(lambda: counts(pgq, ended=2, live=0))
        tasks.is_mended = True
    assert await handle.retry_failed() == 1
    opened = await pgq.measure_workflows()
    assert (opened.live, opened.started, opened.ended) == (
        1,
        3,
        {JobStatus.CANCELLED: 1, JobStatus.FAILED: 1},
    )
    async with pgq.worker():
        await handle.join(60)
        await eventually(lambda: counts(pgq, ended=3, live=0))
    assert (await pgq.measure_workflows()).ended == {
        JobStatus.CANCELLED: 1,
        JobStatus.FAILED: 1,
        JobStatus.SUCCEEDED: 1,
    }


async def counts(pgq: PgQueue, *, ended: int, live: int) -> bool:
    measured = await pgq.measure_workflows()
    return sum(measured.ended.values()) == ended and measured.live == live


@pytest.mark.contract("P7.22")
async def test_pauses_have_a_history(pgq: PgQueue, tasks: Tasks) -> None:
    handle = await chain(tasks.part.s(1), tasks.part.si(2)).enqueue()
    other = await chain(tasks.part.s(1), tasks.part.si(2)).enqueue()

    await pgq.pause_workflow(handle.workflow_id, reason="a leak", actor="ann")
    # Nothing changes, so there is nothing to note.
    await pgq.pause_workflow(handle.workflow_id, actor="bob")
    await pgq.resume_workflow(handle.workflow_id, actor="bob")
    await pgq.resume_workflow(handle.workflow_id)

    done = await pgq.workflow_actions(handle.workflow_id)
    assert [(each.action, each.actor, each.reason) for each in done] == [
        ("paused", "ann", "a leak"),
        ("resumed", "bob", None),
    ]
    assert await pgq.workflow_actions(other.workflow_id) == []
