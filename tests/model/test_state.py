"""What a job's record says, when it says it, and that it stays so."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg
import pytest
from kit.waiting import eventually

from pgqueue import (
    Job,
    JobCancelled,
    JobContext,
    JobFailed,
    JobNotFoundError,
    JobStatus,
    PgQueue,
)

if TYPE_CHECKING:
    from conftest import Connection


async def count_jobs(db: Connection) -> int:
    count: int = await db.fetchval("select count(*) from pgqueue.job")
    return count


@pytest.mark.contract("P4.1")
async def test_there_is_one_set_of_statuses_and_its_last_four_are_terminal(db: Connection) -> None:
    labels = await db.fetchval("select enum_range(null::pgqueue.job_status)::text[]")

    assert [str(status) for status in JobStatus] == labels
    assert labels == [
        "pending", "scheduled", "blocked", "running", "succeeded", "failed", "cancelled", "expired",
    ]  # fmt: skip
    assert [status for status in JobStatus if status.is_terminal] == list(JobStatus)[-4:]


@pytest.mark.contract("P4.1", "P4.7", "P1.8")
async def test_a_job_is_pending_then_running_then_succeeded(pgq: PgQueue, db: Connection) -> None:
    started, may_end = asyncio.Event(), asyncio.Event()

    @pgq.task
    async def work(number: int) -> int:
        started.set()
        await may_end.wait()
        return number * 2

    job = await work.options(tags=["a"], key="k").enqueue(21)
    pending = await job.refresh()
    async with pgq.worker(name="worker-1"):
        await started.wait()
        running = await job.refresh()
        may_end.set()
        assert await job.result(timeout=60) == 42
    succeeded = await job.refresh()

    assert [each.status for each in (pending, running, succeeded)] == ["pending", "running", "succeeded"]
    assert [each.attempt for each in (pending, running, succeeded)] == [0, 1, 1]
    assert (pending.worker, running.worker, succeeded.worker) == (None, "worker-1", "worker-1")
    assert (pending.has_result, running.has_result, succeeded.result) == (False, False, 42)
    assert (pending.started_at, running.completed_at) == (None, None)
    assert running.started_at == succeeded.started_at
    assert [each.is_terminal for each in (pending, running, succeeded)] == [False, False, True]
    assert succeeded.arguments == {"number": 21}
    assert (succeeded.error, succeeded.reason, succeeded.tags, succeeded.key) == (None, None, ("a",), "k")


@pytest.mark.contract("P1.8", "P4.4")
async def test_times_are_aware_by_the_databases_clock_and_in_order(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work() -> None: ...

    before = await db.fetchval("select clock_timestamp()")
    handle = await work.enqueue()
    async with pgq.worker():
        await handle.result(timeout=60)
    after = await db.fetchval("select clock_timestamp()")
    job = await handle.refresh()

    assert job.started_at is not None
    assert job.completed_at is not None
    assert before <= job.created_at <= job.started_at <= job.completed_at <= after
    assert {time.utcoffset() for time in (job.created_at, job.started_at, job.completed_at)} == {timedelta(0)}


@pytest.mark.contract("P4.4", "P4.1", "P2.35")
async def test_a_retry_keeps_the_first_start_and_records_each_attempts_times(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task(max_retries=2, default_retry_delay=3600)
    async def work(ctx: JobContext) -> int:
        if ctx.attempt < 3:
            raise ValueError(f"attempt {ctx.attempt}")
        return ctx.attempt

    handle = await work.enqueue()
    seen: list[Job] = []

    async def has_waited(times: int) -> bool:
        job = await handle.refresh()
        return job.status is JobStatus.SCHEDULED and job.attempt == times

    async with pgq.worker():
        for attempt in (1, 2):

            async def is_waiting(times: int = attempt) -> bool:
                return await has_waited(times)

            await eventually(is_waiting)
            seen.append(await handle.refresh())
            await db.execute("set pgqueue.writer = 'on'; update pgqueue.scheduled set scheduled_at = now()")
        await handle.result(timeout=60)
    job, attempts = await handle.refresh(), await pgq.attempts(handle.id)

    first, second = seen
    assert (first.attempt, second.attempt, job.attempt) == (1, 2, 3)
    assert first.started_at == second.started_at == job.started_at == attempts[0].started_at
    assert job.created_at <= attempts[0].started_at  # type: ignore[operator]  # it has started
    assert first.next_run_at is not None
    assert first.next_run_at - attempts[0].ended_at == timedelta(hours=1)
    assert (first.completed_at, second.completed_at) == (None, None)
    assert first.last_error is not None
    assert (first.last_error.type, first.last_error.message) == ("ValueError", "attempt 1")
    assert first.last_reason == "exception"
    assert [(each.attempt, each.reason) for each in attempts] == [(1, "exception"), (2, "exception")]
    for one in attempts:
        assert one.started_at is not None
        assert one.started_at <= one.ended_at
    assert attempts[1].started_at > attempts[0].ended_at  # type: ignore[operator]  # it has started
    assert job.completed_at is not None
    assert job.completed_at >= attempts[1].ended_at
    # Of the attempt alone: not of those before it, nor of the waits between them.
    assert attempts[1].ended_at <= job.attempt_started_at <= job.completed_at == job.attempt_ended_at  # type: ignore[operator]
    assert job.took == (job.completed_at - job.attempt_started_at).total_seconds()  # type: ignore[operator]
    assert [(each.attempt_started_at, each.attempt_ended_at) for each in (first, second)] == [
        (each.started_at, each.ended_at) for each in attempts
    ]


@pytest.mark.contract("P1.8", "P4.4")
async def test_a_failed_job_says_what_went_wrong(pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    async def work() -> None:
        raise KeyError("missing")

    handle = await work.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=60)
    job = await handle.refresh()

    assert (job.status, job.reason, job.attempt) == (JobStatus.FAILED, "exception", 1)
    assert job.error is not None
    assert (job.error.type, job.error.message) == ("KeyError", "'missing'")
    assert job.error.traceback is not None
    assert 'raise KeyError("missing")' in job.error.traceback
    assert job.completed_at is not None
    assert not job.has_result


@pytest.mark.contract("P4.4")
async def test_what_a_requeued_job_took_begins_with_its_new_start(pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    async def work(ctx: JobContext) -> None:
        if not await pgq.actions(ctx.job_id):
            raise ValueError("once")

    handle = await work.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=60)
        failed = await handle.refresh()
        await pgq.requeue(handle.id)
        await handle.result(timeout=60)
    job = await handle.refresh()

    assert (failed.attempt_started_at, failed.attempt_ended_at) == (failed.started_at, failed.completed_at)
    assert job.attempt_started_at == job.started_at
    assert job.started_at > failed.completed_at  # type: ignore[operator]  # both are times


@pytest.mark.contract("P4.4")
async def test_a_job_that_never_started_has_no_start(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    handle = await work.options(delay=3600).enqueue()

    assert await handle.cancel(reason="not wanted")
    job = await handle.refresh()

    assert (job.status, job.reason, job.attempt) == (JobStatus.CANCELLED, "not wanted", 0)
    assert (job.started_at, job.worker) == (None, None)
    assert job.completed_at is not None
    with pytest.raises(JobCancelled, match="not wanted"):
        await handle.result(timeout=60)


async def ended_jobs(pgq: PgQueue) -> dict[JobStatus, UUID]:
    """Return a job that ended in each of the ways to end."""

    @pgq.task
    async def succeed() -> str:
        return "done"

    @pgq.task(max_retries=0)
    async def fail() -> None:
        raise ValueError("no")

    cancelled = await succeed.options(delay=60).enqueue()
    await cancelled.cancel()
    expired = await succeed.options(expires=1e-6).enqueue()
    jobs = {
        JobStatus.SUCCEEDED: await succeed.enqueue(),
        JobStatus.FAILED: await fail.enqueue(),
        JobStatus.CANCELLED: cancelled,
        JobStatus.EXPIRED: expired,
    }
    async with pgq.worker():
        for job in jobs.values():
            await pgq.wait(job.id)
    return {status: job.id for status, job in jobs.items()}


@pytest.mark.contract("P4.3", "P3.12")
async def test_a_job_that_has_ended_stays_as_it_is(pgq: PgQueue, db: Connection) -> None:
    ended = await ended_jobs(pgq)
    before = {status: await pgq.get(job_id) for status, job_id in ended.items()}

    for status, job_id in ended.items():
        assert before[status].status is status
        assert await pgq.cancel(job_id) is False
        with pytest.raises(asyncpg.RestrictViolationError):
            await db.execute(
                "update pgqueue.job set status = 'succeeded', result = '2' where id = $1", job_id
            )
        with pytest.raises(asyncpg.RestrictViolationError):
            await db.execute("delete from pgqueue.job where id = $1", job_id)
        for after in JobStatus:
            with pytest.raises(asyncpg.RestrictViolationError, match=f"it cannot become {after}"):
                await db.execute("select pgqueue.transition($1, $2::text::pgqueue.job_status)", job_id, after)
    async with pgq.worker():
        # A worker that has looked round leaves them alone too.
        await (await pgq.enqueue_by_name("succeed")).result(timeout=60)

    assert {status: await pgq.get(job_id) for status, job_id in ended.items()} == before


@pytest.mark.contract("P4.3", "P1.6")
async def test_an_id_of_a_job_that_has_ended_is_not_used_again(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work(number: int) -> int:
        return number

    chosen = uuid4()
    async with pgq.worker():
        await (await work.options(id=chosen).enqueue(1)).result(timeout=60)
        again = await work.options(id=chosen).enqueue(2)

        assert await again.result(timeout=60) == 1
    assert again.created is False
    assert await count_jobs(db) == 1


@pytest.mark.contract("P4.6")
async def test_a_job_that_is_not_there_is_not_found(pgq: PgQueue) -> None:
    missing = uuid4()
    handle = pgq.handle(missing)

    with pytest.raises(JobNotFoundError, match=f"there is no job {missing}") as raised:
        await pgq.get(missing)
    assert raised.value.job_id == missing
    with pytest.raises(JobNotFoundError):
        await handle.status()
    with pytest.raises(JobNotFoundError):
        await handle.refresh()
    with pytest.raises(JobNotFoundError):
        await handle.cancel()
    with pytest.raises(JobNotFoundError):
        await handle.result(timeout=60)


@pytest.mark.contract("P4.6")
async def test_status_of_a_missing_job_is_null_in_sql(db: Connection) -> None:
    assert await db.fetchval("select pgqueue.status_of($1)", uuid4()) is None
    assert await db.fetchval("select pgqueue.cancel($1)", uuid4()) is None
