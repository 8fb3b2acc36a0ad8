"""Inline mode: jobs run where they are enqueued, and there is no server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from unittest.mock import ANY
from uuid import uuid4

import anyio.from_thread
import pytest
from pydantic import BaseModel

from pgqueue import Depends, JobContext, JobStatus, PgQueue, Snooze, chain
from pgqueue.blocking import BlockingPgQueue
from pgqueue.errors import (
    ConfigurationError,
    ContextError,
    DuplicateJobError,
    DuplicateKeyError,
    IdempotencyConflictError,
    InvalidArgumentsError,
    InvalidOptionError,
    JobFailed,
    JobNotFoundError,
    NotOpenError,
)
from pgqueue.testing import assert_enqueued, inline, runs_twice

pytestmark = [pytest.mark.contract("P8.9"), pytest.mark.any_server]


class Mail(BaseModel):
    to: str


@pytest.fixture
def alone() -> PgQueue:
    """A PgQueue without a server."""
    return PgQueue("postgresql://nowhere.invalid/production", payload_limit=1000)


async def test_a_job_has_run_when_enqueue_returns_with_what_a_worker_would_give_it(alone: PgQueue) -> None:
    seen: list[Any] = []

    @alone.task(queue="mail", priority=3)
    async def send(ctx: JobContext, mail: Mail, *, at: timedelta = timedelta(1)) -> Mail:
        seen.append((mail, at, ctx.queue, ctx.priority, ctx.attempt, ctx.headers))
        ctx.progress(1, 2)
        return mail

    @alone.task
    def plain(number: int) -> int:
        return anyio.from_thread.run(plain.enqueue, number - 1).id.int and number if number else 0

    mail = Mail(to="ann")
    with inline(alone):
        async with alone:
            job = await send.options(headers={"a": "b"}, tags=["t"], delay=60).enqueue(mail)
            numbers = await alone.enqueue_many([plain.s(2), plain.s(0)])

            assert await job.result() == mail
            assert [await each.result() for each in numbers] == [2, 0]
            stored = await job.refresh()
            assert (stored.status, stored.queue, stored.attempt) == (JobStatus.SUCCEEDED, "mail", 1)
            assert (stored.tags, stored.arguments) == (("t",), {"mail": {"to": "ann"}})
            assert stored.progress is not None
            assert [each.status async for each in job.watch()] == [JobStatus.SUCCEEDED]
            await assert_enqueued(send, Mail(to="ann"), queue="mail", times=1)
            await assert_enqueued(plain, ANY, times=4)
            with pytest.raises(AssertionError, match=r"Jobs of send:\n  send\(mail="):
                await assert_enqueued(send, Mail(to="bob"))

    assert seen == [(mail, timedelta(1), "mail", 3, 1, {"a": "b"})]
    assert seen[0][0] is not mail
    with pytest.raises(NotOpenError):
        await send.enqueue(mail)


async def test_a_job_is_retried_at_once_as_its_options_say_and_its_error_is_read_by_its_handle(
    alone: PgQueue,
) -> None:
    attempts: list[int] = []

    @alone.task(max_retries=2, default_retry_delay=3600)
    async def breaks(ctx: JobContext, until: int) -> int:
        attempts.append(ctx.attempt)
        if ctx.attempt < until:
            raise ValueError(f"attempt {ctx.attempt}")
        return ctx.attempt

    @alone.task(dont_autoretry_for=(KeyError,))
    def final() -> None:
        raise KeyError("gone")

    @alone.task
    async def again(ctx: JobContext, number: int) -> int:
        if number < 3:
            ctx.retry(countdown=60, args=(number + 1,))
        return number

    @alone.task
    async def snoozes() -> None:
        raise Snooze(60)

    with inline(alone):
        assert await (await breaks.enqueue(3)).result() == 3
        failed = await breaks.enqueue(9)
        with pytest.raises(JobFailed, match="ValueError: attempt 3"):
            await failed.result()
        assert [each.attempt for each in await alone.attempts(failed.id)] == [1, 2, 3]
        assert (await (await final.enqueue()).refresh()).attempt == 1
        assert await (await again.enqueue(1)).result() == 3
        assert await (await snoozes.enqueue()).status() is JobStatus.SCHEDULED

    assert attempts == [1, 2, 3, 1, 2, 3]


async def test_what_a_real_enqueue_refuses_is_refused(alone: PgQueue) -> None:
    @alone.task
    async def work(number: int) -> object:
        return object()

    wrong: Any = "one"
    with inline(alone):
        with pytest.raises(InvalidArgumentsError):
            await work.enqueue(wrong)
        with pytest.raises(InvalidArgumentsError, match=r"1,?000"):
            await alone.enqueue_by_name("other", "x" * 2000)
        with pytest.raises(InvalidOptionError):
            work.options(priority="high")  # type: ignore[arg-type]
        with pytest.raises(JobFailed, match="UnstorableResult"):
            await (await work.enqueue(1)).result()
        with pytest.raises(JobNotFoundError):
            await alone.get(uuid4())


async def test_keys_and_ids_stand_for_one_job_within_the_block(alone: PgQueue) -> None:
    ran: list[int] = []

    @alone.task(idempotency_window=3600)
    async def once(number: int) -> None:
        ran.append(number)

    with inline(alone):
        first = await once.options(idempotency_key="k").enqueue(1)
        second = await once.options(idempotency_key="k").enqueue(1)
        assert (second.id, second.created) == (first.id, False)
        with pytest.raises(IdempotencyConflictError):
            await once.options(idempotency_key="k").enqueue(2)
        with pytest.raises(DuplicateKeyError):
            await once.options(idempotency_key="k", on_conflict="raise").enqueue(1)
        chosen = uuid4()
        await once.options(id=chosen).enqueue(3)
        assert not (await once.options(id=chosen).enqueue(3)).created
        with pytest.raises(DuplicateJobError):
            await once.options(id=chosen, on_duplicate="raise").enqueue(3)
        assert await alone.mark_processed("shop", "1")
        assert not await alone.mark_processed("shop", "1")
    with inline(alone):
        await once.options(idempotency_key="k").enqueue(4)

    assert ran == [1, 3, 4]


async def test_steps_are_kept_between_attempts_and_sleeps_are_over_at_once(alone: PgQueue) -> None:
    charged: list[int] = []

    async def charge(amount: int) -> int:
        charged.append(amount)
        return amount

    @alone.task(max_retries=1)
    async def durable(ctx: JobContext) -> int:
        amount = await ctx.step("charge", charge, 5)
        await ctx.sleep("a while", 86400)
        if ctx.attempt == 1:
            raise ValueError
        return amount

    with inline(alone):
        assert await (await durable.enqueue()).result() == 5

    assert charged == [5]


@pytest.mark.contract("BP3")
async def test_every_job_twice_works_here_too(alone: PgQueue) -> None:
    calls: list[int] = []

    @alone.task
    async def counts() -> int:
        calls.append(1)
        return len(calls)

    with inline(alone), runs_twice(alone):
        job = await counts.enqueue()

        assert (await job.refresh()).reason == "not_idempotent"


async def test_what_needs_a_database_says_so_and_how_to_test_it(alone: PgQueue) -> None:
    @alone.task(max_retries=0)
    async def writes(ctx: JobContext) -> None:
        async with ctx.transaction():
            pass

    @alone.task
    async def waits(ctx: JobContext) -> None:
        await ctx.wait_for_event("go", str)

    @alone.task
    async def link(number: int) -> int:
        return number

    with inline(alone):
        with pytest.raises(JobFailed, match="inline mode has no database"):
            await (await writes.enqueue()).result()
        with pytest.raises(ContextError, match="inline mode runs single jobs"):
            await chain(link.s(1), link.s()).enqueue()
        with pytest.raises(ContextError, match="pgqueue_dsn"):
            await alone.measure()
        waiting = await waits.enqueue()
        with pytest.raises(ContextError, match="is blocked, and stays so"):
            await waiting.result()
        assert await waiting.cancel()
        assert not await waiting.cancel()
        with pytest.raises(ConfigurationError, match="has no worker"):
            alone.worker()
        with pytest.raises(ConfigurationError, match="inline already"), inline(alone):
            pass
        unknown = await alone.enqueue_by_name("unknown", 1)
        assert await unknown.status() is JobStatus.PENDING


async def test_an_open_pgqueue_stays_as_it_is(pgq: PgQueue) -> None:
    with pytest.raises(ConfigurationError, match="open"), inline(pgq):
        pass

    assert type(pgq) is PgQueue


def test_it_works_without_await_and_for_a_class_of_the_users(alone: PgQueue) -> None:
    class Own(PgQueue):
        name = "mine"

    own = Own(alone.dsn)

    @own.task(isolation="thread")
    def double(number: int) -> int:
        return 2 * number

    with inline(own), BlockingPgQueue(own) as blocking:
        assert isinstance(own, Own)
        assert blocking.enqueue(double.s(4)).result() == 8
    assert type(own) is Own
    assert asyncio.run(_is_closed(own))


async def _is_closed(pgq: PgQueue) -> bool:
    return not pgq.is_open


@pytest.mark.contract("P8.3")
async def test_what_a_worker_puts_around_jobs_is_around_them_inline_as_well(alone: PgQueue) -> None:
    pgq = alone
    happened: list[str] = []

    @pgq.lifespan
    async def lifespan() -> AsyncIterator[list[str]]:
        yield happened
        happened.append("ended")

    async def opened(ctx: JobContext[list[str]]) -> AsyncIterator[int]:
        ctx.state.append("open")
        yield 7
        ctx.state.append("close")

    @pgq.task(tags=["a"])
    def work(ctx: JobContext[list[str]], number: int = Depends(opened)) -> tuple[int, str]:
        ctx.state.append("run")
        return number, ctx.tags[0]

    with inline(pgq):
        assert await (await work.enqueue()).result() == (7, "a")
        await assert_enqueued(work, times=1)

    assert happened == ["open", "run", "close", "ended"]
