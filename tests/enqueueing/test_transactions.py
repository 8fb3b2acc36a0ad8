"""Enqueueing inside the caller's own transaction: the job exists if and only if that commits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

import asyncpg
import pytest
from kit.ears import Ear, listening
from kit.waiting import eventually

from pgqueue import (
    DuplicateJobError,
    InvalidOptionError,
    JobHandle,
    JobNotFoundError,
    JobStatus,
    PgQueue,
    Task,
    UnusableConnectionError,
)
from pgqueue.enqueueing.batch import CHUNK

if TYPE_CHECKING:
    from conftest import Connection

COUNT = "select count(*) from pgqueue.job"


class RolledBackError(Exception):
    """Ends a transaction without a commit."""


def declare_work(pgq: PgQueue) -> Task[[int], int]:
    @pgq.task
    async def work(number: int) -> int:
        return number

    task: Task[[int], int] = work
    return task


@pytest.fixture
async def ear(dsn: str) -> AsyncIterator[Ear]:
    """What is announced."""
    async with listening(dsn) as ear:
        yield ear


@pytest.mark.contract("P1.3")
async def test_a_job_of_a_transaction_exists_once_it_commits(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)

    async with db.transaction():
        job = await work.options(connection=db).enqueue(1)

        # The id is known, and nobody else sees the job yet.
        assert await db.fetchval("select id from pgqueue.job") == job.id
        with pytest.raises(JobNotFoundError):
            await pgq.get(job.id)

    assert await job.status() is JobStatus.PENDING


@pytest.mark.contract("P1.3")
async def test_a_worker_starts_a_job_of_a_transaction_only_after_its_commit(
    pgq: PgQueue, db: Connection
) -> None:
    started: list[int] = []

    @pgq.task
    async def work(number: int) -> None:
        started.append(number)

    async with pgq.worker():
        async with db.transaction():
            inside = await work.options(connection=db).enqueue(1)
            outside = await work.enqueue(2)
            await outside.result(timeout=60)
            assert started == [2]
        await inside.result(timeout=60)

    assert started == [2, 1]


@pytest.mark.contract("P1.3")
async def test_a_job_of_a_rolled_back_transaction_leaves_no_row_and_wakes_nobody(
    pgq: PgQueue, db: Connection, ear: Ear
) -> None:
    work = declare_work(pgq)

    with suppress(RolledBackError):
        async with db.transaction():
            job = await work.options(connection=db).enqueue(1)
            later = await work.options(connection=db, delay=60).enqueue(2)
            raise RolledBackError

    for handle in (job, later):
        with pytest.raises(JobNotFoundError):
            await handle.refresh()
    for table in ("job", "ready", "scheduled", "running", "blocked"):
        assert await db.fetchval(f"select count(*) from pgqueue.{table}") == 0
    assert await ear.heard_on(db) == []


@pytest.mark.contract("P1.3")
async def test_a_job_of_a_rolled_back_savepoint_leaves_no_row_and_wakes_nobody(
    pgq: PgQueue, db: Connection, ear: Ear
) -> None:
    work = declare_work(pgq)

    async with db.transaction():
        await db.execute("create table orders (id integer)")
        with suppress(RolledBackError):
            async with db.transaction():
                dropped = await work.options(connection=db, queue="other").enqueue(1)
                raise RolledBackError
        await db.execute("insert into orders values (1)")
        assert await db.fetchval(COUNT) == 0

    with pytest.raises(JobNotFoundError):
        await dropped.refresh()
    assert await db.fetchval("select count(*) from orders") == 1
    assert await ear.heard_on(db) == []


@pytest.mark.contract("P1.3")
async def test_a_committed_transaction_wakes_workers_once_a_lane(
    pgq: PgQueue, db: Connection, ear: Ear
) -> None:
    work = declare_work(pgq)

    async with db.transaction():
        for number in range(5):
            await work.options(connection=db).enqueue(number)
        await pgq.enqueue_many([work.options(queue="mail").s(number) for number in range(5)], connection=db)

    lanes = {
        row["id"]
        for row in await db.fetch("select lane.id from pgqueue.lane join pgqueue.job on lane = lane.id")
    }
    assert len(lanes) == 2
    assert sorted(await ear.heard_on(db)) == sorted(f"ready {lane}" for lane in lanes)


@pytest.mark.contract("P1.3")
async def test_without_a_transaction_the_job_is_durable_at_once_if_that_is_said(
    pgq: PgQueue, db: Connection
) -> None:
    work = declare_work(pgq)

    with pytest.raises(UnusableConnectionError, match=r"no transaction open.*autocommit=True"):
        await work.options(connection=db).enqueue(0)
    assert await db.fetchval(COUNT) == 0

    job = await work.options(connection=db, autocommit=True).enqueue(1)

    assert await job.status() is JobStatus.PENDING


@pytest.mark.contract("P1.3", "P1.7")
async def test_many_jobs_in_a_callers_transaction_are_all_or_none(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)
    calls = [work.s(number) for number in range(CHUNK + 10)]

    with suppress(RolledBackError):
        async with db.transaction():
            await pgq.enqueue_many(calls, connection=db)
            raise RolledBackError
    assert await db.fetchval(COUNT) == 0

    async with db.transaction():
        await pgq.enqueue_many(calls, connection=db)
    assert await db.fetchval(COUNT) == CHUNK + 10


@pytest.mark.contract("P1.3", "P1.6")
async def test_an_enqueue_that_is_refused_leaves_the_transaction_whole(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)
    taken = await work.enqueue(0)

    async with db.transaction():
        with pytest.raises(DuplicateJobError):
            await work.options(connection=db, id=taken.id, on_duplicate="raise").enqueue(1)
        existing = await work.options(connection=db, id=taken.id).enqueue(2)
        job = await work.options(connection=db).enqueue(3)

    assert (existing.id, existing.created) == (taken.id, False)
    assert await job.status() is JobStatus.PENDING
    assert await db.fetchval(COUNT) == 2


@pytest.mark.contract("P1.3", "P1.6")
async def test_two_transactions_that_choose_one_id_make_one_job(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    work = declare_work(pgq)
    chosen = uuid4()
    other = await asyncpg.connect(dsn)

    async def enqueue_in_other() -> JobHandle[int]:
        async with other.transaction(isolation="read_committed"):
            return await work.options(connection=other, id=chosen).enqueue(2)

    async def is_waiting() -> bool:
        return await db.fetchval("select exists (select from pg_locks where not granted)") is True

    async with db.transaction(isolation="read_committed"):
        first = await work.options(connection=db, id=chosen).enqueue(1)
        second = asyncio.create_task(enqueue_in_other())
        await eventually(is_waiting)

    assert (first.created, (await second).created) == (True, False)
    await other.close()
    assert (await pgq.get(chosen)).arguments == {"number": 1}


@pytest.mark.contract("P1.3", "P1.6")
@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_an_id_that_a_snapshot_cannot_see_ends_the_call(
    pgq: PgQueue, db: Connection, isolation: Literal["repeatable_read", "serializable"]
) -> None:
    work = declare_work(pgq)
    chosen = uuid4()

    async def enqueue_behind_the_snapshot() -> None:
        async with db.transaction(isolation=isolation):
            await db.fetchval(COUNT)
            await work.options(id=chosen).enqueue(1)
            await work.options(connection=db, id=chosen).enqueue(2)

    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        async with asyncio.timeout(60):
            await enqueue_behind_the_snapshot()

    assert await db.fetchval(COUNT) == 1


@pytest.mark.contract("P1.3")
async def test_codecs_of_the_callers_connection_do_not_matter(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work(words: dict[str, str]) -> dict[str, str]:
        return words

    for kind in ("json", "jsonb"):
        await db.set_type_codec(kind, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    await db.set_type_codec("uuid", encoder=str, decoder=str, schema="pg_catalog")

    async with db.transaction():
        tasks = work.options(connection=db, tags=["a"], headers={"h": "v"}, id=uuid4())
        job = await tasks.enqueue({"a": "b"})

    async with pgq.worker():
        assert await job.result(timeout=60) == {"a": "b"}
    assert (await job.refresh()).tags == ("a",)


@pytest.mark.contract("P1.3")
async def test_a_new_queue_in_a_long_transaction_keeps_nobody_waiting(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)

    async with db.transaction():
        await work.options(connection=db, queue="new").enqueue(1)
        # Another caller of the same new queue does not wait for our commit.
        async with asyncio.timeout(60):
            other = await work.options(queue="new").enqueue(2)

    assert await other.status() is JobStatus.PENDING


@pytest.mark.contract("P1.3")
async def test_a_call_of_a_task_with_a_connection_is_refused_and_does_not_drop_it(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task
    async def work(number: int) -> None: ...

    with_connection, alone = work.options(connection=db), work.options(autocommit=True)
    for make in (
        lambda: with_connection.s(1),
        lambda: with_connection.options(priority=2).si(1),
        lambda: with_connection.map([1]),
        lambda: with_connection.starmap([(1,)]),
        lambda: alone.s(1),
    ):
        with pytest.raises(InvalidOptionError, match=r"task\.si?\(\.\.\.\), connection="):
            make()
