"""A worker's right to its jobs: how long it holds, and what it is worth once lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from kit import inside
from kit.faults import attempt_reasons, expire_lease, lossy_proxy, renewed
from kit.waiting import eventually, holds

from pgqueue import JobHandle, JobStatus, PgQueue
from pgqueue.events import AttemptsEnded, AttemptsFenced, Event

if TYPE_CHECKING:
    from conftest import Connection


@asynccontextmanager
async def held(pgq: PgQueue, dsn: str) -> AsyncIterator[tuple[JobHandle[str], asyncio.Event, list[str]]]:
    """Run a job in a worker that will not let itself be cancelled; yield it, what lets it go on, its runs.

    A second worker stands by, in a PgQueue of its own.
    """
    go_on, runs = asyncio.Event(), list[str]()

    def declare(queue: PgQueue, name: str) -> Any:
        @queue.task(default_retry_delay=3600)
        async def hold() -> str:
            runs.append(name)
            # Only the first run: the second is the one that counts.
            while len(runs) == 1 and not go_on.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await go_on.wait()
            return name

        return hold

    job = await declare(pgq, "first").enqueue()
    async with PgQueue(dsn) as other, pgq.worker(name="first", lease_ttl=60):
        declare(other, "second")
        await eventually(lambda: holds(bool(runs)))
        async with other.worker(name="second", lease_ttl=60):
            yield job, go_on, runs
            go_on.set()


@pytest.mark.contract("P2.17")
async def test_a_worker_that_lost_its_lease_cannot_change_its_jobs(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    heard: list[Event] = []
    pgq.observe(heard.append)

    async with held(pgq, dsn) as (job, go_on, runs):
        # It does not know yet that it is taken for dead; the job runs again, and its outcome stands.
        await expire_lease(db)
        assert await job.result(timeout=60) in ("first", "second")
        before = await db.fetchrow("select * from pgqueue.job")
        history = await attempt_reasons(pgq, job.id)
        go_on.set()
        await eventually(lambda: holds(any(isinstance(event, AttemptsFenced) for event in heard)))
        after = await db.fetchrow("select * from pgqueue.job")

    assert after == before
    assert await attempt_reasons(pgq, job.id) == history == ["lost"]
    assert len(runs) == 2
    fenced = [event for event in heard if isinstance(event, AttemptsFenced)]
    assert [list(event.job_ids) for event in fenced] == [[job.id]]


@pytest.mark.contract("P2.17")
@pytest.mark.parametrize("outcome", ["return", "raise", "time out"])
async def test_no_kind_of_outcome_gets_past_the_fence(pgq: PgQueue, db: Connection, outcome: str) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    heard: list[Event] = []
    pgq.observe(heard.append)

    @pgq.task(timeout=0.1 if outcome == "time out" else None, max_retries=5)
    async def end() -> str:
        started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await go_on.wait()
        await go_on.wait()
        if outcome == "raise":
            raise ValueError
        return "too late"

    job = await end.enqueue()
    async with pgq.worker(queues=["default"], cancel_grace=60):
        await started.wait()
        # Somebody else has the job now.
        async with db.transaction():
            await db.execute("set local pgqueue.writer to 'on'")
            await db.execute("update pgqueue.running set lease_id = gen_random_uuid()")
        before = await db.fetchrow("select * from pgqueue.running")
        go_on.set()
        await eventually(lambda: holds(any(isinstance(event, AttemptsFenced) for event in heard)))
        after = await db.fetchrow("select * from pgqueue.running")

    assert after == before
    assert await job.status() is JobStatus.RUNNING
    assert await pgq.attempts(job.id) == []
    assert not any(isinstance(event, AttemptsEnded) for event in heard)


@pytest.mark.contract("P2.17")
async def test_a_worker_that_lost_its_lease_cancels_its_handlers_and_goes_on_under_a_new_one(
    pgq: PgQueue, db: Connection
) -> None:
    runs: list[str] = []
    was_cancelled = asyncio.Event()

    @pgq.task
    async def work() -> str:
        runs.append("run")
        if len(runs) == 1:
            try:
                await asyncio.sleep(3600)
            finally:
                was_cancelled.set()
        return "done"

    job = await work.enqueue()
    async with pgq.worker(lease_ttl=9) as worker:
        await eventually(lambda: holds(bool(runs)))
        lost = inside.lease_of(worker)
        await expire_lease(db)
        await was_cancelled.wait()
        assert await job.result(timeout=60) == "done"
        assert inside.lease_of(worker) not in (None, lost)
        assert await (await work.enqueue()).result(timeout=60) == "done"

    assert (await job.refresh()).attempt == 1


@pytest.mark.contract("P2.16")
async def test_a_job_that_runs_longer_than_the_lease_is_not_redelivered(pgq: PgQueue, dsn: str) -> None:
    go_on, runs = asyncio.Event(), list[str]()

    def declare(queue: PgQueue) -> Any:
        @queue.task
        async def last() -> None:
            runs.append("run")
            await go_on.wait()

        return last

    job = await declare(pgq).enqueue()
    async with PgQueue(dsn) as other, pgq.worker(lease_ttl=5) as worker:
        declare(other)
        await eventually(lambda: holds(bool(runs)))
        async with other.worker(lease_ttl=5):
            lease_id = inside.lease_of(worker)
            for _ in range(6):
                # A renewal is a third of the time to live away: six of them are two lives.
                await renewed(pgq, lease_id)
            go_on.set()
            await job.result(timeout=60)
            assert inside.lease_of(worker) == lease_id

    assert runs == ["run"]
    assert await pgq.attempts(job.id) == []


@pytest.mark.contract("P2.16")
async def test_a_lease_is_renewed_while_a_handler_blocks_the_event_loop(pgq: PgQueue) -> None:
    @pgq.task
    async def block() -> None:
        time.sleep(7)  # noqa: ASYNC251  # what this test is about

    job = await block.enqueue()
    async with pgq.worker(lease_ttl=3) as worker:
        await worker.wait_ready()
        lease_id = inside.lease_of(worker)
        await job.result(timeout=60)
        assert inside.lease_of(worker) == lease_id

    assert (await job.refresh()).losses == 0
    assert await pgq.attempts(job.id) == []


@pytest.mark.contract("P2.16")
async def test_a_worker_whose_lease_connection_breaks_holds_its_lock_again_before_peers_miss_it(
    pgq: PgQueue, db: Connection
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @pgq.task
    async def hold() -> str:
        started.set()
        await go_on.wait()
        return "done"

    job = await hold.enqueue()
    # With this time to live the next renewal is minutes away.
    async with pgq.worker(lease_ttl=600) as worker:
        await started.wait()
        lease_id, before = inside.lease_of(worker), await lock_holder(db)
        assert await db.fetchval("select pg_terminate_backend($1)", before)
        await eventually(lambda: is_held_by_another(db, before))
        go_on.set()
        assert await job.result(timeout=60) == "done"
        assert inside.lease_of(worker) == lease_id


@pytest.mark.contract("P2.16")
async def test_waiting_for_a_time_has_nothing_to_do_with_the_lease(pgq: PgQueue, db: Connection) -> None:
    runs: list[str] = []

    @pgq.task
    async def later() -> str:
        runs.append("run")
        return "done"

    job = await later.options(delay=24 * 3600).enqueue()
    async with pgq.worker(lease_ttl=6) as worker:
        await worker.wait_ready()
        for _ in range(4):
            await renewed(pgq, inside.lease_of(worker))
        held = await db.fetchval("select count(*) from pgqueue.running")
        status = await job.status()
        async with db.transaction():
            await db.execute("set local pgqueue.writer to 'on'")
            await db.execute("update pgqueue.scheduled set scheduled_at = now()")
        assert await job.result(timeout=60) == "done"

    assert (held, status, runs) == (0, JobStatus.SCHEDULED, ["run"])


async def test_a_lost_answer_to_its_registration_costs_a_worker_nothing(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as queue:

        @queue.task
        async def work() -> str:
            return "done"

        proxy.lose_answer_to("register_lease")
        async with queue.worker() as worker:
            await proxy.lost.wait()
            assert await (await work.enqueue()).result(timeout=60) == "done"
            assert worker.is_consuming
            assert await db.fetchval("select count(*) from pgqueue.lease") == 1


async def lock_holder(db: Connection) -> int | None:
    """Return the session that holds the lock of the lease."""
    pid: int | None = await db.fetchval(
        "select pid from pg_locks join pgqueue.lease "
        "on (classid::bigint << 32) | objid::bigint = lock_key where locktype = 'advisory' and granted"
    )
    return pid


async def is_held_by_another(db: Connection, session: int | None) -> bool:
    return await lock_holder(db) not in (None, session)
