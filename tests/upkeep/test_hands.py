"""What operators do by hand to the tables: the worker lives, lists answer, and new jobs run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from kit import inside
from kit.hostile import ADD_COLUMNS
from kit.waiting import eventually

from pgqueue import JobHandle, JobStatus, PgQueue, RefusedByDatabaseError, Task
from pgqueue.upkeep import placing

if TYPE_CHECKING:
    from conftest import Connection

TODAY = "pgqueue.job_' || to_char(now() at time zone 'utc', 'YYYYMMDD')"
HANDS = {
    "a day is detached": f"do $$ begin execute 'alter table pgqueue.job detach partition {TODAY}; end $$",
    "a day is dropped": f"do $$ begin execute 'drop table {TODAY}; end $$",
    "all jobs are truncated": "truncate pgqueue.job cascade",
    "all places are truncated": "truncate pgqueue.ready, pgqueue.scheduled, pgqueue.blocked, pgqueue.running",
    "figures are removed": "truncate pgqueue.stat, pgqueue.chore, pgqueue.progress, pgqueue.attempt",
    "keys are removed": "truncate pgqueue.idempotency_key, pgqueue.inbox, pgqueue.expiry, pgqueue.setting",
    "leases are removed": "truncate pgqueue.lease",
    "ids of lanes begin anew": "select setval(pg_get_serial_sequence('pgqueue.lane', 'id'), 1, false)",
    "lanes are removed": "delete from pgqueue.lane",
    "positions begin anew": "select setval('pgqueue.position', 1, false)",
    "what is ready lies in the future": "update pgqueue.ready set ready_at = now() + interval '9 years'",
    "what runs lies in the future": "update pgqueue.running set started_at = now() + interval '9 years'",
    "records lie in the future": "update pgqueue.job set started_at = now() + interval '9 years'",
}


@pytest.mark.contract("W8", "W10")
async def test_a_worker_outlives_what_is_done_to_its_tables_by_hand(
    pgq: PgQueue, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("FIRST_PASS", 0.0), ("GRACE", 0.2), ("LEASE_GRACE", 1.0), ("REST", 1.0)):
        monkeypatch.setattr(placing, name, seconds)

    @pgq.task
    async def work(n: int) -> int:
        return n

    await db.execute(ADD_COLUMNS)
    await db.execute("set pgqueue.writer to 'on'")
    failed: dict[str, str] = {}
    async with pgq.worker(lease_ttl=6) as worker:
        await worker.wait_ready()
        for number, (what, sql) in enumerate(HANDS.items()):
            await work.options(queue="of nobody").enqueue(-1)
            await work.options(delay=3600).enqueue(-2)
            try:
                await db.execute(sql)
                await eventually(partial(is_new_queue_taken, work, f"new {number}"))
                assert await (await work.enqueue(number)).result(timeout=60) == number
                for status in (None, *JobStatus):
                    await pgq.jobs(status=status)
                await pgq.list_workers(jobs=3)
                await pgq.measure()
            except Exception as error:
                failed[what] = repr(error)[:300]

        async def claims() -> bool:
            return worker.is_consuming

        await eventually(claims)
        assert not failed, failed


async def is_new_queue_taken(work: Task[[int], int], queue: str) -> bool:
    """Enqueue to a queue that is new; return whether the database took it."""
    try:
        await work.options(queue=queue).enqueue(-3)
    except RefusedByDatabaseError:
        return False
    return True


@pytest.mark.contract("W8")
async def test_columns_of_yours_keep_no_failure_from_being_written(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(max_retries=1, retry_delay_min=0, default_retry_delay=0)
    async def fail(n: int) -> None:
        raise ValueError(n)

    await db.execute(ADD_COLUMNS)
    async with pgq.worker():
        jobs = await pgq.enqueue_many(fail.s(n) for n in range(3))
        for job in jobs:
            await eventually(partial(has_failed, job))
        assert {letter.job_id for letter in (await pgq.dead_letters()).letters} == {job.id for job in jobs}
        assert [group.count for group in await pgq.dead_groups()] == [3]
        await pgq.discard(jobs[1].id)
        redriven = await pgq.redrive_many(all=True)
        assert (await redriven.wait(timeout=30)).done == 2
        for job in jobs:
            await eventually(partial(has_failed, job))


async def has_failed(job: JobHandle[None]) -> bool:
    return await job.status() is JobStatus.FAILED


@pytest.mark.contract("W10")
async def test_every_sequence_that_a_failover_left_behind_is_advanced(pgq: PgQueue, db: Connection) -> None:
    await db.execute("""
        set pgqueue.writer to 'on';
        insert into pgqueue.lane (queue, priority) select n::text, 0 from generate_series(1, 9) as n;
        insert into pgqueue.note (node_id) select gen_random_uuid() from generate_series(1, 9);
        insert into pgqueue.event (job_id, name, payload)
        select gen_random_uuid(), 'approved', '1' from generate_series(1, 9);
        insert into pgqueue.attempt (job_id, attempt, reason)
        select gen_random_uuid(), 1, 'exception' from generate_series(1, 3000);
        insert into pgqueue.action (job_id, action) select gen_random_uuid(), 'cancelled'
        from generate_series(1, 3000)
    """)
    counted = await db.fetch(
        "select relname, pg_get_serial_sequence(attrelid::regclass::text, attname) as counter "
        "from pg_attribute join pg_class on pg_class.oid = attrelid "
        "where relnamespace = 'pgqueue'::regnamespace and attidentity <> ''"
    )
    last = {name: await db.fetchval(f"select last_value from {counter}") for name, counter in counted}
    for _, counter in counted:
        await db.execute("select setval($1::text::regclass, 1, false)", counter)

    assert set(await inside.store(pgq).advance_ids(db)) == set(last)

    assert {name: await db.fetchval(f"select last_value from {counter}") for name, counter in counted} == last
    assert await inside.store(pgq).advance_ids(db) == []


@pytest.mark.contract("W10")
@pytest.mark.parametrize("table", ["lane", "note", "event", "attempt", "action"])
async def test_a_number_written_by_hand_leaves_numbers_for_others(
    pgq: PgQueue, db: Connection, table: str
) -> None:
    rows = {
        "lane": "(id, queue, priority) overriding system value values ($1, 'q' || $1::integer, 0)",
        "note": "(id, node_id) overriding system value values ($1, $2)",
        "event": "(id, job_id, name, payload) overriding system value values ($1, $2, 'approved', '1')",
        "attempt": "(id, job_id, attempt, reason) overriding system value values ($1, $2, 1, 'lost')",
        "action": "(id, job_id, action) overriding system value values ($1, $2, 'cancelled')",
    }
    greatest = 2**31 - 1 if table == "lane" else 2**63 - 1
    counter = await db.fetchval("select pg_get_serial_sequence('pgqueue.' || $1, 'id')", table)
    await db.execute("set pgqueue.writer to 'on'")
    for number in (20, greatest):
        await db.execute(
            f"insert into pgqueue.{table} {rows[table]}", number, *([] if table == "lane" else [uuid4()])
        )

    assert await inside.store(pgq).advance_ids(db) == [table]
    assert await db.fetchval("select nextval($1::text::regclass)", counter) == 21

    # As a version before this one, or an operator, left it.
    await db.fetchval("select setval($1::text::regclass, $2)", counter, greatest)
    assert await inside.store(pgq).advance_ids(db) == [table]
    assert await db.fetchval("select nextval($1::text::regclass)", counter) == 21
    assert await inside.store(pgq).advance_ids(db) == []
