"""Redriving many dead letters: at a rate, carried on by whichever worker there is, each of them once."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import anyio
import pytest
from kit import inside
from kit.app_for_tests import make_tables, worker_process
from kit.dead import count, fail_jobs
from kit.waiting import eventually

from pgqueue import (
    DeadLetterFilter,
    InvalidFilterError,
    InvalidOptionError,
    JobNotFoundError,
    NotADeadLetterError,
    PgQueue,
    ResultTimeoutError,
    UnknownQueueError,
)

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P5.6", "P5.5")


async def carry(pgq: PgQueue, db: Connection, seconds: float = 1) -> int | None:
    """Do a worker's round, *seconds* after the last; return how many jobs became ready, None: it was idle."""
    before = await count(db, "ready")
    async with inside.database(pgq).acquire() as connection, connection.transaction():
        await connection.execute(
            "update pgqueue.mass_redrive set carried_at = now() - $1 * interval '1 second'", seconds
        )
        lanes = await inside.store(pgq).carry_redrive(connection, 5000)
    return None if lanes is None else await count(db, "ready") - before


async def test_workers_redrive_what_the_filter_takes_in_and_nothing_else(
    pgq: PgQueue, db: Connection
) -> None:
    ran: list[int] = []

    @pgq.task
    async def work(number: int) -> None:
        ran.append(number)

    ids = await fail_jobs(db, 30)
    others = await fail_jobs(db, 3, task="other")
    redrive = await pgq.redrive_many(
        DeadLetterFilter(task="work"), rate=5000, reason="they are back", actor="ada"
    )
    before = await redrive.progress()
    async with pgq.worker():
        over = await redrive.wait(timeout=60)
        for job_id in ids:
            await pgq.handle(job_id).result(timeout=60)

    assert (before.state, before.done, before.total) == ("running", 0, 30)
    assert (over.state, over.done, over.actor, over.reason) == ("done", 30, "ada", "they are back")
    assert over.ended_at is not None
    assert over.is_over
    assert sorted(ran) == list(range(1, 31))
    left = {letter.job_id for letter in (await pgq.dead_letters()).letters}
    assert left == set(others)
    [action] = await pgq.actions(ids[0])
    assert (action.action, action.reason, action.actor) == ("redriven", "they are back", "ada")


async def test_no_more_are_redriven_than_the_rate_allows(pgq: PgQueue, db: Connection) -> None:
    await fail_jobs(db, 100)
    await pgq.redrive_many(all=True, rate=10)

    at_once = await carry(pgq, db, 0)
    second_later = await carry(pgq, db, 1)
    again = await carry(pgq, db, 0)
    # Nobody carried it on for a while: what was missed is not made up for.
    after_an_hour = await carry(pgq, db, 3600)

    assert at_once is None
    assert second_later == 10
    assert again is None
    assert after_an_hour == 20


async def test_a_rate_below_one_a_second_is_kept(pgq: PgQueue, db: Connection) -> None:
    await fail_jobs(db, 5)
    await pgq.redrive_many(all=True, rate=0.01)

    assert [await carry(pgq, db, seconds) for seconds in (1, 50, 99, 100)] == [None, None, None, 1]


async def test_the_oldest_are_redriven_first(pgq: PgQueue, db: Connection) -> None:
    ids = await fail_jobs(db, 30)
    await db.execute(
        "update pgqueue.dead_letter set failed_at = failed_at - interval '1 hour' where job_id = any($1)",
        ids[20:],
    )
    await pgq.redrive_many(all=True, rate=10)

    await carry(pgq, db, 1)
    ready = {row[0] for row in await db.fetch("select job_id from pgqueue.ready")}

    assert set(ids[20:]) <= ready
    assert len(ready) == 10


async def test_it_survives_whoever_started_it_and_the_worker_that_carried_it_on(
    dsn: str, db: Connection
) -> None:
    await make_tables(db)
    ids = await fail_jobs(db, 200)
    async with PgQueue(dsn) as starter:
        redrive_id = (await starter.redrive_many(all=True, rate=40)).id

    async def has_begun() -> bool:
        return bool(await db.fetchval("select done > 0 from pgqueue.mass_redrive"))

    with worker_process(dsn, concurrency=50) as process:
        await eventually(has_begun)
        process.kill()
    async with PgQueue(dsn) as other:
        between = await other.redrive_handle(redrive_id).progress()
        with worker_process(dsn, concurrency=50):
            over = await other.redrive_handle(redrive_id).wait(timeout=180)
            for job_id in ids:
                await other.handle(job_id).result(timeout=120)

    assert between.state == "running"
    assert 0 < between.done < 200
    assert (over.state, over.done) == ("done", 200)
    assert await count(db, "action") == 200


async def test_what_is_cancelled_goes_no_further(pgq: PgQueue, db: Connection) -> None:
    await fail_jobs(db, 50)
    redrive = await pgq.redrive_many(all=True, rate=10)
    moved = await carry(pgq, db, 1)

    assert await redrive.cancel() is True
    assert await redrive.cancel() is False

    assert await carry(pgq, db, 10) is None
    progress = await redrive.progress()
    assert (progress.state, progress.done) == ("cancelled", moved)
    assert progress.ended_at is not None
    assert await count(db, "dead_letter") == 50 - progress.done


async def test_redrives_at_once_requeue_each_job_once(pgq: PgQueue, db: Connection) -> None:
    ids = await fail_jobs(db, 60)
    redrives = [await pgq.redrive_many(all=True, rate=1000) for _ in range(3)]
    await db.execute("update pgqueue.mass_redrive set carried_at = now() - interval '1 hour'")

    async def carry_one() -> None:
        async with inside.database(pgq).acquire() as connection:
            await inside.store(pgq).carry_redrive(connection, 25)

    async def redrive_one(job_id: UUID) -> None:
        await pgq.redrive(job_id)

    async def discard_one(job_id: UUID) -> None:
        await pgq.discard(job_id)

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(carry_one)
        group.start_soon(quietly, redrive_one, ids[0])
        group.start_soon(quietly, discard_one, ids[1])
        group.start_soon(quietly, redrive_one, ids[30])
    while [state for state in [(await each.progress()).state for each in redrives] if state == "running"]:
        await db.execute("update pgqueue.mass_redrive set carried_at = now() - interval '1 hour'")
        await carry_one()

    per_job = await db.fetch("select job_id, count(*) from pgqueue.action group by job_id")
    assert {row["count"] for row in per_job} == {1}
    assert len(per_job) == 60
    assert await count(db, "dead_letter") == 0


async def quietly(call: Any, job_id: UUID) -> None:
    """Call, and let it be too late."""
    with suppress(NotADeadLetterError):
        await call(job_id)


async def test_what_fails_again_meanwhile_stays_a_dead_letter(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(max_retries=0)
    async def work(number: int) -> None:
        raise ValueError

    await fail_jobs(db, 20)
    async with pgq.worker():
        redrive = await pgq.redrive_many(all=True, rate=10)
        over = await redrive.wait(timeout=180)

        async def have_all_failed() -> bool:
            return await count(db, "dead_letter") == 20

        await eventually(have_all_failed)

    assert over.done == 20
    assert await count(db, "action") == 20


async def test_it_can_go_to_another_queue_and_keep_the_attempts(pgq: PgQueue, db: Connection) -> None:
    [job_id] = await fail_jobs(db, 1)
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute("update pgqueue.job set attempt = 4")

    await pgq.redrive_many(all=True, rate=10, queue="repairs", reset_attempts=False)
    await carry(pgq, db, 1)

    job = await pgq.get(job_id)
    assert (job.queue, job.attempt, job.status) == ("repairs", 4, "pending")


@pytest.mark.parametrize("rate", [0, -1, 1e-320, 10**400, float("nan"), float("inf"), 5001, "fast"])
async def test_a_rate_that_cannot_be_is_refused(pgq: PgQueue, db: Connection, rate: Any) -> None:
    with pytest.raises(InvalidOptionError, match=r"rate must be from 0.0001 to 5000"):
        await pgq.redrive_many(all=True, rate=rate)

    assert await count(db, "mass_redrive") == 0


async def test_a_mass_redrive_that_cannot_be_says_so(dsn: str, db: Connection) -> None:
    async with PgQueue(dsn, strict_queues=True) as pgq:
        with pytest.raises(InvalidFilterError, match="pass all=True"):
            await pgq.redrive_many()
        with pytest.raises(UnknownQueueError):
            await pgq.redrive_many(all=True, queue="nowhere")
        unknown = pgq.redrive_handle(uuid4())
        with pytest.raises(JobNotFoundError, match=str(unknown.id)):
            await unknown.progress()
        assert await unknown.cancel() is False
        waiting = await pgq.redrive_many(all=True)
        with pytest.raises(ResultTimeoutError, match="it continues while a worker is running"):
            await waiting.wait(timeout=0.01)

    assert await count(db, "mass_redrive") == 1
