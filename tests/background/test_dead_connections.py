"""Connections that die in silence are noticed and replaced; a statement may take its time."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import pytest
from kit import inside
from kit.lines import line_to
from kit.servers import needed_pgbouncer, pgbouncer
from kit.waiting import eventually, holds

from pgqueue import DatabaseUnavailableError, JobContext, PgQueue

if TYPE_CHECKING:
    from conftest import Connection

NOTICED_WITHIN = 12.0


@pytest.mark.contract("F2")
async def test_when_all_connections_have_died_in_silence_work_goes_on_and_leases_are_kept(
    dsn: str, db: Connection
) -> None:
    async with line_to(dsn) as (line, near):
        pgq = PgQueue(near)
        died = asyncio.Event()
        # The handlers that have come to where they wait: a slot that is taken says less.
        there: set[str] = set()
        errors: list[str] = []

        @pgq.task
        async def double(number: int) -> int:
            return 2 * number

        @pgq.task
        async def long() -> float:
            there.add("long")
            await died.wait()
            # Until after the lease would have been lost.
            await asyncio.sleep(16)
            return time.monotonic()

        @pgq.task(max_retries=1, default_retry_delay=0)
        async def pay(ctx: JobContext) -> int:
            async with ctx.transaction() as connection:
                await connection.execute("select 1")
                there.add("pay")
                await died.wait()
                try:
                    # As long as the user likes: only the line is at fault.
                    await connection.execute("select pg_sleep(0.1)", timeout=60)
                except Exception as error:
                    errors.append(type(error).__name__)
                    raise
            return ctx.attempt

        @pgq.task
        async def in_steps(ctx: JobContext) -> int:
            await ctx.step("one", int, 1)
            there.add("in_steps")
            await died.wait()
            return int(await ctx.step("two", int, 2)) + ctx.attempt

        @pgq.task
        async def patient(ctx: JobContext) -> int:
            there.add("patient")
            await died.wait()
            async with ctx.transaction() as connection:
                await connection.execute("select pg_sleep(7)")
            return ctx.attempt

        async with pgq, pgq.worker() as worker:
            jobs = [await task.enqueue() for task in (long, pay, in_steps, patient)]
            warm = await double.enqueue(1)
            assert await warm.result(timeout=60) == 2
            await eventually(lambda: holds(len(there) == len(jobs)))
            lease = inside.lease_of(worker)
            line.forget_connections()
            began = time.monotonic()
            died.set()
            by_sql = await db.fetchval("select pgqueue.enqueue('double', '[3]')")
            async with asyncio.timeout(NOTICED_WITHIN), anyio.create_task_group() as group:
                group.start_soon(pgq.handle(by_sql).result)
                # A caller hears of it, or is served; afterwards all are.
                await asyncio.gather(double.enqueue(4), pgq.get(warm.id), return_exceptions=True)
                assert await (await double.enqueue(5)).result() == 10
                assert (await pgq.get(warm.id)).result == 2
            assert time.monotonic() - began < NOTICED_WITHIN
            results = [await job.result(timeout=60) for job in jobs]
            assert inside.lease_of(worker) == lease
        assert results[1:] == [2, 3, 1]
        assert errors == ["ConnectionDoesNotExistError"]
        reasons = await db.fetch("select job_id, reason from pgqueue.attempt")
        assert [tuple(row) for row in reasons] == [(jobs[1].id, "exception")]


@pytest.mark.contract("F2")
async def test_a_process_that_only_enqueues_notices_within_ten_seconds(dsn: str) -> None:
    async with line_to(dsn) as (line, near), PgQueue(near) as pgq:
        await pgq.enqueue_by_name("task")
        await pgq.check()
        line.forget_connections()
        async with asyncio.timeout(10):
            await asyncio.gather(
                *(pgq.enqueue_by_name("task") for _ in range(5)), pgq.check(), return_exceptions=True
            )
            await pgq.enqueue_by_name("task")
            await pgq.check()


async def has_come_to(db: Connection, job_id: UUID, result: str) -> bool:
    return str(await db.fetchval("select result from pgqueue.job where id = $1", job_id)) == result


@pytest.mark.contract("F2")
async def test_behind_a_pooler_workers_and_transactions_of_handlers_notice_it_too(
    dsn: str, db: Connection
) -> None:
    # Sessions that dead clients hold are held until the pooler hears of it.
    with pgbouncer(needed_pgbouncer(), dsn, sessions=20) as pooled:
        async with line_to(pooled) as (line, near):
            pgq = PgQueue(near)
            began, died = asyncio.Event(), asyncio.Event()

            @pgq.task
            async def double(number: int) -> int:
                return 2 * number

            @pgq.task(max_retries=1, default_retry_delay=0)
            async def pay(ctx: JobContext) -> int:
                async with ctx.transaction() as connection:
                    began.set()
                    await died.wait()
                    await connection.execute("select 1")
                return ctx.attempt

            async with pgq, pgq.worker() as worker:
                job = await pay.enqueue()
                await began.wait()
                lease = inside.lease_of(worker)
                line.forget_connections()
                died.set()
                by_sql = await db.fetchval("select pgqueue.enqueue('double', '[3]')")
                async with asyncio.timeout(NOTICED_WITHIN):
                    for each, result in ((by_sql, "6"), (job.id, "2")):
                        await eventually(partial(has_come_to, db, each, result))
                assert inside.lease_of(worker) == lease


@pytest.mark.contract("F2")
async def test_behind_a_pooler_a_process_that_only_enqueues_notices_within_ten_seconds(dsn: str) -> None:
    with pgbouncer(needed_pgbouncer(), dsn, sessions=20) as pooled:
        async with line_to(pooled) as (line, near), PgQueue(near) as pgq:
            await pgq.enqueue_by_name("task")
            line.forget_connections()
            async with asyncio.timeout(10):
                with suppress(DatabaseUnavailableError):
                    await pgq.enqueue_by_name("task")
            await pgq.enqueue_by_name("task")
