"""Idempotency keys: calls that are one call make one job, whoever makes them, whenever, however it fails."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import inside
from kit.faults import Ghost, ghost, lossy_proxy, until_blocked
from kit.waiting import eventually

from pgqueue import (
    FROM_ARGUMENTS,
    DuplicateJobError,
    DuplicateKeyError,
    IdempotencyConflictError,
    InvalidOptionError,
    JobHandle,
    JobStatus,
    PgQueue,
    Task,
)
from pgqueue.database.encoding import encoding_of
from pgqueue.enqueueing.idempotency import CHUNK, fingerprint_of, key_id
from pgqueue.model.job_error import JobError
from pgqueue.model.outcomes import Ended, Retried
from pgqueue.store import KeyRow
from pgqueue.upkeep import tidying

if TYPE_CHECKING:
    from conftest import Connection

JOBS = "select count(*) from pgqueue.job"
KEYS = "select count(*) from pgqueue.idempotency_key"
LET_WINDOWS_END = "update pgqueue.idempotency_key set expires_at = now() - interval '1 second'"


class RolledBackError(Exception):
    """Ends a transaction without a commit."""


def declare_work(pgq: PgQueue) -> Task[[int], int]:
    @pgq.task
    async def work(number: int) -> int:
        return number

    task: Task[[int], int] = work
    return task


@pytest.fixture
def work(pgq: PgQueue) -> Task[[int], int]:
    """A task of one argument."""
    return declare_work(pgq)


@pytest.fixture
async def holder(pgq: PgQueue) -> AsyncIterator[Ghost]:
    """A worker that claims, and whose outcomes are the test's to write."""
    async with ghost(pgq) as taker:
        yield taker


# One call, one job


@pytest.mark.contract("P3.2")
async def test_a_second_call_with_a_key_finds_the_first_ones_job(
    work: Task[[int], int], db: Connection
) -> None:
    calls = work.options(idempotency_key="order-7")

    first = await calls.enqueue(1)
    second = await calls.enqueue(1)

    assert (first.created, second.created) == (True, False)
    assert second.id == first.id
    assert await db.fetchval(JOBS) == 1


@pytest.mark.contract("P3.2")
async def test_another_key_or_none_makes_another_job(work: Task[[int], int], db: Connection) -> None:
    await work.options(idempotency_key="a").enqueue(1)

    others = [
        await work.options(idempotency_key="b").enqueue(1),
        await work.enqueue(1),
        await work.options(idempotency_key=None).enqueue(1),
    ]

    assert [job.created for job in others] == [True, True, True]
    assert await db.fetchval(JOBS) == 4
    assert await db.fetchval(KEYS) == 2


@pytest.mark.contract("P3.2", "P1.6")
@pytest.mark.parametrize("span", ["window", "terminal", "started"])
async def test_a_hundred_callers_of_one_key_make_one_job(
    work: Task[[int], int], db: Connection, span: Literal["window", "terminal", "started"]
) -> None:
    calls = work.options(idempotency_key="order-7", idempotency_while=span)

    jobs = await asyncio.gather(*(calls.enqueue(1) for _ in range(100)))

    assert len({job.id for job in jobs}) == 1
    assert sum(job.created for job in jobs) == 1
    assert await db.fetchval(JOBS) == 1


@pytest.mark.contract("P3.2", "P1.3")
async def test_a_call_waits_for_the_open_transaction_of_another_and_sees_its_job(
    pgq: PgQueue, work: Task[[int], int], db: Connection
) -> None:
    calls = work.options(idempotency_key="order-7", idempotency_while="terminal")

    async with asyncio.TaskGroup() as group, db.transaction():
        first = await calls.options(connection=db).enqueue(1)
        second = group.create_task(calls.enqueue(1))
        await until_blocked(pgq)

    assert (second.result().id, second.result().created) == (first.id, False)
    assert await db.fetchval(JOBS) == 1


@pytest.mark.contract("P3.2", "P1.3")
async def test_a_rolled_back_call_frees_its_key_for_one_who_waits(
    pgq: PgQueue, work: Task[[int], int], db: Connection
) -> None:
    calls = work.options(idempotency_key="order-7")

    async with asyncio.TaskGroup() as group:
        with suppress(RolledBackError):
            async with db.transaction():
                first = await calls.options(connection=db).enqueue(1)
                second = group.create_task(calls.enqueue(1))
                await until_blocked(pgq)
                raise RolledBackError

    assert second.result().created
    assert second.result().id != first.id
    assert await db.fetchval(JOBS) == 1


@pytest.mark.contract("P3.2")
async def test_a_refused_call_leaves_the_callers_transaction_usable(
    work: Task[[int], int], db: Connection
) -> None:
    await work.options(idempotency_key="order-7").enqueue(1)

    async with db.transaction():
        other = await work.options(connection=db).enqueue(2)
        with pytest.raises(DuplicateKeyError):
            await work.options(connection=db, idempotency_key="order-7", on_conflict="raise").enqueue(1)

    assert await other.status() is JobStatus.PENDING


# Many


@pytest.mark.contract("P3.2", "P1.7")
async def test_a_bulk_call_mixes_calls_with_and_without_keys(
    work: Task[[int], int], pgq: PgQueue, db: Connection
) -> None:
    held = await work.options(idempotency_key="held").enqueue(7)

    handles = await pgq.enqueue_many(
        [
            work.s(0),
            work.options(idempotency_key="held").s(7),
            work.options(idempotency_key="new", delay=60).s(2),
            work.s(3),
            work.options(idempotency_key="new").s(2),
            work.options(idempotency_key="other").s(5),
        ]
    )

    assert [handle.created for handle in handles] == [True, False, True, True, False, True]
    assert handles[1].id == held.id
    assert handles[4].id == handles[2].id
    jobs = [await handle.refresh() for handle in handles]
    assert [job.arguments["number"] for job in jobs] == [0, 7, 2, 3, 2, 5]
    assert jobs[2].status is JobStatus.SCHEDULED
    assert await db.fetchval(JOBS) == 5


@pytest.mark.contract("P3.2", "P1.7")
async def test_bulk_calls_of_the_same_keys_at_once_make_one_job_each(
    work: Task[[int], int], pgq: PgQueue, db: Connection
) -> None:
    numbers = range(CHUNK + 100)

    def calls(order: Callable[[range], Any]) -> Awaitable[list[JobHandle[Any]]]:
        return pgq.enqueue_many(work.options(idempotency_key=f"key-{n}").s(n) for n in order(numbers))

    forth, back, again = await asyncio.gather(calls(iter), calls(reversed), calls(iter))

    assert [job.id for job in forth] == [job.id for job in reversed(back)] == [job.id for job in again]
    assert sum(job.created for job in (*forth, *back, *again)) == len(numbers)
    assert await db.fetchval(JOBS) == await db.fetchval(KEYS) == len(numbers)


@pytest.mark.contract("P3.2", "P1.7")
@pytest.mark.parametrize("on_conflict", ["return", "replace", "coalesce"])
async def test_a_bulk_call_takes_a_few_statements_however_many_keys_it_has(
    dsn: str, on_conflict: Literal["return", "replace", "coalesce"]
) -> None:
    statements: list[str] = []
    async with PgQueue(dsn, max_connections=1) as pgq:
        work = declare_work(pgq)
        # Prepares what both write by.
        await pgq.enqueue_many([work.s(0), work.s(0)])

        async def count(number: int, prefix: str) -> int:
            statements.clear()
            calls = (
                work.options(idempotency_key=f"{prefix}-{n}", on_conflict=on_conflict).s(n)
                for n in range(number)
            )
            await pgq.enqueue_many(calls)
            # The last of a call, its COMMIT, is told of after the call.
            return sum(statement.startswith("--") for statement in statements)

        async with inside.database(pgq).writer() as connection:
            connection.add_query_logger(lambda query: statements.append(query.query))

        of_few, of_many = await count(3, "a"), await count(CHUNK // 2, "b")
        held_few, held_many = await count(3, "a"), await count(CHUNK // 2, "b")

    assert of_few == of_many > 0
    assert held_few == held_many > 0


@pytest.mark.contract("P3.2", "P1.6")
async def test_a_chosen_id_and_a_key_go_together(work: Task[[int], int], db: Connection) -> None:
    chosen = uuid4()
    calls = work.options(id=chosen, idempotency_key="order-7")

    first = await calls.enqueue(1)
    again = await calls.enqueue(1)
    by_key = await work.options(id=uuid4(), idempotency_key="order-7").enqueue(1)
    by_id = await work.options(id=chosen, idempotency_key="order-8").enqueue(1)

    assert [first.created, again.created, by_key.created, by_id.created] == [True, False, False, False]
    assert {first.id, again.id, by_key.id, by_id.id} == {chosen}
    assert await db.fetchval(JOBS) == 1


# Other arguments


@pytest.mark.contract("P3.3")
async def test_a_key_with_other_arguments_is_an_error_that_says_whose_it_is(
    work: Task[[int], int], pgq: PgQueue, db: Connection
) -> None:
    first = await work.options(idempotency_key="order-7").enqueue(1)

    with pytest.raises(
        IdempotencyConflictError, match=rf"job {first.id} holds idempotency key 'order-7' \(task:work\)"
    ) as raised:
        await pgq.enqueue_many([work.s(5), work.options(idempotency_key="order-7").s(2), work.s(6)])

    error = raised.value
    assert (error.job_id, error.key, error.scope, error.task) == (first.id, "order-7", "task:work", "work")
    assert error.fingerprint != error.held_fingerprint
    assert await db.fetchval(JOBS) == 1
    assert (await first.refresh()).arguments == {"number": 1}


@pytest.mark.contract("P3.3")
async def test_a_key_twice_in_one_bulk_call_with_other_arguments_writes_nothing(
    work: Task[[int], int], pgq: PgQueue, db: Connection
) -> None:
    calls = work.options(idempotency_key="order-7")

    with pytest.raises(IdempotencyConflictError):
        await pgq.enqueue_many([calls.s(1), calls.s(2)])

    assert await db.fetchval(JOBS) == 0
    assert await db.fetchval(KEYS) == 0


@pytest.mark.contract("P3.3")
async def test_other_arguments_are_of_no_interest_where_the_call_says_so(work: Task[[int], int]) -> None:
    first = await work.options(idempotency_key="order-7").enqueue(1)

    second = await work.options(idempotency_key="order-7", idempotency_fingerprint=False).enqueue(2)

    assert (second.id, second.created) == (first.id, False)


@pytest.mark.contract("P3.3")
async def test_arguments_are_compared_before_a_codec_hides_them(dsn: str) -> None:
    class Salted:
        def encode(self, document: str) -> str:
            return json.dumps([uuid4().hex, document])

        def decode(self, stored: str) -> str:
            return str(json.loads(stored)[1])

    async with PgQueue(dsn, codec=Salted()) as pgq:
        calls = declare_work(pgq).options(idempotency_key="order-7")
        first = await calls.enqueue(1)

        second = await calls.enqueue(1)

        assert second.id == first.id
        assert (await second.refresh()).arguments == {"number": 1}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.contract("P3.3", "P3.8")
@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_the_order_of_keys_and_spaces_make_no_other_call(arguments: dict[str, Any]) -> None:
    turned = dict(reversed(arguments.items()))

    assert fingerprint_of("work", json.dumps(arguments)) == fingerprint_of(
        "work", json.dumps(turned, indent=1)
    )


@pytest.mark.contract("P3.3", "P3.8")
@pytest.mark.parametrize(
    ("one", "other"), [("1", "1.0"), ("100", "1e2"), ("0", "-0.0"), ("0.5", "5e-1"), ('"\\u00e9"', '"é"')]
)
def test_one_value_in_two_spellings_is_one_value(one: str, other: str) -> None:
    assert fingerprint_of("work", f'{{"a": {one}}}') == fingerprint_of("work", f'{{"a": {other}}}')


@pytest.mark.contract("P3.3", "P3.8")
@pytest.mark.parametrize(
    ("one", "other"), [("1", '"1"'), ("1", "true"), ("0", "null"), ("[1, 2]", "[2, 1]"), ("1", "1.5")]
)
def test_other_values_are_other_calls(one: str, other: str) -> None:
    assert fingerprint_of("work", f'{{"a": {one}}}') != fingerprint_of("work", f'{{"a": {other}}}')
    assert fingerprint_of("work", f'{{"a": {one}}}') != fingerprint_of("rest", f'{{"a": {one}}}')


# Scopes


@pytest.mark.contract("P3.4")
@pytest.mark.parametrize(
    ("first", "second", "is_shared"),
    [
        ({}, {}, False),
        ({"idempotency_scope": "queue"}, {"idempotency_scope": "queue"}, True),
        ({"idempotency_scope": "queue"}, {"idempotency_scope": "queue", "queue": "mail"}, False),
        ({"idempotency_scope": "global"}, {"idempotency_scope": "global", "queue": "mail"}, True),
        ({"idempotency_scope": "tenant:a"}, {"idempotency_scope": "tenant:a", "queue": "mail"}, True),
        ({"idempotency_scope": "tenant:a"}, {"idempotency_scope": "tenant:b"}, False),
        ({"idempotency_scope": "global"}, {"idempotency_scope": "tenant:a"}, False),
    ],
)
async def test_a_key_is_one_key_within_its_scope(
    work: Task[[int], int], pgq: PgQueue, first: Any, second: Any, is_shared: bool
) -> None:
    @pgq.task
    async def rest(number: int) -> None: ...

    job = await work.options(idempotency_key="k", idempotency_fingerprint=False, **first).enqueue(1)
    other = await rest.options(idempotency_key="k", idempotency_fingerprint=False, **second).enqueue(1)

    assert (other.id == job.id) is is_shared
    assert other.created is not is_shared


@pytest.mark.contract("P3.4", "P3.8")
async def test_a_task_can_say_what_makes_its_calls_one(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(idempotency_key=FROM_ARGUMENTS, idempotency_scope="global", idempotency_window=None)
    async def refresh(page: str, *, deep: bool = False) -> None: ...

    jobs = [
        await refresh.enqueue("a"),
        await refresh.enqueue(page="a"),
        await refresh.enqueue("b"),
        await refresh.enqueue("a", deep=True),
        await refresh.options(idempotency_key=None).enqueue("a"),
    ]

    assert [job.created for job in jobs] == [True, False, True, True, True]
    assert jobs[1].id == jobs[0].id
    assert await db.fetchval(f"{KEYS} where scope = 'global' and expires_at = 'infinity'") == 3


@pytest.mark.contract("P3.8")
async def test_other_tasks_with_the_same_arguments_are_other_calls(
    work: Task[[int], int], pgq: PgQueue
) -> None:
    @pgq.task
    async def rest(number: int) -> None: ...

    one = await work.options(idempotency_key=FROM_ARGUMENTS, idempotency_scope="global").enqueue(1)
    other = await rest.options(idempotency_key=FROM_ARGUMENTS, idempotency_scope="global").enqueue(1)

    assert (one.created, other.created) == (True, True)


async def test_the_database_makes_the_same_digest_of_a_key(db: Connection) -> None:
    for scope, key in [("task:work", "order-7"), ("tenant:é", "clé " * 100), ("tenant:э", "ключ " * 100)]:
        if await holds(db, scope + key):
            assert await db.fetchval("select pgqueue.key_id($1, $2)", scope, key) == key_id(scope, key)


# Windows


@pytest.mark.contract("P3.5")
@pytest.mark.parametrize("fate", ["succeeded", "deleted"])
async def test_a_window_outlives_the_end_and_the_removal_of_its_job(
    work: Task[[int], int], pgq: PgQueue, holder: Ghost, fate: str
) -> None:
    calls = work.options(idempotency_key="order-7", idempotency_window=timedelta(hours=1))
    first = await calls.enqueue(1)
    await bring(pgq, holder, first, fate)

    second = await calls.enqueue(1)

    assert (second.id, second.created) == (first.id, False)


@pytest.mark.contract("P3.5")
@pytest.mark.parametrize(
    ("options", "hours"), [({}, 24), ({"idempotency_window": 3600}, 1), ({"idempotency_window": None}, None)]
)
async def test_a_window_is_measured_by_the_database_from_the_enqueue(
    work: Task[[int], int], db: Connection, options: Any, hours: int | None
) -> None:
    job = await work.options(idempotency_key="order-7", **options).enqueue(1)

    [row] = await db.fetch(
        "select expires_at = 'infinity' as endless, job_id, "
        # Before PostgreSQL 17, a time of infinity has no distance.
        "case when expires_at < 'infinity' then "
        "expires_at - created_at between $1 - interval '1 minute' and $1 + interval '1 minute' end as fits "
        "from pgqueue.idempotency_key",
        timedelta(hours=hours or 0),
    )
    assert row["job_id"] == job.id
    assert row["endless"] if hours is None else row["fits"]


@pytest.mark.contract("P3.5")
async def test_of_many_callers_at_the_end_of_a_window_one_makes_a_job(
    work: Task[[int], int], db: Connection
) -> None:
    calls = work.options(idempotency_key="order-7")
    first = await calls.enqueue(1)
    await db.execute(LET_WINDOWS_END)

    jobs = await asyncio.gather(*(calls.enqueue(1) for _ in range(50)))

    assert sum(job.created for job in jobs) == 1
    assert {job.id for job in jobs} == {jobs[0].id} != {first.id}
    assert await db.fetchval(JOBS) == 2


@pytest.mark.contract("P3.5")
async def test_a_window_that_ends_while_another_transaction_is_open_is_over(
    work: Task[[int], int], pgq: PgQueue, db: Connection
) -> None:
    calls = work.options(idempotency_key="order-7")
    first = await calls.enqueue(1)

    async with inside.database(pgq).acquire() as other, other.transaction():
        # The clock of a transaction stands still at its beginning: here, before the window ends.
        await other.fetchval("select now()")
        await db.execute("update pgqueue.idempotency_key set expires_at = clock_timestamp()")
        second = await calls.options(connection=other).enqueue(1)

    assert second.created
    assert second.id != first.id


# Spans. What a second call finds, by the state of the first one's job.

WAITING = {"pending", "scheduled", "prefetched"}
STATES = [
    "pending", "scheduled", "prefetched", "running", "released", "retrying", "lost",
    "succeeded", "failed", "cancelled", "deleted",
]  # fmt: skip
HELD = {
    "pending": {"pending", "scheduled", "prefetched", "released", "retrying", "lost"},
    "started": {"pending", "scheduled", "prefetched"},
    "terminal": {*STATES} - {"succeeded", "failed", "cancelled", "deleted"},
    "success": {*STATES} - {"succeeded", "cancelled", "deleted"},
    "window": {*STATES},
    "forever": {*STATES},
}


@pytest.mark.contract("P3.6")
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("span", HELD)
async def test_a_key_is_held_for_its_span(
    work: Task[[int], int], pgq: PgQueue, holder: Ghost, db: Connection, span: Any, state: str
) -> None:
    calls = work.options(idempotency_key="order-7", idempotency_while=span)
    first = await calls.enqueue(1)
    await bring(pgq, holder, first, state)

    second = await calls.enqueue(1)

    assert second.created is (state not in HELD[span])
    assert (second.id == first.id) is (state in HELD[span])


@pytest.mark.contract("P3.6")
@pytest.mark.parametrize("span", ["started", "terminal", "success", "window", "forever"])
async def test_a_jobs_own_retry_does_not_collide_with_itself(pgq: PgQueue, db: Connection, span: Any) -> None:
    runs: list[int] = []

    @pgq.task(idempotency_key="only", idempotency_while=span, max_retries=2, default_retry_delay=0)
    async def stumble() -> int:
        runs.append(len(runs))
        if len(runs) < 3:
            raise RuntimeError
        return len(runs)

    async with pgq.worker():
        job = await stumble.enqueue()

        assert await job.result(timeout=60) == 3
    assert await db.fetchval(JOBS) == 1


async def bring(  # noqa: C901  # one case a state
    pgq: PgQueue, holder: Ghost, job: JobHandle[Any], state: str
) -> None:
    """Bring a pending job to *state*, by the statements that a worker would run."""
    connection, store, lease_id = holder.connection, holder.store, holder.lease_id
    match state:
        case "pending":
            return
        case "scheduled":
            await connection.execute(
                "select pgqueue.transition($1, 'scheduled', at => now() + interval '1 hour')", job.id
            )
            return
        case "cancelled":
            assert await job.cancel()
            return
        case "prefetched":
            assert await holder.prefetch() == [job.id]
            return
    assert [claimed.id for claimed in await holder.claim()] == [job.id]
    error = JobError("RuntimeError", "no")
    match state:
        case "released":
            await store.release(connection, lease_id, "ghost", [job.id])
        case "retrying":
            await store.retry(
                connection, lease_id, "ghost", [Retried(job.id, 3600.0, "exception", error, spent=True)]
            )
        case "lost":
            await holder.die()
            async with connection.transaction():
                assert await store.lock_expired_lease(connection, lease_id)
                await store.rescue(connection, lease_id, 10, 3)
        case "succeeded" | "deleted":
            await store.finish(connection, lease_id, "ghost", [job.id], None)
        case "failed":
            ended = Ended(job.id, JobStatus.FAILED, "exception", error)
            await store.fail(connection, lease_id, "ghost", [ended])
        case _:
            assert state == "running"
    if state == "deleted":
        await connection.execute("delete from pgqueue.job where id = $1", job.id)


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


# Coalesce


@pytest.mark.contract("P3.7")
async def test_at_most_one_job_runs_and_one_waits_where_calls_coalesce(pgq: PgQueue, db: Connection) -> None:
    started, gate = asyncio.Semaphore(0), asyncio.Semaphore(0)
    running = most = 0

    @pgq.task(idempotency_key="all", on_conflict="coalesce")
    async def rebuild() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        started.release()
        await gate.acquire()
        running -= 1

    async with pgq.worker(concurrency=5):
        first = await rebuild.enqueue()
        await started.acquire()
        follow_up, *others = [await rebuild.enqueue() for _ in range(5)]

        assert (follow_up.created, follow_up.id != first.id) == (True, True)
        assert {(other.id, other.created) for other in others} == {(follow_up.id, False)}
        assert await follow_up.status() is JobStatus.BLOCKED

        gate.release()
        await started.acquire()
        await first.result(timeout=60)
        last = await rebuild.enqueue()
        assert last.created
        gate.release()
        gate.release()
        await follow_up.result(timeout=60)
        await last.result(timeout=60)

    assert most == 1
    assert await db.fetchval(JOBS) == 3


@pytest.mark.contract("P3.7")
@pytest.mark.parametrize("state", STATES)
async def test_what_a_coalescing_call_does_depends_on_the_holder(
    work: Task[[int], int], pgq: PgQueue, holder: Ghost, state: str
) -> None:
    calls = work.options(idempotency_key="all", on_conflict="coalesce")
    first = await calls.enqueue(1)
    await bring(pgq, holder, first, state)

    second = await calls.enqueue(1)

    status = await second.status()
    match state:
        case "pending" | "scheduled" | "released" | "retrying" | "lost":
            assert (second.id, second.created) == (first.id, False)
        case "running" | "prefetched":
            assert (second.created, status) == (True, JobStatus.BLOCKED)
        case _:
            assert (second.created, status) == (True, JobStatus.PENDING)


@pytest.mark.contract("P3.7")
@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled", "expired", "deleted"])
async def test_a_follow_up_is_released_by_any_end_of_the_one_before(
    work: Task[[int], int], pgq: PgQueue, holder: Ghost, end: str
) -> None:
    calls = work.options(idempotency_key="all", on_conflict="coalesce")
    first = await calls.enqueue(1)
    await holder.claim()
    follow_up = await calls.enqueue(1)
    assert await holder.store.unblock(holder.connection, 10) == []
    if end in ("succeeded", "deleted"):
        await holder.store.finish(holder.connection, holder.lease_id, "ghost", [first.id], None)
    else:
        ended = Ended(first.id, JobStatus(end), end, None)
        await holder.store.fail(holder.connection, holder.lease_id, "ghost", [ended])
    if end == "deleted":
        await holder.connection.execute("delete from pgqueue.job where id = $1", first.id)

    async with pgq.worker():
        assert await follow_up.result(timeout=60) == 1


@pytest.mark.contract("P3.7")
async def test_a_follow_up_with_a_delay_waits_for_both(
    work: Task[[int], int], pgq: PgQueue, holder: Ghost
) -> None:
    calls = work.options(idempotency_key="all", on_conflict="coalesce")
    first = await calls.enqueue(1)
    await holder.claim()

    follow_up = await calls.options(delay=600).enqueue(1)

    assert await follow_up.status() is JobStatus.BLOCKED
    await holder.store.finish(holder.connection, holder.lease_id, "ghost", [first.id], None)
    [(moved, _)] = await holder.store.unblock(holder.connection, 10)
    assert (moved.job_id, moved.status) == (follow_up.id, JobStatus.SCHEDULED)
    job = await follow_up.refresh()
    assert (job.status, job.next_run_at) == (JobStatus.SCHEDULED, job.run_at)


@pytest.mark.contract("P3.7")
async def test_a_follow_up_can_be_cancelled(work: Task[[int], int], holder: Ghost) -> None:
    calls = work.options(idempotency_key="all", on_conflict="coalesce")
    await calls.enqueue(1)
    await holder.claim()
    follow_up = await calls.enqueue(1)

    assert await follow_up.cancel()
    another = await calls.enqueue(1)

    assert await follow_up.status() is JobStatus.CANCELLED
    assert another.created


@pytest.mark.contract("P3.7", "P1.3")
async def test_a_job_that_a_transaction_joined_starts_after_its_commit(
    work: Task[[int], int], db: Connection, holder: Ghost
) -> None:
    calls = work.options(idempotency_key="all", on_conflict="coalesce")
    first = await calls.enqueue(1)

    async with db.transaction():
        joined = await calls.options(connection=db).enqueue(1)
        # It will see what this transaction writes: nobody has it before the commit.
        claimed_before = await holder.claim()

    assert joined.id == first.id
    assert claimed_before == []
    assert [claimed.id for claimed in await holder.claim()] == [first.id]


@pytest.mark.contract("P3.7")
async def test_many_coalescing_callers_make_one_follow_up(
    work: Task[[int], int], db: Connection, holder: Ghost
) -> None:
    calls = work.options(idempotency_key="all", on_conflict="coalesce")
    await calls.enqueue(1)
    await holder.claim()

    jobs = await asyncio.gather(*(calls.enqueue(1) for _ in range(50)))

    assert sum(job.created for job in jobs) == 1
    assert len({job.id for job in jobs}) == 1
    assert await db.fetchval(JOBS) == 2


# Answers that are lost, and callers that die


@pytest.mark.contract("P1.5", "P1.6", "P3.2")
@pytest.mark.parametrize("lost", ["take_keys", "enqueue_one", None])
async def test_a_lost_answer_makes_no_second_job_and_hides_no_first(
    dsn: str, db: Connection, lost: str | None
) -> None:
    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as pgq:
        work = declare_work(pgq)
        held = await work.options(idempotency_key="held").enqueue(0)
        await held.cancel()
        if lost is None:
            proxy.lose_text("COMMIT", is_carried_out=True)
        else:
            # Prepared already, and named no more: a connection of its own will prepare it again.
            await inside.database(pgq).close()
            await inside.database(pgq).open()
            proxy.lose_answer_to(lost)

        handles = await pgq.enqueue_many(
            [
                work.options(idempotency_key="new").s(1),
                work.options(idempotency_key="held").s(0),
                work.options(idempotency_key="new").s(1),
            ]
        )

        assert proxy.lost.is_set()
        assert [handle.created for handle in handles] == [True, False, False]
        assert [handle.id for handle in handles] == [handles[0].id, held.id, handles[0].id]
    assert await db.fetchval(JOBS) == 2
    assert await db.fetchval(KEYS) == 2


@pytest.mark.contract("P1.5", "P3.2")
async def test_a_job_that_ran_before_its_call_was_repeated_is_still_the_calls(
    dsn: str, db: Connection
) -> None:
    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as pgq, PgQueue(dsn) as other:
        work, same_work = declare_work(pgq), declare_work(other)
        options: Any = {"idempotency_key": "order-7", "idempotency_while": "pending"}
        # Opens the connection that is to be lost.
        await (await work.enqueue(0)).cancel()
        proxy.lose_text("COMMIT", is_carried_out=True)
        proxy.hold()

        async with asyncio.TaskGroup() as group:
            first = group.create_task(work.options(**options).enqueue(1))
            await proxy.lost.wait()
            # The job was committed, runs, and another takes the key before the first caller asks again.
            async with ghost(other) as holder:
                await eventually(lambda: has_claimed(holder))
                second = await same_work.options(**options).enqueue(1)
            proxy.let_go()

    assert (first.result().created, second.created) == (True, True)
    assert first.result().id != second.id
    assert await db.fetchval(JOBS) == 3


@pytest.mark.contract("P1.5", "P3.2")
async def test_a_key_that_a_call_has_itself_is_its_own_again(pgq: PgQueue) -> None:
    # A commit that was sent can come to pass after the call is made again.
    job_id, other_id = uuid4(), uuid4()
    key = KeyRow(key_id("global", "k"), "global", "k", job_id, "window", None, 60.0)

    async with inside.database(pgq).acquire() as connection:
        first = await inside.store(pgq).take_keys(connection, [key])
        again = await inside.store(pgq).take_keys(connection, [key])
        others = await inside.store(pgq).take_keys(connection, [key._replace(job_id=other_id)])

    assert (first, again, others) == ({key.id}, {key.id}, set())


async def has_claimed(holder: Ghost) -> bool:
    return len(await holder.claim()) == 1


KILLED = """
import asyncio, sys
from pgqueue import PgQueue

async def main():
    pgq = PgQueue(sys.argv[1])

    @pgq.task
    async def work(number: int) -> None: ...

    async with pgq:
        await work.options(idempotency_key="warm").enqueue(1)
        print("ready", flush=True)
        sys.stdin.readline()
        await work.options(idempotency_key="order-7").enqueue(1)
        print("done", flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""


@pytest.mark.contract("P3.2", "P1.5")
@pytest.mark.parametrize("statement", ["take_keys", "enqueue_one", None])
async def test_a_caller_that_is_killed_leaves_both_key_and_job_or_neither(
    work: Task[[int], int], pgq: PgQueue, dsn: str, db: Connection, statement: str | None
) -> None:
    table = {"take_keys": "idempotency_key", "enqueue_one": "ready"}.get(statement or "")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, dsn, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"

    async with db.transaction():
        if table is not None:
            # The statement stops here, in its middle; what came before it has been answered.
            await db.execute(f"lock table pgqueue.{table} in share mode")
        process.stdin.write(b"\n")
        if statement is None:
            assert await process.stdout.readline() == b"done\n"
        else:
            await until_blocked(pgq, statement)
        process.kill()
        await process.wait()
    process.stdin.close()
    if statement is not None:
        # The statement is carried out, and the transaction ends with its connection.
        await eventually(lambda: is_quiet(db))

    again = await work.options(idempotency_key="order-7").enqueue(1)

    assert again.created is (statement is not None)
    assert await db.fetchval(JOBS) == await db.fetchval(KEYS) == 2


async def is_quiet(db: Connection) -> bool:
    return bool(
        await db.fetchval(
            "select count(*) = 0 from pg_stat_activity "
            "where datname = current_database() and xact_start is not null and pid <> pg_backend_pid()"
        )
    )


# The end of keys


@pytest.mark.contract("P3.5")
async def test_a_worker_removes_keys_that_are_not_held_any_more(
    work: Task[[int], int], pgq: PgQueue, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "LIMIT", 2)
    over = await work.options(idempotency_key="over", idempotency_while="terminal").enqueue(1)
    await over.cancel()
    await work.options(
        idempotency_key="waits", idempotency_while="terminal", queue="of nobody's", delay=600
    ).enqueue(1)
    await pgq.enqueue_many(work.options(idempotency_key=f"old-{n}", delay=600).s(n) for n in range(5))
    await db.execute(LET_WINDOWS_END)
    await work.options(idempotency_key="new", delay=600).enqueue(1)
    await work.options(idempotency_key="for ever", idempotency_window=None, delay=600).enqueue(1)

    async with pgq.worker():
        await eventually(lambda: are_keys(db, {"new", "for ever", "waits"}))

    # The one that is held by a job is looked at again later.
    assert await db.fetchval(f"{KEYS} where expires_at <= now()") == 0
    assert await db.fetchval(JOBS) == 9


async def are_keys(db: Connection, expected: set[str]) -> bool:
    return {row["key"] for row in await db.fetch("select key from pgqueue.idempotency_key")} == expected


# From SQL


@pytest.mark.contract("P3.2", "P3.4", "P3.5", "P1.11")
async def test_a_key_works_from_sql_and_is_the_same_key(
    work: Task[[int], int], pgq: PgQueue, db: Connection
) -> None:
    call = """select pgqueue.enqueue('work', '{"number": 1}', idempotency_key => 'order-7', %s)"""

    first = await db.fetchval(call % "queue => 'default'")
    second = await db.fetchval(call % "idempotency_window => '1 hour'")
    from_python = await work.options(idempotency_key="order-7").enqueue(1)
    elsewhere = await db.fetchval(call % "idempotency_scope => 'tenant:a'")
    endless = await db.fetchval(call % "idempotency_scope => 'global', idempotency_window => null")

    assert first == second == from_python.id
    assert not from_python.created
    assert len({first, elsewhere, endless}) == 3
    assert await db.fetchval(JOBS) == 3
    await db.execute(LET_WINDOWS_END)
    assert await db.fetchval(call % "priority => 0") != first


@pytest.mark.parametrize(
    "bad",
    [
        "idempotency_key => ''",
        "idempotency_key => repeat('k', 513)",
        "idempotency_key => 'k', idempotency_window => '0 s'",
        "idempotency_key => 'k', idempotency_scope => 'tenant:'",
        "idempotency_key => 'k', idempotency_scope => 'other'",
        "idempotency_key => 'k', idempotency_scope => null",
    ],
)
async def test_a_bad_key_is_refused_by_sql(db: Connection, bad: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match=r"pgqueue\.enqueue: the idempotency"):
        await db.execute(f"select pgqueue.enqueue('work', {bad})")

    assert await db.fetchval(KEYS) == 0


async def test_a_longest_key_in_a_longest_scope_can_be_stored(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(name="t" * 255)
    async def work() -> None: ...

    longest = "\N{GRINNING FACE}" if await holds(db, "\N{GRINNING FACE}") else "k"
    calls = work.options(idempotency_key=longest * 512)

    assert (await calls.enqueue()).created
    assert not (await calls.enqueue()).created


async def holds(db: Connection, text: str) -> bool:
    """Whether the database's encoding has all characters of *text*."""
    encoding = encoding_of(await db.fetchval("show server_encoding"))
    return encoding is None or encoding.holds(text)
