"""A job that was not started by its expiry never starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from kit import inside
from kit.faults import ghost
from kit.waiting import eventually

from pgqueue import JobContext, JobExpired, JobStatus, PgQueue

if TYPE_CHECKING:
    from conftest import Connection


@pytest.mark.contract("P4.10")
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


@pytest.mark.contract("P4.10")
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


@pytest.mark.contract("P4.10")
async def test_a_job_that_runs_does_not_expire(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work(context: JobContext) -> str:
        await let_expire(db, context.job_id)
        return "done"

    job = await work.options(expires=3600).enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == "done"


@pytest.mark.contract("P4.10")
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


# Without a worker that comes to it


@pytest.mark.contract("P4.10", "P4.11")
async def test_a_job_of_a_paused_queue_expires(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work() -> None: ...

    await pgq.pause(queue="default")
    job = await work.options(expires=3600).enqueue()
    other = await work.options(expires=3600).enqueue()
    await let_expire_for_all(db, job.id)
    async with pgq.worker():
        with pytest.raises(JobExpired, match="without being started"):
            await job.result(timeout=60)

    read = await job.refresh()
    assert (read.reason, read.attempt, read.started_at) == ("expired", 0, None)
    assert await other.status() is JobStatus.PENDING
    assert await db.fetchval("select array_agg(job_id) from pgqueue.ready") == [other.id]
    assert await db.fetchval("select array_agg(job_id) from pgqueue.expiry") == [other.id]


@pytest.mark.contract("P4.10")
@pytest.mark.parametrize("place", ["ready", "scheduled", "blocked", "prefetched"])
async def test_a_job_expires_wherever_it_waits(pgq: PgQueue, db: Connection, place: str) -> None:
    job = await pgq.enqueue_by_name(
        "work", options={"expires": 3600, "delay": 0 if place != "scheduled" else 60}
    )
    async with ghost(pgq) as other, pgq.worker(queues=["others"]):
        if place == "prefetched":
            await other.prefetch()
        if place == "blocked":
            await db.execute("select pgqueue.transition($1, 'blocked')", job.id)
        await let_expire_for_all(db, job.id)
        with pytest.raises(JobExpired):
            await job.result(timeout=60)

    assert (
        await db.fetchval(
            "select (select count(*) from pgqueue.ready) + (select count(*) from pgqueue.scheduled) "
            "+ (select count(*) from pgqueue.blocked) + (select count(*) from pgqueue.running)"
        )
        == 0
    )


@pytest.mark.contract("P4.10")
async def test_a_job_that_waits_to_be_retried_expires_before_its_time_comes(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task(default_retry_delay=3600)
    async def fail() -> None:
        raise ValueError

    job = await fail.options(expires=3600).enqueue()
    async with pgq.worker():
        await eventually(lambda: waits(pgq, job.id))
        await let_expire_for_all(db, job.id)
        with pytest.raises(JobExpired):
            await job.result(timeout=60)

    read = await job.refresh()
    assert (read.attempt, read.reason) == (1, "expired")
    assert read.started_at is not None


@pytest.mark.contract("P4.10")
async def test_a_job_given_back_after_its_expiry_never_runs_again(pgq: PgQueue, db: Connection) -> None:
    job = await pgq.enqueue_by_name("work", options={"expires": 3600})
    async with ghost(pgq) as lost:
        await lost.claim()
        await let_expire_for_all(db, job.id)
        async with pgq.worker(queues=["others"]):
            # Looked at while it runs: it is not expired, and is looked at again.
            await eventually(lambda: is_postponed(db))
            running = await job.status()
            await lost.die()
            await eventually(lambda: is_pending(pgq, job.id))
            await db.execute("update pgqueue.expiry set check_at = now()")
            with pytest.raises(JobExpired):
                await job.result(timeout=60)

    assert running is JobStatus.RUNNING


@pytest.mark.contract("P4.10")
async def test_what_has_an_expiry_is_looked_at_by_index_and_nothing_else_pays(
    pgq: PgQueue, db: Connection
) -> None:
    plain = await pgq.enqueue_by_name("work")
    done = await pgq.enqueue_by_name("work", options={"expires": 3600})

    rows = await db.fetch("select job_id from pgqueue.expiry")

    assert [row["job_id"] for row in rows] == [done.id]
    assert await plain.status() is JobStatus.PENDING


@pytest.mark.contract("P4.10")
async def test_the_expiry_of_a_job_that_is_over_is_forgotten(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work() -> str:
        return "done"

    job = await work.options(expires=3600).enqueue()
    async with pgq.worker():
        await job.result(timeout=60)
        await db.execute("update pgqueue.expiry set check_at = now()")

        async def is_forgotten() -> bool:
            return not await db.fetchval("select count(*) from pgqueue.expiry")

        await eventually(is_forgotten)

    assert await job.status() is JobStatus.SUCCEEDED


async def test_a_sweep_takes_a_bounded_batch(pgq: PgQueue, db: Connection) -> None:
    await pgq.enqueue_many([pgq.signature("work", options={"expires": 3600})] * 30)
    await let_expire_for_all(db, None)

    async with inside.database(pgq).acquire() as connection:
        batches = [len(await inside.store(pgq).expire(connection, 20)) for _ in range(3)]

    assert batches == [20, 10, 0]


@pytest.mark.contract("P4.10")
async def test_a_sweep_passes_over_a_job_that_somebody_is_cancelling(pgq: PgQueue, db: Connection) -> None:
    job = await pgq.enqueue_by_name("work", options={"expires": 3600})
    await let_expire_for_all(db, job.id)

    async with db.transaction():
        await db.execute("select pgqueue.cancel($1)", job.id)
        async with inside.database(pgq).acquire() as connection:
            swept = await inside.store(pgq).expire(connection, 20)

    assert swept == []
    assert await job.status() is JobStatus.CANCELLED


async def let_expire_for_all(db: Connection, job_id: object) -> None:
    """Move the expiry of a job, or of all, to now, as if the time had come."""
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute(
            "update pgqueue.job set expires_at = now() where $1::uuid is null or id = $1", job_id
        )
        await db.execute(
            "update pgqueue.expiry set check_at = now() where $1::uuid is null or job_id = $1", job_id
        )


async def is_postponed(db: Connection) -> bool:
    return bool(await db.fetchval("select check_at > now() + interval '5 seconds' from pgqueue.expiry"))


async def is_pending(pgq: PgQueue, job_id: object) -> bool:
    return (await pgq.get(job_id)).status is JobStatus.PENDING  # type: ignore[arg-type]
