"""Rows that fit nowhere are found, reported, and put right or failed; meanwhile they break no list."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from kit.faults import ghost
from kit.waiting import eventually, over

from pgqueue import JobContext, JobHandle, JobStatus, PgQueue
from pgqueue.events import Event, StraysFound
from pgqueue.upkeep import placing

if TYPE_CHECKING:
    from conftest import Connection

WRITER = "set pgqueue.writer to 'on'"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are minutes to a test."""
    for name, seconds in (("FIRST_PASS", 0.0), ("GRACE", 1.0), ("LEASE_GRACE", 1.0), ("REST", 1.0)):
        monkeypatch.setattr(placing, name, seconds)


SECOND_PLACE = (
    "insert into pgqueue.scheduled (job_id, scheduled_at, lane)"
    " select job_id, now() + interval '1 hour', lane from pgqueue.ready"
)
ENDED = "update pgqueue.job set status = 'failed', completed_at = now()"
FAULTS: dict[str, tuple[str, str]] = {
    "no_place": ("truncate pgqueue.ready", "succeeded"),
    "no_place, not due": (
        "update pgqueue.job set run_at = now() + interval '1 hour' where id = $1; delete from pgqueue.ready",
        "scheduled",
    ),
    "two_places": (SECOND_PLACE, "succeeded"),
    "ended": (f"{SECOND_PLACE}; {ENDED}; delete from pgqueue.ready", "failed"),
    "no_lane": ("update pgqueue.ready set lane = 4711; update pgqueue.job set lane = 4711", "failed"),
    "no_record": ("delete from pgqueue.job", "gone"),
}


@pytest.mark.contract("W10")
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_row_that_fits_nowhere_is_found_and_put_right_or_failed(
    pgq: PgQueue, db: Connection, fault: str
) -> None:
    heard: list[Event] = []
    pgq.observe(heard.append, StraysFound)

    @pgq.task
    async def work(n: int) -> int:
        return n

    job = await work.enqueue(1)
    sql, becomes = FAULTS[fault]
    await db.execute(WRITER)
    await db.execute(sql.replace("$1", f"'{job.id}'"))
    healthy = await work.options(queue="healthy", delay=3600).enqueue(2)

    # Meanwhile nothing is broken by it.
    assert healthy.id in {each.id for each in (await pgq.jobs()).jobs}
    if becomes != "gone":
        assert (await job.refresh()).id == job.id
    # Two places or an ended job are claimed as others are, so the worker serves another queue.
    async with pgq.worker(queues=["others"]):

        async def is_found() -> bool:
            return bool(heard)

        await eventually(is_found)
    [found] = heard
    assert isinstance(found, StraysFound)
    assert (found.kind, list(found.ids)) == (fault.partition(",")[0], [job.id])
    async with pgq.worker():
        if becomes == "gone":
            assert await db.fetchval("select count(*) from pgqueue.ready") == 0
        elif becomes == "scheduled":
            assert await job.status() is JobStatus.SCHEDULED
        else:
            assert (await over(job)).status == becomes
    places = "select count(*) from pgqueue.{} where job_id = $1"
    counts = [await db.fetchval(places.format(place), job.id) for place in ("ready", "running", "scheduled")]
    assert sum(counts) == (becomes == "scheduled")


@pytest.mark.contract("W8", "W10")
async def test_a_row_that_cannot_be_put_right_keeps_no_other_from_it(
    pgq: PgQueue, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    @pgq.task
    async def work(n: int) -> int:
        return n

    jobs = [await work.enqueue(n) for n in range(3)]
    await db.execute(WRITER)
    await db.execute("truncate pgqueue.ready")
    await db.execute(f"alter table pgqueue.ready add constraint refused check (job_id <> '{jobs[1].id}')")
    async with pgq.worker():
        assert [await jobs[n].result(timeout=60) for n in (0, 2)] == [0, 2]

        async def is_said() -> bool:
            return f"row {jobs[1].id} fits nowhere (no_place) and cannot be put right" in caplog.text

        await eventually(is_said)


@pytest.mark.contract("W10")
async def test_jobs_of_a_lease_that_was_deleted_by_hand_are_rescued(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work(context: JobContext) -> int:
        return context.losses

    job = await work.enqueue()
    async with ghost(pgq) as lost:
        await lost.claim()
        await db.execute("delete from pgqueue.lease")
        async with pgq.worker(lease_ttl=9):
            assert await job.result(timeout=60) == 1


@pytest.mark.contract("W10")
async def test_a_lost_job_of_a_task_that_runs_at_most_once_is_not_run_again(
    pgq: PgQueue, db: Connection
) -> None:
    runs: list[int] = []

    @pgq.task(acks_late=False)
    async def once() -> None:
        runs.append(1)

    job = await once.enqueue()
    await db.execute(WRITER)
    await db.execute("delete from pgqueue.ready")
    async with pgq.worker():
        ended = await over(job)

    assert (ended.status, ended.reason, runs) == (JobStatus.FAILED, "broken_row", [])


@pytest.mark.contract("W10")
async def test_nothing_is_found_while_jobs_go_from_place_to_place(pgq: PgQueue) -> None:
    heard: list[Event] = []
    pgq.observe(heard.append, StraysFound)

    @pgq.task(max_retries=2, default_retry_delay=0.05)
    async def restless(n: int) -> int:
        await asyncio.sleep(0.001)
        if n % 3 == 0:
            raise ValueError(n)
        return n

    async with pgq.worker(concurrency=20), pgq.worker(concurrency=20):
        for _ in range(5):
            jobs: list[JobHandle[int]] = [await restless.enqueue(n) for n in range(100)]
            for job in jobs:
                await over(job)

    assert heard == []
