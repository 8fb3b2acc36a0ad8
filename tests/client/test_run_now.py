"""A scheduled job runs before its time, once somebody asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from pgqueue import JobContext, JobNotFoundError, JobNotScheduledError, JobStatus, PgQueue
from pgqueue.events import JobsPromoted

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P8.6")


async def test_a_scheduled_job_and_a_retry_run_now(pgq: PgQueue) -> None:
    moved: list[JobsPromoted] = []
    pgq.observe(moved.append, JobsPromoted)  # type: ignore[arg-type]  # of this kind alone

    @pgq.task(max_retries=1, retry_intervals=[3600])
    async def work(ctx: JobContext, *, fails: bool) -> str:
        if fails and ctx.attempt == 1:
            raise ValueError("not yet")
        return "done"

    later = await work.options(delay=3600).enqueue(fails=False)
    async with pgq.worker():
        assert await pgq.run_now(later.id)
        assert await later.result(timeout=60) == "done"
        failing = await work.enqueue(fails=True)
        async for job in pgq.watch(failing.id):
            if job.status is JobStatus.SCHEDULED:
                break
        assert await pgq.run_now(failing.id, actor="ada")
        assert await failing.result(timeout=60) == "done"

    assert [[job.job_id for job in each.jobs] for each in moved] == [[later.id], [failing.id]]
    assert [each.action for each in await pgq.actions(failing.id)] == ["run_now"]


async def test_other_jobs_stay_as_they_are(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    pending = await work.enqueue()
    blocked = await work.options(depends_on=[pending.id]).enqueue()
    ended = await work.enqueue()
    await ended.cancel()

    assert not await pgq.run_now(pending.id)
    for job, status in ((blocked, "blocked"), (ended, "cancelled")):
        with pytest.raises(JobNotScheduledError, match=f"is {status}: only a scheduled job"):
            await pgq.run_now(job.id)
        assert await job.status() == status
    with pytest.raises(JobNotFoundError):
        await pgq.run_now(uuid4())


async def test_a_limit_holds_a_job_that_is_to_run_now(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(limits=[pgq.limit("one", slots=1)])
    async def work() -> None: ...

    first, later = await work.enqueue(), await work.options(delay=3600).enqueue()

    assert await pgq.run_now(later.id)
    assert await later.status() == JobStatus.BLOCKED
    await first.cancel()
    async with pgq.worker():
        await later.result(timeout=60)
    assert await db.fetchval("select count(*) from pgqueue.gate_pass") == 0
