"""A worker runs jobs: which ones, in which order, how many at once, and what can be seen meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from kit import inside
from kit.waiting import eventually, holds, is_over

from pgqueue import ConfigurationError, JobStatus, NotOpenError, PgQueue
from pgqueue.events import AttemptsEnded, Event, JobsClaimed

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.usefixtures("leases_are_removed")


@pytest.mark.contract("P4.7", "P4.4")
async def test_running_is_recorded_while_the_handler_runs(pgq: PgQueue) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @pgq.task
    async def wait() -> None:
        started.set()
        await go_on.wait()

    job = await wait.enqueue()
    async with pgq.worker(name="the worker"):
        await started.wait()
        during = await job.refresh()
        go_on.set()
        await job.result(timeout=60)
    after = await job.refresh()

    assert (during.status, during.attempt, during.worker) == (JobStatus.RUNNING, 1, "the worker")
    assert during.started_at is not None
    assert during.completed_at is None
    assert (after.status, after.attempt, after.worker) == (JobStatus.SUCCEEDED, 1, "the worker")
    assert after.started_at == during.started_at
    assert after.completed_at is not None
    assert after.created_at <= after.started_at <= after.completed_at


@pytest.mark.contract("P4.4")
async def test_a_retry_keeps_the_first_start_and_each_attempt_has_times_of_its_own(pgq: PgQueue) -> None:
    @pgq.task(max_retries=1, default_retry_delay=0.001)
    async def fail() -> None:
        raise ValueError

    job = await fail.enqueue()
    async with pgq.worker():
        await eventually(lambda: is_over(pgq, job.id))

    read, [first, second] = await job.refresh(), await pgq.attempts(job.id)
    assert read.started_at == first.started_at
    assert first.started_at is not None
    assert second.started_at is not None
    assert first.started_at <= first.ended_at <= second.started_at <= second.ended_at
    assert read.completed_at == second.ended_at


@pytest.mark.contract("P2.21")
async def test_a_worker_claims_for_its_free_slots_alone(pgq: PgQueue, db: Connection) -> None:
    started: list[int] = []
    go_on = asyncio.Semaphore(0)

    @pgq.task
    async def wait(number: int) -> None:
        started.append(number)
        await go_on.acquire()

    await pgq.enqueue_many(wait.s(number) for number in range(20))
    async with pgq.worker(concurrency=3, grace=0) as worker:
        for done in range(10):
            await eventually(lambda done=done: holds(len(started) == 3 + done))  # type: ignore[misc]
            await eventually(lambda done=done: has_count(db, "job where status is not null", done))  # type: ignore[misc]
            assert await db.fetchval("select count(*) from pgqueue.running") == 3
            assert worker.running == 3
            go_on.release()


async def test_jobs_of_one_lane_start_in_the_order_of_their_enqueueing(pgq: PgQueue) -> None:
    order: list[int] = []

    @pgq.task
    async def note(number: int) -> None:
        order.append(number)

    await pgq.enqueue_many(note.s(number) for number in range(50))
    for number in range(50, 60):
        last = await note.enqueue(number)
    async with pgq.worker(concurrency=7):
        await last.result(timeout=60)
        await eventually(lambda: holds(len(order) == 60))

    assert order == list(range(60))


async def test_higher_priorities_start_first(pgq: PgQueue) -> None:
    order: list[int] = []

    @pgq.task
    async def note(priority: int) -> None:
        order.append(priority)

    await pgq.enqueue_many(note.options(priority=priority).s(priority) for priority in (0, 5, -5, 100, 5, 0))
    async with pgq.worker(concurrency=1):
        await eventually(lambda: holds(len(order) == 6))

    assert order == [100, 5, 5, 0, 0, -5]


@pytest.mark.parametrize("names", [("a", "c"), ("b", "d"), ("a", "b"), ("a", "d")])
async def test_queues_of_equal_priority_take_turns(
    pgq: PgQueue, db: Connection, names: tuple[str, str]
) -> None:
    order: list[str] = []

    @pgq.task
    async def note(queue: str) -> None:
        order.append(queue)

    # Lane numbers are what the turns are taken by; there are others around and in between.
    for name in "abcd":
        await db.execute("insert into pgqueue.lane (queue, priority) values ($1, 0)", name)
    await pgq.enqueue_many(note.options(queue=name).s(name) for name in names for _ in range(20))
    async with pgq.worker(concurrency=1, queues=names):
        await eventually(lambda: holds(len(order) == 40))

    assert {Counter(order[start : start + 2])[names[0]] for start in range(0, 40, 2)} == {1}


async def test_a_connection_that_is_opened_meanwhile_takes_no_queue_its_turn(pgq: PgQueue) -> None:
    order: list[str] = []

    @pgq.task
    async def note(queue: str) -> None:
        order.append(queue)

    await pgq.enqueue_many(note.options(queue=name).s(name) for name in "ab" for _ in range(20))
    async with pgq.worker(concurrency=1, queues=("a", "b")) as worker:
        inside.connect_between_claims(pgq, worker)
        await eventually(lambda: holds(len(order) == 40))

    assert {Counter(order[start : start + 2])["a"] for start in range(0, 40, 2)} == {1}


async def test_workers_never_run_a_job_twice(pgq: PgQueue, dsn: str) -> None:
    runs: Counter[int] = Counter()

    def declare(queue: PgQueue) -> Any:
        @queue.task
        async def count(number: int) -> None:
            runs[number] += 1

        return count

    count = declare(pgq)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(pgq.worker())
        for _ in range(2):
            other = PgQueue(dsn)
            declare(other)
            await stack.enter_async_context(other)
            await stack.enter_async_context(other.worker())
        handles = await pgq.enqueue_many(count.s(number) for number in range(2000))
        for handle in handles:
            await handle.result(timeout=60)

    assert runs == Counter(range(2000))


@pytest.mark.contract("P2.15")
async def test_an_exception_ends_the_attempt_and_is_no_loss_of_the_worker(pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    async def fail() -> None:
        raise ValueError("no")

    job = await fail.enqueue()
    async with pgq.worker():
        await eventually(lambda: is_over(pgq, job.id))

    read, [attempt] = await job.refresh(), await pgq.attempts(job.id)
    assert (read.status, read.attempt, read.losses) == (JobStatus.FAILED, 1, 0)
    assert (attempt.attempt, attempt.reason) == (1, "exception")


@pytest.mark.contract("BP2")
async def test_jobs_survive_the_end_of_every_process_that_knew_them(dsn: str) -> None:
    def declare() -> tuple[PgQueue, Any]:
        queue = PgQueue(dsn)

        @queue.task
        async def double(number: int) -> int:
            return 2 * number

        return queue, double

    queue, double = declare()
    async with queue:
        ready = await double.enqueue(1)
        delayed = await double.options(delay=0.001).enqueue(2)

    queue, _ = declare()
    async with queue, queue.worker():
        results = [await queue.handle(job.id).result(timeout=60) for job in (ready, delayed)]

    assert results == [2, 4]


async def test_a_worker_that_is_stopped_at_once_leaves_no_lease(pgq: PgQueue, db: Connection) -> None:
    for _ in range(5):
        async with pgq.worker():
            pass

    assert await db.fetchval("select count(*) from pgqueue.lease") == 0


async def test_a_worker_that_comes_and_goes_under_load_leaves_nothing_behind(
    pgq: PgQueue, db: Connection
) -> None:
    runs: Counter[int] = Counter()

    @pgq.task
    async def count(number: int) -> None:
        runs[number] += 1

    await pgq.enqueue_many(count.s(number) for number in range(4000))
    for goal in range(20, 420, 20):
        async with pgq.worker(concurrency=5, cancel_grace=60):
            await eventually(lambda goal=goal: holds(len(runs) >= goal))  # type: ignore[misc]

    assert await db.fetchval("select count(*) from pgqueue.running") == 0
    assert await db.fetchval("select count(*) from pgqueue.lease") == 0
    assert await db.fetchval("select count(*) from pgqueue.attempt") == 0
    assert await db.fetchval("select sum(losses) from pgqueue.ready") == 0
    assert set(runs.values()) == {1}


async def test_an_observer_that_raises_disturbs_neither_the_worker_nor_other_observers(
    pgq: PgQueue, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("observer")

    @pgq.task
    async def work() -> str:
        return "done"

    pgq.observe(broken)
    pgq.observe(heard.append)
    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == "done"

    assert any(isinstance(event, JobsClaimed) for event in heard)
    assert [
        each.job_id for event in heard if isinstance(event, AttemptsEnded) for each in event.attempts
    ] == [job.id]
    assert "raised an error at AttemptsEnded" in caplog.text


async def test_a_worker_serves_the_queues_it_is_told_and_no_others(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    other = await work.options(queue="other").enqueue()
    own = await work.options(queue="own").enqueue()
    async with pgq.worker(queues=["own"]):
        await own.result(timeout=60)

    assert await other.status() is JobStatus.PENDING


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"queues": []}, "at least one queue"),
        ({"concurrency": 0}, "concurrency must be a whole number, 1 or more"),
        ({"prefetch_multiplier": 0}, "prefetch_multiplier must be a whole number, 1 or more, got 0"),
        ({"poll_interval": 0}, "poll_interval must be more than 0"),
        ({"lease_ttl": 0.5}, "lease_ttl must be from 1 to "),
        ({"grace": -1}, "grace must be 0 or more"),
    ],
)
async def test_settings_that_cannot_work_are_refused(
    pgq: PgQueue, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        pgq.worker(**settings)


def test_a_worker_needs_an_open_queue() -> None:
    with pytest.raises(NotOpenError):
        PgQueue("postgresql://localhost/unused").worker()


async def test_a_worker_says_whether_it_consumes(pgq: PgQueue) -> None:
    async with pgq.worker() as worker:
        await worker.wait_ready()
        consumes, is_alive, workers = worker.is_consuming, worker.is_alive, list(pgq.workers)
        worker.stop()
        stopping = worker.is_consuming

    assert (consumes, is_alive, workers) == (True, True, [worker])
    assert not stopping
    assert not worker.is_alive
    assert list(pgq.workers) == []


async def has_count(db: Connection, rows: str, count: int) -> bool:
    return bool(await db.fetchval(f"select count(*) = {count} from pgqueue.{rows}"))
