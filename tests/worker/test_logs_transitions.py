"""Each transition that pgqueue makes is one record, and of a transition that the database allows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from kit import inside
from kit.faults import ghost, lossy_proxy
from kit.records import described, kept_records
from kit.waiting import eventually

from pgqueue import JobContext, JobFilter, PgQueue
from pgqueue.events import JobsEnqueued
from pgqueue.model.jobs import TRANSITIONS, JobStatus
from pgqueue.tasks.handle import JobHandle
from pgqueue.tasks.task import Task

if TYPE_CHECKING:
    from conftest import Connection

NEW, LATER, BEHIND = (f"enqueued: nowhere > {status}" for status in ("pending", "scheduled", "blocked"))
STARTED, SUCCEEDED = "started: pending > running", "succeeded: running > succeeded"
RUN = [STARTED, SUCCEEDED]
BRINGING_BACK = {"job.promoted", "job.unblocked", "job.lost"}
"""After which a job starts anew."""

LIVES = {
    # In a worker.
    "succeeds": [NEW, *RUN],
    "fails": [NEW, STARTED, "failed: running > failed"],
    "fails again": [NEW, STARTED, "retrying: running > scheduled"],
    "snoozes": [NEW, STARTED, "snoozed: running > scheduled"],
    "is cancelled": [NEW, STARTED, "cancel_requested: running > running", "cancelled: running > cancelled"],
    "is cancelled as it fails": [NEW, STARTED, "cancelled: running > cancelled"],
    "is released": [NEW, STARTED, "released: running > pending"],
    "is cancelled as it is released": [NEW, STARTED, "cancelled: running > cancelled"],
    # Claimed, and not to be run.
    "is claimed too late": [NEW, "expired: pending > expired"],
    "cannot be read": [NEW, "retrying: pending > scheduled"],
    "can never be read": [NEW, "failed: pending > failed"],
    "is unknown": [NEW, "released: pending > pending"],
    # With a worker that is lost; whose starts were its own to tell.
    "is lost": [NEW, "lost: running > pending", *RUN],
    "is lost too often": [NEW, "failed: running > failed"],
    "is cancelled and lost": [
        NEW,
        "cancel_requested: running > running",
        "cancelled: running > cancelled",
    ],
    # While it waits.
    "is due": [LATER, "promoted: scheduled > pending", *RUN],
    "is replaced": [NEW, "replaced: pending > scheduled", "replaced: scheduled > pending", *RUN],
    "is unwanted": [NEW, "cancelled: pending > cancelled"],
    "is unwanted later": [LATER, "cancelled: scheduled > cancelled"],
    "is unwanted by a late request": [NEW, "cancelled: pending > cancelled"],
    "is never come to": [NEW, "expired: pending > expired"],
    "is never come to later": [LATER, "expired: scheduled > expired"],
    "follows": [BEHIND, "unblocked: blocked > pending", *RUN],
    "follows later": [BEHIND, "unblocked: blocked > scheduled"],
    "follows and is unwanted": [BEHIND, "cancelled: blocked > cancelled"],
    "follows and is never come to": [BEHIND, "expired: blocked > expired"],
}
"""What is to be logged of a job, by what becomes of it."""

BY_HAND = {
    (JobStatus.PENDING, JobStatus.BLOCKED),
    (JobStatus.SCHEDULED, JobStatus.BLOCKED),
    (JobStatus.BLOCKED, JobStatus.FAILED),
    (JobStatus.RUNNING, JobStatus.BLOCKED),
}
"""Transitions that only somebody with psql makes (`pgqueue.transition`): no process is there to log them."""


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    """What "pgqueue.jobs" has logged."""
    with kept_records(caplog) as found:
        yield found


@pytest.mark.contract("BP7", "P4.2")
async def test_every_transition_that_pgqueue_makes_is_one_record(
    pgq: PgQueue, db: Connection, records: list[logging.LogRecord]
) -> None:
    is_running = asyncio.Event()
    jobs = await arrange(pgq, db, declare_work(pgq, is_running))

    is_over_at_the_end = {"is released", "is cancelled as it is released"}
    async with pgq.worker(grace=0, cancel_grace=60):
        await is_running.wait()
        await jobs["is cancelled"].cancel()
        # What is missing is said better below.
        with suppress(TimeoutError):
            await eventually(lambda: have_come_to_their_ends(records, jobs, except_for=is_over_at_the_end))

    assert lives_of(records, jobs) == LIVES
    made = {(each.from_status, each.to_status) for each in untyped(records)}
    allowed = {(before, after) for before, afters in TRANSITIONS.items() for after in afters}
    assert allowed - made == BY_HAND


@pytest.mark.contract("BP7", "P1.5")
@pytest.mark.parametrize(("lost", "options"), [("enqueue_one", {}), ("COMMIT", {"delay": 3600})])
async def test_a_job_whose_enqueue_was_not_answered_is_logged_and_counted_once(
    dsn: str, records: list[logging.LogRecord], lost: str, options: dict[str, Any]
) -> None:
    counts: list[Any] = []
    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as pgq:
        pgq.observe(lambda event: counts.append(event.counts), JobsEnqueued)  # type: ignore[union-attr]

        @pgq.task
        async def work() -> None: ...

        if lost == "COMMIT":
            # Opening a connection commits, too: the one for writes is kept.
            await work.enqueue()
            records.clear()
            counts.clear()
            proxy.lose_text(lost, is_carried_out=True)
        else:
            proxy.lose_answer_to(lost)
        job = await work.options(**options).enqueue()
        assert proxy.lost.is_set()

    assert [each.job_id for each in untyped(records)] == [str(job.id)]
    assert [described(each) for each in records] == [LATER if options else NEW]
    assert counts == [{("work", "default"): 1}]


@pytest.mark.contract("BP7")
async def test_each_of_many_jobs_that_are_pending_again_is_a_record(
    pgq: PgQueue, db: Connection, records: list[logging.LogRecord]
) -> None:
    ids = [(await pgq.enqueue_by_name("work", options={"tags": [tag]})).id for tag in "aabb"]
    await db.execute("select pgqueue.transition(id, 'failed') from unnest($1::uuid[]) as id", ids)
    records.clear()

    async for _ in pgq.requeue_many(JobFilter(tag="a"), reason="fixed"):
        pass
    await pgq.redrive_many(all=True, rate=1000, reason="all of it")
    await db.execute("update pgqueue.mass_redrive set carried_at = now() - interval '1 second'")
    async with pgq.worker(queues=["none"]):
        await eventually(lambda: has_logged(records, 4))

    said = [(each.event, each.job_id, each.task, each.queue, each.reason) for each in untyped(records)]
    assert sorted(said) == sorted(
        [
            *(("job.requeued", str(each), "work", "default", "fixed") for each in ids[:2]),
            *(("job.redriven", str(each), "work", "default", "all of it") for each in ids[2:]),
        ]
    )


@pytest.mark.contract("BP7")
async def test_a_mass_redrive_names_no_job_that_somebody_else_queues_meanwhile(
    pgq: PgQueue, db: Connection
) -> None:
    ids = [(await pgq.enqueue_by_name("work")).id for _ in range(3)]
    await db.execute("select pgqueue.transition(id, 'failed') from unnest($1::uuid[]) as id", ids)
    await pgq.redrive(ids[0])
    await pgq.redrive_many(all=True, rate=1000)
    await db.execute("update pgqueue.mass_redrive set carried_at = now() - interval '1 second'")

    async with inside.database(pgq).acquire() as connection, connection.transaction():
        carried = await inside.store(pgq).carry_redrive(connection, 100)
        assert carried is not None
        await pgq.enqueue_by_name("work")
        jobs, _ = await inside.store(pgq).find_redriven(connection, carried)

    assert {job.job_id for job in jobs} == set(ids[1:])


@pytest.mark.contract("BP7")
async def test_what_befalls_a_waiting_job_is_logged_if_its_task_says_so(
    dsn: str, records: list[logging.LogRecord]
) -> None:
    async with PgQueue(dsn, log="failures") as pgq:

        @pgq.task
        async def quiet() -> None: ...

        @pgq.task(log="all")
        async def loud() -> None: ...

        jobs = await pgq.enqueue_many([quiet.s(), loud.s()])
        for job in jobs:
            await job.cancel()
            await pgq.requeue(job.id)

    assert [(each.task, each.event) for each in untyped(records)] == [
        ("loud", "job.enqueued"),
        ("loud", "job.cancelled"),
        ("loud", "job.requeued"),
    ]


def declare_work(pgq: PgQueue, is_running: asyncio.Event) -> Task[[str], None]:
    """Declare a task whose handler does what the life of its job wants."""

    @pgq.task(max_retries=0)
    async def work(ctx: JobContext, life: str) -> None:
        match life:
            case "fails":
                raise ValueError
            case "fails again":
                raise ctx.retry(countdown=3600)
            case "snoozes":
                ctx.snooze(3600)
            case "is cancelled":
                is_running.set()
                await asyncio.Event().wait()
            case "is cancelled as it fails":
                await ask_to_cancel(pgq, ctx)
                raise ctx.retry(countdown=3600)
            case "is released":
                await asyncio.Event().wait()
            case "is cancelled as it is released":
                try:
                    await asyncio.Event().wait()
                finally:
                    await ask_to_cancel(pgq, ctx)
            case _:
                pass

    return work


async def arrange(pgq: PgQueue, db: Connection, work: Task[[str], None]) -> dict[str, JobHandle[Any]]:
    """Make the jobs of LIVES, as far as they come without a worker."""
    jobs: dict[str, JobHandle[Any]] = {}

    async def enqueue(*lives: str, **options: Any) -> None:
        for life in lives:
            jobs[life] = await work.options(**options).enqueue(life)

    def keyed(key: str, on_conflict: str = "coalesce") -> dict[str, Any]:
        return {"idempotency_key": key, "on_conflict": on_conflict}

    async with ghost(pgq) as survivor, ghost(pgq) as dying:
        for key in ("a", "b"):
            await work.options(**keyed(key)).enqueue("outlives the test")
        await survivor.claim()
        await enqueue("follows and is unwanted", **keyed("a"))
        await enqueue("follows and is never come to", **keyed("b"), expires=3600)
        await enqueue("is lost", **keyed("c"))
        await enqueue("is cancelled and lost", **keyed("d"))
        await enqueue("is lost too often", max_losses=0)
        await dying.claim()
        await enqueue("follows", **keyed("c"))
        await enqueue("follows later", **keyed("d"), delay=3600)
        await jobs["is cancelled and lost"].cancel()
        await dying.die()
    await enqueue("succeeds", "fails", "snoozes", "is cancelled", "is released")
    await enqueue("cannot be read", "can never be read")
    await enqueue("is cancelled as it is released", "is unwanted")
    await enqueue("fails again", "is cancelled as it fails", max_retries=1)
    await enqueue("is due", "is unwanted later", delay=3600)
    await enqueue("is claimed too late", expires=3600)
    await enqueue("is never come to", queue="nobody", expires=3600)
    await enqueue("is never come to later", delay=1800, expires=3600)
    await enqueue("is unwanted by a late request", queue="nobody")
    first = work.options(**keyed("e", "replace"))
    jobs["is replaced"] = await first.enqueue("is replaced")
    await first.options(delay=3600).enqueue("is replaced")
    await first.enqueue("is replaced")
    jobs["is unknown"] = await pgq.enqueue_by_name("elsewhere")
    for life in ("is unwanted", "is unwanted later", "follows and is unwanted"):
        await jobs[life].cancel()
    await have_time_come(db, {life: job.id for life, job in jobs.items()})
    return jobs


async def ask_to_cancel(pgq: PgQueue, ctx: JobContext) -> None:
    """Ask for the cancellation of a job that runs, as somebody with psql does: no worker is told."""
    async with inside.database(pgq).acquire() as connection:
        assert await connection.fetchval("select pgqueue.cancel($1)", ctx.job_id) == "requested"


async def have_time_come(db: Connection, ids: dict[str, UUID]) -> None:
    """Move times to now, and write what only a fault or a race does."""
    never_come_to = [job_id for life, job_id in ids.items() if "never come to" in life]
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute(
            "update pgqueue.job set expires_at = now() where id = any($1)",
            [*never_come_to, ids["is claimed too late"]],
        )
        await db.execute("update pgqueue.expiry set check_at = now() where job_id = any($1)", never_come_to)
        await db.execute("update pgqueue.scheduled set scheduled_at = now() where job_id = $1", ids["is due"])
        await db.execute(
            """update pgqueue.job set options = '{"timeout": "soon"}' where id = any($1)""",
            [ids["cannot be read"], ids["can never be read"]],
        )
        # Workers have met it again and again, for longer than the grace.
        await db.execute(
            """
            with met as (
                update pgqueue.job set started_at = now() - interval '1 year' where id = $1
                returning id, started_at
            )
            insert into pgqueue.attempt (job_id, attempt, started_at, reason)
            select id, 1, started_at, 'undecodable' from met
            """,
            ids["can never be read"],
        )
        await db.execute(
            "insert into pgqueue.cancel_request (job_id, lease_id) values ($1, gen_random_uuid())",
            ids["is unwanted by a late request"],
        )


def lives_of(
    records: Iterable[logging.LogRecord], jobs: Mapping[str, JobHandle[Any]]
) -> dict[str, list[str]]:
    """Return what was logged of each job, in order."""
    lives: dict[str, list[str]] = {life: [] for life in jobs}
    names = {str(job.id): life for life, job in jobs.items()}
    for record in untyped(records):
        if record.job_id in names:
            life = lives[names[record.job_id]]
            # Who brings a job back hears of it on another connection than who claims it, and perhaps later.
            is_late = record.event in BRINGING_BACK and STARTED in life
            life.insert(life.index(STARTED) if is_late else len(life), described(record))
    return lives


async def have_come_to_their_ends(
    records: Iterable[logging.LogRecord],
    jobs: Mapping[str, JobHandle[Any]],
    *,
    except_for: Collection[str],
) -> bool:
    found = lives_of(records, jobs)
    return all(len(found[life]) >= len(expected) - (life in except_for) for life, expected in LIVES.items())


async def has_logged(records: list[logging.LogRecord], count: int) -> bool:
    return len(records) >= count


def untyped(records: Iterable[logging.LogRecord]) -> list[Any]:
    """Return *records* without a type: their attributes are the logger's."""
    return list(records)
