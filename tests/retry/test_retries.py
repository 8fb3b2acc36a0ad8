"""A failed attempt is followed by another one: how often, when, and what the job keeps."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest
from kit.faults import is_blocked
from kit.waiting import eventually

from pgqueue import JobContext, JobFailed, JobHandle, JobStatus, PgQueue

if TYPE_CHECKING:
    from conftest import Connection

SOON = 0.001


@pytest.mark.contract("P2.25")
@pytest.mark.parametrize(("max_retries", "executions"), [(3, 4), (1, 2), (0, 1)])
async def test_max_retries_bounds_the_executions(pgq: PgQueue, max_retries: int, executions: int) -> None:
    seen: list[tuple[int, int]] = []

    @pgq.task(max_retries=max_retries, default_retry_delay=SOON)
    async def fail(context: JobContext) -> None:
        seen.append((context.attempt, context.retries))
        raise ValueError(f"attempt {context.attempt}")

    job = await fail.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed, match=f"attempt {executions}"):
            await job.result(timeout=60)

    assert seen == [(attempt, attempt - 1) for attempt in range(1, executions + 1)]
    assert (await job.refresh()).attempt == executions
    assert [each.attempt for each in await pgq.attempts(job.id)] == list(range(1, executions + 1))


@pytest.mark.contract("P2.25")
async def test_without_a_limit_a_job_is_retried_until_it_succeeds(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(max_retries=None, default_retry_delay=3600)
    async def fail_often(context: JobContext) -> int:
        if context.attempt < 6:
            raise ValueError
        return context.attempt

    job = await fail_often.enqueue()
    async with pgq.worker(poll_interval=0.05):
        for attempt in range(1, 6):
            await eventually(lambda attempt=attempt: waits_after(job, attempt))  # type: ignore[misc]
            await make_due(db, job.id)
        assert await job.result(timeout=60) == 6


@pytest.mark.contract("P2.28", "P2.35")
async def test_a_retry_waits_the_default_delay_and_can_be_seen_to(pgq: PgQueue) -> None:
    @pgq.task(retry_backoff=False)
    async def fail() -> None:
        raise ValueError("the database of the others is down")

    job, delayed = await fail.enqueue(), await fail.options(delay=3600).enqueue()
    async with pgq.worker():
        await eventually(lambda: waits_after(job, 1))
    read, not_yet, [attempt] = await job.refresh(), await delayed.refresh(), await pgq.attempts(job.id)

    assert (read.status, read.attempt, read.last_reason) == (JobStatus.SCHEDULED, 1, "exception")
    assert read.next_run_at == attempt.ended_at + timedelta(seconds=60)
    assert read.last_error is not None
    assert (read.last_error.type, read.last_error.message) == (
        "ValueError",
        "the database of the others is down",
    )
    assert (read.error, read.reason, read.completed_at) == (None, None, None)
    # A first run that is delayed looks different.
    assert (not_yet.status, not_yet.attempt, not_yet.last_error) == (JobStatus.SCHEDULED, 0, None)


@pytest.mark.contract("P2.34", "P2.18")
async def test_a_retry_is_one_change_that_others_see_whole_or_not_at_all(
    pgq: PgQueue, db: Connection, dsn: str
) -> None:
    @pgq.task(default_retry_delay=3600)
    async def fail() -> None:
        raise ValueError

    job = await fail.enqueue()
    locker = await asyncpg.connect(dsn)
    async with pgq.worker():
        # The last write of the statement waits for this lock; those before it are done and not to be seen.
        async with locker.transaction():
            await locker.execute("select from pgqueue.job where id = $1 for update", job.id)
            await eventually(lambda: is_blocked(db, "retry"))
            during, places = await job.refresh(), await places_of(db, job.id)
            attempts = await pgq.attempts(job.id)
        await eventually(lambda: waits_after(job, 1))
        after = await places_of(db, job.id)
    await locker.close()

    assert (during.status, places, attempts) == (JobStatus.RUNNING, ["running"], [])
    assert after == ["scheduled"]
    assert len(await pgq.attempts(job.id)) == 1
    assert await db.fetchval("select count(*) from pgqueue.job") == 1


@pytest.mark.contract("P2.39")
async def test_a_retry_keeps_all_that_the_job_was_enqueued_with(pgq: PgQueue, db: Connection) -> None:
    seen: list[Any] = []

    @pgq.task(default_retry_delay=SOON, max_retries=5)
    async def fail(context: JobContext, text: str) -> str:
        seen.append((context.queue, context.priority, context.key, context.headers, text))
        if context.attempt < 3:
            raise ValueError
        return text

    expires_at = datetime.now(UTC) + timedelta(days=1)
    job = await fail.options(
        queue="mail",
        priority=7,
        key="k",
        headers={"trace": "t"},
        tags=["a"],
        expires=expires_at,
        max_losses=9,
    ).enqueue("payload")
    stored = await db.fetchrow("select arguments, options, headers, tags from pgqueue.job")
    async with pgq.worker(queues=["mail"]):
        assert await job.result(timeout=60) == "payload"
    read = await job.refresh()

    assert seen == [("mail", 7, "k", {"trace": "t"}, "payload")] * 3
    assert (read.queue, read.priority, read.key, read.headers, read.tags, read.expires_at) == (
        "mail",
        7,
        "k",
        {"trace": "t"},
        ("a",),
        expires_at,
    )
    assert await db.fetchrow("select arguments, options, headers, tags from pgqueue.job") == stored


async def test_a_retry_does_not_run_before_its_time(pgq: PgQueue, db: Connection) -> None:
    runs: list[int] = []

    @pgq.task(default_retry_delay=3600)
    async def fail(context: JobContext) -> None:
        runs.append(context.attempt)
        if context.attempt == 1:
            raise ValueError

    @pgq.task
    async def other() -> None: ...

    job = await fail.enqueue()
    async with pgq.worker():
        await eventually(lambda: waits_after(job, 1))
        for _ in range(20):
            await (await other.enqueue()).result(timeout=60)
        assert runs == [1]
        await make_due(db, job.id)
        await job.result(timeout=60)

    assert runs == [1, 2]


async def test_a_handler_that_is_cancelled_from_inside_is_retried_like_any_other(pgq: PgQueue) -> None:
    @pgq.task(default_retry_delay=SOON)
    async def cancel_oneself(context: JobContext) -> str:
        if context.attempt == 1:
            raise asyncio.CancelledError
        return "second"

    job = await cancel_oneself.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == "second"


async def waits_after(job: JobHandle[Any], attempt: int) -> bool:
    read = await job.refresh()
    return read.status is JobStatus.SCHEDULED and read.attempt == attempt


async def make_due(db: Connection, job_id: UUID) -> None:
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute("update pgqueue.scheduled set scheduled_at = now() where job_id = $1", job_id)


async def places_of(db: Connection, job_id: UUID) -> list[str]:
    """Return the tables that a job stands in."""
    rows = await db.fetch(
        "select 'ready' as place from pgqueue.ready where job_id = $1 "
        "union all select 'running' from pgqueue.running where job_id = $1 "
        "union all select 'scheduled' from pgqueue.scheduled where job_id = $1 "
        "union all select 'blocked' from pgqueue.blocked where job_id = $1",
        job_id,
    )
    return [row["place"] for row in rows]
