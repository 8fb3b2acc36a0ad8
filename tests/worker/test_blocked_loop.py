"""Handlers that block the event loop of their worker, and what becomes of the worker and its other jobs."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
from kit import inside
from kit.faults import attempt_reasons
from kit.waiting import eventually, has_status, holds

from pgqueue import JobStatus, PgQueue

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.usefixtures("leases_are_removed")


@pytest.mark.contract("P2.7", "P2.16")
async def test_a_handler_that_blocks_the_loop_is_logged_once_with_its_job_and_its_stack(
    pgq: PgQueue, caplog: pytest.LogCaptureFixture
) -> None:
    def deep_down() -> None:
        time.sleep(9)

    @pgq.task
    async def block() -> str:
        deep_down()
        return "done"

    job = await block.enqueue()
    with caplog.at_level(logging.WARNING, "pgqueue.worker"):
        async with pgq.worker(lease_ttl=4) as worker:
            assert await job.result(timeout=60) == "done"
            await eventually(lambda: holds("runs again" in caplog.text))
            # Long since renewed, twice over.
            assert worker.is_consuming
            await eventually(lambda: holds(worker.loop_lag < 1))

    [block_record] = [record for record in caplog.records if "blocks the event loop" in record.message]
    assert f"job {job.id} (block)" in block_record.message
    assert "in deep_down" in block_record.message
    assert await pgq.attempts(job.id) == []


@pytest.mark.contract("P2.7", "P2.4", "P2.5")
async def test_at_its_hard_limit_a_blocking_attempt_times_out_and_its_neighbours_go_back_unspent(
    pgq: PgQueue, db: Connection
) -> None:
    evacuated: list[list[Any]] = []
    runs: list[str] = []
    neighbour_started = asyncio.Event()

    @pgq.task(timeout=1.5, max_retries=1, default_retry_delay=3600)
    async def block() -> None:
        await neighbour_started.wait()
        # From the watchdog's thread the database can be reached; this loop is not to turn before it was.
        deadline = time.monotonic() + 60
        while not evacuated and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251  # what this test is about

    @pgq.task(max_retries=0)
    async def neighbour() -> str:
        runs.append("run")
        neighbour_started.set()
        if len(runs) == 1:
            await asyncio.sleep(3600)
        return "done"

    @pgq.task
    async def quick() -> str:
        return "done"

    blocking, beside = await pgq.enqueue_many([block.s(), neighbour.s()])
    async with pgq.worker() as worker:
        await worker.wait_ready()
        lost = inside.lease_of(worker)
        # Called once everything is settled, while the loop is still blocked.
        worker.recycle = lambda: evacuated.append(["settled"])
        assert await beside.result(timeout=60) == "done"
        after = await blocking.refresh()
        assert worker.is_alive
        assert inside.lease_of(worker) not in (None, lost)
        assert await (await quick.enqueue()).result(timeout=60) == "done"

    assert (after.status, after.attempt, after.last_reason) == (JobStatus.SCHEDULED, 1, "hard_timeout")
    assert await attempt_reasons(pgq, beside.id) == ["released"]
    # Unspent: without retries, and yet it ran again as attempt 1.
    assert ((await beside.refresh()).attempt, (await beside.refresh()).losses) == (1, 0)
    assert len(runs) == 2
    assert await db.fetchval("select count(*) from pgqueue.lease") == 0


@pytest.mark.contract("P2.7")
async def test_outcomes_that_a_blocked_worker_had_reached_are_written(pgq: PgQueue, db: Connection) -> None:
    settled: list[str] = []
    ran = asyncio.Event()

    @pgq.task(timeout=1, max_retries=0)
    async def block() -> None:
        await ran.wait()
        deadline = time.monotonic() + 60
        while not settled and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251  # what this test is about

    @pgq.task
    async def quick() -> str:
        # The other goes on right after this, before the outcome can be written.
        ran.set()
        return "done"

    blocking, done = await pgq.enqueue_many([block.s(), quick.s()])
    async with pgq.worker() as worker:
        worker.recycle = lambda: settled.append("settled")
        assert await done.result(timeout=60) == "done"
        await eventually(lambda: has_status(blocking, JobStatus.FAILED))

    assert (await blocking.refresh()).reason == "hard_timeout"
    assert await pgq.attempts(done.id) == []
