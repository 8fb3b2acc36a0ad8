"""Waits where two things meet: an event and its timeout, a sleep and a limit; and very many at once."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from kit import inside
from kit.plans import FILL, connected
from kit.waiting import eventually

from pgqueue import JobContext, JobFailed, JobStatus, PgQueue

if TYPE_CHECKING:
    from conftest import Connection

    from pgqueue.tasks.handle import JobHandle

pytestmark = pytest.mark.contract("P7.25")

WITHIN = 60.0
SLEEPERS = """
    with added as (
        insert into pgqueue.job (id, lane, task, arguments)
        select pgqueue.uuid7(), 1, 'sleeper', '{}' from generate_series(1, $1)
        returning id
    )
    insert into pgqueue.blocked (job_id, lane, attempt, losses, position, wake_at)
    select id, 1, 0, 0, nextval('pgqueue.position'), now() + $2::interval from added
"""


async def blocked(*jobs: JobHandle[Any]) -> None:
    """Wait until jobs wait."""

    async def are_blocked() -> bool:
        return all([await job.status() is JobStatus.BLOCKED for job in jobs])

    await eventually(are_blocked)


@pytest.mark.core
async def test_of_an_event_and_a_timeout_in_one_millisecond_one_is_stored_and_stays(
    pgq: PgQueue, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event comes before the look that finds the time over, behind it, or with it."""
    store = inside.store(pgq)
    settle = store.settle_wait
    seen: dict[UUID, list[str | None]] = {}
    due: list[UUID] = []

    async def meet(connection: Any, job_id: UUID, *wait: Any) -> Any:
        if job_id not in due:
            return await settle(connection, job_id, *wait)
        order = due.index(job_id) % 4
        due[due.index(job_id)] = uuid4()
        look, send = settle(connection, job_id, *wait), pgq.signal(job_id, "approved", "yes")
        if order == 0:
            assert await send
            return await look
        if order == 1:
            found = await look
            assert await send
            return found
        both = (look, send) if order == 2 else (send, look)
        return (await asyncio.gather(*both))[0 if order == 2 else 1]

    monkeypatch.setattr(store, "settle_wait", meet)

    @pgq.task(max_retries=1, default_retry_delay=0)
    async def approve(ctx: JobContext) -> str | None:
        answer = await ctx.wait_for_event("approved", str, timeout=timedelta(days=1))
        seen.setdefault(ctx.job_id, []).append(answer)
        if ctx.attempt == 1:
            raise ConnectionResetError
        return answer

    jobs = [await approve.enqueue() for _ in range(24)]
    async with pgq.worker():
        await blocked(*jobs)
        due += [job.id for job in jobs]
        await db.execute(
            "set pgqueue.writer to 'on';"
            "update pgqueue.step set result = to_json(clock_timestamp());"
            "update pgqueue.blocked set wake_at = clock_timestamp()"
        )
        results = [await job.result(timeout=WITHIN) for job in jobs]
    assert [seen[job.id] for job in jobs] == [[result, result] for result in results]
    assert (results[0::4], results[1::4]) == (["yes"] * 6, [None] * 6)
    assert set(results) == {"yes", None}


@pytest.mark.core
@pytest.mark.parametrize("when", ["after the look", "with it", "in a transaction"])
async def test_an_event_at_the_moment_of_the_suspension_is_not_lost(
    pgq: PgQueue, db: Connection, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = inside.store(pgq)
    suspend = store.suspend
    sending: list[asyncio.Task[bool]] = []

    async def meet(connection: Any, lease_id: Any, outcomes: Any) -> Any:
        # The handler has looked, and seen no event; its job does not wait yet.
        if when == "with it":
            sending.extend(asyncio.create_task(pgq.signal(outcome.job_id, "go", 7)) for outcome in outcomes)
        elif when == "after the look":
            for outcome in outcomes:
                await pgq.signal(outcome.job_id, "go", 7)
        else:
            async with db.transaction():
                for outcome in outcomes:
                    await pgq.signal(outcome.job_id, "go", 7, connection=db)
        return await suspend(connection, lease_id, outcomes)

    monkeypatch.setattr(store, "suspend", meet)

    @pgq.task
    async def work(ctx: JobContext) -> int:
        return await ctx.wait_for_event("go", int)

    jobs = [await work.enqueue() for _ in range(5)]
    async with pgq.worker():
        assert [await job.result(timeout=WITHIN) for job in jobs] == [7] * 5
    assert await asyncio.gather(*sending) == [True] * len(sending)
    assert await db.fetchval("select count(*) from pgqueue.event") == 0


async def test_limits_of_time_count_none_of_the_time_asleep(pgq: PgQueue) -> None:
    """`expires` is about the first start, `max_retry_duration` about the time since the last wait."""
    runs: Counter[str] = Counter()

    @pgq.task(expires=3.0, max_retry_duration=3.0, max_retries=1, default_retry_delay=0, timeout=3.0)
    async def work(ctx: JobContext) -> str:
        await ctx.sleep("long", 3.2)
        runs["awake"] += 1
        if runs["awake"] == 1:
            raise ConnectionResetError
        return "went on"

    async with pgq.worker() as worker:
        await worker.wait_ready()
        assert await (await work.enqueue()).result(timeout=WITHIN) == "went on"


async def test_a_job_has_ten_thousand_steps_at_most(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work(ctx: JobContext, last: str) -> int:
        for number in range(10_000):
            await ctx.step(f"step {number}", int)
        if last == "step":
            await ctx.step("too many", int)
        elif last == "sleep":
            await ctx.sleep("too many", 0)
        return 7

    jobs = {last: await work.enqueue(last) for last in ("none", "step", "sleep")}
    await db.execute(
        "insert into pgqueue.step (job_id, name, result) "
        "select job.id, 'step ' || n, '7' from pgqueue.job cross join generate_series(0, 9999) as n"
    )
    async with pgq.worker():
        assert await jobs["none"].result(timeout=WITHIN) == 7
        for last in ("step", "sleep"):
            with pytest.raises(JobFailed, match=r"'too many'.*10,000 steps.*ctx\.restart"):
                await jobs[last].result(timeout=WITHIN)


async def test_sleepers_cost_claims_nothing_and_are_woken_in_batches(dsn: str, db: Connection) -> None:
    async with connected(dsn) as bench:
        await bench.connection.execute(FILL, 500)
        few = await bench.round()
        await bench.connection.execute(SLEEPERS, 20_000, timedelta(days=1))
        await bench.connection.execute(SLEEPERS, 1000, timedelta(seconds=-1))
        await bench.connection.execute(FILL, 500)

        await bench.round()
        woken = [(await bench.store.wake(bench.connection, 300)).count for _ in range(5)]

        assert bench.scans == set()
        for name in ("claim", "finish"):
            assert bench.costs[name] <= 1.5 * few[name] + 20, (name, few, bench.costs)
        assert woken == [300, 300, 300, 100, 0]
        assert await db.fetchval("select count(*) from pgqueue.blocked") == 20_000


async def test_sleepers_cost_a_worker_no_memory(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def plain(number: int) -> int:
        return number

    async def work() -> int:
        jobs = [await plain.enqueue(number) for number in range(50)]
        assert [await job.result(timeout=WITHIN) for job in jobs] == list(range(50))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        async with pgq.worker():
            await work()
            before = await work()
            await db.execute("set pgqueue.writer to 'on'")
            await db.execute(SLEEPERS, 20_000, timedelta(days=1))
            after = await work()
    finally:
        tracemalloc.stop()
    # 25 bytes each would be more.
    assert after - before < 500_000
