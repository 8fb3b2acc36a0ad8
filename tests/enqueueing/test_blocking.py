"""pgqueue from programs without asyncio, and tasks without their code."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from pgqueue import (
    DuplicateJobError,
    InvalidArgumentsError,
    InvalidOptionError,
    JobCancelled,
    JobContext,
    JobFailed,
    JobHandle,
    JobNotFoundError,
    JobStatus,
    NotOpenError,
    PgQueue,
    RedriveHandle,
    ResultTimeoutError,
    WorkflowFailed,
    WorkflowHandle,
    chain,
    chord,
    group,
)
from pgqueue.blocking import (
    BlockingJobHandle,
    BlockingPgQueue,
    BlockingRedriveHandle,
    BlockingSchedules,
    BlockingWorker,
    BlockingWorkflowBuilder,
    BlockingWorkflowHandle,
)
from pgqueue.client.schedules import Schedules
from pgqueue.model.dead_letters import DeadLetterFilter
from pgqueue.model.filters import JobFilter
from pgqueue.worker.worker import Worker
from pgqueue.workflows.dag import WorkflowBuilder


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

    @pgq.task
    async def total(parts: list[int]) -> int:
        return sum(parts)

    @pgq.task
    async def ask(ctx: JobContext, asked: list[str]) -> str:
        await ctx.step("count", add, len(asked), 1)
        return f"{await ctx.wait_for_event('answer', str)} to {asked[0]}"

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


HALVES: list[tuple[type, type]] = [
    (PgQueue, BlockingPgQueue),
    (JobHandle, BlockingJobHandle),
    (WorkflowHandle, BlockingWorkflowHandle),
    (RedriveHandle, BlockingRedriveHandle),
    (WorkflowBuilder, BlockingWorkflowBuilder),
    (Schedules, BlockingSchedules),
    (Worker, BlockingWorker),
]
FIRST = ("self", "signature", "call")
"""What the first parameters of two methods may be called that are otherwise alike."""
OF_THE_BLOCK = {"open", "close"}
"""What entering and leaving the block does."""


def needs_a_loop(method: Any) -> bool:
    """Whether a method is awaited, iterated, or returns what has such methods."""
    returned = str(inspect.signature(method).return_annotation)
    return inspect.iscoroutinefunction(method) or any(
        each in returned for each in ("AsyncIterator", "AsyncGenerator", "Handle", "WorkflowBuilder")
    )


@pytest.mark.contract("P1.11")
@pytest.mark.parametrize(("awaited", "blocking"), HALVES, ids=lambda each: each.__name__)
def test_no_method_is_missing(awaited: type, blocking: type) -> None:
    names = {
        name
        for name, method in inspect.getmembers(awaited, inspect.isfunction)
        if not name.startswith("_") and needs_a_loop(method)
    }
    assert names >= {"enqueue"} or names >= {"cancel"} or names >= {"run_now"} or names >= {"wait_ready"}
    assert {name for name in names if not hasattr(blocking, name)} - OF_THE_BLOCK == set()
    for name in names - OF_THE_BLOCK:
        method = getattr(blocking, name)
        # What makes it blocking keeps what it was made from, or writes the same.
        assert parameters(method) == parameters(getattr(awaited, name)), name
        assert not inspect.iscoroutinefunction(inspect.unwrap(method)) or inspect.unwrap(method) is not method


def parameters(method: Any) -> list[tuple[str, Any, Any]]:
    """Return the names, kinds and defaults of a method's parameters."""
    return [(each.name, each.kind, each.default) for each in inspect.signature(method).parameters.values()]


@pytest.mark.contract("P1.11")
def test_a_worker_runs_beside_a_program_without_asyncio(pgq_elsewhere: PgQueue) -> None:
    threads: list[threading.Thread] = []

    @pgq_elsewhere.task
    def double(number: int) -> int:
        threads.append(threading.current_thread())
        return 2 * number

    with BlockingPgQueue(pgq_elsewhere) as queue:
        with pytest.raises(InvalidOptionError, match="concurrency"):
            queue.worker(concurrency=0)
        with queue.worker(concurrency=2, name="beside") as worker:
            worker.wait_ready()
            job = queue.enqueue(double.s(21))
            assert job.result(timeout=60) == 42
            assert (worker.name, worker.slots, worker.is_alive) == ("beside", 2, True)
            worker.stop()
            worker.wait_stopped()
            later = queue.enqueue(double.s(1))
            assert not worker.is_alive
        assert later.status() is JobStatus.PENDING
    with pytest.raises(NotOpenError):
        queue.worker()

    assert threads
    assert threading.main_thread() not in threads


@pytest.mark.contract("P1.11", "P7.1")
def test_workflows_run_without_asyncio(dsn: str, pgq_elsewhere: PgQueue) -> None:
    @pgq_elsewhere.task
    async def add(a: int, b: int) -> int:
        return a + b

    @pgq_elsewhere.task
    async def total(parts: list[int]) -> int:
        return sum(parts)

    @pgq_elsewhere.task
    async def fail() -> list[int]:
        return []

    with BlockingPgQueue(pgq_elsewhere) as queue:
        sums = queue.enqueue(chord([add.s(n, n) for n in range(3)], total.s()))
        members = queue.enqueue(group(*[add.s(n, 1) for n in range(3)]))
        piped = queue.enqueue_workflow(chain(add.s(1, 1), add.s(5)))
        broken = queue.enqueue(chain(fail.s(), total.s()))
        flow = queue.workflow("sums")
        first = flow.add("first", add.s(1, 2))
        flow.add("last", add.s(3), after=[first])
        built = flow.enqueue()
        idle = queue.enqueue(group(add.s(1, 1), add.s(1, 2)).set(delay=3600))
        assert idle.cancel(reason="no need") == 2
        with working(dsn):
            assert [each.result(timeout=60) for each in (sums, piped, built)] == [6, 7, 6]
            assert list(members.results(timeout=60)) == [1, 2, 3]
            with pytest.raises(WorkflowFailed, match="no such account"):
                broken.result(timeout=60)
            assert broken.retry_failed() == 1
            assert sum(broken.join(timeout=60).values()) == 2
        assert members.status() is JobStatus.SUCCEEDED
        assert members.counts() == {JobStatus.SUCCEEDED: 3}
        assert queue.workflow_handle(sums.workflow_id).refresh().status is JobStatus.SUCCEEDED
        assert "sums" in {each.name for each in queue.workflows().workflows}
        assert "flowchart" in built.graph() or "graph" in built.graph()


@pytest.mark.contract("P1.11", "P7.25")
def test_durable_functions_are_driven_without_asyncio(dsn: str, pgq_elsewhere: PgQueue) -> None:
    with BlockingPgQueue(pgq_elsewhere) as queue, working(dsn):
        job = queue.enqueue_by_name("ask", ["who"])
        seen = job.watch()
        assert not next(seen).status.name.startswith("SUCC")
        assert queue.signal(job.id, "answer", "ann", dedup_id="1")
        assert not queue.signal(job.id, "answer", "ann", dedup_id="1")
        assert job.result(timeout=60) == "ann to who"
        assert [each.status for each in seen][-1] is JobStatus.SUCCEEDED
        copy = queue.fork(job.id, "answer")
        assert queue.signal(copy.id, "answer", "bob")
        assert copy.result(timeout=60) == "bob to who"
        queue.restart_from(job.id, "count")
        assert queue.signal(job.id, "answer", "cid")
        assert job.result(timeout=60) == "cid to who"
        with pytest.raises(JobFailed):
            queue.enqueue_by_name("fail").result(timeout=60)
        redriven = queue.redrive_many(DeadLetterFilter(task="fail"))
        assert redriven.wait(timeout=60).is_over
        assert sum(queue.cancel_many(JobFilter(task="none"))) == 0
