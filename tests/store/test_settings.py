"""Whatever a database, a role or a caller's session has set: pgqueue's statements mean the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from kit import inside
from kit.roles import roles_of
from kit.servers import needed_pgbouncer, pgbouncer

from pgqueue import ConfigurationError, DatabaseUnavailableError, JobFailed, JobFilter, JobStatus, PgQueue
from pgqueue.database.sql import check_schema_name
from pgqueue.testing.databases import with_database

pytestmark = pytest.mark.contract("W3")

LEFT_ALONE = frozenset(
    {
        # What may be done here, and not what a statement means.
        "default_transaction_read_only", "role", "session_authorization",
        # Of the one transaction that runs.
        "transaction_isolation", "transaction_read_only", "transaction_deferrable",
        # Text is always sent as UTF-8.
        "client_encoding",
    }
)  # fmt: skip
TEXTS: Mapping[str, str] = {
    "DateStyle": "German",
    "TimeZone": "Asia/Kathmandu",
    "search_path": "shadow, pg_catalog",
    "plpgsql.extra_errors": "all",
}
"""Other values for settings that are texts."""
TIMEOUTS = "200ms"
"""For each timeout: what pgqueue does in a test takes longer, now and then."""
EXTREMES: Mapping[str, tuple[str, str]] = {
    # Its least would have each page written, and its most is more memory than there is.
    "work_mem": ("64kB", "1GB"),
    "maintenance_work_mem": ("1MB", "1GB"),
    "temp_buffers": ("100", "16384"),
    "logical_decoding_work_mem": ("64kB", "1GB"),
    # Limits of what a client may be sent, and of what may be asked for: they forbid, and change no meaning.
    "max_stack_depth": ("100kB", "2MB"),
    "temp_file_limit": ("-1", "-1"),
    "commit_delay": ("0", "1000"),
    "vacuum_cost_delay": ("0", "1"),
    "idle_replication_slot_timeout": ("0", "0"),
}
"""The least and the most for numbers whose own extremes say something else, or cannot be had here."""


async def hostile(db: Any, pick: int) -> dict[str, str]:
    """Return another value for every setting that a user may set: of several the first, or the last."""
    rows = await db.fetch(
        "select name, vartype, setting, enumvals, min_val, max_val from pg_settings "
        "where context = 'user' and name !~ '^(debug|trace|log_|tcp_)'"
    )
    values = dict(TEXTS)
    for name, kind, setting, choices, *extremes in rows:
        if name in LEFT_ALONE or name in TEXTS:
            continue
        if name.endswith("_timeout"):
            values[name] = TIMEOUTS
        elif kind == "bool":
            values[name] = "off" if setting == "on" else "on"
        elif kind == "enum":
            others = [choice for choice in choices if choice != setting]
            values[name] = others[pick] if others else setting
        elif kind in ("integer", "real"):
            values[name] = EXTREMES.get(name, extremes)[pick]
    return values


@pytest.mark.parametrize("pick", [0, -1])
@pytest.mark.parametrize("level", ["database", "role", "behind a pooler"])
async def test_no_setting_of_a_database_or_a_role_changes_what_happens(
    empty_dsn: str, server: str, pick: int, level: str
) -> None:
    admin = await asyncpg.connect(with_database(server, urlsplit(empty_dsn).path[1:]))
    database, role = urlsplit(empty_dsn).path[1:], urlsplit(empty_dsn).username
    await admin.execute(
        "create schema shadow; grant usage on schema shadow to public;"
        "create function shadow.now() returns text language sql as $$ select 'never' $$;"
        "create function shadow.length(text) returns int language sql as $$ select 0 $$"
    )
    where = f"database {database}" if level == "database" else f"role {role} in database {database}"
    for name, value in (await hostile(admin, pick)).items():
        quoted = value if name == "search_path" else "'" + value + "'"
        await admin.execute(f"alter {where} set {name} to {quoted}")
    await admin.close()

    with ExitStack() as stack:
        dsn = empty_dsn
        if level == "behind a pooler":
            dsn = stack.enter_context(pgbouncer(needed_pgbouncer(), empty_dsn))
        await play(dsn)


async def play(dsn: str) -> None:
    """Go through what a PgQueue and its worker do."""
    pgq = PgQueue(dsn)

    @pgq.task(max_retries=0)
    async def work(kind: str) -> str:
        if kind == "fail":
            raise ValueError(r"it's \x00 a 'quoted \1' thing")
        return kind

    @pgq.task(max_retries=2, default_retry_delay=0.01, retry_backoff=False)
    async def flaky() -> None:
        raise RuntimeError("boom")

    assert await pgq.migrate()
    assert await pgq.migrate() == []
    async with pgq, pgq.worker(queues=["default", "o'q\\"]) as worker:
        assert await (await work.enqueue("ok")).result(timeout=60) == "ok"
        failed = await work.enqueue("fail")
        with pytest.raises(JobFailed):
            await failed.result(timeout=60)
        retried = await flaky.enqueue()
        with pytest.raises(JobFailed):
            await retried.result(timeout=60)
        assert len(await pgq.attempts(retried.id)) == 3
        keyed = [await work.options(idempotency_key="k\\'é", queue="o'q\\").enqueue("ok") for _ in range(2)]
        assert keyed[0].id == keyed[1].id
        assert [await pgq.mark_processed("s\\", "e'") for _ in range(2)] == [True, False]
        later = await work.options(delay=3600).enqueue("ok")
        job = await pgq.get(later.id)
        assert job.next_run_at is not None
        assert round((job.next_run_at - job.created_at).total_seconds()) == 3600
        assert await later.cancel()
        assert abs((await pgq.now() - datetime.now(UTC)).total_seconds()) < 60
        hour = timedelta(hours=1)
        assert len((await pgq.jobs(created_after=await pgq.now() - hour)).jobs) == 5
        assert (await pgq.jobs(created_after=await pgq.now() + hour)).jobs == []
        assert len((await pgq.dead_letters()).letters) == 2
        await pgq.redrive(failed.id, arguments={"kind": "ok"})
        assert await failed.result(timeout=60) == "ok"
        await pgq.pause(queue="default")
        await pgq.resume(queue="default")
        assert {each.queue for each in await pgq.measure()} == {"default", "o'q\\"}
        wanted = JobFilter(task="flaky", statuses=frozenset({JobStatus.FAILED}))
        assert [count async for count in pgq.requeue_many(wanted)] == [1]
        assert worker.is_alive


CODECS: Mapping[str, tuple[Any, Any]] = {
    "json": (json.dumps, json.loads),
    "jsonb": (json.dumps, json.loads),
    "uuid": (str, lambda text: text.replace("-", "")),
    "timestamptz": (str, str),
    "interval": (lambda value: f"{value} s", str),
    "int2": (lambda value: str(-value), lambda text: -int(text)),
    "int4": (lambda value: str(-value), lambda text: -int(text)),
    "int8": (lambda value: str(-value), lambda text: -int(text)),
    "float8": (lambda value: str(-value), lambda text: -float(text)),
    "bool": (lambda value: "f" if value else "t", lambda text: text),
    "bytea": (lambda value: "\\x" + value.hex(), str),
}
"""A codec for every type that a statement on a caller's connection might use: none is what asyncpg has."""


OWN_TABLES = (*CODECS.keys() - {"interval"}, "text", "name", "oid")
"""Temporary tables of a caller. Each is a type of that name, too, and found before PostgreSQL's."""


@pytest.mark.parametrize("writes", ["itself", "by the owner's function"])
async def test_any_codec_isolation_and_search_path_of_a_caller_is_taken(
    pgq: PgQueue, dsn: str, superuser_dsn: str, writes: str
) -> None:
    async with AsyncExitStack() as stack:
        writer = pgq
        if writes != "itself":
            dsn = (await stack.enter_async_context(roles_of(superuser_dsn))).dsn_of("enqueue")
            writer = await stack.enter_async_context(PgQueue(dsn))
        await enqueue_in_odd_sessions(writer, dsn, reader=pgq)


async def enqueue_in_odd_sessions(pgq: PgQueue, dsn: str, *, reader: PgQueue) -> None:
    caller = await asyncpg.connect(dsn)
    for name, (encode, decode) in CODECS.items():
        await caller.set_type_codec(name, schema="pg_catalog", encoder=encode, decoder=decode)
    await caller.execute("set search_path = ''; set datestyle = 'German'; set intervalstyle = 'sql_standard'")
    for name in OWN_TABLES:
        await caller.execute(f"create temporary table {name} (n integer)")

    @pgq.task
    async def work(number: int) -> int:
        return number

    known = await work.options(id=uuid4()).enqueue(1)
    coalesced: Any = {"idempotency_key": "c", "on_conflict": "coalesce"}
    try:
        for isolation in ("read_committed", "repeatable_read", "serializable"):
            async with caller.transaction(isolation=isolation):
                on: Any = {"connection": caller}
                await work.options(**on).enqueue(1)
                await pgq.enqueue_many([work.s(1), work.options(delay=5).s(2)], connection=caller)
                later = await work.options(
                    **on, run_at=datetime(2100, 1, 2, tzinfo=UTC), expires=1e10
                ).enqueue(1)
                chosen = uuid4()
                assert (await work.options(**on, id=chosen).enqueue(1)).id == chosen
                assert not (await work.options(**on, id=known.id).enqueue(1)).created
                first = await work.options(**on, idempotency_key=isolation).enqueue(1)
                assert (await work.options(**on, idempotency_key=isolation).enqueue(1)).id == first.id
                held = await work.options(**on, **coalesced).enqueue(1)
                assert (await work.options(**on, **coalesced).enqueue(1)).id == held.id
                replaced = await work.options(
                    **on, idempotency_key=isolation, on_conflict="replace", delay=60
                ).enqueue(2)
                assert (replaced.id, replaced.replaced) == (first.id, True)
                if reader is pgq:
                    assert await pgq.mark_processed("source", isolation, connection=caller)
                    assert not await pgq.mark_processed("source", isolation, connection=caller)
            assert (await reader.get(later.id)).run_at == datetime(2100, 1, 2, tzinfo=UTC)
            assert (await reader.get(first.id)).arguments == {"number": 2}
    finally:
        await caller.close()


async def test_a_serialization_failure_on_a_connection_of_pgqueue_is_tried_again_and_on_yours_is_yours(
    pgq: PgQueue, dsn: str, db: Any
) -> None:
    @pgq.task
    async def work(number: int) -> int:
        return number

    # Each statement fails as often as there are rows: what two serializable transactions do to each other.
    await db.execute(
        "create sequence public.collisions minvalue 0; create table public.failing (most integer);"
        "insert into public.failing values (2);"
        "create function public.collide() returns trigger language plpgsql set search_path to pg_catalog as"
        " $$ begin"
        "    if pg_catalog.nextval('public.collisions') < (select most from public.failing) then"
        "        raise serialization_failure using message = 'could not serialize access';"
        "    end if;"
        "    return new;"
        " end $$;"
        "create trigger collide before insert on pgqueue.job for each row execute function public.collide()"
    )
    again = "select setval('public.collisions', 0, false)"
    for enqueue in (
        lambda: work.enqueue(1),
        lambda: work.options(delay=60).enqueue(1),
        lambda: work.options(idempotency_key="key").enqueue(1),
        lambda: pgq.enqueue_many([work.s(1), work.s(2)]),
    ):
        await db.execute(again)
        await enqueue()
        assert await db.fetchval("select last_value from public.collisions") >= 2
    assert await db.fetchval("select count(*) from pgqueue.job") == 5

    await db.execute(again)
    async with db.transaction():
        with pytest.raises(asyncpg.SerializationError):
            await work.options(connection=db).enqueue(1)

    async with PgQueue(dsn) as impatient:
        # It has its connections by then.
        await impatient.enqueue_by_name("work", 1)
        await db.execute("update public.failing set most = 1000000")
        inside.database(impatient).connect_timeout = 2.0
        with pytest.raises(DatabaseUnavailableError, match="could not serialize access"):
            await impatient.enqueue_by_name("work", 1)


@pytest.mark.contract("W5")
async def test_a_schema_has_no_name_that_sql_reserves(db: Any) -> None:
    reserved = [row[0] for row in await db.fetch("select word from pg_get_keywords() where catcode <> 'U'")]
    for name in [*reserved, "pg_queue", "pg_catalog", "information_schema", "User", 'a"b']:
        with pytest.raises(ConfigurationError, match="schema"):
            check_schema_name(name)
