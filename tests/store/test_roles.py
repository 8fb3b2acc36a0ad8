"""Roles that may enqueue, work or read, and nothing else. What a role may not do is read off the catalog."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import anyio
import asyncpg
import pytest
from kit.roles import KINDS, Roles, roles_of
from kit.waiting import eventually
from kit.web_client import client_of
from typer.testing import CliRunner

from pgqueue import (
    DuplicateJobError,
    DuplicateKeyError,
    IdempotencyConflictError,
    JobContext,
    JobStatus,
    MissingPrivilegeError,
    PgQueue,
    QueueFullError,
    Reject,
    Retry,
    SchemaError,
    Snooze,
    chain,
)
from pgqueue.cli import app
from pgqueue.database.sql import load_roles
from pgqueue.upkeep import retention as purger
from pgqueue.upkeep import unknown_tasks
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

TOKEN = "a-token-for-the-tests-of-roles"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
ENTRY_POINTS = {
    "enqueue",
    "submit",
    "submit_workflow",
    "write_workflow",
    "lane_of",
    "count_depth",
    "find_existing",
    "read_version",
    "declare_limit",
    "declare_ordered",
}
"""What the enqueueing role may call that runs as the owner."""
RECEIVING = {"receive", "ack", "nack", "extend"}
"""What the receiving role may call that runs as the owner."""
BY_FUNCTION_ONLY = {"make_partition", "drop_partition"}
"""What workers call, because it needs the owner."""
TABLES = """
    select relname::text from pg_class
    where relnamespace = 'pgqueue'::regnamespace and relkind in ('r', 'p', 'v', 'S') order by 1
"""
FUNCTIONS = """
    select oid, proname::text as name, prosecdef as runs_as_owner, proretset,
           array(select format_type(unnest, null) from unnest(proargtypes)) as types
    from pg_proc
    where pronamespace = 'pgqueue'::regnamespace and prorettype <> 'trigger'::regtype order by 2
"""


@pytest.fixture
async def roles(dsn: str, superuser_dsn: str) -> AsyncIterator[Roles]:
    async with roles_of(superuser_dsn) as roles:
        yield roles


async def connect(roles: Roles, user: str) -> Connection:
    connection: Connection = await asyncpg.connect(roles.dsn_of(user))
    return connection


async def everything(db: Connection) -> dict[str, list[Any]]:
    """Return all rows of all tables."""
    tables = await db.fetch(
        "select relname::text from pg_class "
        "where relnamespace = 'pgqueue'::regnamespace and relkind in ('r', 'p')"
    )
    return {
        table: sorted(str(tuple(row.values())) for row in await db.fetch(f"select * from pgqueue.{table}"))
        for (table,) in tables
    }


# The functions


@pytest.mark.contract("W2")
async def test_no_search_path_changes_what_a_function_does(db: Connection) -> None:
    functions = await db.fetch(
        """
        select proname::text as name, lanname::text as language, prosqlbody is not null as is_parsed,
               prosecdef,
               'search_path=pg_catalog, pg_temp' = any(coalesce(proconfig, '{}')) as is_pinned
        from pg_proc join pg_language on pg_language.oid = prolang
        where pronamespace = 'pgqueue'::regnamespace
        """
    )

    open_to_paths = {
        each["name"]
        for each in functions
        if not (
            each["is_pinned"] or (each["language"] == "sql" and each["is_parsed"] and not each["prosecdef"])
        )
    }

    # These ask for the path that they are called with, and qualify the rest.
    assert open_to_paths == {"refuse_move", "refuse_second_place"}


@pytest.mark.contract("W2")
async def test_what_runs_as_the_owner_is_known_and_not_everybodys(db: Connection) -> None:
    rows = await db.fetch(
        """
        select proname::text as name, has_function_privilege('public', oid, 'execute') as is_public
        from pg_proc where pronamespace = 'pgqueue'::regnamespace and prosecdef
        """
    )

    assert {row["name"] for row in rows} == ENTRY_POINTS | RECEIVING | BY_FUNCTION_ONLY
    assert not any(row["is_public"] for row in rows)


@pytest.mark.contract("W2")
@pytest.mark.parametrize("path", ["public, pg_catalog", "pg_temp, public, pg_catalog", "public", ""])
async def test_operators_of_others_are_not_called(
    db: Connection, dsn: str, superuser_dsn: str, path: str
) -> None:
    owner = await asyncpg.connect(superuser_dsn)
    await owner.execute(
        """
        create table public.loot (who text);
        grant all on public.loot to public;
        create function public.evil(integer, interval) returns interval language plpgsql as $$
        begin
            insert into public.loot values (current_user);
            return $1::float8 operator(pg_catalog.*) $2;
        end $$;
        create operator public.* (function = public.evil, leftarg = integer, rightarg = interval);
        create function public.evil(text, integer) returns text language plpgsql as $$
        begin
            insert into public.loot values (current_user);
            return $1 operator(pg_catalog.||) ($2::text);
        end $$;
        create operator public.|| (function = public.evil, leftarg = text, rightarg = integer);
        create function public.evil(uuid, uuid) returns boolean language plpgsql as $$
        begin
            insert into public.loot values (current_user);
            return $1 operator(pg_catalog.=) $2;
        end $$;
        create operator public.= (function = public.evil, leftarg = uuid, rightarg = uuid);
        create function public.now() returns timestamptz language plpgsql as $$
        begin
            insert into public.loot values (current_user);
            return pg_catalog.now();
        end $$;
        """
    )
    await owner.execute("drop schema pgqueue cascade")
    await owner.close()

    await PgQueue(dsn).migrate()
    await db.execute(f"set search_path to {path or chr(39) * 2}")
    first = await db.fetchval("select pgqueue.enqueue('task', queue => 'new', idempotency_key => 'key')")
    assert first == await db.fetchval(
        "select pgqueue.enqueue('task', queue => 'new', idempotency_key => 'key')"
    )
    await db.execute("select pgqueue.reprioritise($1, 5)", first)
    await db.execute("select pgqueue.cancel($1)", first)
    await db.execute("select pgqueue.make_partition(pg_catalog.now())")
    await db.execute("select pgqueue.is_held('pending', $1)", first)
    await db.execute("select * from pgqueue.submit('[]')")

    assert await db.fetch("select * from public.loot") == []


# The SQL


@pytest.mark.contract("W2")
async def test_the_sql_can_be_run_again_and_by_the_owner(
    roles: Roles, db: Connection, superuser_dsn: str
) -> None:
    before = await privileges(db)

    # The owner may not create roles, and need not: they are there.
    await db.execute(load_roles("pgqueue", roles.prefix))

    assert await privileges(db) == before
    assert before


async def privileges(db: Connection) -> list[Any]:
    return await db.fetch(
        """
        select relname::text, (aclexplode(relacl)).* from pg_class
        where relnamespace = 'pgqueue'::regnamespace
        union all
        select proname::text, (aclexplode(proacl)).* from pg_proc
        where pronamespace = 'pgqueue'::regnamespace
        union all
        select defaclobjtype::text, (aclexplode(defaclacl)).* from pg_default_acl
        order by 1, 3, 4
        """
    )


@pytest.mark.contract("W2")
async def test_what_is_made_later_is_the_workers_and_the_readers(roles: Roles, db: Connection) -> None:
    await db.execute("create table pgqueue.later (id integer generated always as identity)")

    worker, reader, enqueuer = [await connect(roles, user) for user in ("worker", "read", "enqueue")]
    await worker.execute("insert into pgqueue.later default values")
    assert await reader.fetchval("select count(*) from pgqueue.later") == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await enqueuer.fetchval("select count(*) from pgqueue.later")

    for connection in (worker, reader, enqueuer):
        await connection.close()


# Enqueueing only


@pytest.mark.contract("W2")
async def test_a_role_that_enqueues_reads_and_writes_no_table(
    roles: Roles, pgq: PgQueue, db: Connection
) -> None:
    await pgq.enqueue_by_name("others")
    before = await everything(db)
    connection = await connect(roles, "enqueue")

    for (table,) in await db.fetch(TABLES):
        for statement in (
            f"select * from pgqueue.{table} limit 1",
            f"insert into pgqueue.{table} default values",
            f"delete from pgqueue.{table}",
            f"truncate pgqueue.{table} cascade",
            f"alter table pgqueue.{table} rename to {table}_2",
            f"drop table pgqueue.{table}",
            f"select nextval('pgqueue.{table}')",
            f"select setval('pgqueue.{table}', 1)",
        ):
            with pytest.raises(asyncpg.PostgresError) as refused:
                await connection.execute(statement)
            # A view takes no rows, whoever gives them, and a table has no next value.
            assert refused.value.sqlstate in ("42501", "42809", "55000"), statement
    for column in await db.fetch(
        "select attrelid::regclass::text as of_table, attname::text as name from pg_attribute "
        "join pg_class on pg_class.oid = attrelid "
        "where relnamespace = 'pgqueue'::regnamespace and relkind in ('r', 'p', 'v') and attnum > 0"
    ):
        assert not await connection.fetchval(
            "select has_column_privilege($1::regclass, $2, 'select')"
            " or has_column_privilege($1::regclass, $2, 'update')"
            " or has_column_privilege($1::regclass, $2, 'insert')",
            column["of_table"],
            column["name"],
        )

    assert await everything(db) == before
    await connection.close()


@pytest.mark.contract("W2")
async def test_a_role_that_enqueues_changes_no_job_by_any_function(
    roles: Roles, pgq: PgQueue, db: Connection
) -> None:
    ids = [(await pgq.enqueue_by_name("others")).id for _ in range(3)]
    failed = (await pgq.enqueue_by_name("others")).id
    await db.execute("select pgqueue.transition($1, 'failed')", failed)
    await pgq.enqueue_by_name("others", options={"idempotency_key": "key"})
    before = await everything(db)
    connection = await connect(roles, "enqueue")
    values: dict[str, list[str]] = {
        "uuid": [f"'{ids[0]}'", f"'{failed}'"],
        "uuid[]": [f"array['{ids[1]}', '{failed}']::uuid[]"],
        "text": ["'others'", "'cancelled'", "'queue'", "'job_default'", "'window'"],
        "text[]": ["array['pending', 'failed']"],
        "json": [
            "'{}'",
            f"""'[{{"job_id": "{ids[0]}", "task": "others", "queue": "default", "arguments": "{{}}"}}]'""",
        ],
        "pgqueue.job_status": ["'cancelled'", "'failed'", "'pending'"],
        "timestamp with time zone": ["now()"],
        "interval": ["'1 day'"],
        "boolean": ["true"],
    }
    called: set[str] = set()

    for function in await db.fetch(FUNCTIONS):
        if function["name"] in {"enqueue", "lane_of"}:
            # Making new ones is what they are for.
            continue
        for turn in range(5):
            arguments = ", ".join(
                (options := values.get(of_type, ["1"]))[turn % len(options)] for of_type in function["types"]
            )
            try:
                await connection.execute(f"select * from pgqueue.{function['name']}({arguments}) as found")
            except asyncpg.PostgresError:
                continue
            called.add(function["name"])

    assert await everything(db) == before
    # Some answer: those that are pure, and those that say whether a job is there.
    assert called >= {"find_existing", "count_depth", "key_id", "uuid7"}
    for function in await db.fetch(FUNCTIONS):
        may = await connection.fetchval("select has_function_privilege($1::oid, 'execute')", function["oid"])
        if function["runs_as_owner"]:
            assert may is (function["name"] in ENTRY_POINTS), function["name"]
    await connection.close()


@pytest.mark.contract("W2", "P8.4")
async def test_a_role_that_receives_ends_what_it_has_received_and_nothing_else(
    roles: Roles, pgq: PgQueue, db: Connection
) -> None:
    mine, other = [await pgq.enqueue_by_name("work", options={"queue": queue}) for queue in ("mine", "other")]
    [held] = await pgq.receive("other")
    connection = await connect(roles, "receive")
    receive = "select id, receipt from pgqueue.receive('mine')"

    row = await connection.fetchrow(receive)
    assert row is not None
    assert row["id"] == mine.id
    assert await connection.fetchval("select pgqueue.extend($1, $2, '1 hour')", *row) == "extended"
    assert await connection.fetchval("select pgqueue.nack($1, $2, '0')", *row) == "scheduled"
    row = await connection.fetchrow(receive)
    assert row is not None
    assert await connection.fetchval("select pgqueue.ack($1, $2)", *row) is True
    assert await connection.fetchval("select pgqueue.ack($1, $2)", other.id, uuid4()) is False
    for statement in (
        "select count(*) from pgqueue.job",
        "select count(*) from pgqueue.lease",
        f"select pgqueue.cancel('{other.id}')",
        f"select pgqueue.end_receipt('{other.id}', '{held.receipt}', 'succeeded')",
        "select pgqueue.enqueue('work')",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    for function in await db.fetch(FUNCTIONS):
        may = await connection.fetchval("select has_function_privilege($1::oid, 'execute')", function["oid"])
        if function["runs_as_owner"]:
            assert may is (function["name"] in RECEIVING), function["name"]
    await connection.close()
    assert await mine.status() is JobStatus.SUCCEEDED
    assert await other.status() is JobStatus.RUNNING


@pytest.mark.contract("W2")
async def test_a_role_that_enqueues_ends_no_worker(roles: Roles, pgq: PgQueue) -> None:
    connection = await connect(roles, "enqueue")

    async with PgQueue(roles.dsn_of("worker")) as theirs, theirs.worker() as worker:
        await worker.wait_ready()
        for pid in await connection.fetch("select pid from pg_stat_activity where pid <> pg_backend_pid()"):
            assert await try_to_end(connection, pid["pid"]) is False
        assert worker.is_consuming

    await connection.close()


async def try_to_end(connection: Connection, pid: int) -> bool:
    try:
        return bool(await connection.fetchval("select pg_terminate_backend($1)", pid))
    except asyncpg.InsufficientPrivilegeError:
        return False


@pytest.mark.contract("W2")
async def test_a_role_enqueues_by_sql(roles: Roles, db: Connection) -> None:
    connection = await connect(roles, "enqueue")

    first = await connection.fetchval(
        "select pgqueue.enqueue('a', '{\"x\": 1}', queue => 'new', priority => 3)"
    )
    later = await connection.fetchval(
        "select pgqueue.enqueue("
        "'a', delay => '1 hour', expires_at => now() + interval '1 day', tags => '{t}')"
    )
    keyed = await connection.fetchval("select pgqueue.enqueue('a', idempotency_key => 'k')")
    assert keyed == await connection.fetchval("select pgqueue.enqueue('a', idempotency_key => 'k')")
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("select pgqueue.enqueue('b', id => $1)", first)

    statuses = {row[0]: row[1] for row in await db.fetch("select id, status::text from pgqueue.jobs")}
    assert statuses == {first: "pending", later: "scheduled", keyed: "pending"}
    await connection.close()


@pytest.mark.contract("W2")
async def test_a_program_enqueues_all_that_it_could_as_the_owner(roles: Roles, pgq: PgQueue) -> None:
    @pgq.task
    async def work(number: int) -> int:
        return number

    async with PgQueue(roles.dsn_of("enqueue")) as theirs:

        @theirs.task(name="work")
        async def their_work(number: int) -> int:
            return number

        one = await their_work.enqueue(1)
        many = await theirs.enqueue_many(their_work.s(number) for number in range(2500))
        tagged = await their_work.options(tags=["t"], headers={"h": "1"}, queue="other", priority=7).enqueue(
            2
        )
        soon = await their_work.options(run_at=datetime.now(UTC) - timedelta(hours=1)).enqueue(3)
        late = await their_work.options(delay=3600, expires=7200).enqueue(4)
        chosen = await their_work.options(id=uuid4()).enqueue(5)
        again = await their_work.options(id=chosen.id).enqueue(5)
        with pytest.raises(DuplicateJobError):
            await their_work.options(id=chosen.id, on_duplicate="raise").enqueue(5)

    assert (chosen.created, again.created) == (True, False)
    job = await pgq.get(tagged.id)
    assert (job.tags, job.queue, job.priority, job.headers) == (("t",), "other", 7, {"h": "1"})
    assert (await pgq.get(late.id)).status is JobStatus.SCHEDULED
    assert (await pgq.get(soon.id)).status is JobStatus.PENDING
    async with pgq.worker(queues=["default", "other"]):
        for handle in (one, many[0], many[-1], tagged, soon, chosen):
            await pgq.handle(handle.id).result(timeout=60)


@pytest.mark.contract("W2")
async def test_a_program_enqueues_in_its_own_transaction(roles: Roles, pgq: PgQueue, db: Connection) -> None:
    connection = await connect(roles, "enqueue")

    async with PgQueue(roles.dsn_of("enqueue")) as theirs:
        signatures = [theirs.signature("a"), theirs.signature("b", options={"idempotency_key": "k"})]
        transaction = connection.transaction()
        await transaction.start()
        await theirs.enqueue_many(signatures, connection=connection)
        await transaction.rollback()
        assert await db.fetchval("select count(*) from pgqueue.job") == 0
        async with connection.transaction():
            first, second = await theirs.enqueue_many(signatures, connection=connection)
            assert (first.created, second.created) == (True, True)

    assert await db.fetchval("select count(*) from pgqueue.ready") == 2
    await connection.close()


@pytest.mark.contract("W2")
async def test_a_program_keeps_to_the_limit_of_a_queue(roles: Roles) -> None:
    async with PgQueue(roles.dsn_of("enqueue"), max_depth=2) as theirs:
        await theirs.enqueue_many([theirs.signature("a"), theirs.signature("a")])
        with pytest.raises(QueueFullError):
            await theirs.enqueue_by_name("a")


@pytest.mark.contract("W2")
async def test_keys_do_what_they_do_for_the_owner(roles: Roles, pgq: PgQueue, db: Connection) -> None:
    async with PgQueue(roles.dsn_of("enqueue")) as theirs:

        async def enqueue(number: int, **options: Any) -> Any:
            call = {"idempotency_key": "k", **options}
            return await theirs.enqueue(theirs.signature("work", number, options=call))  # type: ignore[arg-type]

        first = await enqueue(1)
        again = await enqueue(1)
        assert (again.id, first.created, again.created) == (first.id, True, False)
        with pytest.raises(DuplicateKeyError) as duplicate:
            await enqueue(1, on_conflict="raise")
        assert duplicate.value.job_id == first.id
        with pytest.raises(IdempotencyConflictError) as conflict:
            await enqueue(2)
        assert (conflict.value.job_id, conflict.value.held_fingerprint) == (first.id, "")
        replaced = await enqueue(3, on_conflict="replace", priority=4, delay=3600)
        assert (replaced.id, replaced.created, replaced.replaced) == (first.id, False, True)
        assert (await pgq.get(first.id)).arguments == {"*": [3]}
        assert (await pgq.get(first.id)).status is JobStatus.SCHEDULED
        its_time = (await pgq.get(first.id)).next_run_at
        throttled = await enqueue(4, on_conflict="throttle", delay=1)
        assert (throttled.id, throttled.replaced) == (first.id, True)
        assert (await pgq.get(first.id)).next_run_at == its_time is not None
        assert (await pgq.get(first.id)).arguments == {"*": [4]}
        sooner = await enqueue(5, on_conflict="debounce", delay=0.001)
        assert (sooner.id, sooner.replaced) == (first.id, True)
        joined = await enqueue(5, on_conflict="coalesce", idempotency_key="c")
        assert (await enqueue(5, on_conflict="coalesce", idempotency_key="c")).id == joined.id
        await run(db, joined.id)
        following = await enqueue(5, on_conflict="coalesce", idempotency_key="c")
        assert following.created
        assert (await pgq.get(following.id)).status is JobStatus.BLOCKED
        several = await theirs.enqueue_many(
            theirs.signature("work", 9, options={"idempotency_key": key}) for key in ("k2", "k3", "k2")
        )
        assert [each.created for each in several] == [True, True, False]


async def run(db: Connection, job_id: UUID) -> None:
    """Have a job run, under a lease that nobody holds."""
    lease_id = uuid4()
    await db.execute(
        "insert into pgqueue.lease (id, worker, queues, expires_at) "
        "values ($1, 'test', '{default}', now() + interval '1 hour')",
        lease_id,
    )
    await db.execute("select pgqueue.transition($1, 'running', $2)", job_id, lease_id)


@pytest.mark.contract("W2")
@pytest.mark.parametrize("maker", ["other", "owner"])
@pytest.mark.parametrize("on_conflict", ["replace", "debounce", "throttle", "coalesce"])
async def test_what_another_role_made_is_not_replaced(
    roles: Roles, dsn: str, db: Connection, maker: str, on_conflict: str
) -> None:
    options: Any = {"idempotency_key": "k", "idempotency_fingerprint": False, "delay": 60}
    async with PgQueue(dsn if maker == "owner" else roles.dsn_of(maker)) as makers:
        made = await makers.enqueue(makers.signature("work", 1, options=options))
        before = await everything(db)

        async with PgQueue(roles.dsn_of("enqueue")) as theirs:
            call: Any = {**options, "on_conflict": on_conflict}
            answer = await theirs.enqueue(theirs.signature("work", 2, options=call))
            assert (answer.id, answer.created, answer.replaced) == (made.id, False, False)
            # Nor by a call that claims the job's own id, nor once it runs.
            call |= {"id": made.id, "on_duplicate": "raise"}
            with pytest.raises(DuplicateJobError):
                await theirs.enqueue(theirs.signature("work", 2, options=call))
        assert await everything(db) == before


@pytest.mark.contract("W2")
async def test_a_key_that_passed_to_another_role_is_the_others(
    roles: Roles, dsn: str, db: Connection
) -> None:
    key: Any = {"idempotency_key": "k", "idempotency_while": "pending", "idempotency_fingerprint": False}
    async with PgQueue(roles.dsn_of("enqueue")) as theirs, PgQueue(dsn) as owners:
        first = await theirs.enqueue(theirs.signature("work", 1, options=key))
        await db.execute("select pgqueue.cancel($1)", first.id)
        second = await owners.enqueue(owners.signature("work", 2, options=key))
        assert second.created
        call: Any = {**key, "on_conflict": "replace"}
        answer = await theirs.enqueue(theirs.signature("work", 3, options=call))

        assert (answer.id, answer.replaced) == (second.id, False)
        assert (await owners.get(second.id)).arguments == {"*": [2]}


@pytest.mark.contract("W2")
async def test_what_submit_takes_is_what_a_call_says_and_no_more(roles: Roles, db: Connection) -> None:
    connection = await connect(roles, "enqueue")
    job_id = uuid4()

    await connection.execute(
        """
        select * from pgqueue.submit(json_build_array(json_build_object(
            'job_id', $1::uuid, 'task', 'work', 'queue', 'default', 'priority', 0, 'arguments', '{}',
            'status', 'succeeded', 'result', '1', 'worker', 'me', 'attempt', 7, 'completed_at', now(),
            'made_by', 'someone', 'lane', 1)))
        """,
        job_id,
    )
    for call in (
        "{}",
        '{"job_id": "%s", "task": "w", "queue": "q", "priority": 0}',
        '{"job_id": "%s", "task": "w", "queue": "q", "priority": 0, "arguments": "7"}',
        '{"job_id": "%s", "task": "w", "queue": "q", "priority": 0, "arguments": "{}", "options": "[]"}',
        '{"job_id": "%s", "task": "w", "queue": "", "priority": 0, "arguments": "{}"}',
        '{"job_id": "%s", "task": "w", "queue": "q", "arguments": "{}"}',
        '{"job_id": "%s", "task": "w", "queue": "q", "priority": 0, "arguments": "{}", "hold": {}}',
    ):
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute(
                "select * from pgqueue.submit($1)", f"[{call.replace('%s', str(uuid4()))}]"
            )

    [row] = await db.fetch("select * from pgqueue.jobs")
    assert (row["id"], row["status"], row["result"], row["worker"]) == (job_id, "pending", None, None)
    assert await db.fetchval("select count(*) from pgqueue.ready") == 1
    await connection.close()


@pytest.mark.contract("W2")
async def test_reading_and_operating_with_a_role_that_enqueues_says_what_is_missing(
    roles: Roles, pgq: PgQueue
) -> None:
    job = await pgq.enqueue_by_name("work")

    async with PgQueue(roles.dsn_of("enqueue")) as theirs:
        for refused in (
            lambda: theirs.get(job.id),
            lambda: theirs.handle(job.id).result(timeout=5),
            lambda: theirs.handle(job.id).cancel(),
            theirs.jobs,
            theirs.measure,
            lambda: theirs.redrive(job.id),
            lambda: theirs.pause(queue="default"),
            lambda: theirs.mark_processed("source", "event"),
        ):
            with pytest.raises(MissingPrivilegeError, match=r"`pgqueue roles` prints"):
                await refused()
        with pytest.raises(MissingPrivilegeError, match=r"may not run a worker .*lacks delete on action"):
            theirs.worker()
        # None of it has ended the background.
        await theirs.check()
        assert (await theirs.enqueue_by_name("work")).created

    assert (await job.refresh()).status is JobStatus.PENDING


# Working


@pytest.mark.contract("W2")
async def test_a_worker_that_owns_nothing_brings_jobs_to_every_end(
    roles: Roles, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown_tasks, "INTERVAL", 0.2)
    async with PgQueue(roles.dsn_of("worker"), unknown_task_grace=0.1) as pgq:

        @pgq.task(max_retries=1, default_retry_delay=0)
        async def end(ctx: JobContext, how: str) -> str:
            await ctx.step("step", lambda: how)
            ctx.progress(1, 2)
            match how:
                case "retry" if ctx.attempt == 1:
                    raise Retry(countdown=0)
                case "snooze" if ctx.attempt == 1 and not snoozed:
                    snoozed.append(how)
                    raise Snooze(0)
                case "reject":
                    raise Reject("no")
                case "fail":
                    raise ValueError("no")
                case "transaction":
                    async with ctx.transaction() as connection:
                        await connection.execute("select 1")
                case "wait":
                    started.set()
                    await anyio.sleep(60)
            return how

        snoozed: list[str] = []
        started = anyio.Event()
        jobs = {
            how: await end.enqueue(how=how)
            for how in ("success", "retry", "snooze", "reject", "fail", "transaction", "wait")
        }
        jobs["expire"] = await end.options(delay=3600, expires=0.01).enqueue(how="expire")
        jobs["cancel"] = await end.options(delay=3600).enqueue(how="cancel")
        jobs["unknown"] = await pgq.enqueue_by_name("unknown")
        jobs["keyed"] = await end.options(idempotency_key="k").enqueue(how="keyed")
        async with pgq.worker():
            await started.wait()
            await jobs["wait"].cancel()
            await jobs["cancel"].cancel()
            ends = {how: (await pgq.wait(job.id)).status for how, job in jobs.items()}
            await pgq.pause(queue="default")
            await pgq.resume(queue="default")
            await pgq.redrive(jobs["fail"].id)
            await pgq.wait(jobs["fail"].id)
            await pgq.discard(jobs["fail"].id)
            await pgq.requeue(jobs["success"].id)
            await pgq.wait(jobs["success"].id)
            assert await pgq.mark_processed("source", "event")
            await pgq.measure()

    assert ends == {
        "success": JobStatus.SUCCEEDED,
        "retry": JobStatus.SUCCEEDED,
        "snooze": JobStatus.SUCCEEDED,
        "reject": JobStatus.FAILED,
        "fail": JobStatus.FAILED,
        "transaction": JobStatus.SUCCEEDED,
        "wait": JobStatus.CANCELLED,
        "expire": JobStatus.EXPIRED,
        "cancel": JobStatus.CANCELLED,
        "unknown": JobStatus.FAILED,
        "keyed": JobStatus.SUCCEEDED,
    }
    actors = {row[0] for row in await db.fetch("select actor from pgqueue.action")}
    assert actors == {roles.name_of("worker")}


@pytest.mark.contract("W2")
async def test_a_worker_that_owns_nothing_rescues_and_makes_and_drops_days(
    roles: Roles, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = await db.fetch("select name from pgqueue.day_partitions() order by 1")
    await db.execute(f"drop table pgqueue.{days[-1]['name']}")
    await db.execute("select pgqueue.make_partition(now() - interval '40 days')")
    oldest = await db.fetchval("select name from pgqueue.day_partitions() order by 1 limit 1")

    monkeypatch.setattr(purger, "FIRST_PASS", 0.0)
    async with PgQueue(roles.dsn_of("worker")) as pgq:

        @pgq.task
        async def work() -> str:
            return "done"

        lost = await work.enqueue()
        await run(db, lost.id)
        await db.execute("update pgqueue.lease set expires_at = now() - interval '1 minute'")
        async with pgq.worker():
            assert await lost.result(timeout=60) == "done"
            await eventually(lambda: has_days(db, {days[-1]["name"]}, without=oldest), within=60)


async def has_days(db: Connection, wanted: set[str], *, without: str) -> bool:
    days = {row["name"] for row in await db.fetch("select name from pgqueue.day_partitions()")}
    return wanted <= days and without not in days


@pytest.mark.contract("W2")
@pytest.mark.parametrize("name", ["job_default", "lease", "nothing"])
async def test_a_worker_drops_days_and_no_other_table(roles: Roles, db: Connection, name: str) -> None:
    before = await everything(db)
    connection = await connect(roles, "worker")

    dropped = await connection.fetchval(
        "select pgqueue.drop_partition($1, $2, $3)", name, UUID(int=0), UUID(int=2**128 - 1)
    )

    assert dropped is False
    assert (await everything(db)).keys() == before.keys()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("drop table pgqueue.job")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("insert into pgqueue.migration values (99, 'forged', 1)")
    await connection.close()


@pytest.mark.contract("W2")
async def test_what_a_role_lacks_is_named_at_the_start(
    roles: Roles, superuser_dsn: str, db: Connection
) -> None:
    with pytest.raises(SchemaError, match=r"may not use schema 'pgqueue'.*`pgqueue roles` prints"):
        await PgQueue(roles.dsn_of("nobody")).open()
    await db.execute(f"grant usage on schema pgqueue to {roles.name_of('nobody')}")
    with pytest.raises(MissingPrivilegeError, match=r"may not read or enqueue anything"):
        await PgQueue(roles.dsn_of("nobody")).open()
    await db.execute(f"revoke update on pgqueue.running from {roles.prefix}_worker")
    await db.execute(f"revoke execute on function pgqueue.make_partition from {roles.prefix}_worker")

    async with PgQueue(roles.dsn_of("worker")) as pgq:
        said = r"it lacks execute on function make_partition, update on running; `pgqueue roles`"
        with pytest.raises(MissingPrivilegeError, match=said):
            pgq.worker()


# Reading only


@pytest.mark.contract("W2")
async def test_a_role_that_reads_changes_nothing(roles: Roles, pgq: PgQueue, db: Connection) -> None:
    job = await pgq.enqueue_by_name("work")
    connection = await connect(roles, "read")
    tables = [row[0] for row in await db.fetch(TABLES)]
    before = await everything(db)

    for table in tables:
        allowed = {
            privilege
            for privilege in (
                "select",
                "insert",
                "update",
                "delete",
                "truncate",
                "references",
                "trigger",
                "usage",
            )
            if await connection.fetchval(
                "select case when $2 = 'usage' then relkind = 'S' and has_sequence_privilege(oid, 'usage')"
                " else has_table_privilege(oid, $2) end"
                " from pg_class where oid = ('pgqueue.' || $1)::regclass",
                table,
                privilege,
            )
        }
        known = {"position": set(), "ended_session": {"select", "insert", "delete"}}
        expected: set[str] = known.get(table, {"select"})
        assert allowed == (set() if table.endswith("_seq") else expected), table

    async with PgQueue(roles.dsn_of("read")) as theirs:
        assert (await theirs.get(job.id)).status is JobStatus.PENDING
        assert [each.id for each in (await theirs.jobs()).jobs] == [job.id]
        await theirs.measure()
        for refused in (
            lambda: theirs.enqueue_by_name("work"),
            lambda: theirs.enqueue_many([theirs.signature("work")]),
            lambda: theirs.cancel(job.id),
            lambda: theirs.pause(queue="default"),
        ):
            with pytest.raises(MissingPrivilegeError, match=r"permission denied"):
                await refused()
        with pytest.raises(MissingPrivilegeError, match="may not run a worker"):
            theirs.worker()

    assert await everything(db) == before
    await connection.close()


@pytest.mark.contract("W2")
async def test_a_role_that_reads_serves_pages_and_polls(roles: Roles, pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    async def work(number: int) -> int:
        return 1 // number

    done, failed = await work.enqueue(1), await work.enqueue(0)
    async with pgq.worker():
        await pgq.wait(done.id)
        await pgq.wait(failed.id)
    waiting = await work.enqueue(2)

    async with (
        PgQueue(roles.dsn_of("read")) as theirs,
        client_of(status_app(theirs, token=TOKEN), headers=HEADERS) as client,
    ):
        for path in (
            "/livez", "/readyz", "/jobs", f"/jobs/{done.id}", f"/jobs/{done.id}/result", "/queues",
            "/workers", "/dead-letters", f"/jobs/{waiting.id}?wait=1", "/dashboard/", "/dashboard/jobs",
            f"/dashboard/jobs/{failed.id}", "/dashboard/dead-letters", "/dashboard/workers", "/metrics",
        ):  # fmt: skip
            answer = await client.get(path)
            assert answer.status_code == 200, (path, answer.text)
        answer = await client.post(f"/jobs/{waiting.id}/cancel")
        assert answer.status_code == 403, answer.text


@pytest.mark.contract("P6.13")
async def test_each_role_sees_and_operates_workflows_as_far_as_it_may(roles: Roles, pgq: PgQueue) -> None:
    @pgq.task
    async def work(number: int) -> int:
        return number

    handle = await chain(work.s(1), work.s()).enqueue()
    path = f"/workflows/{handle.workflow_id}"
    reads = (
        *("/workflows", path, f"{path}?wait=0.1", f"{path}/nodes?status=blocked", f"{path}/graph"),
        *(f"{path}/actions", "/dashboard/workflows", f"/dashboard{path}"),
    )
    changes = ("pause", "resume", "cancel")
    for role, reading, changing in (("read", 200, 403), ("worker", 200, 200), ("enqueue", 403, 403)):
        async with (
            PgQueue(roles.dsn_of(role)) as theirs,
            client_of(status_app(theirs, token=TOKEN), headers=HEADERS) as client,
        ):
            for each in reads:
                answer = await client.get(each)
                assert answer.status_code == reading, (role, each, answer.text)
            for each in changes:
                answer = await client.post(f"{path}/{each}")
                assert answer.status_code == changing, (role, each, answer.text)
            if reading == 200:
                assert (await theirs.measure_workflows()).live == 1
                await theirs.find_standstill(handle.workflow_id)
    actions = await pgq.workflow_actions(handle.workflow_id)
    assert [each.action for each in actions] == ["paused", "resumed"]


# The command


@pytest.mark.contract("W2")
async def test_the_command_prints_the_sql_of_a_schema_with_a_prefix(dsn: str, superuser_dsn: str) -> None:
    prefix = f"t{uuid4().hex[:12]}"
    await PgQueue(dsn, schema="other_jobs").migrate()

    printed = CliRunner().invoke(app, ["roles", "--schema=other_jobs", f"--prefix={prefix}"])
    refused = CliRunner().invoke(app, ["roles", "--prefix=x; drop table y"])

    assert printed.exit_code == 0
    assert "pgqueue" not in printed.stdout
    assert (refused.exit_code, refused.stdout) == (1, "")
    connection = await asyncpg.connect(superuser_dsn)
    try:
        await connection.execute(printed.stdout)
        for kind, may in (("enqueue", False), ("receive", False), ("read", True), ("worker", True)):
            found = await connection.fetchval(
                "select has_table_privilege($1, 'other_jobs.job', 'select')", f"{prefix}_{kind}"
            )
            assert found is may
    finally:
        for kind in KINDS:
            await connection.execute(f"drop owned by {prefix}_{kind}; drop role {prefix}_{kind}")
        await connection.close()
