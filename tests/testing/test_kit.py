"""The test kit, as the tests of an application use it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest
from pydantic import BaseModel

from pgqueue import JobContext, JobStatus, PgQueue, Rate, chord
from pgqueue.errors import (
    ConfigurationError,
    InvalidArgumentsError,
    InvalidOptionError,
    ScheduleNotFoundError,
)
from pgqueue.testing import Clock, assert_enqueued, drain, runs_twice, using
from pgqueue.testing.databases import with_database

if TYPE_CHECKING:
    from conftest import Connection

    from pgqueue.testing import Databases


@pytest.mark.contract("P8.9")
async def test_drain_runs_what_is_ready_and_what_that_enqueues_and_returns_what_ended(pgq: PgQueue) -> None:
    @pgq.task
    async def parent(depth: int) -> int:
        if depth:
            await parent.enqueue(depth - 1)
        return depth

    @pgq.task(max_retries=1, default_retry_delay=60)
    async def breaks() -> None:
        raise ValueError

    @pgq.task
    async def add(numbers: list[int]) -> int:
        return sum(numbers)

    later = await parent.options(delay=3600).enqueue(0)
    await parent.enqueue(2)
    retried = await breaks.enqueue()
    flow = await chord([parent.s(0), parent.s(0)], add.s()).enqueue()

    ended = await drain(pgq)

    results = [(job.task, job.result) for job in ended]
    assert [each for each in results if each[1]] == [("parent", 2), ("parent", 1)]
    assert results.count(("parent", 0)) == 3
    assert ended[-1].task == "add"
    assert await flow.result(timeout=60) == 0
    assert (await later.status(), await retried.status()) == (JobStatus.SCHEDULED, JobStatus.SCHEDULED)
    assert await drain(pgq) == []


@pytest.mark.contract("P8.9")
async def test_the_clock_makes_delays_retries_rates_waits_and_expiries_pass_without_sleeping(
    pgq: PgQueue,
) -> None:
    clock = Clock(pgq)
    slow = pgq.limit("slow", rate=Rate(1, 3600))

    @pgq.task(max_retries=1, default_retry_delay=600, retry_jitter=False)
    async def second_time(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            raise ValueError
        return ctx.attempt

    @pgq.task
    async def now() -> None: ...

    @pgq.task(limits=[slow])
    async def limited() -> None: ...

    @pgq.task
    async def sleeps(ctx: JobContext) -> str:
        await ctx.sleep("a week", timedelta(days=7))
        return "awake"

    retried = await second_time.enqueue()
    delayed = await now.options(delay=1800).enqueue()
    expiring = await now.options(delay=1800, expires=60).enqueue()
    by_rate = await pgq.enqueue_many([limited.s(), limited.s()])
    await sleeps.enqueue()
    assert [job.id for job in await drain(pgq)] == [by_rate[0].id]

    await clock.advance(minutes=11)
    assert {job.id for job in await drain(pgq)} == {retried.id, expiring.id}
    assert await retried.result(timeout=60) == 2
    assert await expiring.status() is JobStatus.EXPIRED

    await clock.advance(hours=1)
    assert {job.id for job in await drain(pgq)} == {delayed.id, by_rate[1].id}

    await clock.advance(days=7)
    assert [job.result for job in await drain(pgq)] == ["awake"]


@pytest.mark.contract("P8.9")
async def test_schedules_tick_when_the_clock_is_moved_to_their_tick(pgq: PgQueue) -> None:
    clock = Clock(pgq)

    @pgq.schedule("0 9 * * 1", misfire="skip")
    @pgq.task
    async def report() -> None: ...

    for _ in range(2):
        await clock.advance_to_tick("report")
        assert [job.task for job in await drain(pgq)] == ["report"]
    assert await drain(pgq) == []
    with pytest.raises(ScheduleNotFoundError):
        await clock.advance_to_tick("no report")
    await pgq.schedules.pause("report")
    with pytest.raises(ConfigurationError, match="paused"):
        await clock.advance_to_tick("report")


@pytest.mark.contract("P8.9")
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
async def test_time_goes_forward_only(pgq: PgQueue, seconds: float) -> None:
    with pytest.raises(InvalidOptionError):
        await Clock(pgq).advance(seconds=seconds)


@pytest.mark.contract("P8.9")
async def test_a_worker_that_runs_notices_that_time_has_passed_and_keeps_its_lease(pgq: PgQueue) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    @pgq.task
    async def holds(ctx: JobContext) -> int:
        entered.set()
        await leave.wait()
        return ctx.losses

    @pgq.task
    async def later() -> None: ...

    async with pgq.worker():
        held = await holds.enqueue()
        delayed = await later.options(delay=86400).enqueue()
        await entered.wait()
        await Clock(pgq).advance(days=1)
        await delayed.result(timeout=60)
        leave.set()
        assert await held.result(timeout=60) == 0


@pytest.mark.contract("P8.9")
async def test_drain_says_what_is_left_if_that_does_not_end_and_leaves_it_to_others(pgq: PgQueue) -> None:
    @pgq.task
    async def hangs() -> None:
        await asyncio.Event().wait()

    job = await hangs.enqueue()

    with pytest.raises(TimeoutError, match=r"after 3 s there are still running jobs"):
        await drain(pgq, timeout=3)
    assert await job.status() is JobStatus.PENDING


@pytest.mark.contract("P8.9")
async def test_drain_leaves_paused_queues_unknown_tasks_and_queues_of_others(pgq: PgQueue) -> None:
    @pgq.task(queue="mine")
    async def mine() -> None: ...

    @pgq.task(queue="paused")
    async def paused() -> None: ...

    await pgq.pause(queue="paused", actor="a test")
    await pgq.enqueue_many([paused.s(), pgq.signature("unknown", options={"queue": "mine"}), mine.s()])
    await pgq.enqueue(pgq.signature("mine", options={"queue": "other"}))

    assert [job.task for job in await drain(pgq)] == ["mine"]
    assert await drain(pgq) == []


class Mail(BaseModel):
    to: str
    subject: str = "Hi"


@pytest.mark.contract("P8.9")
async def test_assert_enqueued_finds_jobs_by_what_their_handlers_get(pgq: PgQueue) -> None:
    @pgq.task(queue="mail")
    async def send(mail: Mail, copies: int = 1, *, times: int = 0) -> None: ...

    first = await send.enqueue(Mail(to="ann"))
    second = await send.options(queue="slow").enqueue(Mail(to="bob"), copies=2)
    await drain(pgq, queues=["mail"])

    assert [job.id for job in await assert_enqueued(send)] == [first.id, second.id]
    assert [job.id for job in await assert_enqueued(send, Mail(to="ann"), 1, queue="mail")] == [first.id]
    assert [job.id for job in await assert_enqueued(send, ANY, copies=2, times=1)] == [second.id]
    assert await assert_enqueued(send, Mail(to="eve"), times=0) == []


@pytest.mark.contract("P8.9")
async def test_assert_enqueued_shows_what_was_enqueued_instead_without_secrets(pgq: PgQueue) -> None:
    @pgq.task(redact=["token"])
    async def call(url: str, token: str) -> None: ...

    @pgq.task
    async def other() -> None: ...

    with pytest.raises(AssertionError, match=r"^call\(\.\.\.\) was not enqueued\nNothing was enqueued\.$"):
        await assert_enqueued(call)
    await other.enqueue()
    with pytest.raises(AssertionError, match=r"Jobs of other tasks:\n  other \(1\)"):
        await assert_enqueued(call)
    await call.enqueue("/a", "s3cret")
    with pytest.raises(AssertionError) as raised:
        await assert_enqueued(call, "/b", queue="mail")
    assert str(raised.value) == (
        "call('/b') in queue 'mail' was not enqueued\n"
        "Jobs of call:\n"
        "  call(url='/a', token='[redacted]'), queue default, pending"
    )
    with pytest.raises(AssertionError, match=r"call\('/a'\) was enqueued once, and not 2 times"):
        await assert_enqueued(call, "/a", times=2)
    with pytest.raises(AssertionError, match="was enqueued once, and was not to be"):
        await assert_enqueued(call, times=0)


@pytest.mark.contract("P8.9")
async def test_assert_enqueued_refuses_what_can_never_match(pgq: PgQueue) -> None:
    @pgq.task
    async def work(number: int) -> None: ...

    no_task: Any = "work"
    with pytest.raises(ConfigurationError, match="pass a task, got 'work'"):
        await assert_enqueued(no_task)
    with pytest.raises(InvalidArgumentsError, match="work"):
        await assert_enqueued(work, numbr=1)
    with pytest.raises(InvalidOptionError):
        await assert_enqueued(work, times=-1)


@pytest.mark.contract("P8.9", "BP3")
async def test_a_worker_that_exists_runs_jobs_twice_inside_the_block_and_once_behind_it(pgq: PgQueue) -> None:
    calls: list[str] = []

    @pgq.task
    async def work(name: str) -> None:
        calls.append(name)

    async with pgq.worker():
        await (await work.enqueue("before")).result(timeout=60)
        with runs_twice(pgq):
            await (await work.enqueue("inside")).result(timeout=60)
            async with pgq.worker():
                pass
        await (await work.enqueue("behind")).result(timeout=60)
    with runs_twice(pgq):
        await work.enqueue("drained")
        await drain(pgq)

    assert calls == ["before", "inside", "inside", "behind", "drained", "drained"]


@pytest.mark.contract("P8.9")
async def test_a_pgqueue_is_used_on_one_database_after_the_other_and_brings_nothing_along(
    databases: Databases, db: Connection, dsn: str
) -> None:
    pgq = PgQueue("postgresql://nowhere.invalid/production", max_depth=1)
    pgq.queue("narrow", slots=1)

    @pgq.schedule(every=60)
    @pgq.task(queue="narrow", limits=[pgq.limit("one", slots=1)])
    async def work() -> None: ...

    for _ in range(2):
        fresh = databases.clone()
        with using(pgq, fresh):
            async with pgq:
                await work.enqueue()
                await Clock(pgq).advance_to_tick("work")
                assert len(await drain(pgq)) == 2
                with pytest.raises(ConfigurationError, match="open"):
                    pgq.dsn = dsn
        databases.drop(fresh)

    assert pgq.dsn == "postgresql://nowhere.invalid/production"
    with pytest.raises(ConfigurationError), using(pgq, "mysql://x"):
        pass
    assert pgq.dsn == "postgresql://nowhere.invalid/production"


@pytest.mark.parametrize(
    ("dsn", "other"),
    [
        ("postgresql://me:s%2Fd@db:5/one?host=/tmp", "postgresql://me:s%2Fd@db:5/two?host=/tmp"),
        ("postgresql:///", "postgresql:///two"),
        ("host=db dbname=one user=me", "host=db  user=me dbname=two"),
        ("host=db", "host=db dbname=two"),
    ],
)
def test_a_dsn_in_either_form_is_pointed_at_another_database(dsn: str, other: str) -> None:
    assert with_database(dsn, "two") == other
