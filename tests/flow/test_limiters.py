"""What handlers hold, or count, in their middle: no more than is allowed, nor longer than they run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID, uuid4

import pytest
from kit.faults import Ghost, ghost
from kit.waiting import eventually

from pgqueue import (
    ContextError,
    InvalidOptionError,
    JobFailed,
    LeaseLostError,
    Limiter,
    LimiterFullError,
    PgQueue,
    SoftTimeLimitExceeded,
)
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus as Status
from pgqueue.model.outcomes import Ended, Retried, Suspended
from pgqueue.tasks.limiters import Allowed

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P8.3")

SLOT = Allowed("slots", "one", 1)


class Inside:
    """Who is in a block now, and the most that there have been at once."""

    def __init__(self) -> None:
        self.names: list[object] = []
        self.order: list[object] = []
        self.most = 0

    @asynccontextmanager
    async def visit(self, name: object, seconds: float = 0.005) -> AsyncIterator[None]:
        self.names.append(name)
        self.order.append(name)
        self.most = max(self.most, len(self.names))
        await asyncio.sleep(seconds)
        yield
        self.names.remove(name)


@asynccontextmanager
async def two_workers(dsn: str, declare: Callable[[PgQueue], Any]) -> AsyncIterator[Sequence[Any]]:
    """Run two PgQueues with a worker each; yield what *declare* returns for each."""
    async with AsyncExitStack() as stack:
        declared = []
        for _ in range(2):
            pgq = await stack.enter_async_context(PgQueue(dsn))
            declared.append(declare(pgq))
            await stack.enter_async_context(pgq.worker(concurrency=10))
        yield declared


# How many


@pytest.mark.parametrize("slots", [1, 3])
async def test_over_all_workers_as_many_jobs_are_in_a_block_as_it_has_slots_and_no_more(
    dsn: str, slots: int
) -> None:
    seen = Inside()

    def declare(pgq: PgQueue) -> Any:
        limiter = pgq.mutex("door") if slots == 1 else pgq.concurrent("door", slots=slots)

        @pgq.task
        async def work(number: int) -> None:
            async with limiter as has_room, seen.visit(number):
                assert has_room

        return work

    async with two_workers(dsn, declare) as (work, _):
        jobs = await work.host.enqueue_many([work.s(number) for number in range(40)])
        for job in jobs:
            await job.result(timeout=60)

    assert seen.most == slots
    assert sorted(map(str, seen.order)) == sorted(map(str, range(40)))


async def test_jobs_come_to_a_mutex_in_the_order_in_which_they_asked(pgq: PgQueue, db: Connection) -> None:
    seen, is_open = Inside(), asyncio.Event()

    @pgq.task
    async def first() -> None:
        async with pgq.mutex("door"):
            await is_open.wait()

    @pgq.task
    async def work(number: int) -> None:
        async with pgq.mutex("door"), seen.visit(number, 0):
            pass

    async with pgq.worker(concurrency=20):
        jobs: list[Any] = [await first.enqueue()]
        await eventually(lambda: has_holds(db, 1))
        for number in range(8):
            jobs.append(await work.enqueue(number))
            await eventually(lambda number=number: has_holds(db, number + 2))  # type: ignore[misc]
        is_open.set()
        for job in jobs:
            await job.result(timeout=60)

    assert seen.order == list(range(8))


async def has_holds(db: Connection, count: int) -> bool:
    return bool(await db.fetchval("select count(*) from pgqueue.limiter_hold") == count)


@pytest.mark.parametrize("kind", ["bucket", "window"])
async def test_as_many_enter_as_the_time_allows_and_the_next_when_it_has_passed(
    pgq: PgQueue, db: Connection, kind: Literal["bucket", "window"]
) -> None:
    limiter = getattr(pgq, kind)("api", limit=3, per=3600, wait=0, raise_on_failure=False)

    @pgq.task
    async def work() -> bool:
        async with limiter as has_room:
            return bool(has_room)

    async def entered(count: int) -> list[bool]:
        return [await (await work.enqueue()).result(timeout=60) for _ in range(count)]

    async with pgq.worker():
        assert await entered(4) == [True, True, True, False]
        # The same as if time had passed.
        await back_date(db, 1300)
        # A token has come back; the window has not passed.
        assert await entered(2) == [kind == "bucket", False]
        await back_date(db, 2400)
        assert await entered(4) == [True, True, kind == "window", False]


async def back_date(db: Connection, seconds: float) -> None:
    await db.execute(
        "update pgqueue.limiter_state set at = at - make_interval(secs => $1), "
        "until = until - make_interval(secs => $1), latest = latest - floor($1 / width)",
        seconds,
    )


@pytest.mark.parametrize("kind", ["bucket", "window"])
async def test_who_waits_for_a_rate_enters_as_soon_as_it_allows_and_never_before(
    dsn: str, kind: Literal["bucket", "window"]
) -> None:
    times: list[float] = []

    def declare(pgq: PgQueue) -> Any:
        limiter = getattr(pgq, kind)("api", limit=5, per=0.5)

        @pgq.task
        async def work() -> None:
            async with limiter:
                times.append(time.monotonic())

        return work

    async with two_workers(dsn, declare) as (work, _):
        for job in await work.host.enqueue_many([work.s() for _ in range(15)]):
            await job.result(timeout=60)

    times.sort()
    # Of a bucket, twice its size in its first period. A stretch shorter than `per`: clocks of two processes.
    most = 10 if kind == "bucket" else 5
    assert max(sum(at <= other < at + 0.45 for other in times) for at in times) <= most
    assert times[-1] - times[0] >= 0.9


# If there is no room


async def test_a_limiter_without_room_is_an_error_that_says_what_now_or_false(
    pgq: PgQueue, db: Connection
) -> None:
    is_open = asyncio.Event()

    @pgq.task
    async def hold() -> None:
        async with pgq.mutex("door"):
            await is_open.wait()

    @pgq.task(max_retries=0)
    async def work(wait: float | None, raises: bool) -> bool:
        async with pgq.mutex("door", wait=wait, raise_on_failure=raises) as has_room:
            return has_room

    async with pgq.worker():
        holding = await hold.enqueue()
        await eventually(lambda: has_holds(db, 1))
        jobs = [await work.enqueue(wait, True) for wait in (0, 0.2)]
        errors = []
        for job in jobs:
            with pytest.raises(JobFailed) as failed:
                await job.result(timeout=60)
            errors.append(str(failed.value))
        assert await (await work.enqueue(0, False)).result(timeout=60) is False
        assert await (await work.enqueue(0.1, False)).result(timeout=60) is False
        # They have given back their turns.
        assert await has_holds(db, 1)
        is_open.set()
        await holding.result(timeout=60)

    assert "mutex 'door' had no room; pass a longer wait=, or try later" in errors[0]
    assert "mutex 'door' had no room within 0.2 s; pass a longer wait=" in errors[1]


async def test_the_error_says_when_there_may_be_room(pgq: PgQueue) -> None:
    @pgq.task
    async def work(kind: str) -> float | None:
        async with getattr(pgq, kind)("api", limit=1, per=10, wait=0):
            pass
        with pytest.raises(LimiterFullError) as full:
            async with getattr(pgq, kind)("api", limit=1, per=10, wait=0):
                pass
        assert full.value.name == "api"
        return full.value.retry_after

    async with pgq.worker():
        for kind in ("bucket", "window"):
            seconds = await (await work.enqueue(kind)).result(timeout=60)
            assert seconds is not None
            assert 5 < seconds <= 10.2


@pytest.mark.parametrize(
    "make",
    [
        lambda pgq: pgq.mutex(""),
        lambda pgq: pgq.mutex("x" * 201),
        lambda pgq: pgq.mutex("a\0b"),
        lambda pgq: pgq.mutex("door", wait=-1),
        lambda pgq: pgq.mutex("door", wait=float("nan")),
        lambda pgq: pgq.mutex("door", raise_on_failure="no"),
        lambda pgq: pgq.concurrent("door", slots=0),
        lambda pgq: pgq.concurrent("door", slots=True),
        lambda pgq: pgq.concurrent("door", slots=10_001),
        lambda pgq: pgq.bucket("door", limit=0, per=1),
        lambda pgq: pgq.bucket("door", limit=1, per=0),
        lambda pgq: pgq.bucket("door", limit=1, per=float("nan")),
        lambda pgq: pgq.window("door", limit=1, per=float("inf")),
        lambda pgq: pgq.window("door", limit=1.5, per=1),
    ],
)
async def test_a_limiter_that_cannot_be_is_refused_where_it_is_made(
    pgq: PgQueue, make: Callable[[PgQueue], Limiter]
) -> None:
    with pytest.raises(InvalidOptionError):
        make(pgq)


# Where it may be used


async def test_outside_of_a_job_in_itself_and_of_another_pgqueue_it_is_an_error_that_says_what_now(
    pgq: PgQueue, dsn: str
) -> None:
    other = PgQueue(dsn)
    errors: list[str] = []

    async def fails(limiter: Limiter) -> None:
        with pytest.raises(ContextError) as error:
            async with limiter:
                pass
        errors.append(str(error.value))

    @pgq.task
    async def work() -> None:
        await fails(other.mutex("door"))
        async with pgq.mutex("door"):
            await fails(pgq.mutex("door"))
            await fails(pgq.concurrent("door", slots=2))
            async with asyncio.TaskGroup() as group:
                group.create_task(fails(pgq.mutex("door")))
            bucket = pgq.bucket("door", limit=2, per=1)
            async with pgq.mutex("another"), bucket, bucket:
                pass
        # It is left: the next block is no block inside it.
        async with pgq.mutex("door"):
            pass
        with pytest.raises(ContextError) as error, pgq.mutex("door"):
            pass
        errors.append(str(error.value))

    await fails(pgq.mutex("door"))
    async with pgq.worker():
        await (await work.enqueue()).result(timeout=60)

    assert "was used outside of a job" in errors[0]
    assert "belongs to another PgQueue" in errors[1]
    assert all("is held by this block of job" in error for error in errors[2:5])
    assert errors[5:] == ["mutex 'door': `with` blocks the event loop; use `async with`"]


async def test_tasks_of_one_handler_wait_for_each_other(pgq: PgQueue) -> None:
    seen = Inside()

    @pgq.task
    async def work() -> None:
        async def one(number: int) -> None:
            async with pgq.concurrent("api", slots=2), seen.visit(number):
                pass

        await asyncio.gather(*map(one, range(8)))

    async with pgq.worker():
        await (await work.enqueue()).result(timeout=60)

    assert (seen.most, len(seen.order)) == (2, 8)


async def test_plain_handlers_hold_it_by_with(pgq: PgQueue, db: Connection) -> None:
    inside_now: list[int] = []
    most: list[int] = []

    @pgq.task
    def work(number: int) -> bool:
        with pgq.mutex("door") as has_room:
            inside_now.append(number)
            most.append(len(inside_now))
            time.sleep(0.005)
            inside_now.remove(number)
        return has_room

    async with pgq.worker(concurrency=8):
        jobs = await pgq.enqueue_many([work.s(number) for number in range(16)])
        assert [await job.result(timeout=60) for job in jobs] == [True] * 16

    assert max(most) == 1
    assert await has_holds(db, 0)


@pytest.mark.parametrize("is_soft", [True, False], ids=["soft limit", "hard limit"])
async def test_a_plain_handler_that_waits_heeds_its_time_limits_and_leaves_no_turn_behind(
    pgq: PgQueue, db: Connection, is_soft: bool
) -> None:
    is_open = asyncio.Event()
    told: list[type[BaseException]] = []

    @pgq.task
    async def hold() -> None:
        async with pgq.mutex("door"):
            await is_open.wait()

    @pgq.task(max_retries=0, soft_timeout=0.3 if is_soft else None, timeout=None if is_soft else 0.3)
    def work() -> None:
        try:
            with pgq.mutex("door"):
                pass
        except BaseException as error:
            told.append(type(error))
            raise

    async with pgq.worker():
        holding = await hold.enqueue()
        await eventually(lambda: has_holds(db, 1))
        job = await work.enqueue()
        with pytest.raises(JobFailed):
            await job.result(timeout=60)
        await eventually(lambda: told_of(told, SoftTimeLimitExceeded if is_soft else LeaseLostError))
        next_one = await hold.enqueue()
        is_open.set()
        await holding.result(timeout=60)
        await next_one.result(timeout=60)


async def told_of(told: list[type[BaseException]], expected: type[BaseException]) -> bool:
    return told == [expected]


# How it ends


DOORS: dict[str, Callable[[Ghost, UUID], Awaitable[object]]] = {
    "finish": lambda by, job: by.store.finish(by.connection, by.lease_id, "ghost", [job], None, None),
    "fail": lambda by, job: by.store.fail(
        by.connection, by.lease_id, "ghost", [Ended(job, Status.FAILED, "exception", JobError("E", "no"))]
    ),
    "cancel": lambda by, job: by.store.fail(
        by.connection, by.lease_id, "ghost", [Ended(job, Status.CANCELLED, "cancelled", None)]
    ),
    "retry": lambda by, job: by.store.retry(
        by.connection, by.lease_id, "ghost", [Retried(job, 0.0, "exception", JobError("E", "no"))]
    ),
    "release": lambda by, job: by.store.release(by.connection, by.lease_id, "ghost", [job]),
    "suspend": lambda by, job: by.store.suspend(
        by.connection, by.lease_id, [Suspended(job, None, None, "event")]
    ),
}


@pytest.mark.parametrize("door", DOORS)
async def test_whatever_ends_the_attempt_its_slot_is_free_and_the_job_does_not_hold_it_when_it_runs_again(
    pgq: PgQueue, door: str
) -> None:
    jobs = [(await pgq.enqueue_by_name("work")).id for _ in range(2)]
    async with ghost(pgq) as holder:
        await holder.claim()

        async def ask(job_id: UUID, hold: UUID) -> str:
            return (
                await holder.store.take_limiter(
                    holder.connection, hold, SLOT, job_id, holder.lease_id, waits=False
                )
            ).verdict

        first, second = uuid4(), uuid4()
        assert await ask(jobs[0], first) == "held"
        assert await ask(jobs[0], first) == "held"
        assert await ask(jobs[1], second) == "full"
        await DOORS[door](holder, jobs[0])
        assert await ask(jobs[0], first) == "lost"
        # The same lease has it again: another attempt.
        await holder.claim()
        assert await ask(jobs[1], second) == "held"
        assert await holder.store.leave_limiter(holder.connection, second) is None
        assert await ask(jobs[1], uuid4()) == "held"
