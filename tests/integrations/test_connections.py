"""Enqueueing in the transaction of any connection that is taken, with real servers and real libraries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from kit.drivers import BEGUN_BY_BLOCKS, KINDS, RolledBackError, Theirs
from kit.ears import Ear, listening

from pgqueue import DuplicateJobError, JobStatus, PgQueue, UnusableConnectionError, chain, group

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P1.3")

COUNT = "select count(*) from pgqueue.job"


@pytest.fixture
async def ear(dsn: str) -> AsyncIterator[Ear]:
    """What is announced."""
    async with listening(dsn) as ear:
        yield ear


@pytest.fixture(params=KINDS)
async def theirs(request: pytest.FixtureRequest, pgq: PgQueue, dsn: str) -> AsyncIterator[Theirs]:
    """A connection of each kind, before its first statement."""
    async with KINDS[request.param](pgq, dsn) as theirs:
        yield theirs


def name_of(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["theirs"])


async def test_a_job_exists_once_the_transaction_commits_in_which_it_was_the_first_statement(
    pgq: PgQueue, db: Connection, theirs: Theirs, ear: Ear
) -> None:
    async with theirs.transaction():
        job = await theirs.call("enqueue", pgq.signature("work", "ü\\\"'{}", options={"priority": 7}))
        assert await db.fetchval(COUNT) == 0

    stored = await pgq.get(job.id)
    assert (stored.status, stored.arguments["*"]) == (JobStatus.PENDING, ["ü\\\"'{}"])
    lane = await db.fetchval("select lane from pgqueue.job")
    assert await ear.heard_on(db) == [f"ready {lane}"]


async def test_a_job_of_a_rolled_back_transaction_or_savepoint_leaves_nothing_and_wakes_nobody(
    pgq: PgQueue, db: Connection, theirs: Theirs, ear: Ear
) -> None:
    with suppress(RolledBackError):
        async with theirs.transaction():
            await theirs.call("enqueue", pgq.signature("work"))
            raise RolledBackError
    assert await db.fetchval(COUNT) == 0

    async with theirs.transaction():
        await theirs.execute("create table public.orders (id integer)")
        with suppress(RolledBackError):
            async with theirs.savepoint():
                await theirs.call("enqueue", pgq.signature("work", options={"queue": "other"}))
                raise RolledBackError
        await theirs.execute("insert into public.orders values (1)")

    assert await db.fetchval(COUNT) == 0
    assert await db.fetchval("select count(*) from public.orders") == 1
    assert await ear.heard_on(db) == []


async def everything(pgq: PgQueue, theirs: Theirs, waiting: Any) -> list[Any]:
    """Use what `connection=` can do; return the handles of what must be there now."""

    def call(number: int, **options: Any) -> Any:
        return pgq.signature("work", number).set(**options)

    key: Any = {"idempotency_key": "key"}
    first = await theirs.call("enqueue", call(1, **key, delay=60))
    assert (await theirs.call("enqueue", call(1, **key))).id == first.id
    replaced = await theirs.call(
        "enqueue", call(2, **key, on_conflict="replace", tags=["a"], headers={"h": "v"})
    )
    assert (replaced.id, replaced.replaced) == (first.id, True)
    coalesced: Any = {"idempotency_key": "c", "on_conflict": "coalesce"}
    held = await theirs.call("enqueue", call(3, **coalesced))
    assert (await theirs.call("enqueue", call(3, **coalesced))).id == held.id
    chosen = await theirs.call("enqueue", call(4, id=uuid4(), expires=3600))
    many = await theirs.call("enqueue_many", (call(number) for number in range(20)))
    alike = await theirs.call("enqueue_many", [pgq.signature("limited", number) for number in range(3)])
    named = await theirs.call("enqueue_by_name", "work", 5, options={"queue": "new"})
    behind = await theirs.call("enqueue", call(6, depends_on=[chosen.id]))
    composed = await theirs.call("enqueue_workflow", chain(call(7), group(call(8), call(9))))
    dag = pgq.workflow("dag")
    dag.add("last", call(11), after=[dag.add("first", call(10))])
    built = await theirs.call("enqueue_dag", dag)
    assert await theirs.call("mark_processed", "source", "1")
    assert not await theirs.call("mark_processed", "source", "1")
    assert await theirs.call("signal", waiting.id, "go", {"to": "ü"}, dedup_id="1")
    assert not await theirs.call("signal", waiting.id, "go", dedup_id="1")
    return [first, held, chosen, *many, *alike, named, behind, composed, built]


async def test_all_that_is_written_with_a_connection_ends_as_its_transaction_does(
    pgq: PgQueue, db: Connection, theirs: Theirs
) -> None:
    both = [pgq, theirs.queue.behind] if hasattr(theirs, "queue") else [pgq]
    for each in both:
        each.task(name="limited", limits=[each.limit("two", slots=2)])(takes_a_number)
    waiting = await pgq.enqueue(pgq.signature("waits"))
    tables = ("job", "workflow", "edge", "note", "idempotency_key", "inbox", "event")
    before = [await rows(db, table) for table in tables]

    with suppress(RolledBackError):
        async with theirs.transaction():
            await everything(both[-1], theirs, waiting)
            raise RolledBackError
    assert [await rows(db, table) for table in tables] == before

    async with theirs.transaction():
        handles = await everything(both[-1], theirs, waiting)
    ids = {handle.id for handle in handles if not hasattr(handle, "workflow_id")}
    assert len(await pgq.get_many(list(ids))) == len(ids)
    assert (await pgq.get(handles[0].id)).arguments == {"*": [2]}


async def rows(db: Connection, table: str) -> int:
    found = await db.fetchval("select to_regclass($1)", f"pgqueue.{table}")
    assert found is not None, table
    return int(await db.fetchval(f"select count(*) from pgqueue.{table}"))


async def takes_a_number(number: int) -> None:
    """Do nothing."""


async def test_what_is_refused_leaves_the_transaction_whole(
    pgq: PgQueue, db: Connection, theirs: Theirs, superuser_dsn: str
) -> None:
    taken = await pgq.enqueue(pgq.signature("work"))
    await db.execute(
        "create function public.refuse() returns trigger language plpgsql as"
        " $$ begin raise exception using errcode = 'ZZ001', message = 'no such jobs here'; end $$;"
        "create trigger refuse before insert on pgqueue.job for each row when (new.task = 'refused')"
        " execute function public.refuse()"
    )
    async with theirs.transaction():
        with pytest.raises(DuplicateJobError):
            await theirs.call(
                "enqueue", pgq.signature("work", options={"id": taken.id, "on_duplicate": "raise"})
            )
        for _ in range(2):
            # As the driver says it.
            with pytest.raises(Exception, match="no such jobs here") as refusal:
                await theirs.call("enqueue", pgq.signature("refused"))
            assert getattr(refusal.value, "sqlstate", None) == "ZZ001"
        await theirs.execute("create table public.orders (id integer)")
        job = await theirs.call("enqueue", pgq.signature("work"))

    assert await db.fetchval("select count(*) from public.orders") == 0
    assert (await pgq.get(job.id)).status is JobStatus.PENDING


async def test_outside_a_transaction_it_is_refused_unless_autocommit_is_said(
    request: pytest.FixtureRequest, pgq: PgQueue, db: Connection, theirs: Theirs
) -> None:
    if name_of(request) in BEGUN_BY_BLOCKS:
        with pytest.raises(UnusableConnectionError, match=r"no transaction open.*autocommit=True"):
            await theirs.call("enqueue", pgq.signature("work"))
    work = pgq.signature("work")
    await theirs.call("enqueue", work, autocommit=True)
    await theirs.call("enqueue_workflow", group(work), autocommit=True)
    assert await theirs.call("mark_processed", "source", "1", autocommit=True)
    assert await db.fetchval(COUNT) == 2

    # In a transaction, it changes nothing.
    with suppress(RolledBackError):
        async with theirs.transaction():
            await theirs.execute("select 1")
            await theirs.call("enqueue", pgq.signature("work"), autocommit=True)
            raise RolledBackError
    assert await db.fetchval(COUNT) == 2
