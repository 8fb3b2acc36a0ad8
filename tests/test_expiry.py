"""A job that was not started by its expiry never starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from conftest import eventually

from pgqueue import JobContext, JobExpired, JobStatus, PgQueue

if TYPE_CHECKING:
    from conftest import Connection


async def test_a_job_not_started_by_its_expiry_never_runs(pgq: PgQueue, db: Connection) -> None:
    runs: list[str] = []

    @pgq.task
    async def work(name: str) -> None:
        runs.append(name)

    job = await work.options(expires=3600).enqueue("late")
    other = await work.options(expires=3600).enqueue("in time")
    await let_expire(db, job.id)
    async with pgq.worker(concurrency=1):
        with pytest.raises(JobExpired, match="without being started"):
            await job.result(timeout=60)
        await other.result(timeout=60)

    read = await job.refresh()
    assert (read.status, read.reason, read.attempt) == (JobStatus.EXPIRED, "expired", 0)
    assert (read.started_at, read.error) == (None, None)
    assert read.completed_at is not None
    assert await pgq.attempts(job.id) == []
    assert runs == ["in time"]


async def test_a_job_that_waits_to_be_retried_expires_too(pgq: PgQueue, db: Connection) -> None:
    runs: list[int] = []

    @pgq.task(default_retry_delay=3600)
    async def fail(context: JobContext) -> None:
        runs.append(context.attempt)
        raise ValueError

    job = await fail.options(expires=3600).enqueue()
    async with pgq.worker():
        await eventually(lambda: waits(pgq, job.id))
        await let_expire(db, job.id)
        async with db.transaction():
            await db.execute("set local pgqueue.writer to 'on'")
            await db.execute("update pgqueue.scheduled set scheduled_at = now()")
        with pytest.raises(JobExpired):
            await job.result(timeout=60)

    read = await job.refresh()
    assert (read.status, read.attempt, runs) == (JobStatus.EXPIRED, 1, [1])
    assert read.started_at is not None


async def test_a_job_that_runs_does_not_expire(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work(context: JobContext) -> str:
        await let_expire(db, context.job_id)
        return "done"

    job = await work.options(expires=3600).enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == "done"


async def test_an_expiry_can_be_a_moment(pgq: PgQueue) -> None:
    moment = datetime.now(UTC) - timedelta(seconds=1)

    @pgq.task
    async def work() -> None: ...

    job = await work.options(expires=moment).enqueue()
    async with pgq.worker():
        with pytest.raises(JobExpired):
            await job.result(timeout=60)

    assert (await job.refresh()).expires_at == moment


async def let_expire(db: Connection, job_id: object) -> None:
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute("update pgqueue.job set expires_at = now() where id = $1", job_id)


async def waits(pgq: PgQueue, job_id: object) -> bool:
    return (await pgq.get(job_id)).status is JobStatus.SCHEDULED  # type: ignore[arg-type]
