"""What limits let through goes on at once: nobody waits for a look that any worker has, once a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from kit import inside
from kit.faults import Ghost, ghost
from kit.waiting import eventually, has_status, holds

from pgqueue import JobContext, JobHandle, JobStatus, Limit, PgQueue, chain
from pgqueue.upkeep import attending
from pgqueue.upkeep.chore import TICK

if TYPE_CHECKING:
    from conftest import Connection


@dataclass
class Place:
    """A limit of one slot, a job that holds it in a queue that no worker serves, and one that waits."""

    pgq: PgQueue
    db: Connection
    holder: Ghost
    limit: Limit
    work: Any
    held: JobHandle[Any]
    waiting: JobHandle[Any]
    leave: asyncio.Event
    """Ends the job that lingers."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Have no worker look for notes, but once, nor sweep gates, unless it is told to; return its looks."""
    looks: list[None] = []
    look = attending.Attending.run

    async def look_once(chore: attending.Attending) -> float:
        pause = await look(chore)
        looks.append(None)
        # Shorter: it has not looked, as it was still attending to what it had.
        return pause if pause < TICK else 3600.0

    async def rest(_: attending.SweepingGates) -> float:
        return 3600.0

    monkeypatch.setattr(attending.Attending, "run", look_once)
    monkeypatch.setattr(attending.SweepingGates, "run", rest)
    return looks


@pytest.fixture
async def place(pgq: PgQueue, db: Connection, looks: list[None]) -> AsyncIterator[Place]:
    limit, leave = pgq.limit("one", slots=1), asyncio.Event()

    @pgq.task(limits=[limit])
    async def work(ctx: JobContext, what: str = "") -> str:
        if what == "wait":
            await ctx.wait_for_event("called", object)
        if what == "linger":
            await leave.wait()
        if what == "sleep":
            await ctx.sleep("nap", 0.5)
        if what == "retry" and ctx.attempt == 1:
            raise ValueError(what)
        await ctx.step("first", noted)
        return what

    async def noted() -> None: ...

    @pgq.task
    async def plain() -> None: ...

    async with ghost(pgq) as holder:
        held = await work.options(queue="others").enqueue()
        waiting = await work.enqueue()
        assert [await held.status(), await waiting.status()] == [JobStatus.PENDING, JobStatus.BLOCKED]
        async with pgq.worker(queues=["default"]):
            await (await plain.enqueue()).result(timeout=60)
            await eventually(lambda: holds(len(looks) > 0 and inside.signals(pgq).is_listening))
            yield Place(pgq, db, holder, limit, work, held, waiting, leave)


Freeing = Callable[[Place], Awaitable[object]]


async def cancel(place: Place) -> None:
    await place.held.cancel()


async def cancel_many(place: Place) -> None:
    from pgqueue import JobFilter

    async for _ in place.pgq.cancel_many(JobFilter(queue="others")):
        pass


async def fail_by_hand(place: Place) -> None:
    await place.db.execute("select pgqueue.transition($1, 'failed')", place.held.id)


async def expire(place: Place) -> None:
    async with place.db.transaction():
        await place.db.execute("set local pgqueue.writer to 'on'")
        await place.db.execute(
            "update pgqueue.job set expires_at = now() - interval '1 s' where id = $1", place.held.id
        )
        await place.db.execute(
            "insert into pgqueue.expiry (job_id, check_at) values ($1, now())", place.held.id
        )


async def lose_its_worker_too_often(place: Place) -> None:
    holder = place.holder
    await holder.connection.execute(
        "update pgqueue.lease set max_losses = '{\"work\": 0}' where worker = 'ghost'"
    )
    await holder.claim()
    await holder.die()


async def raise_the_limit(place: Place) -> None:
    await place.pgq.set_limit("one", slots=2)


async def pause_its_queue(place: Place) -> None:
    await place.pgq.pause(queue="others")


FREEING: dict[str, Freeing] = {
    each.__name__.replace("_", " "): each
    for each in (
        cancel,
        cancel_many,
        fail_by_hand,
        expire,
        lose_its_worker_too_often,
        raise_the_limit,
        pause_its_queue,
    )
}


@pytest.mark.contract("P3.13")
@pytest.mark.parametrize("name", FREEING)
async def test_whatever_frees_a_slot_has_the_next_job_go_on_at_once(place: Place, name: str) -> None:
    await FREEING[name](place)

    await place.waiting.result(timeout=60)


Coming = Callable[[Place], Awaitable[Any]]


async def failed(place: Place) -> JobHandle[Any]:
    job: JobHandle[Any] = await place.work.options(queue="third").enqueue()
    await place.db.execute("select pgqueue.transition($1, 'failed')", job.id)
    await place.pgq.pause(queue="third")
    await place.pgq.resume(queue="third")
    return job


async def redrive(place: Place) -> JobHandle[Any]:
    job = await failed(place)
    await place.pgq.redrive(job.id, queue="default")
    return job


async def redrive_many(place: Place) -> JobHandle[Any]:
    job = await failed(place)
    await place.pgq.redrive_many(all=True, queue="default")
    return job


async def requeue(place: Place) -> JobHandle[Any]:
    await place.waiting.result(timeout=60)
    await place.pgq.requeue(place.waiting.id)
    return place.waiting


async def fork(place: Place) -> JobHandle[Any]:
    await place.waiting.result(timeout=60)
    return await place.pgq.fork(place.waiting.id, "first")


async def restart_from(place: Place) -> JobHandle[Any]:
    await place.waiting.result(timeout=60)
    await place.pgq.restart_from(place.waiting.id, "first")
    return place.waiting


async def retry(place: Place) -> JobHandle[Any]:
    job: JobHandle[Any] = await place.work.options(retry_intervals=[0.1]).enqueue("retry")
    return job


async def sleep(place: Place) -> JobHandle[Any]:
    job: JobHandle[Any] = await place.work.enqueue("sleep")
    return job


async def _waits(place: Place) -> JobHandle[Any]:
    job: JobHandle[Any] = await place.work.enqueue("wait")

    async def is_waiting() -> bool:
        return bool(await place.db.fetchval("select waits from pgqueue.blocked where job_id = $1", job.id))

    await eventually(is_waiting)
    return job


async def signal(place: Place) -> JobHandle[Any]:
    job = await _waits(place)
    await place.pgq.signal(job.id, "called")
    return job


async def signal_in_a_transaction(place: Place) -> JobHandle[Any]:
    job = await _waits(place)
    async with place.db.transaction():
        await place.pgq.signal(job.id, "called", connection=place.db)
    return job


async def another_waits(place: Place) -> JobHandle[Any]:
    await _waits(place)
    job: JobHandle[Any] = await place.work.enqueue()
    return job


async def schedule(place: Place) -> JobHandle[Any]:
    at = await place.db.fetchval("select now() + interval '1.2 s'")
    await place.pgq.schedules.create("once", place.work.s(), at=at)
    query = "select last_job from pgqueue.schedule where name = 'once'"

    async def has_ticked() -> bool:
        return await place.db.fetchval(query) is not None

    await eventually(has_ticked)
    return place.pgq.handle(await place.db.fetchval(query))


async def run_now(place: Place) -> JobHandle[Any]:
    await place.pgq.schedules.create("daily", place.work.s(), every=timedelta(days=1))
    job_id = await place.pgq.schedules.run_now("daily")
    assert job_id is not None
    return place.pgq.handle(job_id)


async def delay(place: Place) -> JobHandle[Any]:
    job: JobHandle[Any] = await place.work.options(delay=0.3).enqueue()
    return job


async def depend(place: Place) -> JobHandle[Any]:
    job: JobHandle[Any] = await place.work.options(depends_on=[place.waiting.id]).enqueue()
    return job


async def follow(place: Place) -> JobHandle[Any]:
    keyed = place.work.options(idempotency_key="k", on_conflict="coalesce")
    first = await keyed.enqueue("linger")
    await eventually(lambda: has_status(first, JobStatus.RUNNING))
    job: JobHandle[Any] = await keyed.enqueue()
    place.leave.set()
    return job


async def link(place: Place) -> object:
    return await place.pgq.enqueue_workflow(chain(place.work.si(), place.work.si()))


async def resume_the_queue(place: Place) -> JobHandle[Any]:
    await place.pgq.pause(queue="default")
    job: JobHandle[Any] = await place.work.enqueue()
    await place.pgq.resume(queue="default")
    return job


async def replace(place: Place) -> JobHandle[Any]:
    keyed = place.work.options(idempotency_key="k", on_conflict="replace")
    job: JobHandle[Any] = await keyed.options(delay=3600).enqueue()
    await keyed.enqueue()
    return job


COMING: dict[str, Coming] = {
    each.__name__.replace("_", " "): each
    for each in (
        redrive, redrive_many, requeue, fork, restart_from, retry, sleep, signal, signal_in_a_transaction,
        another_waits, schedule, run_now, delay, depend, follow, link, resume_the_queue, replace,
    )
}  # fmt: skip


@pytest.mark.contract("P3.13")
@pytest.mark.parametrize("name", COMING)
async def test_whatever_brings_a_job_to_its_limit_has_it_let_through_at_once(place: Place, name: str) -> None:
    await place.held.cancel()

    job = await COMING[name](place)

    await eventually(lambda: has_status(job, JobStatus.SUCCEEDED))


@pytest.mark.contract("P3.13")
async def test_a_job_whose_enqueue_commits_after_later_ones_is_not_passed_over(place: Place) -> None:
    async def are_attended() -> bool:
        return not await place.holder.connection.fetchval("select exists (select from pgqueue.note)")

    await place.held.cancel()
    await eventually(lambda: has_status(place.waiting, JobStatus.SUCCEEDED))
    first = await place.work.enqueue("linger")
    await eventually(lambda: has_status(first, JobStatus.RUNNING))
    async with place.db.transaction():
        late = await place.work.options(connection=place.db).enqueue("late")
        later = await place.work.enqueue("later")
        await eventually(are_attended)
    await eventually(are_attended)

    place.leave.set()

    for job in (first, late, later):
        await eventually(partial(has_status, job, JobStatus.SUCCEEDED))
    assert (await late.refresh()).completed_at < (await later.refresh()).completed_at
