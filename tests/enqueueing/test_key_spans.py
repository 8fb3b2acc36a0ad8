"""For how long an idempotency key is held: a window, or until its job has come to a state."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from kit import inside
from kit.faults import Ghost
from kit.keys import JOBS, KEYS, LET_WINDOWS_END, STATES, bring, declare_work
from kit.waiting import eventually

from pgqueue import PgQueue, Task
from pgqueue.upkeep import tidying

if TYPE_CHECKING:
    from conftest import Connection


@pytest.fixture
def work(pgq: PgQueue) -> Task[[int], int]:
    """A task of one argument."""
    return declare_work(pgq)


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
