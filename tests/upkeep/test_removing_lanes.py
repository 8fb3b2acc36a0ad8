"""Lanes and queues go when nobody uses them, and come back with their next job; no job is lost by that."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import anyio
import asyncpg
import pytest
from kit import inside
from kit.waiting import eventually

from pgqueue import (
    ConfigurationError,
    JobStatus,
    PgQueue,
    QueueNotEmptyError,
    Reject,
    Task,
)
from pgqueue.upkeep import removing_lanes
from pgqueue.worker.claim import lanes as walking

if TYPE_CHECKING:
    from conftest import Connection

IN_USE = "select queue from pgqueue.lane where removed_at is null"
REMOVE = "update pgqueue.lane set removed_at = now() - $2::interval where queue = $1 and removed_at is null"
LONG_AGO = "update pgqueue.lane set idle_since = now() - interval '25 hours'"


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers look at lanes at once and often."""
    monkeypatch.setattr(removing_lanes, "FIRST_PASS", 0.0)
    monkeypatch.setattr(removing_lanes, "REST", 0.3)


def declare_work(pgq: PgQueue) -> Task[[int], int]:
    @pgq.task
    async def work(number: int) -> int:
        return number

    task: Task[[int], int] = work
    return task


async def in_use(db: Connection) -> set[str]:
    return {row["queue"] for row in await db.fetch(IN_USE)}


async def look_and_remove(pgq: PgQueue, db: Connection) -> None:
    """Do what a worker does in one pass."""
    store = inside.store(pgq)
    await store.look_at_lanes(db, 0, 10_000)
    await store.remove_lanes(db, removing_lanes.IDLE, 10_000)
    await store.delete_lanes(db, removing_lanes.KEPT, 10_000)


@pytest.mark.contract("W13")
async def test_a_queue_goes_after_a_day_without_a_job_unless_it_is_needed(
    pgq: PgQueue, db: Connection
) -> None:
    work = declare_work(pgq)
    stay = {"pending", "scheduled", "blocked", "running", "paused", "configured", "used", "young", "served"}
    for queue in ("pending", "running", "blocked"):
        await work.options(queue=queue).enqueue(1)
    await work.options(queue="scheduled", delay=3600).enqueue(1)
    for queue in ("unused", "young", "served", "used", "configured", "resumed", "unwatched"):
        await db.execute("select pgqueue.lane_of($1, 0::smallint)", queue)
    await db.execute("select pgqueue.lane_of('served', 7::smallint)")
    await db.execute("insert into pgqueue.lane (queue, priority, task) values ('aside', 0, 'work')")
    await db.execute("insert into pgqueue.lane (queue, priority, task) values ('aside', 1, 'else')")
    for queue in ("paused", "resumed"):
        await db.execute("select pgqueue.lane_of($1, 0::smallint)", queue)
        await pgq.pause(queue=queue)
    await pgq.resume(queue="resumed")
    await pgq.configure_task("work", max_retries=1)
    await db.execute(
        """
        insert into pgqueue.setting (kind, name, options) values ('queue', 'configured', '{}');
        insert into pgqueue.lease (id, worker, queues, expires_at) values
            (gen_random_uuid(), 'w', '{served}', now() + interval '1 hour'),
            (gen_random_uuid(), 'w', '{unwatched}', now() - interval '1 hour');
        insert into pgqueue.stat (id, at, seconds, queue, enqueued, claimed, succeeded, failed, cancelled,
                                  expired, retried, lost)
        select gen_random_uuid(), now() - hours * interval '1 hour', 1, queue, 1, 0, 0, 0, 0, 0, 0, 0
        from (values ('used', 5), ('unused', 30), ('served', 5)) as given (queue, hours);
        set pgqueue.writer = on;
        with moved as (
            delete from pgqueue.ready
            where lane = (select id from pgqueue.lane where queue = 'running') returning *
        )
        insert into pgqueue.running (job_id, lease_id, ready_at, position, lane, attempt, losses)
        select job_id, (select id from pgqueue.lease limit 1), now(), 1, lane, 1, 0 from moved;
        with moved as (
            delete from pgqueue.ready
            where lane = (select id from pgqueue.lane where queue = 'blocked') returning *
        )
        insert into pgqueue.blocked (job_id, lane) select job_id, lane from moved;
        """
    )
    # Nobody has looked yet: no time without a job is known.
    await look_and_remove(pgq, db)
    assert await db.fetchval("select count(*) from pgqueue.lane where removed_at is not null") == 0

    await db.execute(LONG_AGO)
    await db.execute("update pgqueue.lane set idle_since = now() - interval '23 hours' where queue = 'young'")
    await look_and_remove(pgq, db)

    assert await in_use(db) == stay | {"aside"}
    kept = await db.fetch(
        "select priority, task from pgqueue.lane where removed_at is null and queue in ('served', 'aside')"
    )
    assert {tuple(row) for row in kept} == {(0, ""), (0, "work")}
    assert {each.queue for each in await pgq.measure()} == stay | {"aside"}


@pytest.mark.contract("W13")
async def test_a_lane_that_is_used_has_its_day_anew(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)
    job = await work.options(queue="mail").enqueue(1)
    await db.execute(LONG_AGO)
    await look_and_remove(pgq, db)
    await pgq.cancel(job.id)
    await look_and_remove(pgq, db)
    assert "mail" in await in_use(db)

    await db.execute(LONG_AGO)
    await look_and_remove(pgq, db)
    assert "mail" not in await in_use(db)

    await work.options(queue="mail").enqueue(2)
    await look_and_remove(pgq, db)
    assert "mail" in await in_use(db)


@pytest.mark.contract("W13")
async def test_a_removed_lane_stays_for_its_ended_jobs_and_goes_with_them(
    pgq: PgQueue, db: Connection
) -> None:
    work = declare_work(pgq)
    job = await work.options(queue="mail").enqueue(1)
    other = await work.options(queue="chosen", id=uuid4()).enqueue(1)
    await pgq.cancel(job.id)
    await pgq.cancel(other.id)
    for queue in ("mail", "chosen", "empty"):
        await db.execute("select pgqueue.lane_of($1, 0::smallint)", queue)
        await db.execute(REMOVE, queue, timedelta(days=3))

    await look_and_remove(pgq, db)
    assert (await job.refresh()).queue == "mail"
    assert await db.fetchval("select count(*) from pgqueue.lane where queue = 'empty'") == 1

    # As retention does.
    await db.execute("set pgqueue.writer = on; delete from pgqueue.job")
    await look_and_remove(pgq, db)
    assert await db.fetchval("select count(*) from pgqueue.lane where removed_at is not null") == 0
    # Known to the process by a number that is gone.
    await work.options(queue="mail").enqueue(2)
    async with pgq.worker(queues=["mail"]):
        await eventually(lambda: is_empty(db))


async def is_empty(db: Connection) -> bool:
    return await db.fetchval("select not exists (select from pgqueue.job where status is null)") is True


Isolation = Literal["read_committed", "repeatable_read", "serializable"]


@pytest.mark.contract("W13", "P1.3")
@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
@pytest.mark.parametrize("days", [0, 1], ids=["a moment ago", "a day ago"])
async def test_a_job_of_a_transaction_that_was_open_when_its_queue_was_removed_runs(
    pgq: PgQueue, dsn: str, db: Connection, isolation: Isolation, days: int
) -> None:
    work = declare_work(pgq)
    is_seen = asyncio.Event()

    @pgq.task
    async def stay() -> int:
        # A lane whose jobs are over before a worker looks at it has no reason to come back.
        await is_seen.wait()
        return 2

    await db.execute("select pgqueue.lane_of('mail', 0::smallint)")
    await db.execute("select pgqueue.lane_of('mail', 1::smallint)")
    await work.options(queue="mail").enqueue(0)
    jobs = []
    async with AsyncExitStack() as stack:
        caller = await asyncpg.connect(dsn)
        stack.push_async_callback(caller.close)
        await stack.enter_async_context(pgq.worker(queues=["mail"]))
        await eventually(lambda: is_empty(db))
        async with caller.transaction(isolation=isolation):
            jobs.append(await work.options(queue="mail", connection=caller).enqueue(1))
            jobs.append(await stay.options(queue="mail", priority=1, delay=0.2, connection=caller).enqueue())
            found = await caller.fetchval("select pgqueue.enqueue('work', '{\"number\": 3}', 'mail')")
            jobs.append(pgq.handle(found))
            assert await pgq.remove_queue("mail")
            await db.execute(
                "update pgqueue.lane set removed_at = now() - $1::interval where queue = 'mail'",
                timedelta(days=days),
            )
        await eventually(lambda: is_back(db))
        is_seen.set()
        async with asyncio.timeout(60):
            assert [await job.result() for job in jobs] == [1, 2, 3]


async def is_back(db: Connection) -> bool:
    return "mail" in await in_use(db)


@pytest.mark.contract("W13")
async def test_no_job_is_lost_while_its_queue_goes_and_comes(pgq: PgQueue, dsn: str) -> None:
    work = declare_work(pgq)
    removed = 0

    async def remove() -> None:
        nonlocal removed
        db = await asyncpg.connect(dsn)
        try:
            while True:
                # Whether or not there are jobs, as the chore may that looked before they came.
                await db.execute(REMOVE, "mail", timedelta(days=removed % 2))
                removed += 1
                await anyio.sleep(0.005)
        finally:
            await db.close()

    async def enqueue(number: int) -> list[Any]:
        jobs = []
        connection = await asyncpg.connect(dsn)
        for each in range(8):
            one = work.options(queue="mail", priority=each % 3)
            jobs.append(await one.enqueue(number))
            jobs += await pgq.enqueue_many([one.s(number)] * 3)
            async with connection.transaction():
                jobs.append(await one.options(connection=connection).enqueue(number))
                jobs.append(await one.options(connection=connection, delay=0.01).enqueue(number))
        await connection.close()
        return jobs

    async with pgq.worker(queues=["mail"]), asyncio.timeout(100):
        removing = asyncio.create_task(remove())
        made = await asyncio.gather(*(enqueue(number) for number in range(4)))
        removing.cancel()
        jobs = [job for each in made for job in each]
        assert len(await asyncio.gather(*(job.result() for job in jobs))) == 4 * 8 * 6
    assert removed > 5


@pytest.mark.contract("W13")
async def test_an_operator_removes_a_queue_that_has_no_live_jobs(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(queue="mail")
    async def work() -> None:
        raise Reject("no")

    assert not await pgq.remove_queue("mail")
    jobs = [
        await work.enqueue(),
        await work.options(delay=60).enqueue(),
        await work.options(priority=9).enqueue(),
    ]
    await pgq.pause(queue="mail")
    with pytest.raises(QueueNotEmptyError, match=r"'mail' has jobs that have not ended \(3\)") as refused:
        await pgq.remove_queue("mail")
    assert (refused.value.queue, refused.value.jobs) == ("mail", 3)
    assert {each.name for each in await pgq.settings()} == {"mail"}

    await pgq.cancel(jobs[1].id)
    await pgq.resume(queue="mail")
    async with pgq.worker(queues=["mail"]):
        await eventually(lambda: is_empty(db))
    await pgq.pause(queue="mail")

    assert await pgq.remove_queue("mail")
    assert not await pgq.remove_queue("mail")
    assert "mail" not in await in_use(db)
    assert await pgq.settings() == []
    # Its dead letters are not out of sight.
    assert {each.queue: each.failed.value for each in await pgq.measure()} == {"default": 0, "mail": 2}
    assert (await jobs[0].refresh()).queue == "mail"

    # It comes back with a job, whichever way that comes, and is not paused.
    await pgq.redrive(jobs[0].id)
    await pgq.cancel(jobs[0].id)
    assert await pgq.remove_queue("mail")
    await pgq.requeue(jobs[0].id)
    await pgq.reprioritise(jobs[0].id, 9)
    assert (
        await db.fetchval("select count(*) from pgqueue.lane where queue = 'mail' and removed_at is null")
        == 2
    )
    async with pgq.worker(queues=["mail"]):
        await eventually(lambda: is_empty(db))
    assert await jobs[0].status() is JobStatus.FAILED
    with pytest.raises(ConfigurationError):
        await pgq.remove_queue("")


@pytest.mark.contract("W13")
async def test_what_is_put_aside_brings_its_lane_back(pgq: PgQueue, dsn: str, db: Connection) -> None:
    declare_work(pgq)
    await db.execute(
        "insert into pgqueue.lane (queue, priority, task, removed_at) "
        "values ('mail', 0, 'other', now() - interval '1 day')"
    )
    await pgq.enqueue_by_name("other", options={"queue": "mail"})
    aside = (
        "select count(*) = 1 from pgqueue.ready join pgqueue.lane on lane.id = ready.lane "
        "where lane.task = 'other' and removed_at is null"
    )
    async with pgq.worker(queues=["mail"]):

        async def is_aside() -> bool:
            return await db.fetchval(aside) is True

        await eventually(is_aside)


@pytest.mark.contract("W13")
async def test_many_priorities_of_a_served_queue_are_swept_in_parts(
    pgq: PgQueue, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = declare_work(pgq)
    await db.execute(
        "insert into pgqueue.lane (queue, priority) select 'default', n from generate_series(1, 5000) as n"
    )
    swept: list[int] = []
    sweep = inside.store(pgq).sweep

    async def note(connection: Any, lanes: list[int]) -> Any:
        swept.append(len(lanes))
        return await sweep(connection, lanes)

    monkeypatch.setattr(inside.store(pgq), "sweep", note)
    # Unannounced, in lanes of every part.
    for priority in (0, 1, 2500, 5000):
        await db.execute(
            "with made as (insert into pgqueue.job (id, lane, task, arguments) select pgqueue.uuid7(), "
            "pgqueue.lane_of('default', $1), 'work', '[1]' returning id, lane) "
            "insert into pgqueue.ready (job_id, lane) select id, lane from made",
            priority,
        )
    async with pgq.worker() as worker:
        await eventually(lambda: is_empty(db))
        known = inside.claimer_of(worker).book
        assert max(swept) == walking.PAGE
        assert len(known.lanes) > 2 * walking.PAGE

        # They go, and the worker forgets them.
        await db.execute(
            "update pgqueue.lane set removed_at = now() - interval '2 hours' where priority <> 0"
        )

        async def is_forgotten() -> bool:
            return len(known.lanes) == 1

        await eventually(is_forgotten)
        assert await (await work.options(priority=3).enqueue(7)).result(timeout=60) == 7
