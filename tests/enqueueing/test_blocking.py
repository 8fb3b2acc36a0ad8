"""pgqueue from programs without asyncio, and tasks without their code."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from pgqueue import (
    DuplicateJobError,
    InvalidArgumentsError,
    JobCancelled,
    JobFailed,
    JobNotFoundError,
    JobStatus,
    NotOpenError,
    PgQueue,
    ResultTimeoutError,
)
from pgqueue.blocking import BlockingPgQueue


@contextmanager
def working(dsn: str) -> Iterator[None]:
    """Run a worker elsewhere: in a thread with a loop of its own."""
    pgq = PgQueue(dsn)

    @pgq.task
    async def add(a: int, b: int) -> int:
        return a + b

    @pgq.task(max_retries=0)
    async def fail() -> None:
        raise ValueError("no such account")

    with anyio.from_thread.start_blocking_portal() as portal, portal.wrap_async_context_manager(pgq):

        async def make() -> None:
            worker.start()

        worker = portal.call(pgq.worker)
        portal.call(make)
        try:
            yield
        finally:
            portal.call(worker.stop)
            portal.call(worker.wait_stopped)


@pytest.fixture
def pgq_elsewhere(dsn: str) -> PgQueue:
    """Not open: the facade opens it."""
    return PgQueue(dsn)


@pytest.mark.contract("P1.11")
def test_a_program_without_asyncio_enqueues_and_waits_for_results(dsn: str, pgq_elsewhere: PgQueue) -> None:
    @pgq_elsewhere.task
    async def add(a: int, b: int) -> int:
        return a + b

    with BlockingPgQueue(pgq_elsewhere) as queue:
        job = queue.enqueue(add.s(1, 2))
        status_before = job.status()
        with working(dsn):
            result = job.result(timeout=60)

        assert status_before is JobStatus.PENDING
        assert result == 3
        assert job.refresh().status is JobStatus.SUCCEEDED
        assert queue.get(job.id).result == 3


@pytest.mark.contract("P1.11")
def test_a_task_can_be_enqueued_by_name_without_its_code(dsn: str, pgq_elsewhere: PgQueue) -> None:
    with BlockingPgQueue(pgq_elsewhere) as queue, working(dsn):
        by_position = queue.enqueue_by_name("add", 1, 2)
        by_keyword = queue.enqueue_by_name("add", a=3, b=4, options={"priority": 5})

        assert by_position.result(timeout=60) == 3
        assert by_keyword.result(timeout=60) == 7
        assert by_keyword.refresh().priority == 5


@pytest.mark.contract("P1.11")
async def test_asyncio_programs_enqueue_by_name_too(pgq: PgQueue, dsn: str) -> None:
    job = await pgq.enqueue_by_name("add", 1, b=2)

    async with PgQueue(dsn) as elsewhere:

        @elsewhere.task
        async def add(a: int, b: int) -> int:
            return a + b

        async with elsewhere.worker():
            result = await job.result(timeout=60)

    assert result == 3


def test_many_calls_are_enqueued_in_order(pgq_elsewhere: PgQueue) -> None:
    with BlockingPgQueue(pgq_elsewhere) as queue:
        jobs = queue.enqueue_many(pgq_elsewhere.signature("add", number, 1) for number in range(3))

        assert [queue.get(job.id).arguments["*"][0] for job in jobs] == [0, 1, 2]
        assert queue.enqueue_many([]) == []


def test_waiting_ends_after_its_time_and_the_job_goes_on(pgq_elsewhere: PgQueue) -> None:
    with BlockingPgQueue(pgq_elsewhere) as queue:
        job = queue.enqueue_by_name("add", 1, 2)

        with pytest.raises(ResultTimeoutError):
            job.result(timeout=0.01)

        assert job.status() is JobStatus.PENDING


def test_a_job_can_be_cancelled(pgq_elsewhere: PgQueue) -> None:
    with BlockingPgQueue(pgq_elsewhere) as queue:
        job = queue.enqueue_by_name("add", 1, 2)

        assert job.cancel(reason="not needed") is True
        assert job.cancel() is False
        with pytest.raises(JobCancelled, match="not needed"):
            job.result(timeout=60)


def test_errors_arrive_as_they_are(dsn: str, pgq_elsewhere: PgQueue) -> None:
    @pgq_elsewhere.task
    async def add(a: int, b: int) -> int:
        return a + b

    with BlockingPgQueue(pgq_elsewhere) as queue:
        with pytest.raises(InvalidArgumentsError, match="argument 'b'"):
            queue.enqueue(add.s(1, "two"))  # type: ignore[call-overload]  # the point
        with pytest.raises(JobNotFoundError):
            queue.handle(uuid4()).status()
        job = queue.enqueue_by_name("fail")
        with pytest.raises(DuplicateJobError):
            queue.enqueue_by_name("fail", options={"id": job.id, "on_duplicate": "raise"})
        with working(dsn), pytest.raises(JobFailed, match="no such account"):
            job.result(timeout=60)


def test_threads_share_one_facade(pgq_elsewhere: PgQueue) -> None:
    created: list[bool] = []
    job_id = uuid4()

    with BlockingPgQueue(pgq_elsewhere) as queue:

        def enqueue() -> None:
            created.append(queue.enqueue_by_name("add", 1, 2, options={"id": job_id}).created)

        threads = [threading.Thread(target=enqueue) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(created) == [False] * 7 + [True]


def test_outside_its_block_the_facade_says_how_to_use_it(pgq_elsewhere: PgQueue) -> None:
    queue = BlockingPgQueue(pgq_elsewhere)

    with pytest.raises(NotOpenError, match="with BlockingPgQueue"):
        queue.get(uuid4())

    with queue:
        job = queue.enqueue_by_name("add", 1, 2)
    with pytest.raises(NotOpenError):
        job.status()
    with queue:
        assert job.status() is JobStatus.PENDING
