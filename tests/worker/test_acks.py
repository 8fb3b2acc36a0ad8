"""When a job counts as taken: at its outcome, or at its claim (`acks_late=False`, at most once)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from kit.app_for_tests import make_tables, worker_process
from kit.faults import attempt_reasons, expire_lease
from kit.waiting import eventually, has_status

from pgqueue import InvalidOptionError, JobStatus, PgQueue
from pgqueue.options.levels import Options, read_options
from pgqueue.options.policy import Policy
from pgqueue.options.table import Level

if TYPE_CHECKING:
    from conftest import Connection


@pytest.mark.contract("P2.14")
@pytest.mark.parametrize("said_by", ["task", "call"])
async def test_an_early_acknowledged_job_is_never_run_again_after_a_crash(
    pgq: PgQueue, dsn: str, db: Connection, said_by: str
) -> None:
    await make_tables(db)
    task, options = ("once", {}) if said_by == "task" else ("hang_at_first", {"acks_late": False})
    job = await pgq.enqueue_by_name(task, options=options)  # type: ignore[arg-type]

    with worker_process(dsn, name="first", lease_ttl=30) as first:
        await eventually(lambda: has_rows(db, "execution", 1))
        first.kill()
    with worker_process(dsn, name="second"):
        await eventually(lambda: has_status(job, JobStatus.FAILED))
        ended = await job.refresh()

    assert (ended.reason, ended.attempt) == ("worker_lost", 1)
    assert await db.fetchval("select count(*) from execution") == 1


@pytest.mark.contract("P2.14")
async def test_a_started_job_that_is_acknowledged_early_does_not_go_back_when_its_worker_stops(
    pgq: PgQueue,
) -> None:
    runs: list[int] = []
    started = asyncio.Event()

    @pgq.task(acks_late=False, max_retries=3)
    async def once(number: int) -> None:
        runs.append(number)
        started.set()
        await asyncio.sleep(3600)

    first, second = await pgq.enqueue_many([once.s(1), once.s(2)])
    async with pgq.worker(concurrency=1, prefetch_multiplier=2, grace=0.01):
        await started.wait()

    ended = await first.refresh()
    assert (ended.status, ended.reason) == (JobStatus.FAILED, "worker_lost")
    assert ended.error is not None
    assert "at most once" in ended.error.message
    assert runs == [1]
    # What had not started goes back, and runs.
    assert await second.status() is JobStatus.PENDING


@pytest.mark.contract("P2.14")
async def test_a_lost_lease_does_not_rerun_a_job_acknowledged_early(pgq: PgQueue, db: Connection) -> None:
    started = asyncio.Event()
    runs: list[str] = []

    @pgq.task(acks_late=False)
    async def once() -> None:
        runs.append("run")
        started.set()
        await asyncio.sleep(3600)

    job = await once.enqueue()
    async with pgq.worker(lease_ttl=3), pgq.worker(lease_ttl=60):
        await started.wait()
        await expire_lease(db)
        await eventually(lambda: has_status(job, JobStatus.FAILED))

    assert (await job.refresh()).reason == "worker_lost"
    assert runs == ["run"]


@pytest.mark.contract("P2.15", "P2.14")
async def test_an_exception_is_a_finished_attempt_also_with_early_acknowledgement(pgq: PgQueue) -> None:
    runs: list[str] = []

    @pgq.task(acks_late=False, max_retries=1, default_retry_delay=0.001)
    async def work() -> str:
        runs.append("run")
        if len(runs) == 1:
            raise ValueError
        return "done"

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=180) == "done"

    assert await attempt_reasons(pgq, job.id) == ["exception"]
    assert (await job.refresh()).losses == 0


@pytest.mark.contract("P2.14")
async def test_early_acknowledgement_and_losses_exclude_each_other(dsn: str) -> None:
    pgq = PgQueue(dsn, max_losses=5)
    with pytest.raises(InvalidOptionError, match=r"acks_late=False .* rules out max_losses=2"):

        @pgq.task(acks_late=False, max_losses=2)
        async def both() -> None: ...

    @pgq.task(acks_late=False)
    async def once() -> None: ...

    async with pgq:
        with pytest.raises(InvalidOptionError, match="rules out max_losses=1"):
            await once.options(max_losses=1).enqueue()
    assert pgq.registry.loss_limits()["once"] == 0
    late: Any = once.options(acks_late=True).s().options
    assert pgq.registry.policy(once.definition, "default", late).max_losses == 3


@pytest.mark.contract("P2.14")
def test_late_acknowledgement_is_the_default() -> None:
    assert Policy.of(Options()).acks_late
    assert Policy.of(read_options("here", {"acks_late": False}, Level.TASK)).max_losses == 0


async def has_rows(db: Connection, table: str, count: int) -> bool:
    return bool(await db.fetchval(f"select count(*) >= {count} from {table}"))
