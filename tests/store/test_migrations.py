"""Bringing the schema up to date, at once from many places; and refusing to work on any other."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import anyio
import asyncpg
import pytest
from kit.hostile import ADD_COLUMNS
from kit.waiting import eventually

from pgqueue import JobStatus, PgQueue, RefusedByDatabaseError, SchemaError
from pgqueue.database import migrations
from pgqueue.database.sql import load_migrations

if TYPE_CHECKING:
    from conftest import Connection

PROCESSES = 10
VERSIONS = [migration.version for migration in load_migrations("pgqueue")]
NEWEST = VERSIONS[-1]
NAMES = [migration.name for migration in load_migrations("pgqueue")]
PARTITIONS = """
    select relname::text from pg_class join pg_inherits on inhrelid = pg_class.oid
    where inhparent = 'pgqueue.job'::regclass order by 1
"""
AT_WORK = ("lane", "job", "ready", "running", "scheduled", "blocked", "attempt", "lease", "dead_letter")
"""Tables that workers use in many orders."""
MIGRATE = """
import asyncio, sys
from pgqueue import PgQueue

async def main():
    # Ready: all go at once when they are told to.
    print("ready", flush=True)
    sys.stdin.readline()
    applied = await PgQueue(sys.argv[1]).migrate()
    print(len(applied), flush=True)

asyncio.run(main())
"""


async def migrated(db: Connection, version: int, works_with: int) -> None:
    """Make the schema look as a newer pgqueue would leave it."""
    await db.execute(
        "insert into pgqueue.migration (version, name, works_with) values ($1, 'newer', $2)",
        version,
        works_with,
    )


async def test_migrate_makes_the_schema_and_says_what_it_did(empty_dsn: str) -> None:
    pgq = PgQueue(empty_dsn)

    applied = await pgq.migrate()

    assert [migration.name for migration in applied] == NAMES
    assert await pgq.migrate() == []
    async with pgq:
        pass


@pytest.mark.contract("P4.16")
async def test_of_ten_processes_that_migrate_at_once_one_does_it(empty_dsn: str) -> None:
    processes = [
        await anyio.open_process([sys.executable, "-c", MIGRATE, empty_dsn], stderr=None)
        for _ in range(PROCESSES)
    ]
    outputs = [bytearray() for _ in processes]

    async def read_line(index: int) -> bytes:
        stdout = processes[index].stdout
        assert stdout is not None
        while b"\n" not in outputs[index]:
            outputs[index] += await stdout.receive()
        line, _, rest = bytes(outputs[index]).partition(b"\n")
        outputs[index][:] = rest
        return line

    with anyio.fail_after(300):
        for index in range(PROCESSES):
            assert await read_line(index) == b"ready"
        for process in processes:
            assert process.stdin is not None
            await process.stdin.send(b"go\n")
        applied = [int(await read_line(index)) for index in range(PROCESSES)]
        codes = [await process.wait() for process in processes]
        for process in processes:
            await process.aclose()

    assert sorted(applied) == [0] * (PROCESSES - 1) + [len(NAMES)]
    assert codes == [0] * PROCESSES
    async with PgQueue(empty_dsn):
        pass


async def test_a_migration_that_fails_leaves_nothing_behind(empty_dsn: str) -> None:
    connection = await asyncpg.connect(empty_dsn)
    # A table of this name is in the way of the last ones that are made.
    await connection.execute("create schema pgqueue; create view pgqueue.jobs as select 1 as id")

    with pytest.raises(RefusedByDatabaseError, match='"jobs" already exists'):
        await PgQueue(empty_dsn).migrate()

    assert await connection.fetchval("select to_regclass('pgqueue.job')") is None
    assert await connection.fetchval("select to_regclass('pgqueue.migration')") is None
    await connection.close()


@pytest.mark.contract("F14")
@pytest.mark.parametrize("version", [7, 27])
async def test_a_migration_makes_no_deadlock_with_sessions_that_are_at_work(
    empty_dsn: str, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as until_then:
        until_then.setattr(migrations, "load_migrations", lambda schema: load_migrations(schema)[:version])
        await PgQueue(empty_dsn).migrate()
    # Each has locked a table, and wants the others once the migration waits for one of them: whatever the
    # order in which that takes its locks, it has some and wants others, as they do.
    sessions = [await asyncpg.connect(empty_dsn) for _ in AT_WORK]
    for session, table in zip(sessions, AT_WORK, strict=True):
        await session.execute(f"begin; select from pgqueue.{table} limit 1")
    admin = await asyncpg.connect(empty_dsn)
    migrating = asyncio.ensure_future(PgQueue(empty_dsn).migrate())

    async def waits() -> bool:
        # Not of other tests on the same server.
        waiting = (
            "select exists (select from pg_locks join pg_stat_activity using (pid)"
            " where not granted and datname = current_database())"
        )
        return bool(await admin.fetchval(waiting))

    async def work(session: Connection) -> None:
        for table in AT_WORK:
            await session.execute(f"select from pgqueue.{table} limit 1")
        await session.execute("commit")

    await eventually(waits)
    await asyncio.gather(*map(work, sessions))

    assert [migration.version for migration in await migrating] == VERSIONS[version:]
    for session in (*sessions, admin):
        await session.close()


async def test_pending_migrations_are_the_sql_that_would_run(empty_dsn: str) -> None:
    pgq = PgQueue(empty_dsn)
    # psql sends one statement after the other. Here all are parsed at once, before the script's settings.
    connection = await asyncpg.connect(empty_dsn, server_settings={"standard_conforming_strings": "on"})

    sql = await pgq.pending_migrations()
    assert await connection.fetchval("select to_regnamespace('pgqueue')::text") is None
    await connection.execute(sql)

    # It is the whole of it: what psql has run, the program accepts, and migrating finds nothing to do.
    assert await pgq.pending_migrations() == ""
    assert await pgq.migrate() == []
    async with pgq:
        await pgq.enqueue_by_name("task")
    await connection.close()


async def test_pending_migrations_name_the_schema_in_use(empty_dsn: str) -> None:
    sql = await PgQueue(empty_dsn, schema="other").pending_migrations()

    assert "create table other.job " in sql
    assert "create table pgqueue.job " not in sql


# Versions


@pytest.mark.contract("P4.16")
async def test_a_database_without_a_schema_says_what_to_run(empty_dsn: str) -> None:
    with pytest.raises(
        SchemaError, match="the database has no pgqueue schema 'pgqueue'; run `pgqueue migrate`"
    ):
        await PgQueue(empty_dsn).open()
    with pytest.raises(SchemaError, match=r"no pgqueue schema 'other'.*run `pgqueue migrate"):
        await PgQueue(empty_dsn, schema="other").open()


@pytest.mark.contract("P4.16")
async def test_an_older_schema_says_what_to_run(dsn: str, db: Connection) -> None:
    await db.execute("delete from pgqueue.migration where version = $1", NEWEST)
    if len(VERSIONS) > 1:
        said = f"is at version {VERSIONS[-2]}, but this pgqueue needs {NEWEST}; run `pgqueue migrate"
    else:
        said = "run `pgqueue migrate"

    with pytest.raises(SchemaError, match=said):
        await PgQueue(dsn).open()


@pytest.mark.contract("P4.16")
async def test_a_newer_schema_that_cannot_be_worked_with_says_what_to_run(dsn: str, db: Connection) -> None:
    await migrated(db, NEWEST + 1, works_with=NEWEST + 1)

    with pytest.raises(
        SchemaError, match=f"at version {NEWEST + 1}, which is too new.*pip install --upgrade pgqueue-asyncio"
    ):
        await PgQueue(dsn).open()


@pytest.mark.contract("P4.16")
async def test_a_newer_schema_is_only_as_good_as_each_of_its_steps(dsn: str, db: Connection) -> None:
    await migrated(db, NEWEST + 1, works_with=NEWEST + 1)
    await migrated(db, NEWEST + 2, works_with=NEWEST)

    with pytest.raises(SchemaError, match=f"at version {NEWEST + 2}"):
        await PgQueue(dsn).open()


@pytest.mark.contract("P4.16")
async def test_a_newer_schema_that_works_with_this_version_is_worked_with(dsn: str, db: Connection) -> None:
    await migrated(db, NEWEST + 1, works_with=NEWEST)
    pgq = PgQueue(dsn)

    @pgq.task
    async def work() -> str:
        return "done"

    async with pgq, pgq.worker():
        assert await (await work.enqueue()).result(timeout=60) == "done"


@pytest.mark.contract("P4.16")
async def test_migrating_a_newer_schema_changes_nothing(dsn: str, db: Connection) -> None:
    await migrated(db, NEWEST + 1, works_with=NEWEST)

    assert await PgQueue(dsn).migrate() == []
    assert await PgQueue(dsn).pending_migrations() == ""


async def test_a_pgqueue_that_could_not_open_can_be_opened_later(empty_dsn: str) -> None:
    pgq = PgQueue(empty_dsn)
    with pytest.raises(SchemaError):
        await pgq.open()

    await pgq.migrate()

    async with pgq:
        await pgq.check()


# Partitions


async def test_partitions_are_there_for_today_and_days_ahead(db: Connection) -> None:
    expected = await db.fetchval(
        # This database is a copy of one that was migrated when the tests began: yesterday, perhaps.
        "select array_agg('job_' || to_char(timezone('UTC', at) + ahead * interval '1 day', 'YYYYMMDD'))"
        " from (select max(applied_at) as at from pgqueue.migration) as made, generate_series(0, 3) as ahead"
    )

    found = {row[0] for row in await db.fetch(PARTITIONS)}

    assert {"job_default", *expected} <= found


async def test_a_job_goes_to_the_partition_of_its_day(pgq: PgQueue, db: Connection) -> None:
    job = await pgq.enqueue_by_name("work")

    partition = await db.fetchval("select tableoid::regclass::text from pgqueue.job where id = $1", job.id)

    day = await db.fetchval("select to_char(created_at at time zone 'UTC', 'YYYYMMDD') from pgqueue.job")
    assert partition == f"pgqueue.job_{day}"


async def test_enqueueing_works_where_no_partition_was_made(pgq: PgQueue, db: Connection) -> None:
    for (partition,) in await db.fetch(PARTITIONS):
        if partition != "job_default":
            await db.execute(f"drop table pgqueue.{partition}")

    @pgq.task
    async def work(number: int) -> int:
        return number

    jobs = await pgq.enqueue_many([work.s(number) for number in range(5)])
    # Maintenance meets a day whose jobs are in the default partition already, and leaves them there.
    async with pgq.worker():
        assert [await job.result(timeout=60) for job in jobs] == list(range(5))

    assert await db.fetchval("select count(*) from pgqueue.job_default") == 5
    assert await db.fetchval("select pgqueue.make_partition(now())") is False


@pytest.mark.parametrize("chosen", [uuid4(), UUID(int=0), UUID(int=2**128 - 1)], ids=["v4", "nil", "max"])
async def test_ids_that_are_not_of_a_time_go_to_the_default_partition(
    pgq: PgQueue, db: Connection, chosen: UUID
) -> None:
    @pgq.task
    async def work() -> str:
        return "done"

    job = await work.options(id=chosen).enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == "done"

    assert await job.status() is JobStatus.SUCCEEDED
    assert await db.fetchval("select count(*) from pgqueue.job_default where id = $1", chosen) == 1


async def test_partitions_are_made_once(db: Connection) -> None:
    future = "now() + interval '40 days'"

    assert await db.fetchval(f"select pgqueue.make_partition({future})") is True
    assert await db.fetchval(f"select pgqueue.make_partition({future})") is False


@pytest.mark.contract("W8", "W28")
@pytest.mark.parametrize("hands", ["select 1", ADD_COLUMNS], ids=["as it is", "with columns of yours"])
async def test_ids_of_days_to_come_do_not_keep_their_partitions_from_being_made(
    pgq: PgQueue, db: Connection, hands: str
) -> None:
    await db.execute(hands)

    @pgq.task
    async def work() -> str:
        return "done"

    at = await db.fetchval("select now() + interval '40 days'")
    chosen = UUID(int=(int(at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62))
    later = await work.options(id=chosen, run_at=at).enqueue()

    made = await db.fetchval("select pgqueue.make_partition($1)", at)

    place = await db.fetchval("select tableoid::regclass::text from pgqueue.job where id = $1", chosen)
    assert (made, place) == (True, f"pgqueue.job_{at:%Y%m%d}")
    assert await later.cancel() is True
    with pytest.raises(asyncpg.RestrictViolationError):
        await db.execute("delete from pgqueue.job where id = $1", chosen)
    plan = await db.fetchval("select count(*) from pg_index where indrelid = $1::text::regclass", place)
    assert plan == 2
