"""Jobs of tasks that a worker does not know: left for workers that do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from conftest import eventually

from pgqueue import JobContext, JobStatus, PgQueue
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
    assert caplog.text.count("does not know task 'new'") == 1


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


async def is_aside(db: Connection, count: int) -> bool:
    """Whether so many jobs are in lanes for one task."""
    return bool(
        await db.fetchval(
            "select count(*) = $1 from pgqueue.ready join pgqueue.lane on lane.id = ready.lane "
            "where lane.task <> ''",
            count,
        )
    )
