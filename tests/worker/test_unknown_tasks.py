"""Jobs of tasks that a worker does not know: left for workers that do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from kit.faults import ghost
from kit.waiting import eventually, holds

from pgqueue import ConfigurationError, DeadLetter, JobContext, JobFailed, JobStatus, PgQueue
from pgqueue.events import AttemptsEnded, Event, JobsClaimed

if TYPE_CHECKING:
    from conftest import Connection


def declare_new(queue: PgQueue) -> Any:
    @queue.task(max_retries=1, default_retry_delay=0.001)
    async def new(context: JobContext) -> tuple[str, int, int]:
        if context.headers.get("fail") and context.attempt == 1:
            raise ValueError
        return context.queue, context.priority, context.attempt

    return new


@pytest.mark.contract("P4.16")
async def test_a_job_of_an_unknown_task_is_left_for_a_worker_that_knows_it(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    job = await pgq.enqueue_by_name("new", options={"priority": 5})
    async with PgQueue(dsn) as newer, pgq.worker():
        await eventually(lambda: is_aside(db, 1))
        waiting, attempts = await job.refresh(), await pgq.attempts(job.id)
        declare_new(newer)
        async with newer.worker():
            result = await job.result(timeout=60)

    assert (waiting.status, waiting.attempt, waiting.losses) == (JobStatus.PENDING, 0, 0)
    assert (waiting.queue, waiting.priority, attempts) == ("default", 5, [])
    assert tuple(result) == ("default", 5, 1)


@pytest.mark.contract("P4.16", "P2.39")
async def test_a_job_that_was_put_aside_is_retried_by_workers_that_know_it(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    job = await pgq.enqueue_by_name("new", options={"headers": {"fail": "once"}})
    async with PgQueue(dsn) as newer, pgq.worker():
        await eventually(lambda: is_aside(db, 1))
        declare_new(newer)
        async with newer.worker():
            assert tuple(await job.result(timeout=60)) == ("default", 0, 2)


@pytest.mark.contract("P4.16")
async def test_unknown_tasks_neither_stop_nor_spin_a_worker(
    pgq: PgQueue, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event] = []
    pgq.observe(heard.append)

    @pgq.task
    async def old() -> str:
        return "done"

    for number in range(30):
        await pgq.enqueue_by_name("new", number=number)
    job = await old.enqueue()
    async with pgq.worker(concurrency=2):
        assert await job.result(timeout=60) == "done"
        await eventually(lambda: is_aside(db, 30))
        # Everything that would have it claimed again: more work, and sweeps.
        for _ in range(20):
            assert await (await old.enqueue()).result(timeout=60) == "done"

    claimed = sum(len(event.waited) for event in heard if isinstance(event, JobsClaimed))
    put_aside = Counter(
        each.job_id
        for event in heard
        if isinstance(event, AttemptsEnded)
        for each in event.attempts
        if each.reason == "unknown_task"
    )
    assert claimed == 30 + 21
    assert set(put_aside.values()) == {1}
    assert len(put_aside) == 30
    assert caplog.text.count("does not declare task 'new'") == 1


async def test_jobs_put_aside_keep_their_order(pgq: PgQueue, dsn: str, db: Connection) -> None:
    order: list[int] = []
    for number in range(10):
        await pgq.enqueue_by_name("new", number)
    async with PgQueue(dsn) as newer:
        async with pgq.worker(concurrency=3):
            await eventually(lambda: is_aside(db, 10))

        @newer.task
        async def new(number: int) -> None:
            order.append(number)

        last = await new.enqueue(10)
        async with newer.worker(concurrency=1):
            await last.result(timeout=60)
            await eventually(lambda: is_aside(db, 0))

    assert [number for number in order if number < 10] == list(range(10))


async def test_a_task_declared_while_the_worker_runs_is_run_by_it(pgq: PgQueue, db: Connection) -> None:
    job = await pgq.enqueue_by_name("new")
    async with pgq.worker():
        await eventually(lambda: is_aside(db, 1))
        declare_new(pgq)
        assert tuple(await job.result(timeout=60)) == ("default", 0, 1)


# After the grace


@pytest.mark.contract("P5.1", "P4.16")
async def test_what_nobody_knows_for_longer_than_the_grace_is_a_dead_letter(
    dsn: str, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[DeadLetter] = []
    async with PgQueue(dsn, unknown_task_grace=3600) as pgq:
        pgq.on_dead(heard.append)
        old = await pgq.enqueue_by_name("gone")
        await put_aside(pgq, db, hours=2)
        fresh = await pgq.enqueue_by_name("gone")
        async with pgq.worker():
            with pytest.raises(JobFailed, match="unknown_task"):
                await old.result(timeout=60)
            await eventually(lambda: is_aside(db, 1))

        [letter] = (await pgq.dead_letters()).letters
        [attempt] = await pgq.attempts(old.id)
        await eventually(lambda: holds(bool(heard)))
        assert heard == [letter]
        assert (letter.job_id, letter.reason, letter.error_type) == (old.id, "unknown_task", "UnknownTask")
        assert (attempt.reason, attempt.attempt) == ("unknown_task", 0)
        assert await fresh.status() is JobStatus.PENDING
    assert "task 'gone': 1 jobs failed (unknown_task): no live worker declares this task" in caplog.text
    assert f"job.failed: job {old.id} (gone), attempt 0: unknown_task" in caplog.text


@pytest.mark.contract("P4.16", "P5.1")
@pytest.mark.parametrize("known", [["gone"], None], ids=["knows it", "does not say"])
async def test_it_is_kept_while_a_live_worker_may_know_it_and_said_aloud(
    dsn: str, db: Connection, caplog: pytest.LogCaptureFixture, known: list[str] | None
) -> None:
    async with PgQueue(dsn, unknown_task_grace=3600) as pgq:
        job = await pgq.enqueue_by_name("gone")
        await put_aside(pgq, db, hours=2)
        async with ghost(pgq) as peer:
            await db.execute("update pgqueue.lease set tasks = $2 where id = $1", peer.lease_id, known)

            async def is_said() -> bool:
                return "task 'gone': jobs have waited over 3600 s for a worker" in caplog.text

            async with pgq.worker():
                await eventually(is_said)
            assert await job.status() is JobStatus.PENDING
            await peer.die()
            async with pgq.worker():
                with pytest.raises(JobFailed, match="unknown_task"):
                    await job.result(timeout=60)


@pytest.mark.contract("P4.16")
async def test_without_a_grace_it_is_kept_for_ever(
    dsn: str, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    async with PgQueue(dsn, unknown_task_grace=None) as pgq:
        job = await pgq.enqueue_by_name("gone")
        await put_aside(pgq, db, hours=24 * 365)

        async def is_said() -> bool:
            return "task 'gone': jobs have waited over 3600 s for a worker" in caplog.text

        async with pgq.worker():
            await eventually(is_said)

        assert await job.status() is JobStatus.PENDING


@pytest.mark.contract("P4.16", "P4.11")
async def test_what_waits_because_it_is_paused_is_kept(dsn: str, db: Connection) -> None:
    async with PgQueue(dsn, unknown_task_grace=3600) as pgq:
        paused = await pgq.enqueue_by_name("gone")
        await put_aside(pgq, db, hours=2)
        await pgq.pause(task="gone")
        other = await pgq.enqueue_by_name("gone too", options={"queue": "other"})
        async with pgq.worker(queues=["other"]):
            await eventually(lambda: is_aside(db, 2))
        await db.execute("update pgqueue.ready set ready_at = now() - interval '2 hours'")
        async with pgq.worker():
            with pytest.raises(JobFailed, match="unknown_task"):
                await other.result(timeout=60)

        assert await paused.status() is JobStatus.PENDING


@pytest.mark.contract("P4.16")
async def test_a_worker_says_what_it_knows(pgq: PgQueue, db: Connection) -> None:
    declare_new(pgq)

    async with pgq.worker() as worker:
        await worker.wait_ready()
        tasks = await db.fetchval("select tasks from pgqueue.lease")

    assert tasks == ["new"]


@pytest.mark.parametrize("grace", [0, -1, float("nan"), float("inf")])
def test_a_grace_that_cannot_be_is_refused(grace: float) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown_task_grace must be (more than 0|a finite)"):
        PgQueue("postgresql://nowhere/", unknown_task_grace=grace)


async def put_aside(pgq: PgQueue, db: Connection, *, hours: float) -> None:
    """Have the waiting job put aside, as of *hours* ago."""
    async with pgq.worker():
        await eventually(lambda: is_aside(db, 1))
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute("update pgqueue.ready set ready_at = ready_at - $1 * interval '1 hour'", hours)


async def is_aside(db: Connection, count: int) -> bool:
    """Whether so many jobs are in lanes for one task."""
    return bool(
        await db.fetchval(
            "select count(*) = $1 from pgqueue.ready join pgqueue.lane on lane.id = ready.lane "
            "where lane.task <> ''",
            count,
        )
    )
