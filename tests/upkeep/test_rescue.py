"""Jobs of a worker that is gone: taken back, counted, and given up at some point."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from kit.faults import attempt_reasons, expire_lease, ghost
from kit.waiting import eventually, has_status

from pgqueue import JobContext, JobFailed, JobStatus, PgQueue
from pgqueue.events import Event, JobsRescued
from pgqueue.upkeep.rescuing import SILENCE, SilenceWatch

if TYPE_CHECKING:
    from conftest import Connection


@pytest.mark.contract("P2.12")
async def test_a_job_whose_worker_was_lost_runs_again_and_spends_no_attempt(pgq: PgQueue) -> None:
    heard: list[Event] = []
    pgq.observe(heard.append)

    @pgq.task(max_retries=0)
    async def work(context: JobContext) -> tuple[int, int]:
        return context.attempt, context.losses

    job = await work.enqueue()
    async with ghost(pgq) as lost:
        await lost.claim()
        running = await job.refresh()
        await lost.die()
        async with pgq.worker():
            result = await job.result(timeout=60)

    [attempt] = await pgq.attempts(job.id)
    assert (running.status, running.attempt, running.worker) == (JobStatus.RUNNING, 1, "ghost")
    assert tuple(result) == (1, 1)
    assert (attempt.attempt, attempt.worker, attempt.reason) == (1, "ghost", "lost")
    assert attempt.started_at == running.started_at
    assert (await job.refresh()).started_at == running.started_at
    assert [event for event in heard if isinstance(event, JobsRescued)] == [JobsRescued(1, [], "ghost")]


@pytest.mark.contract("P2.12")
@pytest.mark.parametrize("level", ["task", "call"])
async def test_a_job_that_allows_no_loss_fails_with_its_worker(pgq: PgQueue, level: str) -> None:
    heard: list[Event] = []
    pgq.observe(heard.append)
    runs: list[str] = []

    async def work() -> None:
        runs.append("run")

    if level == "task":
        task: Any = pgq.task(reject_on_worker_lost=False)(work)
    else:
        task = pgq.task(work).options(reject_on_worker_lost=False)
    job = await task.enqueue()
    # The lease says what its tasks allow: who rescues need not know them.
    async with ghost(pgq, max_losses=pgq.registry.loss_limits()) as lost:
        await lost.claim()
        await lost.die()
        async with pgq.worker(queues=["others"]):
            with pytest.raises(JobFailed, match="worker_lost"):
                await job.result(timeout=60)

    read = await job.refresh()
    assert (read.status, read.reason, read.attempt, read.worker) == (
        JobStatus.FAILED,
        "worker_lost",
        1,
        "ghost",
    )
    assert read.error is not None
    assert read.error.type == "WorkerLost"
    assert read.completed_at is not None
    assert await attempt_reasons(pgq, job.id) == ["lost"]
    assert runs == []
    assert [event for event in heard if isinstance(event, JobsRescued)] == [JobsRescued(0, [job.id], "ghost")]


@pytest.mark.contract("P2.13")
@pytest.mark.parametrize(("options", "allowed"), [({}, 3), ({"max_losses": 1}, 1)])
async def test_losses_are_bounded_by_a_counter_of_their_own(
    pgq: PgQueue, options: dict[str, Any], allowed: int
) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.options(**options).enqueue()
    async with pgq.worker(queues=["others"]):
        for losses in range(1, allowed + 1):
            await lose(pgq)
            await eventually(lambda: has_status(job, JobStatus.PENDING))
            read = await job.refresh()
            assert (read.attempt, read.losses) == (0, losses)
        await lose(pgq)
        with pytest.raises(JobFailed, match="worker_lost"):
            await job.result(timeout=60)

    assert await attempt_reasons(pgq, job.id) == ["lost"] * (allowed + 1)


@pytest.mark.contract("P2.13", "P2.25")
async def test_losses_and_retries_do_not_eat_into_each_other(pgq: PgQueue) -> None:
    @pgq.task(max_retries=1, default_retry_delay=0.001)
    async def fail() -> None:
        raise ValueError

    job = await fail.enqueue()
    for _ in range(2):
        await lose(pgq)
        async with pgq.worker(queues=["others"]):
            await eventually(lambda: has_status(job, JobStatus.PENDING))
    async with pgq.worker():
        with pytest.raises(JobFailed, match="exception"):
            await job.result(timeout=60)

    assert [(each.attempt, each.reason) for each in await pgq.attempts(job.id)] == [
        (1, "lost"),
        (1, "lost"),
        (1, "exception"),
        (2, "exception"),
    ]


async def test_a_rescued_job_keeps_its_place_in_the_queue(pgq: PgQueue) -> None:
    order: list[int] = []

    @pgq.task
    async def note(number: int) -> None:
        order.append(number)

    jobs = await pgq.enqueue_many(note.s(number) for number in range(3))
    async with ghost(pgq) as lost:
        await lost.claim(1)
        await lost.die()
    async with pgq.worker(queues=["others"]):
        await eventually(lambda: has_status(jobs[0], JobStatus.PENDING))
    async with pgq.worker(concurrency=1):
        await jobs[2].result(timeout=60)

    assert order == [0, 1, 2]


async def test_jobs_of_a_lost_worker_that_were_not_started_have_lost_nothing(pgq: PgQueue) -> None:
    @pgq.task(reject_on_worker_lost=False)
    async def work() -> str:
        return "done"

    job = await work.enqueue()
    async with ghost(pgq) as lost:
        await lost.prefetch()
        await lost.die()
        async with pgq.worker():
            assert await job.result(timeout=60) == "done"

    assert await pgq.attempts(job.id) == []


async def test_many_rescuers_take_a_job_back_once(pgq: PgQueue, dsn: str) -> None:
    @pgq.task
    async def work() -> None: ...

    jobs = await pgq.enqueue_many(work.s() for _ in range(50))
    async with ghost(pgq) as lost, PgQueue(dsn) as other:
        await lost.claim()
        await lost.die()
        async with pgq.worker(queues=["others"]), other.worker(queues=["others"]):
            await eventually(lambda: has_status(jobs[-1], JobStatus.PENDING))

    reads = [await job.refresh() for job in jobs]
    assert {(read.status, read.losses) for read in reads} == {(JobStatus.PENDING, 1)}
    assert [len(await pgq.attempts(job.id)) for job in jobs] == [1] * 50


async def test_a_claim_not_yet_committed_is_seen_by_the_rescuer_of_its_lease(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task
    async def work() -> str:
        return "done"

    job = await work.enqueue()
    async with ghost(pgq) as lost:
        async with lost.connection.transaction():
            await lost.claim()
            expiring = asyncio.ensure_future(expire_lease(db, lost.lease_id))
            async with pgq.worker(queues=["others"]) as worker:
                await worker.wait_ready()
        await expiring
        async with pgq.worker():
            assert await job.result(timeout=60) == "done"


async def test_a_lease_without_jobs_is_removed_once_it_ran_out(pgq: PgQueue, db: Connection) -> None:
    async with ghost(pgq) as lost:
        await lost.die()
        async with pgq.worker(name="alive"):
            await eventually(lambda: has_leases(db, ["alive"]))


def test_a_peer_is_dead_once_it_was_silent_and_unrenewed_for_long_enough() -> None:
    watch, peer, renewed_at = SilenceWatch(), uuid4(), datetime.now(UTC)

    assert watch.dead({peer: renewed_at}, now=100) == []
    assert watch.dead({peer: renewed_at}, now=100 + SILENCE / 2) == []
    assert watch.dead({peer: renewed_at}, now=100 + SILENCE) == [(peer, renewed_at)]


def test_a_peer_that_renews_or_is_heard_of_again_is_alive() -> None:
    watch, renewing, back = SilenceWatch(), uuid4(), uuid4()
    renewed_at = datetime.now(UTC)

    watch.dead({renewing: renewed_at, back: renewed_at}, now=0)
    watch.dead({renewing: renewed_at + timedelta(seconds=1)}, now=SILENCE - 1)
    dead = watch.dead({renewing: renewed_at + timedelta(seconds=1), back: renewed_at}, now=SILENCE + 1)

    assert dead == []


def test_a_watch_that_was_away_itself_starts_anew() -> None:
    watch, peer, renewed_at = SilenceWatch(), uuid4(), datetime.now(UTC)

    watch.dead({peer: renewed_at}, now=0)
    watch.forget()

    assert watch.dead({peer: renewed_at}, now=SILENCE) == []
    assert watch.dead({peer: renewed_at}, now=2 * SILENCE) == [(peer, renewed_at)]


async def lose(pgq: PgQueue) -> None:
    """Have a worker claim all jobs and die."""
    async with ghost(pgq) as lost:
        assert await lost.claim()
        await lost.die()


async def has_leases(db: Connection, workers: list[str]) -> bool:
    return [row[0] for row in await db.fetch("select worker from pgqueue.lease")] == workers
