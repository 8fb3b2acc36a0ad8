"""A worker stays as it is, however many jobs it has run."""

from __future__ import annotations

import gc

import pytest
from kit.waiting import eventually, holds

from pgqueue import JobContext, PgQueue
from pgqueue.events import AttemptsEnded, Event

JOBS = 2000
LEFT = JOBS // 2
"""Objects that may be more after so many jobs, for what fills up once."""


@pytest.mark.contract("BP14")
async def test_jobs_leave_no_object_behind(pgq: PgQueue) -> None:
    ended = 0

    def count(event: Event) -> None:
        nonlocal ended
        assert isinstance(event, AttemptsEnded)
        ended += len(event.attempts)

    pgq.observe(count, AttemptsEnded)

    @pgq.task
    async def plain(number: int) -> int:
        return number

    @pgq.task
    async def stepping(ctx: JobContext, number: int) -> None:
        await ctx.step("one", pass_on, number)
        ctx.progress(number)

    async def pass_on(number: int) -> int:
        return number

    async def run(jobs: int) -> int:
        before = ended
        await pgq.enqueue_many(
            [(stepping if number % 10 == 0 else plain).s(number) for number in range(jobs)]
        )
        await eventually(lambda: holds(ended - before == jobs))
        gc.collect()
        return len(gc.get_objects())

    async with pgq.worker(concurrency=20):
        await run(JOBS)
        before = await run(JOBS)
        assert await run(JOBS) - before < LEFT
