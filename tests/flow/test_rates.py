"""Rates: how many jobs start in a time, by the database's clock, and what slows them down."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.faults import Ghost, ghost
from kit.waiting import eventually

from pgqueue import (
    ConfigurationError,
    InvalidOptionError,
    JobContext,
    PgQueue,
    Rate,
    RateLimited,
)

if TYPE_CHECKING:
    from conftest import Connection


@pytest.fixture
async def holder(pgq: PgQueue, db: Connection) -> AsyncIterator[Ghost]:
    await db.execute("select pgqueue.lane_of('default', 0::smallint)")
    async with ghost(pgq) as holder:
        yield holder


async def attend(holder: Ghost) -> None:
    """Attend to all that was noted, whenever it is due."""
    await holder.connection.execute("update pgqueue.note set due_at = null where due_at is not null")
    while (await holder.store.attend(holder.connection, None, 1000)).taken:
        pass


async def look(holder: Ghost) -> None:
    """Attend to every gate."""
    await holder.connection.execute(
        "insert into pgqueue.note (node_id, kind) select id, 'gate' from pgqueue.gate"
    )
    await attend(holder)


async def pass_time(db: Connection, seconds: float) -> None:
    """Have all gates be that much older: as if so many seconds had passed."""
    await db.execute("update pgqueue.gate_state set at = at - make_interval(secs => $1)", seconds)


async def let_through(db: Connection) -> int:
    return int(await db.fetchval("select count(*) from pgqueue.gate_pass"))


@pytest.mark.contract("P8.6")
async def test_a_rate_lets_its_burst_through_and_then_one_job_each_time_that_a_token_comes(
    pgq: PgQueue, db: Connection, holder: Ghost
) -> None:
    stripe = pgq.limit("stripe", rate=Rate(1, per=1000, burst=3))

    @pgq.task(limits=[stripe])
    async def charge(cents: int) -> None: ...

    await pgq.enqueue_many([charge.s(n) for n in range(8)])
    assert await let_through(db) == 3
    assert len(await holder.claim(10)) == 3
    for seconds, all_in_all in ((500, 3), (600, 4), (800, 4), (200, 5), (10_000, 6), (10_000, 7)):
        await pass_time(db, seconds)
        await look(holder)
        assert await let_through(db) == all_in_all
        await holder.claim(10)


@pytest.mark.contract("P8.6")
async def test_what_nobody_claims_counts_so_that_no_crowd_starts_when_workers_come_back(
    pgq: PgQueue, db: Connection, holder: Ghost
) -> None:
    @pgq.task(limits=[pgq.limit("stripe", rate=Rate(10, burst=4))])
    async def charge(cents: int) -> None: ...

    await pgq.enqueue_many([charge.s(n) for n in range(30)])
    for _ in range(3):
        await pass_time(db, 3600)
        await look(holder)
        assert await let_through(db) == 4
    assert len(await holder.claim(2)) == 2
    await look(holder)
    assert await let_through(db) == 6


@pytest.mark.contract("P8.6")
async def test_jobs_of_a_paused_queue_and_those_put_aside_do_not_use_up_a_burst(
    pgq: PgQueue, db: Connection, holder: Ghost
) -> None:
    @pgq.task(limits=[pgq.limit("stripe", rate=Rate(1, burst=4))])
    async def charge(cents: int) -> None: ...

    await pgq.enqueue_many([charge.options(queue="other").s(n) for n in range(4)])
    await pgq.pause(queue="other")
    await pgq.enqueue_many([charge.s(n) for n in range(3)])
    await pass_time(db, 3600)
    await look(holder)
    assert len(await holder.claim(10)) == 2


@pytest.mark.contract("P8.6")
async def test_rates_hold_by_key_for_a_queue_for_schedules_and_beside_slots(
    pgq: PgQueue, db: Connection, holder: Ghost
) -> None:
    pgq.queue("mail", rate=Rate(1, per=3600, burst=3), slots=2)
    by_key = pgq.limit("key", rate=Rate(1, per=3600))

    @pgq.task(limits=[by_key.by("to")], queue="mail")
    async def send(to: str) -> None: ...

    jobs = [await send.enqueue(to) for to in ("ann", "ann", "bob", "cid", "dan", "eve")]
    await pgq.schedules.create("daily", send.s("ann"), every=3600)
    await pgq.schedules.run_now("daily")

    waits = [(await each.refresh()).waits_for_limit for each in jobs]
    assert waits == [None, "key", None, "queue/mail", "queue/mail", "queue/mail"]
    assert (await pgq.get_limit("key")).waiting == 2
    used = {each.name: (each.kind, each.rate, each.burst, each.slots) for each in await pgq.limits()}
    assert used == {
        "key": ("rate", 1 / 3600, 1, None),
        "queue/mail": ("slots", None, None, 2),
        "rate/mail": ("rate", 1 / 3600, 3, None),
    }


@pytest.mark.contract("P8.6")
async def test_workers_start_jobs_at_the_rate_and_at_no_other_time(pgq: PgQueue) -> None:
    started: list[float] = []
    loop = asyncio.get_running_loop()

    @pgq.task(limits=[pgq.limit("api", rate=Rate(40, burst=5))])
    async def call(number: int) -> None:
        started.append(loop.time())

    began = loop.time()
    handles = await pgq.enqueue_many([call.s(n) for n in range(45)])
    async with pgq.worker():
        for handle in handles:
            await handle.result(timeout=60)

    # However late they start: no more than the full bucket and what has come to it by then.
    for count, at in enumerate(sorted(started), 1):
        assert count <= 5 + 40 * (at - began) + 1


@pytest.mark.contract("P8.6")
async def test_a_rate_is_changed_while_jobs_wait_and_returns_to_what_code_declared(
    pgq: PgQueue, db: Connection, holder: Ghost
) -> None:
    @pgq.task(limits=[pgq.limit("stripe", rate=Rate(1, per=86400))])
    async def charge(cents: int) -> None: ...

    await pgq.enqueue_many([charge.s(n) for n in range(50)])
    assert await let_through(db) == 1
    await pgq.set_limit("stripe", rate=Rate(1000, burst=10))
    await holder.claim(1)
    await pass_time(db, 0.5)
    await look(holder)
    assert await let_through(db) == 11
    await pgq.set_limit("stripe", slots=12)
    await look(holder)
    assert await let_through(db) == 12
    assert await pgq.reset_limit("stripe")
    limit = await pgq.get_limit("stripe")
    assert (limit.kind, limit.slots, limit.rate, limit.burst) == ("rate", None, 1 / 86400, 1)
    await look(holder)
    assert await let_through(db) == 12
    await pgq.set_limit("stripe", rate=None)
    await look(holder)
    assert await let_through(db) == 50


@pytest.mark.contract("P8.6")
@pytest.mark.parametrize("by", [-3600, 3600 * 24 * 365 * 300])
async def test_a_clock_that_steps_neither_stops_a_rate_nor_lets_all_go(
    pgq: PgQueue, db: Connection, holder: Ghost, by: float
) -> None:
    @pgq.task(limits=[pgq.limit("stripe", rate=Rate(1, per=1000, burst=2))])
    async def charge(cents: int) -> None: ...

    await pgq.enqueue_many([charge.s(n) for n in range(9)])
    await holder.claim(9)
    await pass_time(db, by)
    await look(holder)
    most = 2 if by < 0 else 3
    assert await let_through(db) == most
    await holder.claim(9)
    await pass_time(db, 1100)
    await look(holder)
    assert await let_through(db) == most + 1


WEEK = 7 * 86400


@pytest.mark.contract("P8.6")
@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [
        (120, 120, 120),
        (0, 0, 0),
        ("120", 120, 120),
        (" 7.5 ", 7.5, 7.5),
        (timedelta(minutes=2), 120, 120),
        (None, 10, 10),
        (10**30, WEEK, WEEK),
        (timedelta.max, WEEK, WEEK),
        (datetime(2100, 1, 1, tzinfo=UTC), WEEK - 30, WEEK),
        ("Fri, 01 Jan 2100 00:00:00 GMT", WEEK - 30, WEEK),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-9))), WEEK - 30, WEEK),
        ("Wed, 21 Oct 2015 07:28:00 GMT", -float("inf"), 0),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=9))), -float("inf"), 0),
    ],
)
def test_what_a_service_says_of_when_to_ask_again_is_read(
    retry_after: Any, least: float, most: float
) -> None:
    said = RateLimited(retry_after)
    seconds = said.delay if said.until is None else (said.until - datetime.now(UTC)).total_seconds()
    assert least <= seconds <= most


@pytest.mark.contract("P8.6")
@pytest.mark.parametrize("is_date", [True, False])
async def test_a_handler_that_is_refused_comes_back_later_and_slows_the_bucket(
    pgq: PgQueue, db: Connection, holder: Ghost, *, is_date: bool
) -> None:
    calls: Counter[int] = Counter()

    @pgq.task(limits=[pgq.limit("stripe", rate=Rate(1000, burst=1))], max_retries=0)
    async def charge(cents: int) -> int:
        calls[cents] += 1
        if cents == 0 and calls[0] == 1:
            raise RateLimited(format_datetime(datetime.now(UTC) + timedelta(hours=2)) if is_date else 7200)
        return calls[cents]

    job = await charge.enqueue(0)
    async with pgq.worker(concurrency=1):

        async def was_refused() -> bool:
            is_closed = await db.fetchval(
                "select closed > 0 from pgqueue.gate_state order by number desc limit 1"
            )
            return calls[0] > 1 or bool(is_closed)

        await eventually(was_refused)
        second = await charge.enqueue(1)
        due = await db.fetchval(
            "select extract(epoch from scheduled_at - now())::float8 from pgqueue.scheduled "
            "where job_id = $1",
            job.id,
        )
        assert 7000 < due <= 7201
        reasons = await db.fetch("select reason from pgqueue.attempt where job_id = $1", job.id)
        assert [row["reason"] for row in reasons] == ["rate_limited"]
        assert (await second.refresh()).waits_for_limit == "stripe"
        closed = await db.fetchval("select closed from pgqueue.gate_state order by number desc limit 1")
        assert 7000 < closed <= 7201
        await holder.connection.execute("update pgqueue.scheduled set scheduled_at = now()")
        await pass_time(db, 7300)
        assert await job.result(timeout=60) == 2
        assert await second.result(timeout=60) == 1
    assert (await job.refresh()).attempt == 1


@pytest.mark.contract("P8.6")
async def test_without_a_rate_a_refused_job_is_snoozed(pgq: PgQueue) -> None:
    @pgq.task(limits=[pgq.limit("one", slots=1)], max_retries=0)
    async def limited(ctx: JobContext) -> None:
        if not await ctx.step("seen", lambda: True):
            raise RateLimited(0.01)

    calls: list[int] = []

    @pgq.task(max_retries=0)
    async def plain() -> int:
        calls.append(1)
        if len(calls) < 4:
            raise RateLimited(0.01)
        return len(calls)

    async with pgq.worker():
        assert await (await plain.enqueue()).result(timeout=60) == 4
        await (await limited.enqueue()).result(timeout=60)


@pytest.mark.contract("P8.6")
@pytest.mark.parametrize(
    "given",
    [-1, float("nan"), float("inf"), "-5", "nan", "soon", "", True, b"5", datetime(2026, 1, 1)],  # noqa: DTZ001
)
def test_a_refusal_that_says_nothing_is_refused(given: Any) -> None:
    with pytest.raises(InvalidOptionError, match="RateLimited: retry_after must be"):
        RateLimited(given)


@pytest.mark.contract("P8.6")
def test_what_is_no_rate_is_refused(pgq: PgQueue) -> None:
    rates: list[Any] = [
        lambda: Rate(0), lambda: Rate(-1), lambda: Rate(float("nan")), lambda: Rate(float("inf")),
        lambda: Rate(1e-320), lambda: Rate(10**1000), lambda: Rate("5"),  # type: ignore[arg-type]
        lambda: Rate(True), lambda: Rate(1, per=0), lambda: Rate(1, per=-1),
        lambda: Rate(1, per=float("nan")),
        lambda: Rate(1e7), lambda: Rate(1, per=1e300), lambda: Rate(1, burst=0), lambda: Rate(1, burst=-1),
        lambda: Rate(1, burst=10_001), lambda: Rate(1, burst=0.5),  # type: ignore[arg-type]
        lambda: pgq.limit("x", rate=5), lambda: pgq.queue("x", rate="1/s"),  # type: ignore[arg-type]
    ]  # fmt: skip
    for each in rates:
        with pytest.raises(InvalidOptionError, match="rate"):
            each()
    neither_or_both: list[dict[str, Any]] = [{}, {"slots": 1, "rate": Rate(1)}]
    for both in neither_or_both:
        with pytest.raises(ConfigurationError, match="exactly one of slots"):
            pgq.limit("x", **both)
    assert Rate(100, per=timedelta(seconds=1)) == Rate(100, per=1.0)
    assert [Rate(n).at_once for n in (0.5, 9, 200, 1e6)] == [1, 1, 20, 10_000]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    rate=st.floats(1e-9, 1e6),
    burst=st.integers(1, 10_000),
    moves=st.lists(
        st.tuples(st.sampled_from(["claim", "time", "make", "end"]), st.floats(0, 1e3)), max_size=12
    ),
)
@pytest.mark.contract("P8.6")
async def test_no_more_jobs_start_in_any_time_than_a_rate_and_two_bursts_allow(
    db: Connection, holder: Ghost, rate: float, burst: int, moves: list[tuple[str, float]]
) -> None:
    connection = holder.connection
    await connection.execute(
        "truncate pgqueue.job, pgqueue.ready, pgqueue.running, pgqueue.blocked, pgqueue.gate, "
        "pgqueue.gate_state, pgqueue.gate_pass, pgqueue.note, pgqueue.limit_rule"
    )
    await db.execute("select pgqueue.declare_limit('api', null, 'wait', $1, $2)", rate, burst)
    now, started, running = 0.0, list[tuple[float, int]](), list[UUID]()
    began = time.monotonic()
    for verb, number in [("make", 0.0), *moves]:
        if verb == "time":
            now += number
            await pass_time(db, number)
            await look(holder)
        elif verb == "make":
            async with db.transaction():
                ids = await db.fetch("select pgqueue.enqueue('work') as id from generate_series(1, 40)")
                await db.execute(
                    'select pgqueue.limit_jobs($1::uuid[], (select json_agg(\'[["api", ""]]\'::json) '
                    "from generate_series(1, 40)))",
                    [row["id"] for row in ids],
                )
            await attend(holder)
        elif verb == "claim":
            claimed = [job.id for job in await holder.claim(1 + int(number) % 50)]
            running += claimed
            started.append((now, len(claimed)))
            await look(holder)
        else:
            await holder.store.finish(connection, holder.lease_id, holder.name, running, None)
            running = []
            await attend(holder)
    # The tests themselves take time.
    slack = rate * (time.monotonic() - began + 1)
    for first, _ in started:
        for last, _ in started:
            count = sum(many for at, many in started if first <= at <= last)
            assert count <= 2 * burst + rate * max(0, last - first) + slack
    waiting = await db.fetchval("select count(*) from pgqueue.blocked")
    if waiting:
        # It goes on: a note has it looked at when a token has come.
        assert await db.fetchval("select count(*) from pgqueue.note") == 1
