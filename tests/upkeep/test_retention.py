"""Finished jobs go when their time is over; nothing else does."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from kit import inside
from kit.faults import blocked_session, ghost
from kit.waiting import eventually

from pgqueue import InvalidOptionError, JobStatus, PgQueue
from pgqueue.database.link import Link
from pgqueue.options.retention import DAY, Retention, read_retention
from pgqueue.store import Partition
from pgqueue.upkeep import retention as purger
from pgqueue.upkeep.retention import FIRST_ID, LAST_ID, Purging, ranges

if TYPE_CHECKING:
    from conftest import Connection

WEEK = Retention()
MAKE = """
    insert into pgqueue.job (id, created_at, lane, task, arguments, status, completed_at)
    select case when $5 then gen_random_uuid() else (
               left(pgqueue.id_at(now() - $1::interval)::text, 14) || '7'
               || substr(gen_random_uuid()::text, 16)
           )::uuid end,
           now() - $1::interval, 1, 'work', '{}', $2::text::pgqueue.job_status, now() - $3::interval
    from generate_series(1, $4)
    returning id
"""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purger, "FIRST_PASS", 0.0)
    monkeypatch.setattr(purger, "PAUSE_SHARE", 0)
    monkeypatch.setattr(purger, "STEP", 7)


async def make_jobs(
    db: Connection,
    status: str | None,
    *,
    days: float,
    ended: float | None = None,
    count: int = 10,
    is_odd: bool = False,
) -> list[UUID]:
    """Make jobs that were created, and ended, so many days ago; odd ones have ids without a time."""
    over = None if status is None else timedelta(days=days if ended is None else ended)
    rows = await db.fetch(MAKE, timedelta(days=days), status, over, count, is_odd)
    return [row["id"] for row in rows]


async def make_day(db: Connection, days: int) -> str:
    """Make the partition of the day so many days ago."""
    await db.execute("select pgqueue.make_partition(now() - $1::interval)", timedelta(days=days))
    name: str = await db.fetchval(
        "select 'job_' || to_char((now() - $1::interval) at time zone 'UTC', 'YYYYMMDD')",
        timedelta(days=days),
    )
    return name


async def left(db: Connection) -> set[UUID]:
    return {row["id"] for row in await db.fetch("select id from pgqueue.job")}


async def has_partition(db: Connection, name: str) -> bool:
    return bool(await db.fetchval("select to_regclass('pgqueue.' || $1) is not null", name))


async def purge(pgq: PgQueue, retention: Retention = WEEK) -> None:
    """Have one pass made."""
    async with inside.database(pgq).acquire() as connection:
        await connection.execute("delete from pgqueue.chore")
    link = Link(inside.database(pgq), durable=False)
    try:
        await inside.purge_once(Purging(inside.store(pgq), link, retention))
    finally:
        await link.close()


@pytest.mark.contract("P4.12")
async def test_workers_remove_jobs_by_how_they_ended(dsn: str, db: Connection) -> None:
    kept, gone = [], []
    for status, days in (("succeeded", 1), ("failed", 4), ("cancelled", 2), ("expired", 3)):
        for is_odd in (False, True):
            gone += await make_jobs(db, status, days=days + 0.5, is_odd=is_odd)
            kept += await make_jobs(db, status, days=days - 0.5, is_odd=is_odd)
    kept += await make_jobs(db, None, days=30) + await make_jobs(db, None, days=30, is_odd=True)
    retention: Any = {
        "succeeded": timedelta(days=1), "cancelled": 2 * DAY, "expired": 3 * DAY, "failed": 4 * DAY
    }  # fmt: skip
    async with PgQueue(dsn, retention=retention) as pgq, pgq.worker():

        async def is_purged() -> bool:
            return await left(db) == set(kept)

        await eventually(is_purged)

    assert not set(gone) & await left(db)


@pytest.mark.contract("P4.12")
async def test_a_day_in_which_nothing_is_to_be_kept_is_dropped_whole(pgq: PgQueue, db: Connection) -> None:
    old, young = await make_day(db, 40), await make_day(db, 3)
    await make_jobs(db, "succeeded", days=40)
    [failed, *_] = await make_jobs(db, "failed", days=40)
    kept = await make_jobs(db, "succeeded", days=3)
    for job_id in (failed, kept[0]):
        await db.execute(
            "insert into pgqueue.attempt (job_id, attempt, reason) values ($1, 1, 'lost')", job_id
        )

    await purge(pgq)

    assert not await has_partition(db, old)
    assert await has_partition(db, young)
    assert await left(db) == set(kept)
    assert await db.fetchval("select array_agg(job_id) from pgqueue.attempt") == [kept[0]]
    assert await db.fetchval("select count(*) from pgqueue.dead_letter") == 0


@pytest.mark.contract("P4.12")
async def test_a_day_with_a_job_to_be_kept_stays_and_loses_the_others(pgq: PgQueue, db: Connection) -> None:
    days = [await make_day(db, 40), await make_day(db, 20)]
    await make_jobs(db, "succeeded", days=40, count=20)
    [live] = await make_jobs(db, None, days=40, count=1)
    await db.execute("insert into pgqueue.scheduled (job_id, scheduled_at, lane) values ($1, now(), 1)", live)
    await make_jobs(db, "succeeded", days=20, count=20)
    [failed] = await make_jobs(db, "failed", days=20, count=1)

    await purge(pgq)

    assert await left(db) == {live, failed}
    assert [await has_partition(db, day) for day in days] == [True, True]
    assert await (pgq.handle(live)).status() is JobStatus.SCHEDULED


@pytest.mark.contract("P4.12", "P5.8")
async def test_a_failure_is_kept_from_when_the_job_failed(pgq: PgQueue, db: Connection) -> None:
    await make_day(db, 60)
    kept = await make_jobs(db, "failed", days=60, ended=29)
    await make_jobs(db, "failed", days=60, ended=31)

    await purge(pgq)

    assert await left(db) == set(kept)


@pytest.mark.contract("P4.12")
async def test_what_other_tables_keep_of_a_job_goes_with_it(pgq: PgQueue, db: Connection) -> None:
    [gone] = await make_jobs(db, "failed", days=40, count=1, is_odd=True)
    tables = await db.fetchval("select pgqueue.tables_about_jobs()")
    await db.execute(
        "insert into pgqueue.attempt (job_id, attempt, reason) values ($1, 1, 'exception')", gone
    )
    await db.execute("insert into pgqueue.action (job_id, action) values ($1, 'cancel_requested')", gone)
    await db.execute("insert into pgqueue.expiry values ($1, now())", gone)
    await db.execute("insert into pgqueue.cancel_request (job_id, lease_id) values ($1, $1)", gone)

    await purge(pgq)

    about = [
        row["relname"]
        for row in await db.fetch(
            "select relname from pg_class join pg_attribute on attrelid = pg_class.oid "
            "where relnamespace = 'pgqueue'::regnamespace and relkind = 'r' and attname = 'job_id'"
        )
    ]
    for table in tables:
        assert await db.fetchval(f"select count(*) from pgqueue.{table}") == 0
    # Those of live jobs empty themselves; keys, the inbox and the history of schedules outlive the job.
    elsewhere = {"ready", "running", "scheduled", "blocked", "gate_pass", "idempotency_key", "inbox", "tick"}
    # What an attempt holds says nothing once that is over, and is swept.
    elsewhere |= {"limiter_hold"}
    assert set(about) - elsewhere == set(tables)


@pytest.mark.contract("P4.12")
async def test_a_drop_does_not_wait_behind_a_claim_nor_hold_up_others(pgq: PgQueue, db: Connection) -> None:
    name = await make_day(db, 40)
    await pgq.enqueue_many([pgq.signature("work")] * 2)
    partition = await find_partition(pgq, name)

    async with ghost(pgq) as one, inside.database(pgq).acquire() as other:
        async with one.connection.transaction():
            await one.claim(limit=1)
            dropped = await inside.store(pgq).drop_partition(other, partition)
            claimed = await inside.store(pgq).read_jobs(other, [])
        dropped_after = await inside.store(pgq).drop_partition(other, partition)

    assert (dropped, claimed, dropped_after) == (False, {}, True)
    assert not await has_partition(db, name)


@pytest.mark.contract("P4.12")
@pytest.mark.parametrize("table", ["ready", "scheduled", "blocked", "running"])
async def test_a_day_with_a_live_job_is_never_dropped(pgq: PgQueue, db: Connection, table: str) -> None:
    name = await make_day(db, 40)
    [live] = await make_jobs(db, None, days=40, count=1)
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute(
            {
                "ready": "insert into pgqueue.ready (job_id, lane) values ($1, 1)",
                "scheduled": "insert into pgqueue.scheduled (job_id, scheduled_at, lane) "
                "values ($1, now(), 1)",
                "blocked": "insert into pgqueue.blocked (job_id, lane) values ($1, 1)",
                "running": "insert into pgqueue.running "
                "(job_id, lease_id, ready_at, position, lane, attempt, losses) "
                "values ($1, $1, now(), 1, 1, 1, 0)",
            }[table],
            live,
        )

    async with inside.database(pgq).acquire() as connection:
        dropped = await inside.store(pgq).drop_partition(connection, await find_partition(pgq, name))

    assert not dropped
    assert await left(db) == {live}


@pytest.mark.contract("P4.12")
async def test_a_job_that_is_redriven_while_it_is_to_be_removed_stays(pgq: PgQueue, db: Connection) -> None:
    [job_id] = await make_jobs(db, "failed", days=40, count=1, is_odd=True)
    await db.execute(
        "insert into pgqueue.attempt (job_id, attempt, reason) values ($1, 1, 'exception')", job_id
    )

    async with db.transaction():
        await db.execute("select pgqueue.redrive($1)", job_id)
        purging = asyncio.ensure_future(purge(pgq))
        async with inside.database(pgq).acquire() as watching:

            async def waits() -> bool:
                return await blocked_session(watching, "purge") is not None  # type: ignore[arg-type]

            await eventually(waits)
    await purging

    assert await (pgq.handle(job_id)).status() is JobStatus.PENDING


@pytest.mark.contract("P4.12")
async def test_one_worker_purges_at_a_time(pgq: PgQueue, db: Connection) -> None:
    one, other = uuid4(), uuid4()
    store = inside.store(pgq)
    async with inside.database(pgq).acquire() as connection:
        taken = [await store.take_chore(connection, "purge", each, 60) for each in (one, other, one)]
        await store.end_chore(connection, "purge", one, 60)
        resting = [await store.take_chore(connection, "purge", each, 60) for each in (one, other)]
        await db.execute("update pgqueue.chore set until_at = now()")
        again = await store.take_chore(connection, "purge", other, 60)

    assert (taken, resting, again) == ([True, False, True], [False, False], True)


@pytest.mark.contract("P4.12")
async def test_what_is_kept_for_ever_is_kept(dsn: str, db: Connection) -> None:
    kept = await make_jobs(db, "succeeded", days=4000)
    retention = Retention(succeeded=None, failed=None, cancelled=None, expired=None)
    async with PgQueue(dsn) as pgq:
        await purge(pgq, Retention(succeeded=None))
        next_in = await Purging(inside.store(pgq), Link(inside.database(pgq), durable=False), retention).run()

    assert next_in == math.inf
    assert await left(db) == set(kept)


def test_defaults_keep_failures_longest() -> None:
    assert read_retention({}) == Retention(7 * DAY, 30 * DAY, 7 * DAY, 7 * DAY)
    assert read_retention({"failed": None, "succeeded": 60}).shortest == 60
    assert Retention(None, None, None, None).shortest is None


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"succeeded": 0}, "retention of succeeded jobs must be more than 0, got 0"),
        ({"failed": float("nan")}, "finite"),
        ({"pending": 60}, "must be a mapping of .* got 'pending'"),
        ({"succeeded": "7 days"}, "must be a number of seconds or a timedelta"),
        (7, "must be a mapping"),
    ],
)
def test_a_retention_that_cannot_be_is_refused_before_any_io(given: Any, match: str) -> None:
    with pytest.raises(InvalidOptionError, match=match):
        PgQueue("postgresql://nowhere/", retention=given)


def test_ranges_cover_every_id_but_those_of_days_that_are_young() -> None:
    limit = UUID(int=35)
    days = [
        Partition(str(start), UUID(int=start), UUID(int=start + 10), start + 10 <= limit.int, limit)
        for start in (10, 20, 30, 40, 60)
    ]

    found = [(low.int, high.int, day and day.name) for low, high, day in ranges(days)]

    assert found == [
        (FIRST_ID.int, 10, None), (10, 20, "10"), (20, 30, "20"), (30, 35, None), (50, 60, None),
        (70, LAST_ID.int, None),
    ]  # fmt: skip


async def find_partition(pgq: PgQueue, name: str) -> Partition:
    async with inside.database(pgq).acquire() as connection:
        partitions = await inside.store(pgq).find_day_partitions(connection, 7 * DAY)
    [partition] = [each for each in partitions if each.name == name]
    return partition
