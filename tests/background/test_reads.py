"""Jobs that are asked for at the same time are read together, and nobody but the database notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import pytest
from kit import inside
from kit.waiting import eventually

from pgqueue import InvalidIdError, Job, JobNotFoundError, NotOpenError, PgQueue, Task
from pgqueue.model.ids import new_id

if TYPE_CHECKING:
    from conftest import Connection

WITHIN = 60.0


@pytest.fixture
def work(pgq: PgQueue) -> Task[[], None]:
    @pgq.task
    async def work() -> None: ...

    return work


def read(pgq: PgQueue, ids: Iterable[Any]) -> list[asyncio.Task[Job]]:
    """Ask for jobs, all at the same time."""
    return [asyncio.create_task(pgq.get(job_id)) for job_id in ids]


async def answers(reads: Iterable[asyncio.Task[Job]]) -> list[object]:
    """Return the ids of jobs, and the kinds of errors."""
    with anyio.fail_after(WITHIN):
        found = await asyncio.gather(*reads, return_exceptions=True)
    return [each.id if isinstance(each, Job) else type(each) for each in found]


@asynccontextmanager
async def held_up(db: Connection) -> AsyncIterator[None]:
    """Keep statements that read jobs from ending before the block does."""
    async with db.transaction():
        await db.execute("lock table pgqueue.progress")
        yield


async def are_held_up(db: Connection, count: int) -> None:
    """Wait until so many statements have begun that cannot end."""
    waiting = (
        "select count(*) = $1 from pg_locks where not granted and relation = 'pgqueue.progress'::regclass"
    )

    async def are_waiting() -> bool:
        return bool(await db.fetchval(waiting, count))

    await eventually(are_waiting)


@pytest.mark.contract("P6.12")
async def test_jobs_that_are_asked_for_together_share_statements(
    pgq: PgQueue, work: Task[[], None], db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[set[UUID]] = []
    read_job_rows = inside.store(pgq).read_job_rows

    async def count(connection: Any, ids: Iterable[UUID]) -> dict[UUID, Any]:
        statements.append(set(ids))
        return await read_job_rows(connection, ids)

    monkeypatch.setattr(inside.store(pgq), "read_job_rows", count)
    ids = [job.id for job in await pgq.enqueue_many(work.s() for _ in range(30))]
    unknown = new_id()

    async with held_up(db):
        early = read(pgq, ids[:1])
        await are_held_up(db, 1)
        # The other reader takes all of these.
        late = read(pgq, [*ids, unknown, ids[0]])
        await are_held_up(db, 2)
        last = read(pgq, ids[:1])
        late[5].cancel()
    found = await answers([*early, *late, *last])

    assert found == [ids[0], *ids[:5], asyncio.CancelledError, *ids[6:], JobNotFoundError, ids[0], ids[0]]
    assert statements == [{ids[0]}, {*ids, unknown}, {ids[0]}]


async def test_who_asks_while_a_statement_is_under_way_sees_what_was_committed_since(
    pgq: PgQueue, work: Task[[], None], db: Connection
) -> None:
    first = await work.enqueue()

    async with held_up(db):
        before = read(pgq, [first.id])
        await are_held_up(db, 1)
        second = await work.enqueue()
        after = read(pgq, [second.id])
        await anyio.lowlevel.checkpoint()
    found = await answers([*before, *after])

    assert found == [first.id, second.id]


async def test_one_that_cannot_be_read_spoils_it_for_nobody_else(pgq: PgQueue, work: Task[[], None]) -> None:
    job, other = await work.enqueue(), await work.enqueue()

    found = await answers(read(pgq, [job.id, "no id", other.id]))

    assert found == [job.id, InvalidIdError, other.id]


async def test_closing_ends_the_reads_that_are_under_way(
    dsn: str, work: Task[[], None], db: Connection
) -> None:
    job = await work.enqueue()
    viewer = PgQueue(dsn)
    await viewer.open()

    async with held_up(db):
        # With a statement, and without one.
        reads = [read(viewer, [job.id])]
        await are_held_up(db, 1)
        reads += [read(viewer, [job.id])]
        await are_held_up(db, 2)
        reads += [read(viewer, [job.id])]
        await anyio.lowlevel.checkpoint()
        await viewer.close()
        found = await answers(each for some in reads for each in some)

    assert found == [NotOpenError] * 3
    with pytest.raises(NotOpenError):
        await viewer.get(job.id)
