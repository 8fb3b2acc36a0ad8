"""Watching a job: now, each change, the end. Any number of watchers share one look a second."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import pytest
from kit import inside
from kit.waiting import eventually

from pgqueue import Job, JobContext, JobHandle, JobNotFoundError, JobStatus, NotOpenError, PgQueue
from pgqueue.model.ids import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from conftest import Connection

    from pgqueue.store import Store

WITHIN = 60.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgqueue.background.watching.POLL_INTERVAL", 0.1)


async def seen(jobs: AsyncIterator[Job]) -> list[Job]:
    """Return all that a watch shows."""
    with anyio.fail_after(WITHIN):
        return [job async for job in jobs]


async def following(jobs: AsyncIterator[Job]) -> Job:
    """Return what a watch shows next."""
    with anyio.fail_after(WITHIN):
        return await anext(jobs)


class Looks:
    """Counts the statements that read jobs for watchers, and the jobs in each."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.polls: list[int] = []
        self.reads: list[int] = []
        read_versions, read_jobs = store.read_versions, store.read_jobs

        async def count_poll(connection: Any, ids: Iterable[UUID]) -> dict[UUID, tuple[bool, str]]:
            self.polls.append(len(list(ids)))
            return await read_versions(connection, ids)

        async def count_read(connection: Any, ids: Iterable[UUID]) -> dict[UUID, Job]:
            self.reads.append(len(list(ids)))
            return await read_jobs(connection, ids)

        monkeypatch.setattr(store, "read_versions", count_poll)
        monkeypatch.setattr(store, "read_jobs", count_read)

    async def wait_for_polls(self, count: int) -> None:
        """Wait until there were *count* more polls."""
        wanted = len(self.polls) + count

        async def there_were() -> bool:
            return len(self.polls) >= wanted

        await eventually(there_were)


@pytest.mark.contract("P6.8")
async def test_a_watch_shows_the_job_now_then_each_change_and_ends_with_its_end(pgq: PgQueue) -> None:
    go_on = anyio.Event()

    @pgq.task
    async def work(ctx: JobContext) -> str:
        ctx.progress(1, 2)
        await go_on.wait()
        return "done"

    job = await work.enqueue()
    async with aclosing(job.watch()) as jobs:
        now = await following(jobs)
        async with pgq.worker():
            shown = now
            while shown.progress is None:
                shown = await following(jobs)
            go_on.set()
            rest = await seen(jobs)

    assert (now.status, now.id) == (JobStatus.PENDING, job.id)
    assert shown.status is JobStatus.RUNNING
    assert (rest[-1].status, rest[-1].result) == (JobStatus.SUCCEEDED, "done")
    assert not any(each.is_terminal for each in rest[:-1])


@pytest.mark.contract("P6.8")
async def test_everything_that_changes_about_a_waiting_job_is_seen(pgq: PgQueue) -> None:
    @pgq.task(max_retries=1, default_retry_delay=3600)
    async def fail() -> None:
        raise ValueError("not yet")

    job: JobHandle[None] = await fail.enqueue()
    async with aclosing(pgq.watch(job.id)) as jobs:
        first = await following(jobs)
        await pgq.reprioritise(job.id, 7)
        moved = await following(jobs)
        async with pgq.worker():
            retrying = await following(jobs)
            while retrying.status is not JobStatus.SCHEDULED:
                retrying = await following(jobs)
        await job.cancel(reason="enough")
        rest = await seen(jobs)

    assert (first.priority, moved.priority, moved.status) == (0, 7, JobStatus.PENDING)
    assert (retrying.attempt, retrying.last_reason) == (1, "exception")
    assert retrying.next_run_at is not None
    assert [(each.status, each.reason) for each in rest] == [(JobStatus.CANCELLED, "enough")]


@pytest.mark.contract("P6.8")
async def test_a_watch_of_a_job_that_is_over_shows_it_once(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> int:
        return 1

    async with pgq.worker():
        job = await work.enqueue()
        await job.result(timeout=WITHIN)

    shown = await seen(job.watch())

    assert [each.result for each in shown] == [1]


@pytest.mark.contract("P6.8")
async def test_a_watch_of_an_unknown_job_raises_at_once(pgq: PgQueue) -> None:
    unknown = new_id()

    with pytest.raises(JobNotFoundError, match=str(unknown)):
        await following(pgq.watch(unknown))

    assert not inside.watches(pgq).is_watching


@pytest.mark.contract("P6.8")
async def test_a_watch_needs_an_open_pgqueue(dsn: str) -> None:
    with pytest.raises(NotOpenError, match="is not open"):
        PgQueue(dsn).watch(new_id())


@pytest.mark.contract("P6.8")
async def test_closing_ends_watches_and_says_so(dsn: str) -> None:
    pgq = PgQueue(dsn)

    @pgq.task
    async def work() -> None: ...

    async with pgq:
        job = await work.enqueue()
        jobs = job.watch()
        await following(jobs)
        waiting = asyncio.create_task(pgq.wait(job.id))
        await asyncio.sleep(0)

    for watching in (seen(jobs), waiting):
        with (
            pytest.raises(NotOpenError, match="closed while a job was being awaited"),
            anyio.fail_after(WITHIN),
        ):
            await watching


@pytest.mark.contract("P6.8")
async def test_whoever_leaves_a_watch_is_forgotten(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()
    async with aclosing(job.watch()) as jobs:
        await following(jobs)
        while_watching = inside.watches(pgq).is_watching

    assert (while_watching, inside.watches(pgq).is_watching) == (True, False)


@pytest.mark.contract("P6.8")
async def test_a_hundred_watchers_cost_one_statement_an_interval_and_read_no_job_that_stays_the_same(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    @pgq.task(queue="nobody works here")
    async def work(number: int) -> None: ...

    handles = await pgq.enqueue_many([work.s(number) for number in range(50)])
    watches = [handle.watch() for handle in handles * 2]
    for jobs in watches:
        await following(jobs)
    looks = Looks(inside.store(pgq), monkeypatch)
    await looks.wait_for_polls(2)
    looks.polls.clear()
    looks.reads.clear()

    await looks.wait_for_polls(2)
    changed = asyncio.gather(*(following(jobs) for jobs in (watches[7], watches[57])))
    reads_while_nothing_changed = list(looks.reads)
    await pgq.reprioritise(handles[7].id, 3)
    shown = await changed
    await looks.wait_for_polls(2)

    # All jobs in each statement, so that one is all that an interval takes; the one that changed, once.
    assert set(looks.polls) == {50}
    assert reads_while_nothing_changed == []
    assert looks.reads == [1]
    assert [each.priority for each in shown] == [3, 3]
    for jobs in watches:
        await jobs.aclose()


@pytest.mark.contract("P6.8")
async def test_a_slow_watcher_sees_the_latest_state_and_nothing_piles_up_for_it(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task(queue="nobody works here")
    async def work() -> None: ...

    job = await work.enqueue()
    slow, quick = job.watch(), job.watch()
    await following(slow)
    await following(quick)
    for priority in range(1, 4):
        await pgq.reprioritise(job.id, priority)
        while (await following(quick)).priority != priority:
            pass

    shown = await following(slow)
    with anyio.move_on_after(0.01) as waited:
        await anext(slow)

    assert shown.priority == 3
    assert waited.cancelled_caught


@pytest.mark.contract("P6.8")
async def test_waiting_for_the_end_reads_no_job_before_it(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    @pgq.task(queue="nobody works here")
    async def work() -> None: ...

    job = await work.enqueue()
    waiting = asyncio.create_task(pgq.wait(job.id))
    looks = Looks(inside.store(pgq), monkeypatch)
    # With the second one, all that followed from the first is over.
    await looks.wait_for_polls(2)
    looks.reads.clear()

    await pgq.reprioritise(job.id, 3)
    await looks.wait_for_polls(2)
    reads_before = list(looks.reads)
    await job.cancel()
    with anyio.fail_after(WITHIN):
        ended = await waiting

    assert (reads_before, ended.status) == ([], JobStatus.CANCELLED)


@pytest.mark.contract("P6.8")
async def test_versions_are_read_by_primary_key(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()
    async with inside.database(pgq).acquire() as connection:
        plan = "\n".join(
            row[0]
            for row in await connection.fetch(
                f"explain {inside.statement(inside.store(pgq), 'read_versions')}", [job.id, new_id()]
            )
        )

    scans = [line.split("->")[-1].split() for line in plan.splitlines() if " Scan " in line]
    tables = [words for words in scans if words[0] not in {"Function", "Subquery"}]
    assert len(tables) >= 6
    assert {words[0] for words in tables} == {"Index"}
