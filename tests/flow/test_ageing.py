"""Priorities with ageing: a job that has waited for long is raised, so that it starts under any load."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from kit.faults import Ghost
from kit.waiting import eventually

from pgqueue import InvalidOptionError, JobHandle, PgQueue, Task
from pgqueue.cli.commands.jobs import describe_job
from pgqueue.events import JobsRaised

if TYPE_CHECKING:
    from conftest import Connection

HOUR = 3600.0


@pytest.fixture
def work(pgq: PgQueue) -> Task[[], None]:
    @pgq.task
    async def work() -> None: ...

    return work


async def waits_since(db: Connection, job: JobHandle[None], seconds: float) -> None:
    """Have a pending job become ready so many seconds ago."""
    await db.execute("set pgqueue.writer to on")
    await db.execute(
        "update pgqueue.ready set ready_at = now() - make_interval(secs => $2) where job_id = $1",
        job.id,
        seconds,
    )


async def raise_waiting(holder: Ghost, queue: str = "default", seconds: float = HOUR) -> dict[int, int]:
    """Do the chore; return how many jobs were raised to each priority."""
    raised = await holder.store.raise_waiting(holder.connection, queue, seconds, 1000)
    return dict(raised.values())


async def priority(job: JobHandle[None]) -> int:
    info = await job.refresh()
    return info.priority if info.raised_to is None else info.raised_to


@pytest.mark.contract("P8.4")
@pytest.mark.parametrize("ageing", [0.3, None])
async def test_a_job_of_low_priority_starts_under_steady_load_if_its_queue_ages_and_never_otherwise(
    pgq: PgQueue, ageing: float | None
) -> None:
    pgq.queue("default", ageing=ageing)
    started: list[str] = []

    @pgq.task
    async def low() -> None:
        started.append("low")

    @pgq.task
    async def high(left: int) -> None:
        # Two always wait, so that the next claim finds one.
        started.append("high")
        if left and "low" not in started:
            await high.options(priority=5).enqueue(left - 1)

    left = 10_000 if ageing else 200
    jobs = [await high.options(priority=5).enqueue(left) for _ in range(4)]
    waiting = await low.enqueue()
    async with pgq.worker(concurrency=1):
        await waiting.result(timeout=180)

    assert len(jobs) == 4
    if ageing is None:
        assert started.index("low") == started.count("high") == 4 * 201
    else:
        assert started.index("low") < 4 * 10_000


@pytest.mark.contract("P8.4")
async def test_a_job_is_raised_by_a_priority_for_each_such_time_and_keeps_its_place_in_time(
    pgq: PgQueue, db: Connection, holder: Ghost, work: Task[[], None]
) -> None:
    low, middle = await work.enqueue(), await work.options(priority=3).enqueue()
    younger, top = await work.enqueue(), await work.options(priority=9).enqueue()
    assert await raise_waiting(holder) == {}
    await waits_since(db, low, 1.5 * HOUR)
    assert await raise_waiting(holder) == {3: 1}
    assert await raise_waiting(holder) == {}
    assert [await priority(each) for each in (low, middle, younger, top)] == [3, 3, 0, 9]
    await waits_since(db, low, 100 * HOUR)
    assert await raise_waiting(holder) == {9: 1}

    # Before what was enqueued later, at the priority that it has reached.
    claimed = [job.id for _ in range(4) for job in await holder.claim(1)]
    assert claimed == [low.id, top.id, middle.id, younger.id]


@pytest.mark.contract("P8.4")
async def test_nothing_is_raised_where_nothing_of_a_higher_priority_waits_nor_in_a_paused_queue(
    pgq: PgQueue, db: Connection, holder: Ghost, work: Task[[], None]
) -> None:
    low, high = await work.enqueue(), await work.options(priority=3).enqueue()
    other = await work.options(queue="other", priority=9).enqueue()
    for each in (low, high, other):
        await waits_since(db, each, HOUR)
    await pgq.pause(queue="default")
    assert await raise_waiting(holder) == {}
    await pgq.resume(queue="default")
    await high.cancel()
    assert await raise_waiting(holder) == {}
    assert await priority(low) == 0


@pytest.mark.contract("P8.4")
async def test_a_raised_job_says_so_and_goes_back_where_an_operator_puts_it(
    pgq: PgQueue, db: Connection, holder: Ghost, work: Task[[], None]
) -> None:
    low = await work.enqueue()
    await work.options(priority=3).enqueue()
    await waits_since(db, low, HOUR)
    await raise_waiting(holder)

    info = await low.refresh()
    assert (info.priority, info.raised_to) == (0, 3)
    assert "priority: 0, raised to 3 because it has waited" in "\n".join(
        " ".join(line.split()) for line in describe_job(info, [], [])
    )
    await pgq.reprioritise(low.id, -1)
    info = await low.refresh()
    assert (info.priority, info.raised_to) == (-1, None)


@pytest.mark.contract("P8.4")
async def test_any_worker_that_declares_the_queue_raises_its_jobs_and_observers_hear_of_it(
    pgq: PgQueue, db: Connection
) -> None:
    pgq.queue("default", ageing=timedelta(hours=1))
    heard: list[JobsRaised] = []
    pgq.observe(heard.append, JobsRaised)  # type: ignore[arg-type]

    @pgq.task
    async def other() -> None: ...

    low = await other.enqueue()
    high = await other.options(priority=3).enqueue()
    await waits_since(db, low, HOUR)

    async def is_heard() -> bool:
        return bool(heard)

    async with pgq.worker(queues=["none"]):
        await eventually(is_heard)
    assert heard == [JobsRaised("default", {3: 1})]
    assert await priority(low) == await priority(high) == 3


@pytest.mark.parametrize("ageing", [0, -1, math.nan, math.inf, 1e-9, timedelta(0), "1", True, 1e300])
async def test_an_ageing_that_is_no_time_is_refused_and_changes_nothing(pgq: PgQueue, ageing: Any) -> None:
    with pytest.raises(InvalidOptionError, match="queue 'mail': ageing must be"):
        pgq.queue("mail", ageing=ageing)
    assert pgq.registry.ageing == {}
    assert "mail" not in pgq.registry.queues
