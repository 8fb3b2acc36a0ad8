"""A worker that must end gives back what it holds, and never ends as if all had been well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from kit import inside
from kit.waiting import eventually

from pgqueue import JobStatus, PgQueue
from pgqueue.errors import PgQueueError
from pgqueue.events import Event, WorkErrorIsolated

if TYPE_CHECKING:
    from conftest import Connection


@pytest.mark.contract("W11")
@pytest.mark.parametrize("end", ["an error", "a cancellation"])
async def test_a_worker_that_must_end_gives_back_what_it_holds(
    pgq: PgQueue, db: Connection, end: str
) -> None:
    started = anyio.Event()

    @pgq.task
    async def hang() -> None:
        started.set()
        await anyio.sleep_forever()

    @pgq.task
    async def quick() -> str:
        return "done"

    worker = pgq.worker(concurrency=2, prefetch_multiplier=4)
    worker.start()
    jobs = [await hang.enqueue() for _ in range(5)]
    await started.wait()
    if end == "an error":
        inside.break_worker(worker, RuntimeError("a fault of the worker itself"))
        with pytest.raises(ExceptionGroup) as raised:
            await worker.wait_stopped()
        assert raised.group_contains(RuntimeError, match="a fault of the worker itself")
    else:
        inside.cancel_worker(worker)
        with pytest.raises(PgQueueError, match="cancelled by something else"):
            await worker.wait_stopped()

    assert worker.has_failed
    assert not worker.has_stopped
    after = [await job.refresh() for job in jobs]
    assert {job.status for job in after} == {JobStatus.PENDING}
    assert {(job.attempt, job.losses) for job in after} == {(0, 0)}
    assert await db.fetchval("select count(*) from pgqueue.lease") == 0


@pytest.mark.contract("W11")
@pytest.mark.parametrize("doing", ["keeping the lease", "finishing", "claiming", "upkeep"])
async def test_an_error_in_a_loop_of_the_worker_ends_no_other_and_the_loop_starts_again(
    pgq: PgQueue, doing: str
) -> None:
    heard: list[Event] = []
    pgq.observe(heard.append, WorkErrorIsolated)

    @pgq.task
    async def work() -> str:
        return "done"

    worker = pgq.worker()
    inside.fail_loop_once(worker, doing, RuntimeError("a fault of this loop"))
    async with worker:
        await worker.wait_ready()

        async def is_heard() -> bool:
            return bool(heard)

        await eventually(is_heard)
        assert await (await work.enqueue()).result(timeout=30) == "done"
        assert worker.is_alive

    assert {event.doing for event in heard if isinstance(event, WorkErrorIsolated)} == {doing}
