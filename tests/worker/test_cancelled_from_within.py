"""A handler that is cancelled from within has failed; one that the worker stops is what the worker said."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import pytest
from kit.faults import attempt_reasons
from kit.waiting import eventually, has_status, holds, over

from pgqueue import JobContext, JobStatus, PgQueue, SoftTimeLimitExceeded
from pgqueue.worker.outcome import finisher

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = [pytest.mark.handlers, pytest.mark.contract("W15")]

LONG = 3600


def cancel_myself() -> None:
    """Do what a timer of a library does, a moment too late."""
    runner = asyncio.current_task()
    assert runner is not None
    runner.cancel()


async def at_once() -> None:
    cancel_myself()
    await asyncio.sleep(LONG)


async def by_a_timer() -> None:
    runner = asyncio.current_task()
    assert runner is not None
    asyncio.get_running_loop().call_later(0.01, runner.cancel)
    await asyncio.sleep(LONG)


async def twice() -> None:
    """Swallow one and never uncancel it; then await a child that was cancelled."""
    cancel_myself()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(LONG)
    child = asyncio.create_task(asyncio.sleep(LONG))
    child.cancel()
    await child


async def numbers() -> AsyncGenerator[int]:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, LONG)
        for number in range(100):
            yield number


async def half_read() -> None:
    """Leave a generator with a task group half-way: its late clean-up cancels whoever began it."""
    async for _ in numbers():
        break
    gc.collect()
    await asyncio.sleep(LONG)


async def left_scope() -> None:
    """Leave a cancel scope open, which another asyncio task then cancels, again and again."""
    scope = anyio.CancelScope()
    scope.__enter__()
    asyncio.get_running_loop().call_later(0.01, scope.cancel)
    await asyncio.sleep(LONG)


async def raised() -> None:
    raise asyncio.CancelledError


async def in_a_group() -> None:
    raise BaseExceptionGroup("both", [asyncio.CancelledError(), asyncio.CancelledError()])


async def wait_for_round_a_group() -> None:
    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise ConnectionError

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            cancel_myself()
            await asyncio.sleep(LONG)

    await asyncio.wait_for(both(), LONG)


WAYS: list[Callable[[], Awaitable[None]]] = [
    at_once,
    by_a_timer,
    twice,
    half_read,
    left_scope,
    raised,
    in_a_group,
    wait_for_round_a_group,
]


async def nothing(context: JobContext) -> None:
    pass


async def reported(context: JobContext) -> None:
    context.progress(1, 2)


async def stepped(context: JobContext) -> None:
    async def step() -> int:
        return 1

    await context.step("one", step)


async def written(context: JobContext) -> None:
    async with context.transaction() as connection:
        await connection.execute("insert into written values (1)")


USES: list[Callable[[JobContext], Awaitable[None]]] = [nothing, reported, stepped, written]


def name_of(function: Callable[..., object]) -> str:
    return function.__name__


async def once_more(pgq: PgQueue) -> None:
    """Run a job: the worker still works, in the slot that it has."""

    @pgq.task
    async def next_one() -> str:
        return "ran"

    assert await (await next_one.enqueue()).result(timeout=60) == "ran"


@pytest.mark.parametrize("use", USES, ids=name_of)
async def test_a_cancellation_from_within_is_a_failed_attempt_that_counts(
    pgq: PgQueue, db: Connection, use: Callable[[JobContext], Awaitable[None]]
) -> None:
    await db.execute("create table written (n int)")
    runs = dict.fromkeys(WAYS, 0)

    def declare(way: Callable[[], Awaitable[None]]) -> object:
        @pgq.task(name=name_of(way), max_retries=1, default_retry_delay=0.01, retry_backoff=False)
        async def work(context: JobContext) -> None:
            runs[way] += 1
            await use(context)
            await way()

        return work

    for way in WAYS:
        declare(way)
    async with pgq.worker(concurrency=len(WAYS)) as worker:
        jobs = {way: await pgq.enqueue_by_name(name_of(way)) for way in WAYS}
        ended = {way: await over(job) for way, job in jobs.items()}

        await once_more(pgq)
        assert worker.is_alive
    for way, job in ended.items():
        assert (way, job.status, job.attempt, runs[way]) == (way, JobStatus.FAILED, 2, 2)
        assert job.reason == "exception"
        assert job.error is not None
        assert job.error.message
        assert await attempt_reasons(pgq, job.id) == ["exception", "exception"]
    assert await db.fetchval("select count(*) from written") == 0


@pytest.mark.parametrize("use", USES, ids=name_of)
async def test_a_cancellation_that_comes_too_late_leaves_what_the_handler_returned(
    pgq: PgQueue, db: Connection, use: Callable[[JobContext], Awaitable[None]]
) -> None:
    await db.execute("create table written (n int)")

    @pgq.task(name="left behind")
    async def left_behind(context: JobContext) -> int:
        await use(context)
        scope = anyio.CancelScope()
        scope.__enter__()
        # As long as this task lives, it is cancelled in each turn of the loop.
        scope.cancel()
        return 1

    @pgq.task
    async def late(context: JobContext) -> int:
        await use(context)
        cancel_myself()
        return 1

    @pgq.task
    async def swallowed(context: JobContext) -> int:
        await use(context)
        cancel_myself()
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            await use(context) if use is not stepped else None
        return 1

    async with pgq.worker(concurrency=1):
        for task in (left_behind, late, swallowed):
            job = await over(await task.enqueue())
            assert (task.name, job.status, job.attempt) == (task.name, JobStatus.SUCCEEDED, 1)
        await once_more(pgq)


async def test_the_true_stops_stay_what_they_are_when_a_handler_cancels_itself_too(pgq: PgQueue) -> None:
    begun: list[str] = []

    def stubborn(name: str) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            begun.append(name)
            cancel_myself()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(LONG)
            try:
                await asyncio.sleep(LONG)
            finally:
                # ... and once more, in the very moment in which the worker does.
                cancel_myself()
                await asyncio.sleep(0)

        work.__name__ = name
        return work

    options = {"max_retries": 0}
    hard = pgq.task(timeout=0.2, soft_timeout=None, **options)(stubborn("hard"))  # type: ignore[call-overload]
    cancelled = pgq.task(**options)(stubborn("cancelled"))  # type: ignore[call-overload]
    released = pgq.task(**options)(stubborn("released"))  # type: ignore[call-overload]
    async with pgq.worker(concurrency=3, grace=0) as worker:
        jobs = [await task.enqueue() for task in (hard, cancelled, released)]
        await eventually(lambda: holds(len(begun) == 3))
        await jobs[1].cancel()
        ended = [await over(job) for job in jobs[:2]]
        worker.stop()
        await worker.wait_stopped()

    assert [(job.status, job.reason) for job in ended] == [
        (JobStatus.FAILED, "hard_timeout"),
        (JobStatus.CANCELLED, "cancelled"),
    ]
    assert await has_status(jobs[2], JobStatus.PENDING)
    assert await attempt_reasons(pgq, jobs[2].id) == ["released"]


async def test_a_soft_limit_is_one_although_the_handler_had_cancelled_itself(pgq: PgQueue) -> None:
    seen: list[str] = []

    @pgq.task(soft_timeout=0.5, timeout=30, max_retries=0)
    async def swallowed_one() -> None:
        cancel_myself()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)
        try:
            await asyncio.sleep(LONG)
        except SoftTimeLimitExceeded:
            seen.append("told")
            raise

    @pgq.task(soft_timeout=0.5, timeout=30, max_retries=0)
    async def made_another_of_it() -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            raise asyncio.CancelledError from None

    async with pgq.worker(concurrency=2):
        jobs = [await over(await task.enqueue()) for task in (swallowed_one, made_another_of_it)]

    assert seen == ["told"]
    assert [(job.status, job.reason) for job in jobs] == [(JobStatus.FAILED, "soft_timeout")] * 2


async def test_a_job_that_is_released_again_and_again_is_charged_for_it_and_ends(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finisher, "MAX_RELEASES", 2)
    begun = anyio.Event()

    @pgq.task(max_retries=1, default_retry_delay=0.001, retry_backoff=False)
    async def outlasts_every_worker() -> None:
        begun.set()
        await asyncio.sleep(LONG)

    job = await outlasts_every_worker.enqueue()
    for _ in range(6):
        begun = anyio.Event()
        async with pgq.worker(grace=0):
            await begun.wait()

    assert await attempt_reasons(pgq, job.id) == [*["released", "released", "released_too_often"] * 2]
    ended = await job.refresh()
    assert (ended.status, ended.attempt, ended.reason) == (JobStatus.FAILED, 2, "released_too_often")
