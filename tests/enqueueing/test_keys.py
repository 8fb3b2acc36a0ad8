"""Idempotency keys: calls with one key make one job, and what makes keys and calls the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import inside
from kit.faults import until_blocked
from kit.keys import JOBS, KEYS, LET_WINDOWS_END, RolledBackError, declare_work, holds

from pgqueue import (
    FROM_ARGUMENTS,
    DuplicateKeyError,
    IdempotencyConflictError,
    JobHandle,
    JobStatus,
    PgQueue,
    Task,
)
from pgqueue.enqueueing.idempotency import CHUNK, fingerprint_of, key_id

if TYPE_CHECKING:
    from conftest import Connection


@pytest.fixture
def work(pgq: PgQueue) -> Task[[int], int]:
    """A task of one argument."""
    return declare_work(pgq)


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
