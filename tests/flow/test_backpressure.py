"""A queue that holds as many jobs as it may takes no more of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.waiting import eventually

from pgqueue import ConfigurationError, PgQueue, QueueFullError, Task
from pgqueue.flow.backpressure import LONGEST_WAIT, Depth, Depths
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection


@pytest.fixture
def note(pgq: PgQueue) -> Task[[int], None]:
    pgq.queue("narrow", max_depth=3)

    @pgq.task(queue="narrow")
    async def note(number: int) -> None: ...

    return note


async def is_taken(note: Task[[int], None]) -> bool:
    try:
        await note.enqueue(4)
    except QueueFullError:
        return False
    return True


async def stored(db: Connection) -> int:
    count: int = await db.fetchval("select count(*) from pgqueue.job")
    return count


@pytest.mark.contract("BP12")
async def test_a_full_queue_refuses_jobs_until_it_has_drained(
    pgq: PgQueue, note: Task[[int], None], db: Connection
) -> None:
    for number in range(3):
        await note.enqueue(number)

    with pytest.raises(
        QueueFullError, match=r"'narrow' has no room for another \(3 pending, limit 3\)"
    ) as refused:
        await note.enqueue(3)

    assert (refused.value.queue, refused.value.depth, refused.value.limit) == ("narrow", 3, 3)
    assert 1 <= refused.value.retry_after <= LONGEST_WAIT
    assert await stored(db) == 3

    async with pgq.worker(queues=["narrow"]):
        await eventually(lambda: is_taken(note))


@pytest.mark.contract("BP12")
async def test_of_many_calls_at_once_as_many_are_taken_as_there_is_room_for(
    pgq: PgQueue, db: Connection
) -> None:
    pgq.queue("narrow", max_depth=50)

    @pgq.task(queue="narrow")
    async def note(number: int) -> None: ...

    answers = await asyncio.gather(*(note.enqueue(number) for number in range(200)), return_exceptions=True)

    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert {type(answer) for answer in refused} == {QueueFullError}
    assert len(refused) == 150
    assert await stored(db) == 50


@pytest.mark.contract("BP12")
async def test_of_a_bulk_call_all_jobs_are_taken_or_none(
    pgq: PgQueue, note: Task[[int], None], db: Connection
) -> None:
    @pgq.task(queue="wide")
    async def other() -> None: ...

    with pytest.raises(QueueFullError, match="a batch this large can never fit"):
        await pgq.enqueue_many([other.s(), *(note.s(number) for number in range(4))])

    assert await stored(db) == 0

    await pgq.enqueue_many([other.s(), *(note.s(number) for number in range(3))])

    assert await stored(db) == 4


@pytest.mark.contract("BP12")
async def test_what_another_process_has_enqueued_counts(dsn: str, note: Task[[int], None]) -> None:
    async with PgQueue(dsn) as other:
        await other.enqueue_many(
            [other.signature("note", number, options={"queue": "narrow"}) for number in range(3)]
        )

    with pytest.raises(QueueFullError):
        await note.enqueue(3)


@pytest.mark.contract("BP12")
async def test_a_limit_for_all_queues_holds_for_each_by_itself_but_for_those_with_their_own(dsn: str) -> None:
    async with PgQueue(dsn, max_depth=1) as pgq:
        pgq.queue("any", max_depth=None)

        def one(queue: str) -> Any:
            return pgq.signature("note", options={"queue": queue})

        await pgq.enqueue_many([one("a"), one("b"), one("any"), one("any"), one("any")])

        for queue in ("a", "b"):
            with pytest.raises(QueueFullError):
                await pgq.enqueue(one(queue))
        await pgq.enqueue(one("any"))


@pytest.mark.contract("BP12")
async def test_a_refusal_leaves_the_callers_transaction_as_it_was(
    note: Task[[int], None], db: Connection
) -> None:
    for number in range(3):
        await note.enqueue(number)

    async with db.transaction():
        await db.execute("create table written (number integer)")
        with pytest.raises(QueueFullError):
            await note.options(connection=db).enqueue(3)

    assert await db.fetchval("select count(*) from written") == 0
    assert await stored(db) == 3


@pytest.mark.contract("BP12")
async def test_jobs_for_later_and_what_operators_requeue_are_not_refused(
    pgq: PgQueue, note: Task[[int], None]
) -> None:
    jobs = [await note.enqueue(number) for number in range(3)]
    assert await jobs[0].cancel()
    await eventually(lambda: is_taken(note))

    await note.options(delay=3600).enqueue(3)
    assert await pgq.requeue(jobs[0].id)

    assert str(await jobs[0].status()) == "pending"


@pytest.mark.contract("BP12")
async def test_over_http_a_full_queue_is_503_with_a_time_to_try_again(
    pgq: PgQueue, note: Task[[int], None], db: Connection
) -> None:
    app = status_app(pgq, token="a-secret-for-tests")
    headers = {"Authorization": "Bearer a-secret-for-tests"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", headers=headers
    ) as client:
        body = {"task": "note", "arguments": {"number": 1}}
        answers = [await client.post("/jobs", json=body) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [202, 202, 202, 503]
    assert answers[3].headers["content-type"] == "application/problem+json"
    assert 1 <= int(answers[3].headers["retry-after"]) <= LONGEST_WAIT
    assert await stored(db) == 3


@pytest.mark.parametrize("max_depth", [0, -1, 1.5, True, "10"])
async def test_a_limit_that_cannot_be_is_refused(pgq: PgQueue, dsn: str, max_depth: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"queue 'mail': max_depth must be a whole number"):
        pgq.queue("mail", max_depth=max_depth)
    with pytest.raises(ConfigurationError, match="PgQueue: max_depth must be"):
        PgQueue(dsn, max_depth=max_depth)


def test_where_no_queue_has_a_limit_nobody_asks() -> None:
    depths = Depths(None)
    depths.set_limit("any", None)

    assert not depths.is_limited


@given(
    limit=st.integers(1, 1000),
    found=st.integers(0, 1000),
    calls=st.lists(st.integers(1, 300), max_size=20),
)
def test_never_more_are_admitted_than_fit_and_none_is_refused_that_fits(
    limit: int, found: int, calls: list[int]
) -> None:
    depths = Depths(limit)
    depths.of("q").count(min(found, limit), at=0.0, took=0.0)
    total = min(found, limit)

    for count in calls:
        try:
            depths.admit({"q": count})
        except QueueFullError as refused:
            assert total + count > limit
            assert 1 <= refused.retry_after <= LONGEST_WAIT  # noqa: PT017
        else:
            total += count
            depths.conclude({"q": count}, is_written=True)

    assert total <= limit


def test_a_count_that_took_long_is_not_made_again_soon() -> None:
    depth = Depth()
    depth.count(5, at=100.0, took=1.0)

    assert not depth.must_be_counted(10, 10, 110.0)
    assert depth.must_be_counted(10, 10, 121.0)


def test_a_wait_is_as_long_as_the_queue_took_to_drain() -> None:
    depth = Depth()
    depth.count(100, at=0.0, took=0.0)
    depth.count(80, at=2.0, took=0.0)

    assert depth.wait_for(50, 100) == 3.0
