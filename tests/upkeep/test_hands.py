"""What operators do by hand to the tables: the worker lives, lists answer, and new jobs run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from kit.waiting import eventually

from pgqueue import JobStatus, PgQueue, RefusedByDatabaseError, Task
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


@pytest.mark.contract("W10")
async def test_a_worker_outlives_what_is_done_to_its_tables_by_hand(
    pgq: PgQueue, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("FIRST_PASS", 0.0), ("GRACE", 0.2), ("LEASE_GRACE", 1.0), ("REST", 1.0)):
        monkeypatch.setattr(placing, name, seconds)

    @pgq.task
    async def work(n: int) -> int:
        return n

    await db.execute("set pgqueue.writer to 'on'")
    failed: dict[str, str] = {}
    async with pgq.worker(lease_ttl=2) as worker:
        await worker.wait_ready()
        for number, (what, sql) in enumerate(HANDS.items()):
            await work.options(queue="of nobody").enqueue(-1)
            await work.options(delay=3600).enqueue(-2)
            try:
                await db.execute(sql)
                await eventually(partial(is_new_queue_taken, work, f"new {number}"), within=15)
                assert await (await work.enqueue(number)).result(timeout=15) == number
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
