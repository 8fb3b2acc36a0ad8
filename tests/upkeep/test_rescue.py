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
from pgqueue.store import DoubtfulLease
from pgqueue.upkeep.lease_watch import LeaseWatch

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


NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Looks:
    """Looks of one worker at one other lease. Times in seconds from NOON; its own clock began at 1000."""

    def __init__(self) -> None:
        self.watch, self.peer = LeaseWatch(), uuid4()

    def are_lost(
        self,
        at: float,
        *,
        renewed: float = 0.0,
        ttl: float = 15.0,
        step: float = 0.0,
        is_unlocked: bool = False,
        is_judged: bool = False,
        has_lease: bool = True,
    ) -> bool:
        """Look *at* a time; the server's clock was set forward by *step*."""
        clock, renewed_at = NOON + timedelta(seconds=at + step), NOON + timedelta(seconds=renewed)
        lease = DoubtfulLease(
            self.peer, "peer", renewed_at, renewed_at + timedelta(seconds=ttl), is_judged, is_unlocked
        )
        seen = [lease] if is_unlocked or lease.expires_at <= clock else []
        lost = self.watch.lost(seen, clock, 1000 + at, has_lease=has_lease)
        return lost == [lease]


def test_a_peer_is_dead_once_it_was_silent_and_unrenewed_for_long_enough() -> None:
    looks = Looks()

    assert [looks.are_lost(at, is_unlocked=True) for at in (5, 6, 7, 7.9, 8)] == [False] * 4 + [True]


def test_a_peer_that_renews_or_is_heard_of_again_is_alive() -> None:
    renews, is_back = Looks(), Looks()

    for at in range(10):
        assert not renews.are_lost(at, renewed=at // 2, is_unlocked=True)
        assert not is_back.are_lost(at, is_unlocked=at % 3 != 0)


def test_who_has_no_lease_judges_by_no_lock() -> None:
    looks = Looks()

    assert not any(looks.are_lost(at, is_unlocked=True, has_lease=False) for at in range(15))


@pytest.mark.contract("F5")
def test_a_lease_that_expires_before_the_eyes_of_a_peer_is_lost_at_once() -> None:
    looks = Looks()

    assert [looks.are_lost(at) for at in range(14, 17)] == [False, True, True]


@pytest.mark.contract("F5")
@pytest.mark.parametrize("is_unlocked", [True, False])
def test_a_lease_that_expired_while_its_rescuer_was_away_is_watched_first(*, is_unlocked: bool) -> None:
    new, cut_off, stopped, begun = Looks(), Looks(), Looks(), Looks()
    cut_off.are_lost(0)
    cut_off.watch.interrupt()
    stopped.are_lost(0)

    for looks in (new, cut_off, stopped):
        lost = [looks.are_lost(at, is_unlocked=is_unlocked) for at in range(20, 30)]
        assert lost.index(True) == (3 if is_unlocked else 6)
    # Another worker has watched it.
    assert begun.are_lost(20, is_judged=True)


@pytest.mark.contract("F5")
def test_a_worker_that_always_looks_late_or_is_cut_off_again_and_again_still_rescues() -> None:
    late, cut_off = Looks(), Looks()

    assert any(late.are_lost(at) for at in range(20, 80, 10))
    for at in range(20, 40):
        cut_off.watch.interrupt()
        is_lost = cut_off.are_lost(at)
    assert is_lost


@pytest.mark.contract("F9")
def test_a_step_of_the_servers_clock_leaves_every_worker_the_time_to_renew() -> None:
    silent, alive = Looks(), Looks()
    for at in range(10):
        assert not silent.are_lost(at, renewed=at)
        assert not alive.are_lost(at, renewed=at)

    lost = [silent.are_lost(at, renewed=9, step=3600) for at in range(10, 20)]

    assert lost.index(True) == 6
    assert not any(alive.are_lost(at, renewed=9, step=3600) for at in range(10, 14))
    assert not any(alive.are_lost(at, renewed=3600 + 14, step=3600) for at in range(14, 29))


@pytest.mark.contract("F5")
async def test_a_lease_that_nobody_has_begun_to_rescue_is_renewed_late_and_one_that_is_being_rescued_is_not(
    pgq: PgQueue, db: Connection
) -> None:
    async with ghost(pgq) as late:
        await db.execute("update pgqueue.lease set expires_at = now() - interval '1 hour'")
        assert await late.store.renew_lease(late.connection, late.lease_id, 60)
        assert not await late.store.lock_expired_lease(db, late.lease_id)
        await late.die()
        assert not await late.store.renew_lease(late.connection, late.lease_id, 60)


async def lose(pgq: PgQueue) -> None:
    """Have a worker claim all jobs and die."""
    async with ghost(pgq) as lost:
        assert await lost.claim()
        await lost.die()


async def has_leases(db: Connection, workers: list[str]) -> bool:
    return [row[0] for row in await db.fetch("select worker from pgqueue.lease")] == workers
