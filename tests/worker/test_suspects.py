"""A job that kills its worker fails alone: what ran beside it is not charged for it."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING
from uuid import UUID

import httpx
import pytest
from kit.faults import attempt_reasons, ghost
from kit.scene import allow
from kit.waiting import eventually, has_status, holds

from pgqueue import JobContext, JobFailed, JobHandle, JobStatus, PgQueue
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

WITHIN = 60.0


async def lose(pgq: PgQueue, *, limit: int = 100) -> None:
    """Lose a worker with all jobs that it can claim, as many as *limit*."""
    async with ghost(pgq) as lost:
        await lost.claim(limit)
        await lost.die()


async def rescued(pgq: PgQueue, jobs: list[JobHandle[None]]) -> None:
    """Have the jobs of lost workers rescued by one that runs none of them."""
    async with pgq.worker(queues=["others"]):
        for job in jobs:
            await eventually(lambda job=job: has_status(job, JobStatus.PENDING))  # type: ignore[misc]


@pytest.mark.contract("W12")
async def test_losses_beside_others_never_fail_a_job(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    jobs = await pgq.enqueue_many([work.options(max_losses=1).s() for _ in range(3)])
    for _ in range(5):
        await lose(pgq)
        await rescued(pgq, jobs)
    async with pgq.worker():
        for job in jobs:
            await job.result(timeout=WITHIN)

    assert [(await job.refresh()).losses for job in jobs] == [5, 5, 5]


@pytest.mark.contract("W12")
async def test_losses_that_a_job_had_alone_fail_it(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    jobs = await pgq.enqueue_many([work.options(max_losses=1).s() for _ in range(2)])
    for _ in range(2):
        await lose(pgq)
        await rescued(pgq, jobs)
    await lose(pgq, limit=1)
    await rescued(pgq, jobs)
    await lose(pgq, limit=1)
    async with pgq.worker(queues=["others"]):
        with pytest.raises(JobFailed, match="worker_lost"):
            await jobs[0].result(timeout=WITHIN)

    assert await attempt_reasons(pgq, jobs[0].id) == ["lost"] * 4
    assert (await jobs[0].refresh()).losses == 4, "also after its end"
    assert await jobs[1].status() is JobStatus.PENDING


@pytest.mark.contract("W12")
async def test_a_job_that_allows_no_loss_fails_beside_others_too(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    once = await work.options(max_losses=0).enqueue()
    other = await work.enqueue()
    await lose(pgq)
    await rescued(pgq, [other])

    assert (await once.refresh()).reason == "worker_lost"


@pytest.mark.contract("W12")
async def test_the_jobs_of_one_worker_are_beside_each_other_however_they_are_rescued(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgqueue.upkeep.rescuing.LIMIT", 1)

    @pgq.task
    async def work() -> None: ...

    jobs = await pgq.enqueue_many([work.options(max_losses=1).s() for _ in range(3)])
    for _ in range(3):
        await lose(pgq)
        await rescued(pgq, jobs)

    assert {await job.status() for job in jobs} == {JobStatus.PENDING}


class Company:
    """Notes who runs beside whom."""

    def __init__(self) -> None:
        self.running: set[UUID] = set()
        self.beside: dict[UUID, set[UUID]] = {}

    async def run(self, ctx: JobContext) -> None:
        """Run for a moment, as one of those that run."""
        self.running.add(ctx.job_id)
        for each in self.running:
            self.beside.setdefault(each, set()).update(self.running - {each})
        await asyncio.sleep(0.02)
        self.running.discard(ctx.job_id)


@pytest.mark.contract("W12")
@pytest.mark.parametrize("prefetch", [1, 3])
async def test_a_job_that_was_lost_twice_runs_alone_and_others_run_together(
    prefetch: int, pgq: PgQueue
) -> None:
    company = Company()

    @pgq.task
    async def work(ctx: JobContext) -> None:
        await company.run(ctx)

    first = await pgq.enqueue_many([work.s() for _ in range(6)])
    for _ in range(2):
        await lose(pgq)
        await rescued(pgq, first)
    later = await pgq.enqueue_many([work.s() for _ in range(30)])
    async with pgq.worker(concurrency=8, prefetch_multiplier=prefetch):
        for job in [*first, *later]:
            await job.result(timeout=WITHIN)

    assert [company.beside[job.id] for job in first] == [set()] * 6
    assert any(company.beside[job.id] for job in later)
    assert [(await job.refresh()).losses for job in first] == [2] * 6


@pytest.mark.contract("W12")
async def test_a_suspect_that_waits_loses_nothing_with_its_worker(pgq: PgQueue, db: Connection) -> None:
    go_on = asyncio.Event()

    @pgq.task
    async def work() -> None: ...

    @pgq.task
    async def wait() -> None:
        await go_on.wait()

    suspect = await work.enqueue()
    for _ in range(2):
        await lose(pgq)
        await rescued(pgq, [suspect])
    busy = await wait.options(priority=1).enqueue()
    async with pgq.worker(concurrency=5) as holder:
        await eventually(lambda: has_status(busy, JobStatus.RUNNING))
        await eventually(lambda: is_held(db, suspect.id))
        # An idle worker takes it over.
        async with pgq.worker(concurrency=5):
            await suspect.result(timeout=WITHIN)
        go_on.set()
        await busy.result(timeout=WITHIN)
        await eventually(lambda: holds(holder.running == 0))

    assert (await suspect.refresh()).losses == 2


async def is_held(db: Connection, job_id: UUID) -> bool:
    """Return whether a worker holds a job that it has not started."""
    return bool(await db.fetchval("select started_at is null from pgqueue.running where job_id = $1", job_id))


@pytest.mark.contract("W12")
async def test_the_losses_of_a_job_that_has_ended_are_shown_everywhere(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()
    await lose(pgq)
    async with pgq.worker():
        await job.result(timeout=WITHIN)

    transport = httpx.ASGITransport(status_app(pgq, authorize=allow))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        polled = (await client.get(f"/jobs/{job.id}")).json()
        page = (await client.get(f"/dashboard/jobs/{job.id}")).text

    assert (await job.refresh()).losses == 1
    assert polled["losses"] == 1
    assert re.search(r"and 1 lost with its worker", page)
    # A redrive or a requeue begins anew.
    await pgq.requeue(job.id)
    assert (await job.refresh()).losses == 0
    async with pgq.worker():
        await job.result(timeout=WITHIN)
    assert (await job.refresh()).losses == 0
