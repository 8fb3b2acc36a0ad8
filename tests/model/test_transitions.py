"""The transition table is the database's: what it does not allow raises and changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from pgqueue import JobStatus, PgQueue
from pgqueue.model.jobs import TERMINAL, TRANSITIONS

if TYPE_CHECKING:
    from conftest import Connection

STATUSES = list(JobStatus)
TABLES = ["ready", "running", "scheduled", "blocked"]

ROUTES: dict[JobStatus, list[JobStatus]] = {
    JobStatus.PENDING: [],
    JobStatus.SCHEDULED: [JobStatus.SCHEDULED],
    JobStatus.BLOCKED: [JobStatus.BLOCKED],
    JobStatus.RUNNING: [JobStatus.RUNNING],
    JobStatus.SUCCEEDED: [JobStatus.RUNNING, JobStatus.SUCCEEDED],
    JobStatus.FAILED: [JobStatus.RUNNING, JobStatus.FAILED],
    JobStatus.CANCELLED: [JobStatus.CANCELLED],
    JobStatus.EXPIRED: [JobStatus.EXPIRED],
}
"""How a new job gets to a status."""


async def make_lease(db: Connection) -> UUID:
    lease_id = uuid4()
    await db.execute(
        "insert into pgqueue.lease (id, worker, queues, expires_at) "
        "values ($1, 'old', '{default}', now() + interval '1 hour')",
        lease_id,
    )
    return lease_id


async def move(db: Connection, job_id: UUID, status: JobStatus, lease_id: UUID | None = None) -> None:
    await db.execute(
        "select pgqueue.transition($1, $2::text::pgqueue.job_status, $3)", job_id, status, lease_id
    )


async def make_job(db: Connection, status: JobStatus, lease_id: UUID) -> UUID:
    job_id: UUID = await db.fetchval("select pgqueue.enqueue('work')")
    for step in ROUTES[status]:
        await move(db, job_id, step, lease_id)
    assert await status_of(db, job_id) == status
    return job_id


async def status_of(db: Connection, job_id: UUID) -> str:
    status: str = await db.fetchval("select status::text from pgqueue.jobs where id = $1", job_id)
    assert status == await db.fetchval("select pgqueue.status_of($1)::text", job_id)
    return status


async def everything(db: Connection) -> dict[str, list[Any]]:
    """Return all rows of all tables that hold jobs."""
    return {
        table: [tuple(row.values()) for row in await db.fetch(f"select * from pgqueue.{table} order by 1")]
        for table in ["job", "attempt", *TABLES]
    }


async def count_places(db: Connection, job_id: UUID) -> int:
    return sum(
        [
            await db.fetchval(f"select count(*) from pgqueue.{table} where job_id = $1", job_id)
            for table in TABLES
        ]
    )


@pytest.mark.contract("P4.2")
async def test_python_and_the_database_have_the_same_transition_table(db: Connection) -> None:
    allowed = await db.fetch(
        """
        select before::text, after::text
        from unnest(enum_range(null::pgqueue.job_status)) as before
        cross join unnest(enum_range(null::pgqueue.job_status)) as after
        where pgqueue.is_legal_transition(before, after)
        """
    )

    assert {tuple(row) for row in allowed} == {
        (before, after) for before in STATUSES for after in TRANSITIONS[before]
    }
    assert TRANSITIONS.keys() == set(STATUSES)


@pytest.mark.contract("P4.2", "P4.3")
@pytest.mark.parametrize("before", STATUSES)
async def test_a_legal_transition_by_raw_sql_moves_the_job_and_no_other(
    db: Connection, before: JobStatus
) -> None:
    lease_id = await make_lease(db)
    bystander = await make_job(db, JobStatus.PENDING, lease_id)

    for after in TRANSITIONS[before]:
        job_id = await make_job(db, before, lease_id)
        await move(db, job_id, after, lease_id)

        assert await status_of(db, job_id) == after
        assert await count_places(db, job_id) == (0 if after in TERMINAL else 1)
        completed_at = await db.fetchval("select completed_at from pgqueue.job where id = $1", job_id)
        assert (completed_at is not None) == (after in TERMINAL)
    assert await status_of(db, bystander) == "pending"


@pytest.mark.contract("P4.2", "P4.3")
@pytest.mark.parametrize("before", STATUSES)
async def test_an_illegal_transition_by_raw_sql_raises_and_changes_nothing(
    db: Connection, before: JobStatus
) -> None:
    lease_id = await make_lease(db)
    job_id = await make_job(db, before, lease_id)
    await make_job(db, JobStatus.PENDING, lease_id)
    rows = await everything(db)

    for after in set(STATUSES) - TRANSITIONS[before]:
        said = f"job {job_id} is {before}: it cannot become {after}"
        with pytest.raises(asyncpg.RestrictViolationError, match=said):
            await move(db, job_id, after, lease_id)
        with pytest.raises(asyncpg.RestrictViolationError, match=said):
            await move(db, job_id, after)

    assert await everything(db) == rows


@pytest.mark.contract("P4.2", "P2.17")
async def test_a_running_job_moves_only_under_its_lease(db: Connection) -> None:
    lease_id, other = await make_lease(db), await make_lease(db)
    job_id = await make_job(db, JobStatus.RUNNING, lease_id)
    rows = await everything(db)

    for after in TRANSITIONS[JobStatus.RUNNING]:
        for holder in (other, uuid4(), None):
            with pytest.raises(asyncpg.RestrictViolationError, match="not under lease"):
                await move(db, job_id, after, holder)

    assert await everything(db) == rows


@pytest.mark.contract("P4.2", "P2.17")
async def test_a_job_does_not_start_under_a_lease_that_is_none(db: Connection) -> None:
    lease_id = await make_lease(db)
    job_id = await make_job(db, JobStatus.PENDING, lease_id)
    await db.execute("update pgqueue.lease set expires_at = now() where id = $1", lease_id)
    rows = await everything(db)

    for holder in (lease_id, uuid4(), None):
        with pytest.raises(asyncpg.RestrictViolationError, match="there is no lease"):
            await move(db, job_id, JobStatus.RUNNING, holder)

    assert await everything(db) == rows


@pytest.mark.contract("P4.2", "P4.6")
async def test_a_job_that_is_not_there_does_not_move(db: Connection) -> None:
    missing = uuid4()

    with pytest.raises(asyncpg.NoDataFoundError, match=f"there is no job {missing}"):
        await move(db, missing, JobStatus.CANCELLED)


@pytest.mark.contract("P4.2", "P4.3")
@pytest.mark.parametrize(
    "statement",
    [
        "update pgqueue.job set status = 'succeeded'",
        "update pgqueue.job set status = null, completed_at = null",
        "update pgqueue.job set result = '1'",
        "update pgqueue.job set arguments = '{}' where id = id",
        "delete from pgqueue.job",
        "delete from pgqueue.ready",
        "update pgqueue.ready set position = 0",
        "delete from pgqueue.scheduled",
        "update pgqueue.scheduled set scheduled_at = now()",
        "delete from pgqueue.blocked",
        "update pgqueue.blocked set lane = 1",
        "delete from pgqueue.running",
        "update pgqueue.running set lease_id = gen_random_uuid()",
        """
        insert into pgqueue.running (job_id, lease_id, ready_at, position, lane, attempt, losses)
        select id, gen_random_uuid(), now(), 1, lane, 1, 0 from pgqueue.job
        """,
    ],
)
async def test_a_write_by_hand_is_refused_and_changes_nothing(db: Connection, statement: str) -> None:
    lease_id = await make_lease(db)
    for status in STATUSES:
        await make_job(db, status, lease_id)
    rows = await everything(db)

    with pytest.raises(asyncpg.RestrictViolationError, match="is not written by hand"):
        await db.execute(statement)

    assert await everything(db) == rows


@pytest.mark.contract("P4.2", "P4.3")
@pytest.mark.parametrize("status", STATUSES)
async def test_a_job_cannot_be_put_in_a_second_place_by_hand(db: Connection, status: JobStatus) -> None:
    await make_job(db, status, await make_lease(db))
    rows = await everything(db)

    for place in ("ready (job_id, lane)", "blocked (job_id, lane)", "scheduled (job_id, lane, scheduled_at)"):
        columns = "id, lane, now()" if "scheduled" in place else "id, lane"
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await db.execute(f"insert into pgqueue.{place} select {columns} from pgqueue.job")

    assert await everything(db) == rows


@pytest.mark.contract("P4.2", "P4.3")
async def test_a_partition_is_not_written_by_hand_either(db: Connection) -> None:
    await make_job(db, JobStatus.FAILED, await make_lease(db))
    rows = await everything(db)
    partitions = await db.fetch(
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'pgqueue.job'::regclass"
    )

    assert len(partitions) > 1
    for (partition,) in partitions:
        with pytest.raises(asyncpg.RestrictViolationError, match="is not written by hand"):
            await db.execute(f"update {partition} set status = 'succeeded'")
        with pytest.raises(asyncpg.RestrictViolationError, match="is not written by hand"):
            await db.execute(f"delete from {partition}")

    assert await everything(db) == rows


@pytest.mark.contract("P4.2")
async def test_a_job_that_does_not_exist_cannot_be_queued_by_hand(db: Connection) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="there is no job"):
        await db.execute("insert into pgqueue.ready (job_id, lane) values (gen_random_uuid(), 1)")


@pytest.mark.contract("P4.2")
async def test_a_status_that_there_is_not_is_refused(db: Connection) -> None:
    job_id = await make_job(db, JobStatus.PENDING, await make_lease(db))

    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        await db.execute("select pgqueue.transition($1, 'done')", job_id)
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute("set pgqueue.writer = 'on'; update pgqueue.job set status = 'running'")

    assert await status_of(db, job_id) == "pending"


@pytest.mark.contract("P4.2")
async def test_of_two_hands_on_one_job_one_wins(pgq: PgQueue, db: Connection, dsn: str) -> None:
    job_id = await make_job(db, JobStatus.PENDING, await make_lease(db))

    async with db.transaction():
        await move(db, job_id, JobStatus.EXPIRED)
        other = await asyncpg.connect(dsn)
        await other.execute("set lock_timeout = '100ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await move(other, job_id, JobStatus.CANCELLED)
    with pytest.raises(asyncpg.RestrictViolationError, match="is expired: it cannot become cancelled"):
        await move(other, job_id, JobStatus.CANCELLED)

    await other.close()
    assert (await pgq.get(job_id)).status is JobStatus.EXPIRED
