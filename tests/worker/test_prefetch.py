"""Jobs that a worker has taken ahead and not started: still pending, and anybody's who is idle."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from kit.faults import ghost
from kit.waiting import eventually, holds

from pgqueue import JobStatus, PgQueue
from pgqueue.worker.claim.returning import Held

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.usefixtures("leases_are_removed")


def test_a_job_that_is_prefetched_again_starts_in_its_order_and_once() -> None:
    held = Held()
    first, second, third = (uuid4() for _ in range(3))
    held.take([(first, 0), (third, 0)])
    held.pop_prefetched(1)
    # A pause has returned the third, of which the worker does not know yet.
    held.take([(second, 0), (third, 0)])

    assert held.prefetched == [second, third]


@pytest.mark.contract("P2.22")
async def test_prefetched_jobs_are_pending_and_no_clock_of_theirs_runs(pgq: PgQueue, db: Connection) -> None:
    started: list[int] = []
    go_on = asyncio.Event()

    @pgq.task(max_retries=0)
    async def wait(number: int) -> None:
        started.append(number)
        await go_on.wait()

    jobs = await pgq.enqueue_many(wait.s(number) for number in range(6))
    async with pgq.worker(concurrency=2, prefetch_multiplier=2):
        await eventually(lambda: holds(len(started) == 2))
        await eventually(lambda: has_running(db, 4))
        reads = [await job.refresh() for job in jobs]
        go_on.set()
        await jobs[-1].result(timeout=60)

    assert [read.status for read in reads] == [JobStatus.RUNNING] * 2 + [JobStatus.PENDING] * 4
    assert [read.attempt for read in reads] == [1, 1, 0, 0, 0, 0]
    assert [read.started_at is None for read in reads] == [False, False, True, True, True, True]
    assert started == list(range(6))


@pytest.mark.contract("P2.22")
async def test_prefetched_jobs_are_returned_at_once_when_their_worker_stops(
    pgq: PgQueue, db: Connection
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @pgq.task
    async def wait() -> None:
        started.set()
        await go_on.wait()

    jobs = await pgq.enqueue_many(wait.s() for _ in range(4))
    before = await db.fetch("select job_id, position from pgqueue.ready order by position")
    async with pgq.worker(concurrency=1, prefetch_multiplier=3, grace=30) as worker:
        await started.wait()
        await eventually(lambda: has_running(db, 3))
        worker.stop()
        # While the running attempt still has its grace.
        await eventually(lambda: has_running(db, 1))
        after = await db.fetch("select job_id, position from pgqueue.ready order by position")
        go_on.set()

    assert after == before[1:]
    assert [await job.status() for job in jobs] == [JobStatus.SUCCEEDED] + [JobStatus.PENDING] * 3
    assert [await pgq.attempts(job.id) for job in jobs] == [[]] * 4
    assert await db.fetchval("select count(*) from pgqueue.lease") == 0


@pytest.mark.contract("P2.22")
async def test_prefetched_jobs_start_by_priority_and_position_wherever_they_lie(
    pgq: PgQueue, db: Connection
) -> None:
    started: list[int] = []

    @pgq.task
    async def work(number: int) -> None:
        started.append(number)

    # Neither as they lie in the table nor by their ids: no plan brings them in their order by chance.
    jobs = await pgq.enqueue_many(work.options(priority=number % 2).s(number) for number in range(8))
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute("update pgqueue.ready set position = 1000 - position")
    async with pgq.worker(concurrency=1, prefetch_multiplier=10):
        for job in jobs:
            await job.result(timeout=60)

    assert started == [7, 5, 3, 1, 6, 4, 2, 0]


@pytest.mark.contract("P2.22")
async def test_an_idle_worker_steals_what_another_has_prefetched(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    ran: list[str] = []
    go_on = asyncio.Event()

    def declare(queue: PgQueue, name: str) -> Any:
        @queue.task
        async def work(*, long: bool) -> str:
            ran.append(name)
            if long:
                await go_on.wait()
            return name

        return work

    work = declare(pgq, "busy")
    async with PgQueue(dsn) as other:
        declare(other, "idle")
        long, *short = await pgq.enqueue_many([work.s(long=True), *(work.s(long=False) for _ in range(4))])
        async with pgq.worker(concurrency=1, prefetch_multiplier=5):
            await eventually(lambda: holds(ran == ["busy"]))
            await eventually(lambda: has_running(db, 5))
            async with other.worker(concurrency=1):
                stolen = [await job.result(timeout=60) for job in short]
            go_on.set()
            await long.result(timeout=60)

    assert stolen == ["idle"] * 4
    assert ran == ["busy"] + ["idle"] * 4


@pytest.mark.contract("P2.22")
async def test_what_is_prefetched_and_stolen_to_and_fro_runs_once(pgq: PgQueue, dsn: str) -> None:
    runs: Counter[int] = Counter()

    def declare(queue: PgQueue) -> Any:
        @queue.task
        async def count(number: int) -> None:
            runs[number] += 1
            await asyncio.sleep(0)

        return count

    count = declare(pgq)
    async with PgQueue(dsn) as other:
        declare(other)
        jobs = await pgq.enqueue_many(count.s(number) for number in range(1000))
        async with (
            pgq.worker(concurrency=3, prefetch_multiplier=8),
            other.worker(concurrency=5, prefetch_multiplier=2),
            other.worker(concurrency=2),
        ):
            for job in jobs:
                await job.result(timeout=60)

    assert runs == Counter(range(1000))


async def test_a_prefetched_job_that_is_cancelled_never_runs(pgq: PgQueue, db: Connection) -> None:
    runs: list[str] = []
    go_on = asyncio.Event()

    @pgq.task
    async def wait(name: str) -> None:
        runs.append(name)
        await go_on.wait()

    first, second, third = [await wait.enqueue(name) for name in ("first", "second", "third")]
    async with pgq.worker(concurrency=1, prefetch_multiplier=3):
        await eventually(lambda: has_running(db, 3))
        assert await second.cancel()
        assert await second.status() is JobStatus.CANCELLED
        go_on.set()
        await third.result(timeout=60)

    assert await first.status() is JobStatus.SUCCEEDED
    assert await second.status() is JobStatus.CANCELLED
    assert runs == ["first", "third"]


async def test_prefetched_jobs_of_a_lost_worker_are_stolen_before_it_is_known_to_be_lost(
    pgq: PgQueue,
) -> None:
    @pgq.task
    async def work() -> str:
        return "done"

    job = await work.enqueue()
    async with ghost(pgq) as lost:
        await lost.prefetch()
        async with pgq.worker():
            assert await job.result(timeout=60) == "done"

    assert await pgq.attempts(job.id) == []


@pytest.mark.contract("P2.23")
@pytest.mark.parametrize("multiplier", [1, 8])
async def test_short_jobs_never_wait_behind_a_long_one_while_a_slot_is_idle(
    pgq: PgQueue, dsn: str, multiplier: int
) -> None:
    go_on = asyncio.Event()

    def declare(queue: PgQueue) -> Any:
        @queue.task
        async def work(*, is_long: bool) -> None:
            if is_long:
                await go_on.wait()

        return work

    work = declare(pgq)
    async with PgQueue(dsn) as other:
        declare(other)
        async with (
            pgq.worker(concurrency=1, prefetch_multiplier=multiplier),
            other.worker(concurrency=1, prefetch_multiplier=multiplier),
        ):
            for _ in range(3):
                long = await work.enqueue(is_long=True)
                short = await pgq.enqueue_many(work.s(is_long=False) for _ in range(30))
                # All of them in the one slot that is left, whoever had taken them ahead.
                for job in short:
                    await job.result(timeout=60)
                assert await long.status() is JobStatus.RUNNING
                go_on.set()
                await long.result(timeout=60)
                go_on.clear()


@pytest.mark.contract("P2.23")
async def test_a_worker_that_is_idle_already_notices_what_a_busy_one_holds(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task
    async def work() -> str:
        return "done"

    # Taken ahead by a worker that does not come to them, and no notification tells of it.
    jobs = await pgq.enqueue_many(work.options(queue="elsewhere").s() for _ in range(5))
    first = await work.enqueue()
    async with pgq.worker(queues=["default"], concurrency=1):
        await first.result(timeout=60)
        async with ghost(pgq) as busy:
            assert len(await busy.prefetch()) == 5
            await db.execute("set pgqueue.writer to 'on'")
            await db.execute(
                "update pgqueue.running set lane = (select id from pgqueue.lane where queue = 'default')"
            )
            assert [await job.result(timeout=60) for job in jobs] == ["done"] * 5


async def has_running(db: Connection, count: int) -> bool:
    return bool(await db.fetchval("select count(*) = $1 from pgqueue.running", count))
