"""Cancelling a job, wherever it stands."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from kit.faults import attempt_reasons, ghost
from kit.waiting import eventually, is_terminal

from pgqueue import JobCancelled, JobContext, JobNotFoundError, JobStatus, PgQueue
from pgqueue.model.outcomes import Retried

if TYPE_CHECKING:
    from conftest import Connection


@pytest.mark.contract("P4.9")
@pytest.mark.parametrize("delay", [None, 3600], ids=["pending", "scheduled"])
async def test_a_job_that_has_not_started_is_cancelled_at_once_and_never_runs(
    pgq: PgQueue, db: Connection, delay: float | None
) -> None:
    runs: list[str] = []

    @pgq.task
    async def work() -> None:
        runs.append("run")

    job = await work.options(delay=delay).enqueue()
    assert await job.cancel(reason="changed my mind")
    read = await job.refresh()
    async with pgq.worker():
        await (await work.enqueue()).result(timeout=60)
        with pytest.raises(JobCancelled, match="changed my mind"):
            await job.result(timeout=60)

    assert (read.status, read.reason, read.attempt) == (JobStatus.CANCELLED, "changed my mind", 0)
    assert read.completed_at is not None
    assert runs == ["run"]
    assert await db.fetchval("select count(*) from pgqueue.ready") == 0
    assert await db.fetchval("select count(*) from pgqueue.scheduled") == 0


@pytest.mark.contract("P4.9")
async def test_a_running_job_is_cancelled_at_its_next_await(pgq: PgQueue, db: Connection) -> None:
    started, cleaned_up = asyncio.Event(), asyncio.Event()

    @pgq.task
    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned_up.set()

    job = await work.enqueue()
    async with pgq.worker():
        await started.wait()
        assert await job.cancel()
        with pytest.raises(JobCancelled):
            await job.result(timeout=60)

    assert cleaned_up.is_set()
    assert (await job.refresh()).attempt == 1
    assert await attempt_reasons(pgq, job.id) == ["cancelled"]


@pytest.mark.contract("P4.9")
async def test_a_job_running_in_another_process_is_cancelled(pgq: PgQueue, dsn: str) -> None:
    started = asyncio.Event()

    @pgq.task
    async def work() -> None:
        started.set()
        await asyncio.sleep(3600)

    async with PgQueue(dsn) as elsewhere, pgq.worker():
        job = await elsewhere.enqueue_by_name("work")
        await started.wait()
        assert await job.cancel()
        with pytest.raises(JobCancelled):
            await job.result(timeout=60)


@pytest.mark.contract("P4.9")
async def test_a_handler_that_finishes_all_the_same_has_succeeded(pgq: PgQueue, db: Connection) -> None:
    started = asyncio.Event()

    @pgq.task
    async def work() -> str:
        started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return "done"

    job = await work.enqueue()
    async with pgq.worker():
        await started.wait()
        assert await job.cancel()
        assert await job.result(timeout=60) == "done"
        await eventually(lambda: has_no_requests(db))

    assert await job.status() is JobStatus.SUCCEEDED


@pytest.mark.contract("P4.9")
async def test_a_job_whose_attempt_fails_while_it_is_cancelled_is_not_retried(
    pgq: PgQueue, db: Connection
) -> None:
    started = asyncio.Event()

    @pgq.task(default_retry_delay=3600)
    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(3600)
        finally:
            raise ValueError

    job = await work.enqueue()
    async with pgq.worker():
        await started.wait()
        assert await job.cancel()
        with pytest.raises(JobCancelled):
            await job.result(timeout=60)
        await eventually(lambda: has_no_requests(db))

    assert await attempt_reasons(pgq, job.id) == ["exception"]


@pytest.mark.contract("P4.9")
async def test_a_request_outlives_the_worker_that_it_was_for(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work() -> str:
        return "done"

    job = await work.enqueue()
    async with ghost(pgq) as lost:
        await lost.claim()
        assert await job.cancel()
        await lost.die()
        async with pgq.worker(queues=["others"]):
            with pytest.raises(JobCancelled):
                await job.result(timeout=60)
            await eventually(lambda: has_no_requests(db))


@pytest.mark.contract("P4.9")
@pytest.mark.parametrize("fails", [False, True])
async def test_a_terminal_job_stays_as_it_is(pgq: PgQueue, db: Connection, fails: bool) -> None:
    @pgq.task(max_retries=0)
    async def work() -> None:
        if fails:
            raise ValueError

    job = await work.enqueue()
    async with pgq.worker():
        await eventually(lambda: is_terminal(job))
        before = await db.fetchrow("select * from pgqueue.job")
        assert not await job.cancel()

    assert await db.fetchrow("select * from pgqueue.job") == before


@pytest.mark.contract("P4.9")
async def test_a_second_cancel_finds_the_job_over(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()

    assert [await job.cancel(), await job.cancel()] == [True, False]


@pytest.mark.contract("P4.9")
async def test_a_job_that_does_not_exist_cannot_be_cancelled(pgq: PgQueue) -> None:
    with pytest.raises(JobNotFoundError):
        await pgq.cancel(uuid4())


@pytest.mark.contract("P4.9")
async def test_between_a_cancel_and_a_claim_one_wins(pgq: PgQueue, db: Connection) -> None:
    runs: Counter[int] = Counter()

    @pgq.task
    async def work(number: int) -> None:
        runs[number] += 1

    jobs = await pgq.enqueue_many(work.s(number) for number in range(300))
    async with pgq.worker(concurrency=3):
        async with asyncio.TaskGroup() as group:
            for job in reversed(jobs):
                group.create_task(job.cancel())
        for job in jobs:
            await eventually(lambda job=job: is_terminal(job))  # type: ignore[misc]

    statuses = [await job.status() for job in jobs]
    assert set(statuses) <= {JobStatus.SUCCEEDED, JobStatus.CANCELLED}
    succeeded = {number for number, status in enumerate(statuses) if status is JobStatus.SUCCEEDED}
    assert succeeded <= runs.keys()
    assert set(runs.values()) <= {1}
    # One that was cancelled before it started has not run; one cancelled while running says so.
    cut_short = {row["job_id"] for row in await db.fetch("select job_id from pgqueue.attempt")}
    ran = {jobs[number].id for number in runs.keys() - succeeded}
    assert ran <= cut_short
    assert await db.fetchval("select count(*) from pgqueue.running") == 0


@pytest.mark.contract("P4.9")
@pytest.mark.parametrize("place", ["blocked", "prefetched", "waiting to retry"])
async def test_a_job_is_cancelled_at_once_wherever_it_waits(pgq: PgQueue, db: Connection, place: str) -> None:
    runs: list[str] = []

    @pgq.task
    async def work() -> None:
        runs.append("run")

    job = await work.enqueue()
    async with ghost(pgq) as other:
        if place == "blocked":
            await db.execute("select pgqueue.transition($1, 'blocked')", job.id)
        elif place == "prefetched":
            await other.prefetch()
        else:
            await other.claim()
            await other.store.retry(
                other.connection, other.lease_id, other.name, [Retried(job.id, 0.0, "exception", None)]
            )
        assert await job.cancel(reason="not needed")
        status = await job.status()
        started = await other.store.start(other.connection, other.lease_id, [job.id])
    async with pgq.worker():
        await (await work.enqueue()).result(timeout=60)

    assert (status, (await job.refresh()).reason) == (JobStatus.CANCELLED, "not needed")
    assert (started, runs) == ([], ["run"])


@pytest.mark.contract("P4.9")
async def test_a_plain_function_that_runs_in_a_thread_is_given_up(pgq: PgQueue) -> None:
    started, go = threading.Event(), threading.Event()

    @pgq.task
    def work() -> str:
        started.set()
        go.wait(60)
        return "too late"

    job = await work.enqueue()
    async with pgq.worker():
        await asyncio.to_thread(started.wait)
        assert await job.cancel()
        with pytest.raises(JobCancelled):
            await job.result(timeout=60)
        go.set()

    assert await job.status() is JobStatus.CANCELLED


@pytest.mark.contract("P4.9", "P2.8")
async def test_a_plain_function_can_ask_whether_it_was_told_to_stop(pgq: PgQueue) -> None:
    started, never, stopped = threading.Event(), threading.Event(), threading.Event()

    @pgq.task
    def work(ctx: JobContext) -> None:
        while not ctx.is_stopped:
            started.set()
            never.wait(0.01)
        stopped.set()

    job = await work.enqueue()
    async with pgq.worker():
        await asyncio.to_thread(started.wait)
        assert await job.cancel()
        with pytest.raises(JobCancelled):
            await job.result(timeout=60)
        assert await asyncio.to_thread(stopped.wait, 60)


@pytest.mark.contract("P4.9")
async def test_a_handler_that_will_not_be_cancelled_is_given_up_after_the_grace(pgq: PgQueue) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    @pgq.task
    async def work() -> str:
        started.set()
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()
        return "too late"

    job = await work.enqueue()
    async with pgq.worker(concurrency=1, cancel_grace=0.1) as worker:
        await started.wait()
        assert await job.cancel()
        with pytest.raises(JobCancelled):
            await job.result(timeout=60)
        running = worker.running
        go.set()

    assert running == 0
    assert await job.status() is JobStatus.CANCELLED


@pytest.mark.contract("P4.9")
async def test_a_job_whose_worker_dies_before_it_hears_does_not_run_again(pgq: PgQueue) -> None:
    runs: list[str] = []

    @pgq.task
    async def work() -> None:
        runs.append("run")

    job = await work.enqueue()
    async with ghost(pgq) as lost:
        await lost.claim()
        assert await job.cancel(reason="not needed")
        await lost.die()
        async with pgq.worker():
            with pytest.raises(JobCancelled, match="not needed"):
                await job.result(timeout=60)

    read = await job.refresh()
    assert (runs, read.attempt) == ([], 1)
    assert await attempt_reasons(pgq, job.id) == ["lost"]


@pytest.mark.contract("P4.9")
@pytest.mark.parametrize("end", ["release", "retry"])
async def test_a_job_given_back_by_a_worker_that_has_not_heard_does_not_run_again(
    pgq: PgQueue, db: Connection, end: str
) -> None:
    job = await pgq.enqueue_by_name("work")

    async with ghost(pgq) as stopping:
        await stopping.claim()
        assert await job.cancel(reason="not needed")
        store, where = stopping.store, (stopping.connection, stopping.lease_id, stopping.name)
        if end == "release":
            await store.release(*where, [job.id])
        else:
            await store.retry(*where, [Retried(job.id, 0.0, "exception", None)])

    read = await job.refresh()
    assert (read.status, read.reason, read.attempt) == (JobStatus.CANCELLED, "not needed", 1)
    assert read.worker == "ghost"
    assert (
        await db.fetchval(
            "select (select count(*) from pgqueue.ready) + (select count(*) from pgqueue.scheduled) "
            "+ (select count(*) from pgqueue.running)"
        )
        == 0
    )


async def has_no_requests(db: Connection) -> bool:
    return not await db.fetchval("select count(*) from pgqueue.cancel_request")
