"""Jobs that consumers receive and end themselves, without a worker that runs them."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import anyio
import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.waiting import eventually

from pgqueue import (
    InvalidArgumentsError,
    InvalidOptionError,
    JobCancelled,
    JobFailed,
    JobFilter,
    JobStatus,
    PgQueue,
    ReceiptLostError,
    ReceivedJob,
    ReceivedJobCancelled,
    Reject,
    Retry,
    Snooze,
    UnknownQueueError,
    chain,
)
from pgqueue.blocking import BlockingPgQueue
from pgqueue.events import AttemptsEnded, Event, JobsClaimed, JobsStarted

if TYPE_CHECKING:
    from conftest import Connection

    from pgqueue import JobHandle

pytestmark = pytest.mark.contract("P8.4")

HELD = "select * from pgqueue.running full join pgqueue.job on job_id = id order by id, job_id"


@dataclass
class Size:
    x: int


async def enqueue(pgq: PgQueue, *args: Any, **options: Any) -> JobHandle[Any]:
    """Enqueue a job that no task of this process is for."""
    given: Any = {"queue": "inbox", **options}
    return await pgq.enqueue_by_name("thumbnail", *args, options=given)


async def one(pgq: PgQueue, queue: str = "inbox", **options: Any) -> ReceivedJob:
    """Receive the one job of a queue, and wait for it."""
    [job] = await pgq.receive(queue, **({"wait": 20, "lease": 600} | options))
    return job


async def run_out(db: Connection, job: ReceivedJob) -> None:
    """Have the time of a received job be over now."""
    done = await db.execute(
        "update pgqueue.lease set expires_at = clock_timestamp() where id = $1", job.receipt
    )
    assert done == "UPDATE 1"


# Receiving


async def test_a_received_job_is_running_and_held_by_its_consumer_alone(pgq: PgQueue) -> None:
    ran: list[str] = []

    @pgq.task(queue="inbox")
    async def thumbnail(name: str, size: int = 1) -> str:
        ran.append(name)
        return name

    first = await thumbnail.options(tags=["t"], headers={"h": "1"}, priority=2).enqueue("first", size=3)
    job = await one(pgq, name="camera")
    async with pgq.worker():
        assert await thumbnail.options(priority=1).enqueue("second") is not None
        await eventually(lambda: _is(ran, ["second"]))
        assert await pgq.receive("inbox") == []

    assert (job.id, job.task, job.queue) == (first.id, "thumbnail", "inbox")
    assert _arguments(job) == ("first", 3)
    assert (job.attempt, job.receive_count, job.priority) == (1, 1, 2)
    assert (job.tags, job.headers, job.key) == (("t",), {"h": "1"}, None)
    record = await first.refresh()
    assert (record.status, record.worker) == (JobStatus.RUNNING, "camera")
    # It is no worker.
    assert await pgq.list_workers() == []

    await job.ack("done")
    assert await first.result(timeout=60) == "done"
    assert ran == ["second"]
    record = await first.refresh()
    assert (record.status, record.worker, record.attempt) == (JobStatus.SUCCEEDED, "camera", 1)


async def _is(value: object, expected: object) -> bool:
    return value == expected


async def test_arguments_are_those_of_the_task_if_it_is_declared_and_else_json(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task(queue="inbox")
    async def resize(name: str, *, size: Size) -> None: ...

    await resize.enqueue("a", size=Size(3))
    named: dict[str, Any] = {"args": 1, "kwargs": {"self": 2}}
    await pgq.enqueue_by_name("unknown", 1, x=[2], options={"queue": "inbox"})
    await pgq.enqueue_by_name("unknown", **named, options={"queue": "inbox"})
    await db.execute("select pgqueue.enqueue('unknown', '[1, null]', queue => 'inbox')")
    await db.execute("select pgqueue.enqueue('unknown', '{}', queue => 'inbox')")
    before: Any = pgq.signature("before", options={"queue": "other"})
    for arguments in ((5,), ()):
        behind: Any = pgq.signature("unknown", *arguments, x=1, options={"queue": "inbox"})
        await pgq.enqueue_workflow(chain(before, behind))
        await (await one(pgq, "other")).ack({"from": "before"})
    known, unknown, by_name, positional, bare, *fed = await pgq.receive("inbox", n=10)

    assert [*known.args, *known.kwargs.values()] == ["a", Size(3)]
    assert (unknown.args, unknown.kwargs) == ((1,), {"x": [2]})
    assert (by_name.args, by_name.kwargs) == ((), named)
    assert (positional.args, bare.args, bare.kwargs) == ((1, None), (), {})
    assert [job.args for job in fed] == [({"from": "before"}, 5), ({"from": "before"},)]
    assert [job.kwargs for job in fed] == [{"x": 1}] * 2


async def test_higher_priorities_come_first_then_the_oldest_and_no_more_than_asked_for(pgq: PgQueue) -> None:
    for number, priority in enumerate((0, 5, 0, 5, -1)):
        await enqueue(pgq, number, priority=priority)
    await enqueue(pgq, "expired", priority=9, expires=0.001)
    await enqueue(pgq, "later", delay=60)
    await anyio.sleep(0.002)

    jobs = [*await pgq.receive("inbox", n=3), *await pgq.receive("inbox", n=3), *await pgq.receive("inbox")]

    assert [job.args[0] for job in jobs] == [1, 3, 0, 2, 4]
    expired = [each for each in (await pgq.jobs(JobFilter())).jobs if each.status is JobStatus.EXPIRED]
    assert len(expired) == 1


async def test_a_receiver_that_waits_is_told_of_a_new_job_and_of_no_other_queue(pgq: PgQueue) -> None:
    received: list[ReceivedJob] = []

    async def receive() -> None:
        received.extend(await pgq.receive("inbox", n=10, wait=60))

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await anyio.sleep(0.05)
        await pgq.enqueue_by_name("other", options={"queue": "other"})
        await anyio.sleep(0.05)
        assert received == []
        job = await enqueue(pgq)

    assert [each.id for each in received] == [job.id]
    assert await pgq.receive("inbox", wait=0.05) == []


async def test_what_is_paused_is_not_received_and_a_pause_waits_for_who_receives(
    pgq: PgQueue, db: Connection
) -> None:
    paused, other = await enqueue(pgq), await pgq.enqueue_by_name("other", options={"queue": "inbox"})
    await pgq.pause(task="thumbnail")
    assert (await one(pgq)).id == other.id
    assert await pgq.receive("inbox", n=5) == []
    await pgq.resume(task="thumbnail")

    # Received in a transaction that is open.
    connection: Connection = await asyncpg.connect(pgq.dsn)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        transaction = connection.transaction()
        await transaction.start()
        row = await connection.fetchrow("select * from pgqueue.receive('inbox', upkeep => false)")
        assert row is not None
        assert row["id"] == paused.id
        async with anyio.create_task_group() as group:
            group.start_soon(partial(pgq.pause, queue="inbox"))
            await eventually(lambda: _waits(db))
            await transaction.rollback()
    assert await pgq.receive("inbox") == []
    await pgq.resume(queue="inbox")
    assert (await one(pgq)).id == paused.id


async def _waits(db: Connection) -> bool:
    return bool(await db.fetchval("select count(*) from pg_locks where not granted"))


# What ends it


async def test_a_job_whose_time_is_over_returns_and_its_old_receipt_changes_nothing(
    pgq: PgQueue, db: Connection
) -> None:
    handle = await enqueue(pgq)
    first = await one(pgq, lease=600)
    await run_out(db, first)

    async def refused() -> None:
        before = await db.fetch(HELD)
        for call in (first.ack, first.nack, first.extend, first.release):
            with pytest.raises(ReceiptLostError, match="its time is over") as caught:
                await call()
            assert caught.value.job_id == handle.id
        assert await db.fetch(HELD) == before

    # Over, and nobody has noticed yet.
    await refused()
    second = await one(pgq)
    await refused()

    assert (second.id, second.receive_count, second.attempt) == (handle.id, 2, 1)
    assert second.receipt != first.receipt
    await second.ack()
    assert await handle.status() is JobStatus.SUCCEEDED
    await refused()
    [lost] = await pgq.attempts(handle.id)
    assert (lost.reason, lost.worker) == ("lost", first.info.worker)


async def test_a_worker_returns_jobs_whose_consumer_is_gone_and_runs_them(
    pgq: PgQueue, db: Connection
) -> None:
    handle = await enqueue(pgq, "a")
    job = await one(pgq, lease=600)
    await run_out(db, job)

    @pgq.task(queue="inbox")
    async def thumbnail(name: str) -> str:
        return name

    async with pgq.worker():
        assert await handle.result(timeout=60) == "a"
    with pytest.raises(ReceiptLostError):
        await job.ack()
    assert await db.fetchval("select count(*) from pgqueue.lease where receipt_of is not null") == 0


async def test_extend_holds_a_job_and_hears_that_it_was_cancelled(pgq: PgQueue, db: Connection) -> None:
    handle = await enqueue(pgq)
    job = await one(pgq, lease=60)
    until = job.held_until

    assert await job.extend(600) == job.held_until
    assert timedelta(seconds=530) < job.held_until - until < timedelta(seconds=600)
    assert await job.extend() < until + timedelta(seconds=60)
    assert await handle.cancel()
    with pytest.raises(ReceivedJobCancelled, match="is to be cancelled"):
        await job.extend()
    assert await job.nack() is JobStatus.CANCELLED
    with pytest.raises(JobCancelled):
        await handle.result(timeout=60)

    # One that hears of nothing is cancelled when its time is over.
    handle = await enqueue(pgq)
    job = await one(pgq)
    await handle.cancel()
    await run_out(db, job)
    assert await pgq.receive("inbox") == []
    assert await handle.status() is JobStatus.CANCELLED


async def test_nack_follows_the_retry_options_of_call_task_and_queue(pgq: PgQueue) -> None:
    @pgq.task(queue="inbox", max_retries=1, default_retry_delay=300, retry_backoff=False)
    async def declared() -> None: ...

    handles = [await declared.enqueue(), await enqueue(pgq, max_retries=0), await enqueue(pgq)]
    jobs = {job.id: job for job in await pgq.receive("inbox", n=3)}
    answers = [await jobs[handle.id].nack(error="no room") for handle in handles]

    assert answers == [JobStatus.SCHEDULED, JobStatus.FAILED, JobStatus.SCHEDULED]
    record = await handles[0].refresh()
    assert record.next_run_at is not None
    assert record.next_run_at - datetime.now(UTC) > timedelta(seconds=200)
    [attempt] = await pgq.attempts(handles[0].id)
    assert attempt.error is not None
    assert (attempt.reason, attempt.attempt, attempt.error.message) == ("nacked", 1, "no room")
    [letter] = (await pgq.dead_letters()).letters
    assert (letter.job_id, letter.reason) == (handles[1].id, "nacked")
    with pytest.raises(JobFailed, match="no room"):
        await handles[1].result(timeout=60)

    # A delay of its own, and the last retry.
    await pgq.run_now(handles[0].id)
    again = next(job for job in await pgq.receive("inbox", n=3) if job.id == handles[0].id)
    assert again.attempt == 2
    assert await again.nack(delay=0) is JobStatus.FAILED
    fresh = await declared.enqueue()
    job = next(job for job in await pgq.receive("inbox", n=3, wait=5) if job.id == fresh.id)
    assert await job.nack(delay=timedelta(hours=1)) is JobStatus.SCHEDULED


async def test_a_block_ends_its_job_as_a_handler_would(pgq: PgQueue) -> None:
    pgq.queue("inbox", max_retries=5, default_retry_delay=60, retry_backoff=False)

    async def after(body: Callable[[ReceivedJob], Awaitable[None]]) -> JobStatus:
        handle = await enqueue(pgq)
        async with await one(pgq) as job:
            await body(job)
        return await handle.status()

    def raising(error: BaseException) -> Callable[[ReceivedJob], Awaitable[None]]:
        async def body(_: ReceivedJob) -> None:
            raise error

        return body

    async def nothing(_: ReceivedJob) -> None: ...

    assert await after(nothing) is JobStatus.SUCCEEDED
    assert await after(lambda job: job.ack("early")) is JobStatus.SUCCEEDED
    assert await after(raising(Retry(countdown=60))) is JobStatus.SCHEDULED
    assert await after(raising(Snooze(60))) is JobStatus.SCHEDULED
    assert await after(raising(Reject("never"))) is JobStatus.FAILED

    failing = await enqueue(pgq)
    with pytest.raises(ZeroDivisionError):
        async with await one(pgq):
            raise ZeroDivisionError("no")
    assert await failing.status() is JobStatus.SCHEDULED
    assert (await failing.refresh()).last_error is not None

    late = await enqueue(pgq)

    async def take_too_long() -> None:
        async with await one(pgq, lease=0.1):
            await anyio.sleep(0.2)
            raise ZeroDivisionError("late")

    with pytest.raises(ZeroDivisionError) as caught:
        await take_too_long()
    assert "could not be given back" in caught.value.__notes__[0]
    assert (await one(pgq)).id == late.id

    cancelled = await enqueue(pgq)
    job = await one(pgq)
    with anyio.move_on_after(0.05):
        async with job:
            await anyio.sleep_forever()
    again = await one(pgq)
    assert (again.id, again.attempt) == (cancelled.id, 1)
    [attempt] = await pgq.attempts(again.id)
    assert attempt.reason == "released"


async def test_a_job_that_was_lost_too_often_is_a_dead_letter(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(queue="inbox", acks_late=False)
    async def once() -> None: ...

    at_most_once, unlucky = await once.enqueue(), await enqueue(pgq, max_losses=1)
    pgq.queue("strict", max_losses=0)
    never = await enqueue(pgq, queue="strict")
    for queue in ("inbox", "strict", "inbox"):
        for job in await pgq.receive(queue, n=2):
            await run_out(db, job)

    assert await pgq.receive("inbox", n=2) == []
    letters = {letter.job_id: letter.reason for letter in (await pgq.dead_letters()).letters}
    assert letters == {handle.id: "worker_lost" for handle in (at_most_once, unlucky, never)}
    assert len(await pgq.attempts(at_most_once.id)) == 1


async def test_ordered_groups_and_limits_go_on_when_a_received_job_ends(pgq: PgQueue) -> None:
    one_at_a_time = pgq.limit("one", slots=1)
    pgq.queue("fair", fair_by="name", window=1)

    @pgq.task(queue="inbox", ordered_by="name")
    async def ordered(name: str, number: int) -> None: ...

    @pgq.task(queue="inbox", limits=[one_at_a_time])
    async def limited(number: int) -> None: ...

    @pgq.task(queue="fair")
    async def shared(name: str, number: int) -> None: ...

    for number in range(3):
        await ordered.enqueue("a", number)
        await limited.enqueue(number)
    for name, number in (("big", 0), ("big", 1), ("big", 2), ("small", 0)):
        await shared.enqueue(name, number)

    seen: list[Any] = []
    for round_ in range(3):
        jobs = await pgq.receive("inbox", n=10, wait=10)
        if len(jobs) < 2:
            jobs += await pgq.receive("inbox", n=10, wait=10)
        # No two of a group, nor of the limit.
        assert sorted((job.task, _number(job)) for job in jobs) == [("limited", round_), ("ordered", round_)]
        for job in jobs:
            await job.ack()
    for _ in range(4):
        job = await one(pgq, "fair")
        seen.append(_arguments(job))
        await job.ack()
    assert seen.index(("small", 0)) < 2


async def test_without_a_worker_a_limit_goes_on_at_the_next_receive(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(queue="inbox", limits=[pgq.limit("one", slots=1)])
    async def limited() -> None: ...

    for _ in range(2):
        await limited.enqueue()
        # There are others, which would be received before anybody looks for more.
        await enqueue(pgq, priority=-1)
    found = []
    for _ in range(4):
        job = await one(pgq)
        assert await db.fetchval("select pgqueue.ack($1, $2)", job.id, job.receipt)
        found.append(job.task)

    assert found == ["limited", "limited", "thumbnail", "thumbnail"]


def _arguments(job: ReceivedJob) -> tuple[Any, ...]:
    return (*job.args, *job.kwargs.values())


def _number(job: ReceivedJob) -> int:
    number: int = _arguments(job)[-1]
    return number


async def test_observers_logs_and_statistics_hear_of_received_jobs(pgq: PgQueue, caplog: Any) -> None:
    caplog.set_level("INFO", "pgqueue.jobs")
    heard: list[Event] = []
    pgq.observe(heard.append, JobsClaimed, JobsStarted, AttemptsEnded)
    handle = await enqueue(pgq)

    await (await one(pgq)).nack(delay=0)
    await (await one(pgq)).ack()

    assert [type(event) for event in heard] == [JobsClaimed, JobsStarted, AttemptsEnded] * 2
    claimed, ended = heard[0], heard[5]
    assert isinstance(claimed, JobsClaimed)
    assert isinstance(ended, AttemptsEnded)
    assert claimed.by_queue["inbox"].size == 1
    assert list(claimed.waits) == [("thumbnail", "inbox")]
    [attempt] = ended.attempts
    assert (attempt.job_id, attempt.queue, attempt.status) == (handle.id, "inbox", JobStatus.SUCCEEDED)
    assert [record.event for record in caplog.records] == [
        "job.enqueued", "job.started", "job.retrying", "job.started", "job.succeeded",
    ]  # fmt: skip


async def test_what_cannot_be_decoded_waits_and_hides_no_other_job(pgq: PgQueue) -> None:
    @pgq.task(queue="inbox")
    async def typed(number: int) -> None: ...

    broken = await pgq.enqueue(pgq.signature("typed_elsewhere", "text", options={"queue": "inbox"}))
    fine = await typed.enqueue(1)

    @pgq.task(name="typed_elsewhere", queue="inbox")
    async def typed_elsewhere(number: int) -> None: ...

    assert [job.id for job in await pgq.receive("inbox", n=5)] == [fine.id]
    record = await broken.refresh()
    assert (record.status, record.last_reason) == (JobStatus.SCHEDULED, "undecodable")


async def test_an_ack_in_your_transaction_holds_if_and_only_if_you_commit(
    pgq: PgQueue, db: Connection
) -> None:
    handle = await enqueue(pgq)
    job = await one(pgq)
    transaction = db.transaction()
    await transaction.start()
    await job.ack(1, connection=db)
    await transaction.rollback()
    assert await handle.status() is JobStatus.RUNNING
    # It is held as before, and by the same receipt, so it can be given back.
    await job.extend(600)
    assert await job.nack(delay=0, error="rolled back") is JobStatus.SCHEDULED
    with pytest.raises(ReceiptLostError):
        await job.ack(1, connection=db, autocommit=True)

    job = await one(pgq)
    async with db.transaction():
        await job.ack(2, connection=db)
    assert await handle.result(timeout=60) == 2
    with pytest.raises(ReceiptLostError):
        await job.ack(3, connection=db, autocommit=True)


async def test_bad_input_is_refused_at_the_call_and_changes_nothing(pgq: PgQueue, dsn: str) -> None:
    handle = await enqueue(pgq)
    wrong: list[dict[str, Any]] = [
        {"n": 0}, {"n": 1001}, {"n": 10**400}, {"n": True}, {"n": 1.5},
        {"wait": float("nan")}, {"wait": -1}, {"wait": "1"}, {"lease": 0}, {"lease": 43_201},
        {"lease": float("nan")}, {"name": ""}, {"name": "x" * 201},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(InvalidOptionError):
            await pgq.receive("inbox", **options)
    for queue in ("", "x" * 201, 7):
        with pytest.raises(InvalidOptionError):
            await pgq.receive(queue)  # type: ignore[arg-type]  # what is refused
    strict = PgQueue(dsn, strict_queues=True)
    async with strict:
        with pytest.raises(UnknownQueueError):
            await strict.receive("inbox")
    job = await one(pgq)
    wrong_nacks: list[dict[str, Any]] = [
        {"delay": -1}, {"delay": "soon"}, {"delay": float("nan")}, {"delay": float("inf")},
        {"delay": timedelta.max}, {"error": 7}, {"error": ValueError},
    ]  # fmt: skip
    for wrong_nack in wrong_nacks:
        with pytest.raises(InvalidOptionError):
            await job.nack(**wrong_nack)
    for lease in (0, float("nan"), float("inf"), timedelta.max):
        with pytest.raises(InvalidOptionError):
            await job.extend(lease)
    with pytest.raises(InvalidArgumentsError, match="cannot be stored"):
        await job.ack(object())
    assert await handle.status() is JobStatus.RUNNING
    await job.ack()


# From SQL


async def test_any_language_receives_and_ends_jobs_by_sql(pgq: PgQueue, db: Connection) -> None:
    await db.execute(
        "select pgqueue.enqueue('thumbnail', '{\"name\": \"a\"}', queue => 'inbox', tags => '{t}')"
    )

    async def received(**options: Any) -> asyncpg.Record:
        row = await db.fetchrow("select * from pgqueue.receive('inbox', lease => '1 minute')")
        assert row is not None
        return row

    job = await received()
    assert (job["task"], job["arguments"], job["attempt"]) == ("thumbnail", '{"name": "a"}', 1)
    assert (job["receive_count"], job["tags"]) == (1, ["t"])
    ends = "select pgqueue.{}($1, $2)"
    # Never received under that, or never at all: nothing changes.
    for job_id, receipt in ((job["id"], uuid4()), (uuid4(), job["receipt"]), (uuid4(), uuid4())):
        before = await db.fetch(HELD)
        assert await db.fetchval(ends.format("ack"), job_id, receipt) is False
        assert await db.fetchval(ends.format("nack"), job_id, receipt) is None
        assert await db.fetchval("select pgqueue.extend($1, $2, '1 hour')", job_id, receipt) is None
        assert await db.fetch(HELD) == before
    held = (job["id"], job["receipt"])
    assert await db.fetchval("select pgqueue.extend($1, $2, '1 hour')", *held) == "extended"
    assert await db.fetchval("select pgqueue.nack($1, $2, '0', 'too dark')", *held) == "scheduled"
    job = await received()
    assert (job["attempt"], job["receive_count"]) == (2, 2)
    held = (job["id"], job["receipt"])
    assert await db.fetchval("select pgqueue.ack($1, $2, '{\"ok\": true}')", *held) is True
    assert await db.fetchval(ends.format("ack"), *held) is False
    assert await pgq.handle(held[0]).result(timeout=60) == {"ok": True}

    last = await enqueue(pgq, max_retries=0)
    job = await received()
    await last.cancel()
    held = (job["id"], job["receipt"])
    assert await db.fetchval("select pgqueue.extend($1, $2, '1 hour')", *held) == "cancelled"
    assert await db.fetchval(ends.format("nack"), *held) == "cancelled"
    last = await enqueue(pgq, max_retries=0)
    job = await received()
    assert await db.fetchval(ends.format("nack"), job["id"], job["receipt"]) == "failed"
    [letter] = (await pgq.dead_letters()).letters
    assert (letter.job_id, letter.reason) == (last.id, "nacked")


@pytest.mark.parametrize(
    "call",
    [
        "receive('')", "receive(null)", "receive('inbox', 0)", "receive('inbox', 1001)",
        "receive('inbox', null)", "receive('inbox', 2147483647)",
        "receive('inbox', lease => '1000000 years')",
        "nack('{id}', '{id}', '3651 days')", "extend('{id}', '{id}', null)", "extend('{id}', '{id}', '-1 s')",
        "receive('inbox', lease => '0')", "receive('inbox', lease => '13 hours')",
        "receive('inbox', receiver => repeat('x', 201))", "nack('{id}', '{id}', '-1 second')",
        "nack('{id}', '{id}', error => repeat('x', 1001))", "extend('{id}', '{id}', '13 hours')",
        "ack('{id}', '{id}', to_json(repeat('x', 1048577)))",
    ],
)  # fmt: skip
async def test_sql_refuses_what_is_out_of_bounds(pgq: PgQueue, db: Connection, call: str) -> None:
    await enqueue(pgq)
    before = await db.fetch(HELD)

    with pytest.raises(asyncpg.InvalidParameterValueError, match="pgqueue"):
        await db.execute(f"select * from pgqueue.{call.format(id=uuid4())}")

    assert await db.fetch(HELD) == before


async def test_receiving_and_acknowledging_in_one_transaction_is_all_or_nothing(
    pgq: PgQueue, db: Connection
) -> None:
    handle = await enqueue(pgq)
    receive = """
        select pgqueue.ack(job.id, job.receipt) from pgqueue.receive('inbox', upkeep => false) as job
    """
    transaction = db.transaction()
    await transaction.start()
    assert await db.fetchval(receive) is True
    await transaction.rollback()
    assert await handle.status() is JobStatus.PENDING
    async with db.transaction():
        assert await db.fetchval(receive) is True
    assert await handle.status() is JobStatus.SUCCEEDED


# Whatever happens


CONSUMER = """
import asyncio, sys
from pgqueue import PgQueue

async def main():
    async with PgQueue(sys.argv[1]) as pgq:
        [job] = await pgq.receive("inbox", lease=1)
        print(job.id, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_job_whose_consumer_was_killed_comes_back(pgq: PgQueue, dsn: str) -> None:
    handle = await enqueue(pgq)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CONSUMER, dsn, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    printed = await asyncio.wait_for(process.stdout.readline(), 180)
    process.send_signal(signal.SIGKILL)
    await process.wait()

    assert UUID(printed.decode().strip()) == handle.id
    job = await one(pgq)
    assert (job.id, job.receive_count) == (handle.id, 2)
    await job.ack()


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
async def test_no_job_has_two_holders_at_once_and_none_is_lost(  # noqa: C901  # a choice of ends
    pgq: PgQueue, seed: int
) -> None:
    queue = f"race-{uuid4().hex[:8]}"
    pgq.queue(queue, max_losses=1000)
    options: Any = {"queue": queue, "max_retries": None}
    handles = [await pgq.enqueue_by_name("work", number, options=options) for number in range(12)]
    acked: list[UUID] = []
    ended: set[UUID] = set()
    # When each was received, by the clock of the server: answers may reach this process in another order.
    holdings: dict[UUID, list[tuple[datetime, ReceivedJob]]] = defaultdict(list)

    async def consume(rng: random.Random) -> None:
        while len(acked) < len(handles):
            # Where the machine is so busy that each of the short ones runs out, the long ones get on.
            lease = rng.choice((0.2, 0.2, 0.2, 5.0))
            received = await pgq.receive(queue, n=rng.randint(1, 4), lease=lease, wait=0.3)
            for job in received:
                holdings[job.id].append((job.held_until - timedelta(seconds=lease), job))
            # Receipts of those at the end may have run out by now.
            for job in received:
                await do_something(job, rng)

    async def do_something(job: ReceivedJob, rng: random.Random) -> None:
        what = rng.choice(("ack", "ack", "nack", "release", "extend", "sleep"))
        try:
            if what == "nack":
                await job.nack(delay=0)
            elif what == "release":
                await job.release()
            else:
                if what == "sleep":
                    await anyio.sleep(0.25)
                elif what == "extend":
                    await job.extend(0.3)
                await job.ack()
                acked.append(job.id)
        except ReceiptLostError:
            return
        ended.add(job.receipt)

    with anyio.fail_after(180):
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(consume, random.Random(seed + number))

    assert sorted(acked) == sorted(handle.id for handle in handles)
    assert {await handle.status() for handle in handles} == {JobStatus.SUCCEEDED}
    for each in holdings.values():
        in_order = sorted(each, key=lambda holding: holding[0])
        for (_, holder), (began, _) in pairwise(in_order):
            assert holder.receipt in ended or holder.held_until <= began


def test_programs_without_asyncio_receive_too(dsn: str) -> None:
    with BlockingPgQueue(PgQueue(dsn)) as queue:
        handle = queue.enqueue_by_name("thumbnail", options={"queue": "inbox", "tags": ["t"]})
        [job] = queue.receive("inbox", n=5, wait=5)
        assert (job.id, job.tags, job.receive_count) == (handle.id, ("t",), 1)
        assert job.extend(60) == job.held_until
        assert job.nack(delay=0) is JobStatus.SCHEDULED
        [job] = queue.receive("inbox", wait=5)
        with job:
            pass
        assert handle.status() is JobStatus.SUCCEEDED
