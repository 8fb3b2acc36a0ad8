"""A large enqueue overlaps itself: while the server writes one part, the next one is checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import asyncpg
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from kit.lines import declare_work, line_to
from kit.waiting import eventually

from pgqueue import InvalidArgumentsError, JobStatus, PgQueue, Signature, Task

if TYPE_CHECKING:
    from conftest import Connection

PART = 250
COUNT = "select count(*) from pgqueue.jobs"
IS_WRITING = (
    "select exists (select from pg_stat_activity "
    "where query ~ '^-- enqueue(_limited|_alike)?:' and pid <> pg_backend_pid() and state <> 'idle')"
)
Works = list[Task[[int], int]]


def declare_limited(pgq: PgQueue) -> Works:
    @pgq.task(limits=[pgq.limit("each", slots=1).by("number"), pgq.limit("all", slots=3)])
    async def limited(number: int) -> int:
        return number

    return [limited]


def declare_alike(pgq: PgQueue) -> Works:
    @pgq.task(limits=[pgq.limit("few", slots=3)])
    async def alike(number: int) -> int:
        return number

    return [alike]


def declare_ordered(pgq: PgQueue) -> Works:
    @pgq.task(ordered_by=lambda number: number % 3)
    async def ordered(number: int) -> int:
        return number

    return [ordered]


WORKS: dict[str, Callable[[PgQueue], Works]] = {
    "plain": lambda pgq: [declare_work(pgq)],
    "limited": declare_limited,
    "alike": declare_alike,
    "ordered": declare_ordered,
    "mixed": lambda pgq: [declare_work(pgq), *declare_limited(pgq), *declare_ordered(pgq)],
}
"""Tasks by what their jobs wait for. What is mixed comes in turn."""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgqueue.enqueueing.writer.PART", PART)


@pytest.fixture
def elsewhere() -> Iterator[BlockingPortal]:
    """An event loop in another thread: what a generator can ask while it holds the loop of the test."""
    with start_blocking_portal() as portal:
        yield portal


async def until_writing(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:

        async def is_writing() -> bool:
            return bool(await connection.fetchval(IS_WRITING))

        await eventually(is_writing)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        *(("plain", count) for count in (2, PART - 1, PART, PART + 1, 1000, 1001, 3500)),
        *(
            (kind, count)
            for kind in ("limited", "alike", "ordered", "mixed")
            for count in (PART, PART + 1, 1001)
        ),
    ],
)
async def test_a_call_of_any_size_makes_each_job_once_and_in_order(
    pgq: PgQueue, db: Connection, kind: str, count: int
) -> None:
    works = WORKS[kind](pgq)

    jobs = await pgq.enqueue_many(works[number % len(works)].s(number) for number in range(count))

    stored = await db.fetch(
        "select id, (arguments->>'number')::integer as number from pgqueue.jobs order by id"
    )
    assert [(row["id"], row["number"]) for row in stored] == [(job.id, at) for at, job in enumerate(jobs)]
    assert all(job.created for job in jobs)
    waiting = await db.fetch("select gates[1] as rule from pgqueue.job join pgqueue.blocked on job_id = id")
    assert await db.fetchval("select count(*) from pgqueue.ready") + len(waiting) == count
    assert {row["rule"] for row in waiting} <= {"each", "few", "order/ordered"}
    turns = await db.fetch("select turn from pgqueue.job where turn is not null order by id")
    assert [row["turn"] for row in turns] == sorted({row["turn"] for row in turns})
    assert len(turns) == (
        0 if kind in ("plain", "limited", "alike") else len(range(len(works) - 1, count, len(works)))
    )


@pytest.mark.parametrize("kind", WORKS)
async def test_the_server_writes_one_part_while_the_next_is_taken(
    pgq: PgQueue, dsn: str, elsewhere: BlockingPortal, kind: str
) -> None:
    works = WORKS[kind](pgq)
    await pgq.enqueue_many(work.s(0) for work in works)

    def calls() -> Iterator[Signature[int]]:
        for number in range(2 * PART):
            if number == PART:
                # The loop of the PgQueue is held here: what the server has by now, it was sent before.
                elsewhere.call(until_writing, dsn)
            yield works[number % len(works)].s(number)

    jobs = await pgq.enqueue_many(calls())

    assert len(jobs) == 2 * PART


@pytest.mark.parametrize("wrong_at", [0, PART - 1, PART, 3 * PART, 999])
async def test_a_wrong_call_in_any_part_leaves_nothing_written_and_the_rest_untaken(
    pgq: PgQueue, db: Connection, wrong_at: int
) -> None:
    work = declare_work(pgq)
    taken = []

    def calls() -> Iterator[Signature[Any]]:
        number: Any
        for number in range(100_000):
            taken.append(number)
            yield work.s("not a number" if number == wrong_at else number)  # type: ignore[arg-type]

    with pytest.raises(InvalidArgumentsError, match="number"):
        await pgq.enqueue_many(calls())

    assert await db.fetchval(COUNT) == 0
    assert len(taken) <= wrong_at + PART
    await work.enqueue(1)
    assert await db.fetchval(COUNT) == 1


async def test_what_a_generator_raises_leaves_nothing_written(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)

    def calls() -> Iterator[Signature[int]]:
        yield from (work.s(number) for number in range(2 * PART))
        raise LookupError("the file ends here")

    with pytest.raises(LookupError, match="the file ends here"):
        await pgq.enqueue_many(calls())

    assert await db.fetchval(COUNT) == 0


async def test_a_later_part_may_have_ids_keys_times_and_new_queues(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)
    taken_id = uuid4()
    await work.options(id=taken_id).enqueue(-1)
    held = await work.options(idempotency_key="held").enqueue(-2)
    calls: list[Task[[int], int]] = [work] * 1500
    calls[300] = work.options(id=taken_id)
    calls[700] = work.options(idempotency_key="held", idempotency_fingerprint=False)
    calls[1100] = work.options(delay=3600)
    calls[1400] = work.options(queue="another")
    [calls[200]] = declare_limited(pgq)
    [calls[900]] = declare_ordered(pgq)

    jobs = await pgq.enqueue_many(task.s(number) for number, task in enumerate(calls))

    assert [at for at, job in enumerate(jobs) if not job.created] == [300, 700]
    assert (jobs[300].id, jobs[700].id) == (taken_id, held.id)
    assert await jobs[1100].status() is JobStatus.SCHEDULED
    assert (await jobs[1400].refresh()).queue == "another"
    assert await db.fetchval(COUNT) == 1500


async def test_the_limits_of_each_part_are_declared(pgq: PgQueue, db: Connection) -> None:
    works = [declare_work(pgq)]
    for slots in (1, 2, 3):

        @pgq.task(name=f"work {slots}", limits=[pgq.limit(f"limit {slots}", slots=slots)])
        async def work(number: int) -> int:
            return number

        works.append(work)

    await pgq.enqueue_many(works[number // PART].s(number) for number in range(4 * PART))

    rules = await db.fetch("select name, slots from pgqueue.limit_rule order by name")
    assert [(row["name"], row["slots"]) for row in rules] == [(f"limit {n}", n) for n in (1, 2, 3)]
    assert await db.fetchval("select count(*) from pgqueue.ready") == PART + 1 + 2 + 3


async def test_a_new_queue_in_each_part_is_made(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)
    queues = [work.options(queue=f"queue {number}") for number in range(4)]

    await pgq.enqueue_many(queues[number // PART].s(number) for number in range(4 * PART))

    assert await db.fetchval("select array_agg(distinct queue order by queue) from pgqueue.jobs") == [
        f"queue {number}" for number in range(4)
    ]


@pytest.mark.contract("P1.5")
@pytest.mark.parametrize("cut_at", [b"COMMIT", b"BEGIN", b"notanumber"])
@pytest.mark.parametrize("is_limited", [False, True])
async def test_a_large_call_whose_line_is_cut_makes_each_job_once(
    dsn: str, db: Connection, cut_at: bytes, *, is_limited: bool
) -> None:
    async with line_to(dsn) as (line, near), PgQueue(near, connect_options={"ssl": False}) as pgq:
        limits = [pgq.limit("each", slots=1).by("text")] if is_limited else []

        @pgq.task(limits=limits)
        async def work(text: str) -> None: ...

        await work.enqueue("warm")
        line.cut_at = cut_at
        # One text stands in the third part: the line is cut when that is sent.
        jobs = await pgq.enqueue_many(
            work.s("notanumber" if number == 2 * PART else str(number)) for number in range(1000)
        )

        assert line.cuts == 1
        assert all(job.created for job in jobs)
    assert await db.fetchval(COUNT) == 1001
    assert await db.fetchval("select count(distinct id) from pgqueue.jobs") == 1001


async def test_a_cancelled_call_leaves_nothing_written_and_the_next_one_alone(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    work = declare_work(pgq)
    await work.enqueue(1)
    async with db.transaction():
        await db.execute("lock table pgqueue.ready in access exclusive mode")
        call = asyncio.create_task(pgq.enqueue_many(work.s(number) for number in range(1000)))
        await until_writing(dsn)
        call.cancel()
        with anyio.fail_after(60), pytest.raises(asyncio.CancelledError):
            await call

    await work.enqueue(2)

    assert await db.fetchval(COUNT) == 2
