"""What a call does whose key is held: it raises, or the waiting job is replaced, debounced or throttled."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from kit.faults import Ghost, until_blocked
from kit.keys import JOBS, RolledBackError, bring, declare_work

from pgqueue import (
    DuplicateJobError,
    DuplicateKeyError,
    IdempotencyConflictError,
    InvalidOptionError,
    JobStatus,
    PgQueue,
    Task,
)

if TYPE_CHECKING:
    from conftest import Connection


@pytest.fixture
def work(pgq: PgQueue) -> Task[[int], int]:
    """A task of one argument."""
    return declare_work(pgq)


# Raise


@pytest.mark.contract("P3.7")
async def test_a_held_key_is_an_error_where_that_is_asked_for(
    work: Task[[int], int], pgq: PgQueue, db: Connection
) -> None:
    calls = work.options(idempotency_key="order-7", on_conflict="raise")
    first = await calls.enqueue(1)

    with pytest.raises(DuplicateKeyError, match=f"job {first.id} holds idempotency key 'order-7'") as raised:
        await pgq.enqueue_many([work.s(3), calls.s(1)])

    assert isinstance(raised.value, DuplicateJobError)
    assert (raised.value.job_id, raised.value.key) == (first.id, "order-7")
    with pytest.raises(DuplicateKeyError):
        await pgq.enqueue_many([calls.options(idempotency_key="new").s(1)] * 2)
    assert await db.fetchval(JOBS) == 1


# Replace


@pytest.mark.contract("P3.7")
@pytest.mark.parametrize("state", ["pending", "scheduled"])
async def test_a_job_that_has_not_started_takes_the_latest_call(
    work: Task[[int], int], pgq: PgQueue, holder: Ghost, db: Connection, state: str
) -> None:
    calls = work.options(idempotency_key="report", on_conflict="replace")
    first = await calls.options(tags=["old"], headers={"h": "old"}, expires=60).enqueue(1)
    await bring(pgq, holder, first, state)

    second = await calls.options(queue="late", priority=5, tags=["new"], max_retries=9, delay=600).enqueue(2)
    third = await calls.options(idempotency_fingerprint=True).enqueue(3)

    assert (second.id, second.created, second.replaced) == (first.id, False, True)
    assert (third.id, third.replaced, first.replaced) == (first.id, True, False)
    job = await first.refresh()
    assert job.arguments == {"number": 3}
    assert (job.status, job.queue, job.priority, job.tags) == (JobStatus.PENDING, "default", 0, ())
    assert (job.headers, job.expires_at, job.run_at) == ({}, None, None)
    assert await db.fetchval(JOBS) == 1
    # The key is now that of the latest call.
    assert not (await work.options(idempotency_key="report").enqueue(3)).created
    with pytest.raises(IdempotencyConflictError):
        await work.options(idempotency_key="report").enqueue(1)


@pytest.mark.contract("P3.7")
async def test_all_that_a_call_says_is_replaced(work: Task[[int], int], db: Connection) -> None:
    calls = work.options(idempotency_key="report", on_conflict="replace")
    first = await calls.enqueue(1)

    await calls.options(
        queue="late",
        priority=5,
        tags=["new"],
        headers={"h": "x"},
        max_retries=9,
        delay=600,
        key="k",
        expires=900,
    ).enqueue(2)

    job = await first.refresh()
    assert (job.queue, job.priority, job.tags, job.headers) == ("late", 5, ("new",), {"h": "x"})
    assert (job.status, job.key) == (JobStatus.SCHEDULED, "k")
    assert job.next_run_at == job.run_at is not None
    assert job.expires_at is not None
    assert job.expires_at - job.run_at == timedelta(seconds=300)
    stored = await db.fetchval("select options::text from pgqueue.job")
    assert json.loads(stored) == {"max_retries": 9}


@pytest.mark.contract("P3.7", "P4.10")
@pytest.mark.parametrize("before", [{}, {"expires": 3600}])
async def test_a_replacement_expires_when_the_latest_call_says(
    work: Task[[int], int], db: Connection, before: Any
) -> None:
    calls = work.options(idempotency_key="report", on_conflict="replace", queue="of nobody's")
    first = await calls.options(**before).enqueue(1)

    await calls.options(expires=600).enqueue(2)

    check_at = await db.fetchval("select check_at from pgqueue.expiry where job_id = $1", first.id)
    assert check_at == (await first.refresh()).expires_at


@pytest.mark.contract("P3.7")
@pytest.mark.parametrize("state", ["prefetched", "running", "released", "retrying", "lost", "succeeded"])
async def test_a_job_that_has_started_is_not_replaced(
    work: Task[[int], int], pgq: PgQueue, holder: Ghost, db: Connection, state: str
) -> None:
    calls = work.options(idempotency_key="report", on_conflict="replace")
    first = await calls.enqueue(1)
    await bring(pgq, holder, first, state)

    again = await calls.enqueue(1)
    with pytest.raises(IdempotencyConflictError):
        await calls.enqueue(2)

    assert (again.id, again.created, again.replaced) == (first.id, False, False)
    assert (await first.refresh()).arguments == {"number": 1}
    assert await db.fetchval(JOBS) == 1


@pytest.mark.contract("P3.7")
async def test_a_job_is_claimed_as_it_was_or_as_it_was_replaced_and_never_in_between(
    pgq: PgQueue, db: Connection
) -> None:
    ran: list[tuple[int, int]] = []

    @pgq.task(idempotency_key="pair", on_conflict="replace", idempotency_while="started")
    async def pair(one: int, other: int) -> None:
        ran.append((one, other))

    async with pgq.worker(concurrency=2):
        handles = [await pair.options(priority=number % 3).enqueue(number, -number) for number in range(150)]
        await asyncio.gather(*(handle.result(timeout=60) for handle in {h.id: h for h in handles}.values()))

    assert all(one == -other for one, other in ran)
    assert len(ran) == sum(handle.created for handle in handles) == await db.fetchval(JOBS)
    # What the last call said was run, and whatever was replaced was not.
    assert (149, -149) in ran
    assert len({one for one, _ in ran}) == len(ran)


@pytest.mark.contract("P3.7")
async def test_a_replacement_waits_for_a_claim_that_is_not_committed(
    work: Task[[int], int], pgq: PgQueue, holder: Ghost
) -> None:
    calls = work.options(idempotency_key="report", on_conflict="replace", idempotency_fingerprint=False)
    first = await calls.enqueue(1)

    async with asyncio.TaskGroup() as group, holder.connection.transaction():
        [claimed] = await holder.claim()
        second = group.create_task(calls.enqueue(2))
        await until_blocked(pgq, "replace_jobs")

    assert json.loads(claimed.arguments) == {"number": 1}
    assert (second.result().id, second.result().replaced) == (first.id, False)
    assert (await first.refresh()).arguments == {"number": 1}


@pytest.mark.contract("P3.7")
async def test_a_start_that_ends_the_hold_while_a_replacement_waits_for_it_makes_a_new_job(
    work: Task[[int], int], pgq: PgQueue, holder: Ghost
) -> None:
    calls = work.options(idempotency_key="report", on_conflict="replace", idempotency_while="started")
    first = await calls.enqueue(1)

    async with asyncio.TaskGroup() as group, holder.connection.transaction():
        await holder.claim()
        second = group.create_task(calls.enqueue(2))
        await until_blocked(pgq, "replace_jobs")

    assert second.result().created
    assert second.result().id != first.id
    assert (await second.result().refresh()).arguments == {"number": 2}


@pytest.mark.contract("P3.7", "P1.3")
async def test_a_replacement_that_is_rolled_back_leaves_the_job_as_it_was(
    work: Task[[int], int], db: Connection, holder: Ghost
) -> None:
    calls = work.options(idempotency_key="report", on_conflict="replace")
    first = await calls.enqueue(1)

    with suppress(RolledBackError):
        async with db.transaction():
            replaced = (await calls.options(connection=db, delay=60).enqueue(2)).replaced
            assert await holder.claim() == []
            raise RolledBackError

    assert replaced
    assert [json.loads(claimed.arguments) for claimed in await holder.claim()] == [{"number": 1}]
    assert (await calls.enqueue(1)).id == first.id


@pytest.mark.contract("P3.7")
async def test_of_calls_in_one_bulk_call_the_last_replaces(
    work: Task[[int], int], pgq: PgQueue, db: Connection
) -> None:
    calls = work.options(idempotency_key="report", on_conflict="replace")

    handles = await pgq.enqueue_many([calls.s(1), calls.s(2), calls.options(delay=60).s(3)])
    later = await pgq.enqueue_many([calls.s(4), calls.s(5)])

    assert [(each.created, each.replaced) for each in handles] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    assert [(each.created, each.replaced) for each in later] == [(False, True), (False, True)]
    assert {each.id for each in (*handles, *later)} == {handles[0].id}
    assert (await handles[0].refresh()).arguments == {"number": 5}
    assert await db.fetchval(JOBS) == 1


# Debounce


@pytest.mark.contract("P3.7")
async def test_a_debounced_job_starts_a_delay_after_the_latest_call(
    work: Task[[int], int], db: Connection
) -> None:
    calls = work.options(idempotency_key="index", on_conflict="debounce", delay=600)
    first = await calls.enqueue(1)
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute("update pgqueue.scheduled set scheduled_at = now() + interval '1 second'")

    second = await calls.enqueue(2)

    job = await first.refresh()
    assert (second.id, second.created, second.replaced) == (first.id, False, True)
    assert (job.arguments, job.status) == ({"number": 2}, JobStatus.SCHEDULED)
    wait = await db.fetchval("select $1::timestamptz - now()", job.next_run_at)
    assert timedelta(seconds=300) < wait <= timedelta(seconds=600)
    assert await db.fetchval(JOBS) == 1


@pytest.mark.contract("P3.7")
async def test_a_debounced_job_that_is_due_waits_again(
    work: Task[[int], int], pgq: PgQueue, holder: Ghost, db: Connection
) -> None:
    calls = work.options(idempotency_key="index", on_conflict="debounce", delay=600)
    first = await calls.enqueue(1)
    await holder.connection.execute("select pgqueue.transition($1, 'pending')", first.id)

    await calls.enqueue(1)

    assert await first.status() is JobStatus.SCHEDULED


@pytest.mark.contract("P3.7")
@pytest.mark.parametrize("on_conflict", ["debounce", "throttle"])
async def test_a_debounce_and_a_throttle_need_a_delay(
    work: Task[[int], int], db: Connection, on_conflict: Any
) -> None:
    with pytest.raises(InvalidOptionError, match=f"task 'work': on_conflict='{on_conflict}' .* set 'delay'"):
        await work.options(idempotency_key="index", on_conflict=on_conflict).enqueue(1)

    assert await db.fetchval(JOBS) == 0


# Throttle


@pytest.mark.contract("P3.7")
async def test_a_throttled_job_has_the_latest_arguments_and_the_time_of_the_first_call(
    work: Task[[int], int], pgq: PgQueue, holder: Ghost, db: Connection
) -> None:
    calls = work.options(
        idempotency_key="index", idempotency_while="started", on_conflict="throttle", delay=600
    )
    first = await calls.enqueue(1)
    time_of_first = (await first.refresh()).next_run_at
    assert time_of_first is not None

    again = await calls.enqueue(2)
    other, same = await pgq.enqueue_many([calls.s(3), calls.s(4)])

    job = await first.refresh()
    assert {each.id for each in (again, other, same)} == {first.id}
    assert (again.created, again.replaced, same.replaced) == (False, True, True)
    assert (job.arguments, job.status, job.next_run_at) == ({"number": 4}, JobStatus.SCHEDULED, time_of_first)
    # Due, and not claimed: it stays so.
    await holder.connection.execute("update pgqueue.job set run_at = now() where id = $1", first.id)
    await holder.connection.execute("select pgqueue.transition($1, 'pending')", first.id)
    assert (await calls.enqueue(5)).replaced
    assert await first.status() is JobStatus.PENDING
    [claimed] = await holder.claim()
    assert json.loads(claimed.arguments) == {"number": 5}
    # It has started: the next call makes the job of the next period.
    assert (await calls.enqueue(6)).created
