"""A worker that must end gives back what it holds, and never ends as if all had been well."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from kit import inside
from kit.waiting import eventually, has_status

from pgqueue import JobStatus, PgQueue
from pgqueue.errors import PgQueueError
from pgqueue.events import Event, WorkErrorIsolated

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.usefixtures("leases_are_removed")


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
        assert await (await work.enqueue()).result(timeout=60) == "done"
        assert worker.is_alive

    assert {event.doing for event in heard if isinstance(event, WorkErrorIsolated)} == {doing}


FAULTY = """
import asyncio, os

from pgqueue import PgQueue
from pgqueue.worker.worker import Worker

pgq = PgQueue(os.environ["PGQUEUE_DSN"])

@pgq.task(name="hang")
async def hang():
    await asyncio.sleep(3600)

async def fail(self):
    raise RuntimeError("a fault of the worker itself")

Worker._wind_down = fail
"""


@pytest.mark.contract("W11")
async def test_an_end_by_error_is_never_exit_0(pgq: PgQueue, dsn: str, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    job = await pgq.enqueue_by_name("hang")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pgqueue", "worker", "faulty:pgq", "--log-level=error"),
        cwd=tmp_path,
        env={**os.environ, "PGQUEUE_DSN": dsn},
    )
    try:
        await eventually(lambda: has_status(job, JobStatus.RUNNING))
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 180) == 1
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    after = await job.refresh()
    assert (after.status, after.attempt, after.losses) == (JobStatus.PENDING, 0, 0)
