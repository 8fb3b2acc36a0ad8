"""Jobs of one key run one at a time, in the order in which they were enqueued, whatever becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from kit.faults import Ghost, ghost
from kit.roles import roles_of
from kit.waiting import eventually

from pgqueue import (
    ConfigurationError,
    DeadLetterFilter,
    InvalidArgumentsError,
    InvalidTaskError,
    JobContext,
    JobHandle,
    JobStatus,
    PgQueue,
    Snooze,
    Task,
    chain,
    group,
)
from pgqueue.errors import PgQueueError
from pgqueue.model.job_error import JobError
from pgqueue.model.outcomes import Ended, Retried, Suspended
from pgqueue.options.retention import Retention
from pgqueue.upkeep.retention import FIRST_ID, LAST_ID

if TYPE_CHECKING:
    from conftest import Connection

ERROR = JobError("ValueError", "no")
Book = Task[[int], None]


@pytest.fixture
async def holder(pgq: PgQueue, db: Connection) -> AsyncIterator[Ghost]:
    await db.execute("select pgqueue.lane_of('default', 0::smallint)")
    async with ghost(pgq) as holder:
        yield holder


async def attend(holder: Ghost) -> None:
    """Attend to all that was noted."""
    while (await holder.store.attend(holder.connection, None, 1000)).taken:
        pass


async def next_ids(holder: Ghost) -> list[UUID]:
    """Let through and claim what may run."""
    await attend(holder)
    return [job.id for job in await holder.claim()]


async def held(holder: Ghost) -> list[UUID]:
    rows = await holder.connection.fetch(
        "select job_id from pgqueue.running where lease_id = $1", holder.lease_id
    )
    return [row["job_id"] for row in rows]


async def finish(holder: Ghost, job_id: UUID) -> None:
    await holder.store.finish(holder.connection, holder.lease_id, holder.name, [job_id], None)


async def retry(holder: Ghost, job_id: UUID, seconds: float = 3600.0) -> None:
    end = Retried(job_id, seconds, "exception", ERROR)
    await holder.store.retry(holder.connection, holder.lease_id, holder.name, [end])


async def run_rest(holder: Ghost) -> list[UUID]:
    """Have all jobs that may run succeed, one after the other; return them as they started."""
    started = []
    while ids := await next_ids(holder):
        started += ids
        for job_id in ids:
            await finish(holder, job_id)
    return started


def ids_of(jobs: Sequence[JobHandle[Any]]) -> list[UUID]:
    return [job.id for job in jobs]


def declare(pgq: PgQueue, on_dead: Any = "block") -> Book:
    @pgq.task(name="book", ordered_by=lambda entry: "a", on_dead=on_dead)
    async def book(entry: int) -> None: ...

    return book


@pytest.fixture
def book(pgq: PgQueue) -> Book:
    return declare(pgq)


# In order


@pytest.mark.contract("P5.10", "P8.4")
async def test_jobs_of_a_key_run_one_at_a_time_in_the_order_of_their_enqueueing(pgq: PgQueue) -> None:
    started: dict[str, list[int]] = {}
    attempts: dict[tuple[str, int], int] = {}
    running: set[str] = set()

    @pgq.task(ordered_by="account", max_retries=3, default_retry_delay=0.01)
    async def book(account: str, entry: int) -> None:
        assert account not in running
        running.add(account)
        attempt = attempts[account, entry] = attempts.get((account, entry), 0) + 1
        started.setdefault(account, []).append(entry)
        await asyncio.sleep(0)
        running.discard(account)
        if entry % 3 == 1 and attempt < 3:
            raise ValueError
        if entry % 5 == 2 and attempt == 1:
            raise Snooze(0.01)

    async with pgq.worker(concurrency=20), pgq.worker(concurrency=20):
        await pgq.enqueue_many([book.s(account, entry) for entry in range(8) for account in "abc"])
        jobs = [await book.options(priority=entry % 3).enqueue("a", entry) for entry in range(8, 16)]
        for job in jobs:
            await job.result(timeout=60)

    assert started["a"] == sorted(started["a"])
    assert {account: set(entries) for account, entries in started.items()} == {
        "a": set(range(16)), "b": set(range(8)), "c": set(range(8))
    }  # fmt: skip


@pytest.mark.contract("P5.10")
async def test_every_way_to_enqueue_an_ordered_job_keeps_the_order_of_the_calls(
    pgq: PgQueue, db: Connection, holder: Ghost, book: Book
) -> None:
    chosen = sorted((uuid4() for _ in range(4)), reverse=True)
    jobs: list[JobHandle[Any]] = [await book.enqueue(0)]
    jobs += await pgq.enqueue_many([book.options(id=each).s(1) for each in chosen])
    jobs += await pgq.enqueue_many(
        [
            book.options(idempotency_key="z").s(2),
            book.options(delay=0.001).s(3),
            book.s(4),
            book.options(idempotency_key="y").s(5),
            book.options(run_at=datetime.now(UTC) - timedelta(hours=1)).s(6),
            book.s(7),
        ]
    )
    async with db.transaction():
        jobs += [await pgq.enqueue(book.s(8), connection=db), await book.options(connection=db).enqueue(9)]
    again = await book.options(idempotency_key="z").enqueue(2)
    await asyncio.sleep(0.002)
    await holder.store.promote(holder.connection, 100)
    members = await pgq.enqueue_workflow(group(*(book.si(each) for each in range(10, 15))))
    behind = await book.enqueue(15)

    assert again.id == jobs[5].id
    in_workflow = await db.fetch(
        "select id from pgqueue.job where workflow_id = $1 order by arguments ->> 'entry'",
        members.workflow_id,
    )
    assert await run_rest(holder) == [*ids_of(jobs), *(row["id"] for row in in_workflow), behind.id]


@pytest.mark.contract("P5.10")
async def test_a_role_that_may_only_enqueue_keeps_the_order_of_its_calls(
    superuser_dsn: str, pgq: PgQueue, holder: Ghost
) -> None:
    async with roles_of(superuser_dsn) as roles, PgQueue(roles.dsn_of("enqueue")) as client:
        book = declare(client, "halt")
        chosen = sorted((uuid4() for _ in range(5)), reverse=True)
        jobs = await client.enqueue_many([book.options(id=each).s(1) for each in chosen])
        jobs += await client.enqueue_many([book.options(idempotency_key="z").s(2), book.s(3)])
        jobs.append(await book.enqueue(4))

    assert await run_rest(holder) == ids_of(jobs)
    [known] = await pgq.ordered_groups()
    assert (known.name, known.on_dead) == ("book", "halt")


@pytest.mark.contract("P5.10")
async def test_of_transactions_that_overlap_the_first_to_commit_goes_first_and_no_later_one_waits(
    pgq: PgQueue, db: Connection, holder: Ghost, book: Book
) -> None:
    transaction = db.transaction()
    await transaction.start()
    slow = await pgq.enqueue(book.s(0), connection=db)
    jobs = [await book.enqueue(1), await book.enqueue(2)]

    assert await next_ids(holder) == [jobs[0].id]
    await transaction.commit()
    await finish(holder, jobs[0].id)
    # Enqueued before the second, and that has not started.
    assert await run_rest(holder) == [slow.id, jobs[1].id]


@pytest.mark.contract("P5.10")
async def test_tasks_queues_and_priorities_share_the_line_of_a_named_group(
    pgq: PgQueue, holder: Ghost
) -> None:
    account = pgq.ordered("account", on_dead="skip")

    @pgq.task(ordered_by=account.by("account_id"))
    async def book(account_id: int) -> None: ...

    @pgq.task(ordered_by=account.by(lambda of, **_: of["id"]), queue="other", priority=9)
    async def close(of: dict[str, int], why: str = "") -> None: ...

    jobs: list[JobHandle[None]] = [
        await book.enqueue(1), await close.enqueue({"id": 1}), await book.options(priority=5).enqueue(1)
    ]  # fmt: skip
    free = await close.enqueue({"id": 2})
    await pgq.pause(queue="other")

    assert await next_ids(holder) == [jobs[0].id]
    await finish(holder, jobs[0].id)
    # The next one is in a queue that is paused: nobody overtakes it.
    assert await run_rest(holder) == []
    await pgq.resume(queue="other")
    await holder.connection.execute("select pgqueue.sweep_gates($1, 100)", UUID(int=0))
    assert set(await next_ids(holder)) == {jobs[1].id, free.id}
    await finish(holder, jobs[1].id)
    assert await run_rest(holder) == [jobs[2].id]


@pytest.mark.contract("P5.10")
async def test_only_what_is_due_stands_in_line_and_comes_in_at_the_place_that_it_was_enqueued_at(
    pgq: PgQueue, db: Connection, holder: Ghost, book: Book
) -> None:
    later = await book.options(delay=3600).enqueue(0)
    jobs = [await book.enqueue(entry) for entry in range(3)]
    behind = await book.options(depends_on=[jobs[2].id]).enqueue(4)

    assert await next_ids(holder) == [jobs[0].id]
    await holder.connection.execute("update pgqueue.scheduled set scheduled_at = now()")
    await holder.store.promote(holder.connection, 100)
    await finish(holder, jobs[0].id)
    assert await run_rest(holder) == [later.id, jobs[1].id, jobs[2].id, behind.id]


# The head of the line


async def snooze(holder: Ghost, job_id: UUID) -> None:
    end = Retried(job_id, 3600.0, "snoozed", None, spent=False)
    await holder.store.retry(holder.connection, holder.lease_id, holder.name, [end])


async def suspend(holder: Ghost, job_id: UUID) -> None:
    await holder.store.suspend(holder.connection, holder.lease_id, [Suspended(job_id, None, None, "called")])


async def release(holder: Ghost, job_id: UUID) -> None:
    await holder.store.release(holder.connection, holder.lease_id, holder.name, [job_id])


async def lose(holder: Ghost, job_id: UUID) -> None:
    assert job_id in await held(holder)
    async with holder.connection.transaction():
        await holder.die()
        await holder.store.lock_expired_lease(holder.connection, holder.lease_id)
        await holder.store.rescue(holder.connection, holder.lease_id, 100, 9)
        await holder.connection.execute("update pgqueue.lease set expires_at = now() + interval '1 hour'")


async def move_to_scheduled(holder: Ghost, job_id: UUID) -> None:
    await holder.connection.execute(
        "select pgqueue.transition($1, 'scheduled', $2, at => now() + interval '1 hour')",
        job_id,
        holder.lease_id,
    )


@pytest.mark.contract("P5.10")
@pytest.mark.parametrize("is_limited", [False, True])
@pytest.mark.parametrize(
    "leave", [retry, snooze, suspend, release, lose, move_to_scheduled], ids=lambda each: each.__name__
)
async def test_a_job_that_has_started_stays_the_head_of_its_line_until_it_has_ended(
    pgq: PgQueue, db: Connection, holder: Ghost, leave: Any, *, is_limited: bool
) -> None:
    narrow = pgq.limit("narrow", slots=1)

    @pgq.task(ordered_by=lambda entry: "a", limits=[narrow] if is_limited else [])
    async def book(entry: int) -> None: ...

    jobs = [await book.enqueue(entry) for entry in range(3)]
    assert await next_ids(holder) == [jobs[0].id]
    await leave(holder, jobs[0].id)
    await holder.connection.execute("select pgqueue.sweep_gates($1, 100)", UUID(int=0))
    await attend(holder)

    assert await db.fetchval("select count(*) from pgqueue.gate_pass where kept") == 1
    assert jobs[0].id not in await db.fetch("select job_id from pgqueue.blocked where gate is not null")
    await holder.connection.execute("update pgqueue.scheduled set scheduled_at = now()")
    await holder.store.promote(holder.connection, 100)
    await pgq.signal(jobs[0].id, "called")
    assert await run_rest(holder) == ids_of(jobs)
    assert await db.fetchval("select count(*) from pgqueue.gate_pass") == 0


@pytest.mark.contract("P5.10")
async def test_a_job_that_waits_for_its_turn_holds_none_of_its_limits(pgq: PgQueue, holder: Ghost) -> None:
    two = pgq.limit("two", slots=2)

    @pgq.task(limits=[two], ordered_by="account")
    async def book(account: str) -> None: ...

    jobs = [await book.enqueue(account) for account in "aaab"]

    assert set(await next_ids(holder)) == {jobs[0].id, jobs[3].id}
    assert [(await job.refresh()).waits_for_limit for job in jobs[1:3]] == ["order/book"] * 2


@pytest.mark.contract("P5.10")
async def test_a_durable_wait_and_the_jobs_that_it_waits_for_keep_the_line(pgq: PgQueue) -> None:
    seen: list[str] = []

    @pgq.task
    async def child() -> None:
        seen.append("child")

    @pgq.task(ordered_by="account")
    async def book(ctx: JobContext, account: str, entry: int) -> None:
        await ctx.run("child", child.s())
        await ctx.sleep("rest", 0.01)
        await ctx.wait_for_event("approved", int)
        seen.append(f"{account}{entry}")

    async with pgq.worker():
        jobs = [await book.enqueue("a", entry) for entry in range(2)]
        await pgq.signal(jobs[1].id, "approved", 1)
        await eventually(lambda: asyncio.sleep(0, bool(seen)))
        await pgq.signal(jobs[0].id, "approved", 1)
        await jobs[1].result(timeout=60)

    assert seen == ["child", "a0", "child", "a1"]


# Behind a dead head


async def fail(holder: Ghost, job_id: UUID) -> None:
    end = Ended(job_id, JobStatus.FAILED, "exception", ERROR)
    await holder.store.fail(holder.connection, holder.lease_id, holder.name, [end])


async def lose_for_good(holder: Ghost, job_id: UUID) -> None:
    assert job_id in await held(holder)
    async with holder.connection.transaction():
        await holder.die()
        await holder.store.lock_expired_lease(holder.connection, holder.lease_id)
        await holder.store.rescue(holder.connection, holder.lease_id, 100, 0)
        await holder.connection.execute("update pgqueue.lease set expires_at = now() + interval '1 hour'")


async def expire(holder: Ghost, job_id: UUID) -> None:
    await release(holder, job_id)
    await holder.connection.execute("update pgqueue.job set expires_at = now() where id = $1", job_id)
    await holder.connection.execute(
        "insert into pgqueue.expiry (job_id, check_at) values ($1, now()) "
        "on conflict (job_id) do update set check_at = now()",
        job_id,
    )
    await holder.store.expire(holder.connection, 100)


async def break_down(holder: Ghost, job_id: UUID) -> None:
    await holder.store.fail_broken(holder.connection, job_id, "undecided", ERROR, "ghost", holder.lease_id)


async def fail_by_hand(holder: Ghost, job_id: UUID) -> None:
    await holder.connection.execute("select pgqueue.transition($1, 'failed', $2)", job_id, holder.lease_id)


DEATHS = [fail, lose_for_good, expire, break_down, fail_by_hand]


@pytest.mark.contract("P5.10", "P8.4")
@pytest.mark.parametrize("die", DEATHS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("on_dead", ["block", "skip", "halt"])
async def test_a_dead_head_blocks_or_skips_or_halts(
    pgq: PgQueue, db: Connection, holder: Ghost, on_dead: Any, die: Any
) -> None:
    book = declare(pgq, on_dead)
    jobs = [await book.enqueue(entry) for entry in range(3)]
    assert await next_ids(holder) == [jobs[0].id]

    await die(holder, jobs[0].id)

    stopped = await pgq.stopped_keys()
    if on_dead == "skip":
        assert stopped == []
        assert await run_rest(holder) == [jobs[1].id, jobs[2].id]
        return
    assert await run_rest(holder) == []
    [key] = stopped
    assert (key.name, key.key, key.job_id, key.is_halted, key.waiting) == (
        "book", "a", jobs[0].id, on_dead == "halt", 2
    )  # fmt: skip
    [known] = await pgq.ordered_groups()
    assert (known.name, known.on_dead, known.waiting, known.stopped, known.halted) == (
        "book", on_dead, 2, 1, int(on_dead == "halt")
    )  # fmt: skip
    # It costs nothing meanwhile: nothing is noted anew.
    assert await db.fetchval("select count(*) from pgqueue.note") == 0
    assert await pgq.requeue(jobs[0].id)
    if on_dead == "halt":
        assert await run_rest(holder) == []
        assert await pgq.resume_key("book", "a", actor="ann")
        assert not await pgq.resume_key("book", "a")
        assert [action.action for action in await pgq.actions(jobs[0].id)] == ["requeued", "key_resumed"]
    assert await run_rest(holder) == ids_of(jobs)
    assert await pgq.stopped_keys() == []


async def redrive(pgq: PgQueue, job_id: UUID) -> None:
    await pgq.redrive(job_id)


async def redrive_many(pgq: PgQueue, job_id: UUID) -> None:
    assert (await pgq.get(job_id)).id == job_id
    await pgq.redrive_many(DeadLetterFilter(task="book"), rate=1000)
    async with ghost(pgq) as holder:
        await holder.connection.execute(
            "update pgqueue.mass_redrive set carried_at = now() - interval '9 seconds'"
        )
        await holder.store.carry_redrive(holder.connection, 100)


async def discard(pgq: PgQueue, job_id: UUID) -> None:
    assert await pgq.discard(job_id)


async def discard_many(pgq: PgQueue, job_id: UUID) -> None:
    assert (await pgq.get(job_id)).id == job_id
    assert await pgq.discard_many(DeadLetterFilter(task="book")) == 1


async def resume_key(pgq: PgQueue, job_id: UUID) -> None:
    assert await pgq.resume_key("book", "a", reason="corrected by hand")
    assert (await pgq.get(job_id)).id == job_id


@pytest.mark.contract("P5.10", "P8.4")
@pytest.mark.parametrize(
    "see_to", [redrive, redrive_many, discard, discard_many, resume_key], ids=lambda each: each.__name__
)
async def test_a_blocked_line_goes_on_once_somebody_has_seen_to_its_dead_head(
    pgq: PgQueue, holder: Ghost, book: Book, see_to: Any
) -> None:
    jobs = [await book.enqueue(entry) for entry in range(3)]
    await next_ids(holder)
    await fail(holder, jobs[0].id)
    assert await run_rest(holder) == []

    await see_to(pgq, jobs[0].id)

    expected = ids_of(jobs) if see_to in {redrive, redrive_many} else ids_of(jobs[1:])
    assert await run_rest(holder) == expected


@pytest.mark.contract("P5.10")
async def test_a_redriven_job_comes_back_at_its_own_place(pgq: PgQueue, holder: Ghost) -> None:
    book = declare(pgq, "skip")
    jobs = [await book.enqueue(entry) for entry in range(5)]
    for job in jobs[:2]:
        assert await next_ids(holder) == [job.id]
        await fail(holder, job.id)
    assert await next_ids(holder) == [jobs[2].id]

    await pgq.redrive(jobs[1].id)
    await pgq.redrive(jobs[0].id)
    new = await book.enqueue(5)
    await finish(holder, jobs[2].id)

    assert await run_rest(holder) == ids_of([jobs[0], jobs[1], jobs[3], jobs[4], new])


@pytest.mark.contract("P5.10")
async def test_a_cancelled_job_leaves_its_line_to_the_others(pgq: PgQueue, holder: Ghost, book: Book) -> None:
    jobs = [await book.enqueue(entry) for entry in range(5)]
    await attend(holder)

    assert await jobs[2].cancel()
    assert await jobs[0].cancel()
    assert await next_ids(holder) == [jobs[1].id]
    assert await jobs[1].cancel()
    await release(holder, jobs[1].id)

    assert await run_rest(holder) == ids_of(jobs[3:])


@pytest.mark.contract("P5.10")
async def test_a_job_that_expires_in_line_stops_those_behind_it_and_not_those_before(
    pgq: PgQueue, db: Connection, holder: Ghost, book: Book
) -> None:
    jobs = [await book.enqueue(entry) for entry in range(4)]
    assert await next_ids(holder) == [jobs[0].id]
    await holder.connection.execute("update pgqueue.job set expires_at = now() where id = $1", jobs[2].id)
    await holder.connection.execute(
        "insert into pgqueue.expiry (job_id, check_at) values ($1, now())", jobs[2].id
    )
    await holder.store.expire(holder.connection, 100)
    await finish(holder, jobs[0].id)

    assert await run_rest(holder) == [jobs[1].id]
    assert await pgq.resume_key("book", "a")
    assert await run_rest(holder) == [jobs[3].id]


async def purge(holder: Ghost) -> None:
    await holder.store.purge(holder.connection, FIRST_ID, LAST_ID, 100, Retention())


@pytest.mark.contract("P5.10")
async def test_what_stops_a_line_is_not_removed_by_retention_until_it_was_seen_to(
    pgq: PgQueue, db: Connection, holder: Ghost, book: Book
) -> None:
    jobs = [await book.enqueue(entry) for entry in range(2)]
    await next_ids(holder)
    await fail(holder, jobs[0].id)
    await holder.connection.execute("update pgqueue.job set completed_at = now() - interval '1 year'")
    await purge(holder)
    assert (await jobs[0].status()) is JobStatus.FAILED
    assert len(await pgq.stopped_keys()) == 1

    await pgq.discard(jobs[0].id)
    await purge(holder)
    assert await db.fetchval("select count(*) from pgqueue.job") == 1
    assert await run_rest(holder) == [jobs[1].id]
    # What was deleted by hand stops nothing for ever.
    more = [await book.enqueue(entry) for entry in range(2)]
    await next_ids(holder)
    await fail(holder, more[0].id)
    await holder.connection.execute("delete from pgqueue.job where id = $1", more[0].id)
    assert await run_rest(holder) == []
    await holder.connection.execute("select pgqueue.sweep_gates($1, 100)", UUID(int=0))
    assert await run_rest(holder) == [more[1].id]


@pytest.mark.contract("P8.4")
async def test_operators_change_what_becomes_of_those_behind_a_dead_head(
    pgq: PgQueue, holder: Ghost, book: Book
) -> None:
    jobs = [await book.enqueue(entry) for entry in range(4)]
    await pgq.set_ordered("book", on_dead="skip", actor="ann")
    await next_ids(holder)
    await fail(holder, jobs[0].id)
    assert await next_ids(holder) == [jobs[1].id]
    await pgq.set_ordered("book", on_dead="halt")
    await fail(holder, jobs[1].id)

    assert await next_ids(holder) == []
    [key] = await pgq.stopped_keys("book", limit=1)
    assert key.is_halted
    assert await pgq.stopped_keys("book", after=key) == []
    assert await pgq.stopped_keys("other") == []
    # Whoever declares it changes nothing.
    await book.enqueue(5)
    assert [(each.on_dead, each.edited_at is None) for each in await pgq.ordered_groups()] == [
        ("halt", False)
    ]
    assert await pgq.limits() == []
    with pytest.raises(PgQueueError, match="ordered group"):
        await pgq.set_limit("order/book", slots=2)


@pytest.mark.contract("P5.10")
async def test_a_replaced_call_stands_in_the_line_of_its_new_key_and_keeps_its_place_in_the_old_one(
    pgq: PgQueue, holder: Ghost
) -> None:
    @pgq.task(
        ordered_by="account",
        idempotency_while="pending",
        on_conflict="replace",
        idempotency_fingerprint=False,
    )
    async def book(account: str, entry: int = 0) -> None: ...

    keyed = book.options(idempotency_key="k")
    first, moved, other = await book.enqueue("a"), await keyed.enqueue("a", 1), await book.enqueue("b")
    behind = await book.enqueue("a")

    assert (await keyed.enqueue("a", 2)).id == moved.id
    assert set(await next_ids(holder)) == {first.id, other.id}
    await finish(holder, first.id)
    await attend(holder)
    assert await moved.status() is JobStatus.PENDING
    assert (await keyed.enqueue("b", 3)).id == moved.id
    assert await next_ids(holder) == [behind.id]
    await finish(holder, other.id)
    assert await next_ids(holder) == [moved.id]


@pytest.mark.contract("P5.10")
async def test_members_of_a_paused_workflow_leave_their_line_and_come_back_at_their_place(
    pgq: PgQueue, holder: Ghost, book: Book
) -> None:
    first = await book.enqueue(0)
    members = await pgq.enqueue_workflow(group(book.si(1), book.si(2)))
    behind = [await book.enqueue(3), await book.enqueue(4)]
    assert await next_ids(holder) == [first.id]
    await pgq.pause_workflow(members.workflow_id)
    await finish(holder, first.id)

    assert await next_ids(holder) == [behind[0].id]
    await pgq.resume_workflow(members.workflow_id)
    await finish(holder, behind[0].id)
    *started, last = await run_rest(holder)
    assert len(started) == 2
    assert last == behind[1].id


@pytest.mark.contract("P5.10")
async def test_links_of_chains_and_jobs_of_schedules_stand_in_line(
    pgq: PgQueue, db: Connection, holder: Ghost, book: Book
) -> None:
    links = await pgq.enqueue_workflow(chain(book.si(0), book.si(1)))
    job = await book.enqueue(2)
    await pgq.schedules.create("s", book.s(3), every=3600)
    ticks = [await pgq.schedules.run_now("s") for _ in range(2)]
    assert ticks
    started = await run_rest(holder)

    entries = {
        row["id"]: row["entry"]
        for row in await db.fetch("select id, (arguments ->> 'entry')::integer as entry from pgqueue.job")
    }
    # The second link was not due before the first had ended, and was enqueued before the others.
    assert [entries[each] for each in started] == [0, 1, 2, 3, 3]
    assert {job.id, links.id} < set(started)


# Bad input


@pytest.mark.contract("P5.10")
def test_groups_that_cannot_be_are_refused_where_they_are_declared(pgq: PgQueue) -> None:
    group_, limit = pgq.ordered("account"), pgq.limit("account", slots=2)

    async def later(account: str) -> str:
        return account

    with pytest.raises(ConfigurationError, match="a function of the arguments that is not async"):
        group_.by(later)
    bad: list[tuple[dict[str, Any], str]] = [
        ({"ordered_by": later}, "that is not async"),
        ({"ordered_by": "acount"}, "'acount', which is no argument of the task"),
        ({"ordered_by": group_.by("acount")}, "'acount', which is no argument of the task"),
        ({"ordered_by": ""}, "must be the name of an argument"),
        ({"ordered_by": 3}, "must be the name of an argument"),
        ({"ordered_by": limit}, "must be the name of an argument"),
        ({"ordered_by": limit.by("account")}, "must be the name of an argument"),
        ({"on_dead": "skip"}, "on_dead has no effect without ordered_by"),
        ({"ordered_by": group_, "on_dead": "skip"}, "all tasks of a group share it"),
        ({"ordered_by": "account", "on_dead": "wait"}, "must be 'block', 'skip' or 'halt', got 'wait'"),
        ({"limits": [group_]}, "pass it as ordered_by="),
        ({"limits": [group_.by("account")]}, "pass it as ordered_by="),
    ]
    for options, message in bad:
        with pytest.raises((InvalidTaskError, ConfigurationError), match=message):

            @pgq.task(name="refused", **options)
            async def refused(account: str) -> None: ...

    # What was refused has declared nothing.
    pgq.ordered("refused", on_dead="halt")
    with pytest.raises(ConfigurationError, match="already declared with on_dead='block'"):
        pgq.ordered("account", on_dead="skip")
    for name in ("", "a\0b", "x" * 256, None, 3):
        with pytest.raises(ConfigurationError):
            pgq.ordered(name)  # type: ignore[arg-type]
    for key in ("", None, 3):
        with pytest.raises(ConfigurationError, match="takes the name of an argument"):
            group_.by(key)  # type: ignore[arg-type]


@pytest.mark.contract("P5.10")
async def test_keys_that_cannot_be_are_refused_at_the_call_and_others_are_as_json(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task(ordered_by="key", limits=[pgq.limit("by_key", slots=1).by("key")])
    async def book(key: Any = None) -> None: ...

    @pgq.task(ordered_by=lambda key: {key})
    async def by_set(key: Any) -> None: ...

    @pgq.task(ordered_by=lambda key: key["no"])
    async def by_fault(key: Any) -> None: ...

    for call, message in [
        (book.s("x" * 10_000), "at most 512 characters"),
        (book.s("a\0b"), "NUL"),
        (book.s(None), "must not be None"),
        (book.s(), "must not be None"),
        (by_set.s("a"), "must be a JSON value"),
        (by_fault.s({}), "could not be computed: KeyError"),
    ]:
        with pytest.raises(InvalidArgumentsError, match=message):
            await call.enqueue()
    assert await db.fetchval("select count(*) from pgqueue.job") == 0

    for key in (7, ["a", 1], {"b": 1, "a": 2}, "", "null", "ü", 1.5, False):
        await book.enqueue(key)
        job = await book.enqueue(key)
        assert (await job.refresh()).waits_for_limit == "order/book"
        assert not await pgq.resume_key("book", key)
    for verb in (partial(pgq.resume_key, "book", {3}), partial(pgq.resume_key, "book", "x" * 600)):
        with pytest.raises(ConfigurationError):
            await verb()
    with pytest.raises(ConfigurationError):
        await pgq.set_ordered("book", on_dead="wait")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        await pgq.stopped_keys(limit=0)
