"""Calls that coalesce: one job runs, and one waits, however many calls there are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from kit.faults import Ghost
from kit.keys import JOBS, STATES, bring, declare_work

from pgqueue import JobStatus, PgQueue, Task
from pgqueue.model.outcomes import Ended

if TYPE_CHECKING:
    from conftest import Connection


@pytest.fixture
def work(pgq: PgQueue) -> Task[[int], int]:
    """A task of one argument."""
    return declare_work(pgq)


@pytest.mark.contract("P3.7")
async def test_at_most_one_job_runs_and_one_waits_where_calls_coalesce(pgq: PgQueue, db: Connection) -> None:
    started, gate = asyncio.Semaphore(0), asyncio.Semaphore(0)
    running = most = 0

    @pgq.task(idempotency_key="all", on_conflict="coalesce")
    async def rebuild() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        started.release()
        await gate.acquire()
        running -= 1

    async with pgq.worker(concurrency=5):
        first = await rebuild.enqueue()
        await started.acquire()
        follow_up, *others = [await rebuild.enqueue() for _ in range(5)]

        assert (follow_up.created, follow_up.id != first.id) == (True, True)
        assert {(other.id, other.created) for other in others} == {(follow_up.id, False)}
        assert await follow_up.status() is JobStatus.BLOCKED

        gate.release()
        await started.acquire()
        await first.result(timeout=60)
        last = await rebuild.enqueue()
        assert last.created
        gate.release()
        gate.release()
        await follow_up.result(timeout=60)
        await last.result(timeout=60)

    assert most == 1
    assert await db.fetchval(JOBS) == 3


@pytest.mark.contract("P3.7")
@pytest.mark.parametrize("state", STATES)
async def test_what_a_coalescing_call_does_depends_on_the_holder(
    work: Task[[int], int], pgq: PgQueue, holder: Ghost, state: str
) -> None:
    calls = work.options(idempotency_key="all", on_conflict="coalesce")
    first = await calls.enqueue(1)
    await bring(pgq, holder, first, state)

    second = await calls.enqueue(1)

    status = await second.status()
    match state:
        case "pending" | "scheduled" | "released" | "retrying" | "lost":
            assert (second.id, second.created) == (first.id, False)
        case "running" | "prefetched":
            assert (second.created, status) == (True, JobStatus.BLOCKED)
        case _:
            assert (second.created, status) == (True, JobStatus.PENDING)


@pytest.mark.contract("P3.7")
@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled", "expired", "deleted"])
async def test_a_follow_up_is_released_by_any_end_of_the_one_before(
    work: Task[[int], int], pgq: PgQueue, holder: Ghost, end: str
) -> None:
    calls = work.options(idempotency_key="all", on_conflict="coalesce")
    first = await calls.enqueue(1)
    await holder.claim()
    follow_up = await calls.enqueue(1)
    assert await holder.store.unblock(holder.connection, 10) == []
    if end in ("succeeded", "deleted"):
        await holder.store.finish(holder.connection, holder.lease_id, "ghost", [first.id], None)
    else:
        ended = Ended(first.id, JobStatus(end), end, None)
        await holder.store.fail(holder.connection, holder.lease_id, "ghost", [ended])
    if end == "deleted":
        await holder.connection.execute("delete from pgqueue.job where id = $1", first.id)

    async with pgq.worker():
        assert await follow_up.result(timeout=60) == 1


@pytest.mark.contract("P3.7")
async def test_a_follow_up_with_a_delay_waits_for_both(
    work: Task[[int], int], pgq: PgQueue, holder: Ghost
) -> None:
    calls = work.options(idempotency_key="all", on_conflict="coalesce")
    first = await calls.enqueue(1)
    await holder.claim()

    follow_up = await calls.options(delay=600).enqueue(1)

    assert await follow_up.status() is JobStatus.BLOCKED
    await holder.store.finish(holder.connection, holder.lease_id, "ghost", [first.id], None)
    [(moved, _)] = await holder.store.unblock(holder.connection, 10)
    assert (moved.job_id, moved.status) == (follow_up.id, JobStatus.SCHEDULED)
    job = await follow_up.refresh()
    assert (job.status, job.next_run_at) == (JobStatus.SCHEDULED, job.run_at)


@pytest.mark.contract("P3.7")
async def test_a_follow_up_can_be_cancelled(work: Task[[int], int], holder: Ghost) -> None:
    calls = work.options(idempotency_key="all", on_conflict="coalesce")
    await calls.enqueue(1)
    await holder.claim()
    follow_up = await calls.enqueue(1)

    assert await follow_up.cancel()
    another = await calls.enqueue(1)

    assert await follow_up.status() is JobStatus.CANCELLED
    assert another.created


@pytest.mark.contract("P3.7", "P1.3")
async def test_a_job_that_a_transaction_joined_starts_after_its_commit(
    work: Task[[int], int], db: Connection, holder: Ghost
) -> None:
    calls = work.options(idempotency_key="all", on_conflict="coalesce")
    first = await calls.enqueue(1)

    async with db.transaction():
        joined = await calls.options(connection=db).enqueue(1)
        # It will see what this transaction writes: nobody has it before the commit.
        claimed_before = await holder.claim()

    assert joined.id == first.id
    assert claimed_before == []
    assert [claimed.id for claimed in await holder.claim()] == [first.id]


@pytest.mark.contract("P3.7")
async def test_many_coalescing_callers_make_one_follow_up(
    work: Task[[int], int], db: Connection, holder: Ghost
) -> None:
    calls = work.options(idempotency_key="all", on_conflict="coalesce")
    await calls.enqueue(1)
    await holder.claim()

    jobs = await asyncio.gather(*(calls.enqueue(1) for _ in range(50)))

    assert sum(job.created for job in jobs) == 1
    assert len({job.id for job in jobs}) == 1
    assert await db.fetchval(JOBS) == 2
