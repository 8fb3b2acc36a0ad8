"""Workflows for the roles of least privilege, in any isolation of the caller, and on any server: the core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import asyncpg
import pytest
from kit.roles import roles_of
from kit.waiting import eventually

from pgqueue import JobStatus, PgQueue
from pgqueue.model.filters import JobFilter
from pgqueue.tasks.combining import chain, chord, group
from pgqueue.tasks.results import Outcome

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.core
WITHIN = 60.0

TABLES = ("workflow", "barrier", "edge", "note", "callback", "event")


def declare(pgq: PgQueue) -> tuple[Any, Any, Any]:
    """Declare tasks."""

    @pgq.task
    async def double(number: int) -> int:
        return 2 * number

    @pgq.task
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    @pgq.task
    async def called(outcome: Outcome[object]) -> str:
        return str(outcome.status)

    return double, total, called


def written(pgq: PgQueue) -> Any:
    """Return a workflow with all that there is of its kind."""
    double, total, called = declare(pgq)
    members = [double.s(number) for number in (1, 2, 3)]
    whole: Any = chain(chord(members, total.s()), double.s(), group(double.s(), double.s()))
    return whole.set(on_complete=called.s(), tags=["nightly"])


@pytest.mark.contract("W2", "P7.23")
async def test_each_role_does_with_workflows_what_it_is_for(superuser_dsn: str, db: Connection) -> None:
    async with (
        roles_of(superuser_dsn) as roles,
        PgQueue(roles.dsn_of("enqueue")) as sender,
        PgQueue(roles.dsn_of("worker")) as other,
        PgQueue(roles.dsn_of("read")) as reader,
    ):
        workflow = written(sender)
        declare(other)
        own = await workflow.enqueue()
        connection = await asyncpg.connect(roles.dsn_of("enqueue"))
        try:
            async with connection.transaction():
                joined = await workflow.enqueue(connection=connection)
            transaction = connection.transaction()
            await transaction.start()
            await workflow.enqueue(connection=connection)
            await transaction.rollback()
            for table in TABLES:
                for statement in (f"select from pgqueue.{table}", f"delete from pgqueue.{table}"):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await connection.execute(statement)
            for call in ("attend(null, 1)", "settle('{}', 0)", f"cancel('{own.id}')"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(f"select pgqueue.{call}")
        finally:
            await connection.close()
        seen = [reader.workflow_handle(each.workflow_id) for each in (own, joined)]
        async with other.worker(poll_interval=0.1):
            for handle in seen:
                assert await handle.result(WITHIN) == [48, 48]
            await eventually(lambda: has_called(db, 2))
        assert await seen[0].counts() == {JobStatus.SUCCEEDED: 7}
        assert "flowchart" in await seen[0].graph("mermaid")
        watcher = await asyncpg.connect(roles.dsn_of("read"))
        try:
            for statement in (f"select pgqueue.cancel('{own.id}')", "delete from pgqueue.edge"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await watcher.execute(statement)
        finally:
            await watcher.close()
    assert await db.fetchval("select count(*) from pgqueue.workflow") == 2


async def has_called(db: Connection, count: int) -> bool:
    return bool(
        await db.fetchval(
            "select count(*) = $1 from pgqueue.job where task = 'called' and status = 'succeeded'", count
        )
    )


@pytest.mark.contract("P7.23")
@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_a_caller_in_any_isolation_writes_a_workflow_to_a_queue_that_others_just_made(
    pgq: PgQueue, db: Connection, isolation: Literal["read_committed", "repeatable_read", "serializable"]
) -> None:
    workflow = written(pgq).set(queue="brand-new")
    async with db.transaction(isolation=isolation):
        await db.fetchval("select count(*) from pgqueue.lane")
        before = await workflow.enqueue()
        within = await workflow.enqueue(connection=db)

    async with pgq.worker(queues=["brand-new", "default"], poll_interval=0.1):
        assert await before.result(WITHIN) == [48, 48]
        assert await within.result(WITHIN) == [48, 48]


IN_ORDER = "select id from pgqueue.job where workflow_id = $1 order by id"


@pytest.mark.contract("P7.22")
async def test_jobs_inherit_what_their_workflow_sets_and_are_cancelled_by_its_tag(
    pgq: PgQueue, db: Connection
) -> None:
    double, total, _ = declare(pgq)
    members = [double.s(1), double.s(2).set(priority=7)]
    workflow: Any = chord(members, total.s())
    handle = await workflow.set(priority=3, tags=["nightly"], expires=3600, headers={"tenant": "a"}).enqueue()
    other = await double.enqueue(1)

    rows = [await pgq.get(job["id"]) for job in await db.fetch(IN_ORDER, handle.workflow_id)]
    assert [job.priority for job in rows] == [3, 7, 3]
    assert [job.tags for job in rows] == [("nightly",)] * 3
    assert [dict(job.headers) for job in rows] == [{"tenant": "a"}] * 3
    assert len({job.expires_at for job in rows}) == 1
    assert [count async for count in pgq.cancel_many(JobFilter(tag="nightly"))][-1:] == [3]
    assert [await job.status() for job in (other,)] == [JobStatus.PENDING]
    assert await handle.join(WITHIN) == {JobStatus.CANCELLED: 3}
