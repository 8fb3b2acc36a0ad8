"""The inbox: of all who are told of an external event, the first deals with it and the others skip it."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from kit.faults import is_blocked, lossy_proxy
from kit.waiting import eventually

from pgqueue import InvalidOptionError, PgQueue
from pgqueue.upkeep import tidying

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P3.11")

COUNT = "select count(*) from pgqueue.inbox"
LET_TIME_PASS = "update pgqueue.inbox set expires_at = now() - interval '1 second'"


class RolledBackError(Exception):
    """Ends a transaction without a commit."""


async def test_the_first_caller_wins_and_the_rest_skip(pgq: PgQueue, db: Connection) -> None:
    answers = [await pgq.mark_processed("stripe", "evt_1") for _ in range(3)]

    assert answers == [True, False, False]
    assert await pgq.mark_processed("stripe", "evt_2")
    assert await pgq.mark_processed("github", "evt_1")
    assert await db.fetchval(COUNT) == 3


async def test_of_a_hundred_callers_at_once_one_wins(pgq: PgQueue) -> None:
    answers = await asyncio.gather(*(pgq.mark_processed("stripe", "evt_1") for _ in range(100)))

    assert sum(answers) == 1


async def test_an_event_is_noted_if_and_only_if_its_effects_are(pgq: PgQueue, db: Connection) -> None:
    with suppress(RolledBackError):
        async with db.transaction():
            assert await pgq.mark_processed("stripe", "evt_1", connection=db)
            raise RolledBackError
    async with db.transaction():
        again = await pgq.mark_processed("stripe", "evt_1", connection=db)

    assert again
    assert not await pgq.mark_processed("stripe", "evt_1")


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_second_caller_waits_for_the_end_of_the_first_ones_transaction(
    pgq: PgQueue, db: Connection, dsn: str, end: str
) -> None:
    watcher = await asyncpg.connect(dsn)
    transaction = db.transaction()
    await transaction.start()
    await pgq.mark_processed("stripe", "evt_1", connection=db)

    async with asyncio.TaskGroup() as group:
        second = group.create_task(pgq.mark_processed("stripe", "evt_1"))
        await eventually(lambda: is_blocked(watcher, "mark_processed"))
        await (transaction.commit() if end == "commit" else transaction.rollback())
    await watcher.close()

    assert second.result() is (end == "rollback")


async def test_at_the_end_of_its_time_an_event_is_new_to_one_caller(pgq: PgQueue, db: Connection) -> None:
    await pgq.mark_processed("stripe", "evt_1")
    await db.execute(LET_TIME_PASS)

    answers = await asyncio.gather(*(pgq.mark_processed("stripe", "evt_1") for _ in range(50)))

    assert sum(answers) == 1


async def test_the_time_is_the_databases(pgq: PgQueue, db: Connection) -> None:
    ttls = [timedelta(days=7), timedelta(hours=1), timedelta(seconds=60)]
    async with asyncio.TaskGroup() as group, db.transaction():
        # Each statement waits until the client's clock is behind by more than it took to send it.
        await db.execute("lock table pgqueue.inbox in access exclusive mode")
        group.create_task(pgq.mark_processed("a", "0"))
        group.create_task(pgq.mark_processed("a", "1", ttl=timedelta(hours=1)))
        group.create_task(pgq.mark_processed("a", "2", ttl=60))
        await eventually(lambda: are_blocked(db, len(ttls)))
        let_go_at = await db.fetchval("select clock_timestamp()")

    ends = [row[0] for row in await db.fetch("select expires_at from pgqueue.inbox order by event_id")]
    now = await db.fetchval("select clock_timestamp()")
    assert all(let_go_at < end - ttl < now for end, ttl in zip(ends, ttls, strict=True))


async def are_blocked(db: Connection, count: int) -> bool:
    query = "select count(*) = $1 from pg_locks where relation = 'pgqueue.inbox'::regclass and not granted"
    return bool(await db.fetchval(query, count))


async def test_a_lost_answer_does_not_turn_the_first_into_a_second(dsn: str) -> None:
    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as pgq:
        proxy.lose_answer_to("mark_processed")

        assert await pgq.mark_processed("stripe", "evt_1")

        assert proxy.lost.is_set()
        assert not await pgq.mark_processed("stripe", "evt_1")


async def test_it_works_from_sql(pgq: PgQueue, db: Connection) -> None:
    call = "select pgqueue.mark_processed('stripe', 'evt_1', '1 hour')"

    assert [await db.fetchval(call), await db.fetchval(call)] == [True, False]
    assert not await pgq.mark_processed("stripe", "evt_1")


@pytest.mark.parametrize(
    "call", ["'', 'e'", "null, 'e'", "'s', ''", "'s', 'e', '0 s'", "'s', 'e', '-1 s'", "'s', 'e', null"]
)
async def test_a_bad_event_is_refused_by_sql(db: Connection, call: str) -> None:
    with pytest.raises(
        asyncpg.InvalidParameterValueError, match="an event needs a source, an id, and a time"
    ):
        await db.execute(f"select pgqueue.mark_processed({call})")


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ({"source": ""}, "the source must be a non-empty string, got ''"),
        ({"source": 7}, "the source must be a non-empty string, got 7"),
        ({"event_id": "e" * 513}, "the event id must be at most 512 characters long, got 513"),
        ({"event_id": "a\0b"}, "the event id contains a NUL"),
        ({"event_id": "\ud800"}, "the event id contains half a surrogate pair"),
        ({"ttl": 0}, "the ttl must be more than 0, got 0"),
        ({"ttl": -1}, "the ttl must be more than 0, got -1"),
        ({"ttl": math.nan}, "the ttl must be a finite number of seconds, got nan"),
        ({"ttl": None}, "the ttl must be a number of seconds or a timedelta, got None"),
    ],
)
async def test_a_bad_event_is_refused(pgq: PgQueue, db: Connection, call: Any, problem: str) -> None:
    with pytest.raises(InvalidOptionError, match=f"mark_processed: {problem}"):
        await pgq.mark_processed(**{"source": "s", "event_id": "e", **call})

    assert await db.fetchval(COUNT) == 0


async def test_a_worker_forgets_events_whose_time_is_over(
    pgq: PgQueue, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "LIMIT", 3)
    for number in range(10):
        await pgq.mark_processed("old", str(number))
    await db.execute(LET_TIME_PASS)
    await pgq.mark_processed("new", "1")

    async with pgq.worker():
        await eventually(lambda: is_count(db, 1))

    assert await db.fetchval("select source from pgqueue.inbox") == "new"


async def is_count(db: Connection, count: int) -> bool:
    return bool(await db.fetchval(COUNT) == count)
