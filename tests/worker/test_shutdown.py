"""A worker that stops: what still finishes, what goes back, and how."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from kit import inside
from kit.faults import attempt_reasons, is_blocked
from kit.waiting import eventually, holds

from pgqueue import JobContext, JobStatus, PgQueue

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.usefixtures("leases_are_removed")


@pytest.mark.contract("P2.20")
async def test_stop_claims_nothing_more_and_lets_running_attempts_finish(pgq: PgQueue) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @pgq.task
    async def wait() -> str:
        started.set()
        await go_on.wait()
        return "done"

    first, second = await pgq.enqueue_many([wait.s(), wait.s()])
    async with pgq.worker(concurrency=1) as worker:
        await started.wait()
        worker.stop()
        late = await wait.options(priority=9).enqueue()
        go_on.set()

    assert await first.result(timeout=60) == "done"
    assert [await second.status(), await late.status()] == [JobStatus.PENDING, JobStatus.PENDING]


@pytest.mark.contract("P2.20")
async def test_what_does_not_finish_within_the_grace_goes_back_unspent_and_keeps_its_place(
    pgq: PgQueue, db: Connection
) -> None:
    started: list[int] = []

    @pgq.task(max_retries=0)
    async def wait(context: JobContext, number: int) -> int:
        started.append(number)
        if len(started) <= 2:
            await asyncio.sleep(3600)
        return context.attempt

    jobs = await pgq.enqueue_many(wait.s(number) for number in range(4))
    before = await positions(db)
    async with pgq.worker(concurrency=2, grace=0.01):
        await eventually(lambda: holds(len(started) == 2))

    reads = [await job.refresh() for job in jobs]
    assert [(read.status, read.attempt, read.losses) for read in reads] == [(JobStatus.PENDING, 0, 0)] * 4
    assert await positions(db) == before
    assert [await attempt_reasons(pgq, job.id) for job in jobs] == [["released"], ["released"], [], []]
    assert await db.fetchval("select count(*) from pgqueue.lease") == 0
    # max_retries=0 and yet it runs again, as attempt 1.
    async with pgq.worker(concurrency=1):
        assert [await job.result(timeout=60) for job in jobs] == [1] * 4
    assert started[2:] == [0, 1, 2, 3]


@pytest.mark.contract("P2.20")
async def test_release_does_not_wait_for_the_grace(pgq: PgQueue) -> None:
    started, cleaned_up = asyncio.Event(), asyncio.Event()

    @pgq.task
    async def wait() -> None:
        started.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned_up.set()

    job = await wait.enqueue()
    with anyio.fail_after(60):
        async with pgq.worker(grace=30) as worker:
            await started.wait()
            worker.stop()
            worker.release()

    assert cleaned_up.is_set()
    assert await job.status() is JobStatus.PENDING
    assert await attempt_reasons(pgq, job.id) == ["released"]


@pytest.mark.contract("P2.20")
@pytest.mark.parametrize("hurry", [False, True], ids=["stop", "release"])
async def test_a_handler_that_ignores_cancellation_is_released_all_the_same(
    pgq: PgQueue, db: Connection, hurry: bool
) -> None:
    started, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @pgq.task
    async def ignore() -> str:
        started.set()
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()
        ended.set()
        return "too late"

    job = await ignore.enqueue()
    try:
        with anyio.fail_after(60):
            async with pgq.worker(grace=30 if hurry else 0.01, cancel_grace=0.05) as worker:
                await started.wait()
                if hurry:
                    worker.release()
        released = await job.refresh()
    finally:
        go_on.set()
    await ended.wait()

    assert (released.status, released.attempt) == (JobStatus.PENDING, 0)
    assert (await job.refresh()).status is JobStatus.PENDING
    assert await db.fetchval("select count(*) from pgqueue.lease") == 0


@pytest.mark.contract("P2.20")
async def test_a_thread_that_goes_on_is_released_all_the_same(pgq: PgQueue) -> None:
    started, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    @pgq.task
    def stuck() -> None:
        loop.call_soon_threadsafe(started.set)
        go_on.wait(180)

    job = await stuck.enqueue()
    try:
        with anyio.fail_after(60):
            async with pgq.worker(grace=0.01):
                await started.wait()
    finally:
        go_on.set()

    assert await job.status() is JobStatus.PENDING
    assert await attempt_reasons(pgq, job.id) == ["released"]


async def test_a_released_job_is_taken_by_another_worker(pgq: PgQueue, dsn: str) -> None:
    started = asyncio.Event()

    def declare(queue: PgQueue, *, hangs: bool) -> Any:
        @queue.task
        async def work() -> str:
            started.set()
            if hangs:
                await asyncio.sleep(3600)
            return "done"

        return work

    async with PgQueue(dsn) as other:
        declare(other, hangs=False)
        async with pgq.worker(grace=0.01) as worker:
            job = await declare(pgq, hangs=True).enqueue()
            await started.wait()
            async with other.worker():
                worker.stop()
                assert await job.result(timeout=60) == "done"


async def test_outcomes_of_the_last_moment_are_written(pgq: PgQueue) -> None:
    ran = asyncio.Event()

    @pgq.task
    async def work() -> str:
        ran.set()
        return "done"

    job = await work.enqueue()
    async with pgq.worker():
        await ran.wait()

    assert await job.status() is JobStatus.SUCCEEDED


async def test_a_worker_that_is_stopped_at_once_stops(pgq: PgQueue, db: Connection) -> None:
    with anyio.fail_after(60):
        async with pgq.worker() as worker:
            worker.stop()

    assert not worker.is_alive
    # A lease that was being taken runs out by itself.
    assert await db.fetchval("select count(*) from pgqueue.running") == 0


async def test_a_caller_that_is_cancelled_leaves_no_job_running(pgq: PgQueue, db: Connection) -> None:
    started = asyncio.Event()

    @pgq.task
    async def wait() -> None:
        started.set()
        await asyncio.sleep(3600)

    async def serve() -> None:
        async with pgq.worker(grace=30):
            await asyncio.sleep(3600)

    job = await wait.enqueue()
    serving = asyncio.ensure_future(serve())
    await started.wait()
    # First out of the sleep, then out of the stop.
    serving.cancel()
    await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait([serving])

    assert serving.cancelled()
    assert await job.status() is JobStatus.PENDING
    assert await db.fetchval("select count(*) from pgqueue.lease") == 0


async def test_a_claim_under_way_at_the_stop_is_not_lost(pgq: PgQueue, db: Connection) -> None:
    runs: list[str] = []

    @pgq.task
    async def work() -> None:
        runs.append("run")

    async with pgq.worker() as worker:
        await (await work.enqueue()).result(timeout=60)
        # What writes outcomes has connected by now, and the claimer looks for claims that a crash forgot.
        await eventually(lambda: holds(inside.is_sure(worker)))
        async with db.transaction():
            # The claim waits for the lease, which this transaction has locked.
            await db.execute("select from pgqueue.lease for update")
            job = await work.enqueue()
            await eventually(lambda: is_blocked(db, "claim"))
            worker.stop()

    assert await job.status() is JobStatus.SUCCEEDED
    assert await pgq.attempts(job.id) == []
    assert runs == ["run", "run"]
    assert await db.fetchval("select count(*) from pgqueue.lease") == 0


async def positions(db: Connection) -> list[Any]:
    return [
        tuple(row) for row in await db.fetch("select position, job_id from pgqueue.ready order by position")
    ]
