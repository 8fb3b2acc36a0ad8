"""Worker processes that are killed with SIGKILL, and what becomes of their jobs."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING

import pytest
from kit import inside
from kit.app_for_tests import make_tables, worker_process
from kit.faults import is_blocked
from kit.waiting import eventually

from pgqueue import JobStatus, PgQueue

if TYPE_CHECKING:
    from conftest import Connection

JOBS = 1000
KILLS = 8


@pytest.mark.contract("P2.11", "P2.12", "BP2")
async def test_of_a_thousand_jobs_none_is_lost_and_none_finishes_twice_when_workers_are_killed(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    await make_tables(db)
    await db.execute(
        """
        create table finish (job_id uuid not null);
        create function note_finish() returns trigger language plpgsql as
            'begin insert into public.finish values (new.id); return null; end';
        create trigger note_finish after update on pgqueue.job for each row
            when (new.status is not null) execute function note_finish();
        """
    )
    signature = pgq.signature
    await pgq.enqueue_many(
        signature("work", number=number, options={"max_losses": 1000}) for number in range(JOBS)
    )
    names = (f"victim-{number}" for number in count())

    with ExitStack() as processes:
        alive = [
            processes.enter_context(worker_process(dsn, name=next(names), lease_ttl=6)) for _ in range(2)
        ]
        for kill in range(KILLS):
            done = (kill + 1) * JOBS // (KILLS + 2)
            await eventually(lambda done=done: has_rows(db, "finish", done))  # type: ignore[misc]
            alive.pop(0).kill()
            alive.append(processes.enter_context(worker_process(dsn, name=next(names), lease_ttl=6)))
        await eventually(lambda: has_rows(db, "finish", JOBS))

    assert await db.fetchval("select count(*) from pgqueue.jobs where status = 'succeeded'") == JOBS
    assert await db.fetch("select job_id from finish group by job_id having count(*) > 1") == []
    assert await db.fetchval("select count(*) from pgqueue.attempt where reason = 'lost'") > 0
    uncounted = await db.fetch(
        """
        select job.id, executions, lost from pgqueue.job
        cross join lateral (select count(*) as executions from execution where job_id = job.id) as ran
        cross join lateral (select count(*) as lost from pgqueue.attempt where job_id = job.id) as cut
        where executions < 1 or executions > 1 + lost
        """
    )
    assert uncounted == []
    # Losses are counted apart: whatever was killed, each job succeeded in its first attempt.
    assert await db.fetchval("select count(*) from pgqueue.job where attempt <> 1") == 0
    strange = "select count(*) from pgqueue.attempt where reason <> 'lost' or started_at is null"
    assert await db.fetchval(strange) == 0
    assert await db.fetchval("select count(*) from pgqueue.running") == 0


@pytest.mark.contract("P2.11", "P2.17", "P2.18")
async def test_a_job_whose_worker_is_killed_at_the_instant_of_finishing_finishes_once(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    await make_tables(db)
    await db.execute(
        """
        create table finish (job_id uuid not null);
        create function note_finish() returns trigger language plpgsql as
            'begin insert into public.finish values (new.id); return null; end';
        create trigger note_finish after update on pgqueue.job for each row
            when (new.status is not null) execute function note_finish();
        """
    )
    job = await pgq.enqueue_by_name("work", number=1)

    with worker_process(dsn, name="first", lease_ttl=30) as first:
        async with inside.database(pgq).acquire() as holder, holder.transaction():
            await holder.execute("select from pgqueue.job where id = $1 for update", job.id)
            # Sent, and not yet carried out: whether it will be is the server's affair now.
            await eventually(lambda: is_blocked(db, "finish"))
            first.kill()
        with worker_process(dsn, name="second"):
            assert await job.result(timeout=180) == 1

    assert await db.fetchval("select count(*) from finish") == 1
    executions = await db.fetchval("select count(*) from execution")
    assert executions == 1 + len(await pgq.attempts(job.id))
    assert (await job.refresh()).attempt == 1


@pytest.mark.contract("P2.12", "P2.16", "BP2")
async def test_a_killed_process_is_noticed_long_before_its_lease_runs_out(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    await make_tables(db)
    job = await pgq.enqueue_by_name("hang_at_first")

    with worker_process(dsn, name="first", lease_ttl=600) as first:
        await eventually(lambda: has_rows(db, "execution", 1))
        with worker_process(dsn, name="second", lease_ttl=600):
            first.kill()
            ran_in = await job.result(timeout=180)

    assert ran_in == "second"
    assert [(each.reason, each.worker) for each in await pgq.attempts(job.id)] == [("lost", "first")]
    assert (await job.refresh()).attempt == 1


@pytest.mark.contract("BP2", "P2.11")
async def test_a_job_of_the_only_worker_waits_for_the_next_one(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    await make_tables(db)
    job = await pgq.enqueue_by_name("hang_at_first")

    with worker_process(dsn, name="first", lease_ttl=30) as first:
        await eventually(lambda: has_rows(db, "execution", 1))
        first.kill()
    assert await job.status() is JobStatus.RUNNING

    with worker_process(dsn, name="second"):
        assert await job.result(timeout=180) == "second"


@pytest.mark.contract("P2.16")
async def test_a_handler_that_blocks_the_event_loop_keeps_its_lease(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    await make_tables(db)
    job = await pgq.enqueue_by_name("block_the_loop", seconds=9)

    # Two, of which one is free to rescue what the other, blocked three times as long as its lease, holds.
    with worker_process(dsn, name="first", lease_ttl=3), worker_process(dsn, name="second", lease_ttl=3):
        await job.result(timeout=180)

    assert await db.fetchval("select count(*) from execution") == 1
    assert await pgq.attempts(job.id) == []


async def has_rows(db: Connection, table: str, count: int) -> bool:
    return bool(await db.fetchval(f"select count(*) >= {count} from {table}"))
