"""Notifications make things quick; nothing depends on them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from kit import inside
from kit.waiting import eventually, holds

from pgqueue import JobCancelled, JobHandle, PgQueue
from pgqueue.background import notifications
from pgqueue.background import watching as watches

if TYPE_CHECKING:
    from conftest import Connection

NEVER = 3600.0


@pytest.fixture
def without_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have waiters look at their jobs when told, and else not within any test."""
    monkeypatch.setattr(watches, "POLL_INTERVAL", NEVER)
    monkeypatch.setattr(watches, "POLL_INTERVAL_UNHEARD", NEVER)


@pytest.mark.usefixtures("without_polling")
async def test_a_waiter_in_another_process_is_told_of_the_result(pgq: PgQueue, dsn: str) -> None:
    go_on = asyncio.Event()

    @pgq.task
    async def work() -> str:
        await go_on.wait()
        return "done"

    job = await work.enqueue()
    async with PgQueue(dsn) as elsewhere, pgq.worker() as worker:
        # Without polling, a waiter says only once that it waits: say it to a worker that listens.
        await eventually(lambda: listens(pgq))
        waiting = asyncio.ensure_future(elsewhere.handle(job.id).result(timeout=60))
        # The worker has heard that somebody waits, and the waiter listens.
        await eventually(lambda: holds(inside.is_watched(worker, time.monotonic())))
        await eventually(lambda: listens(elsewhere))
        go_on.set()
        assert await waiting == "done"


@pytest.mark.usefixtures("without_polling")
async def test_a_waiter_is_told_of_a_job_that_was_cancelled_elsewhere(pgq: PgQueue, dsn: str) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()
    async with PgQueue(dsn) as elsewhere:
        waiting = asyncio.ensure_future(elsewhere.handle(job.id).result(timeout=60))
        await eventually(lambda: listens(elsewhere))
        assert await job.cancel()
        with pytest.raises(JobCancelled):
            await waiting


async def test_an_enqueue_wakes_a_worker_of_another_process(pgq: PgQueue, dsn: str) -> None:
    @pgq.task
    async def work() -> str:
        return "done"

    # Unasked, this worker does not look again within any test.
    async with PgQueue(dsn) as elsewhere, pgq.worker(poll_interval=NEVER):
        await eventually(lambda: listens(pgq))
        for _ in range(3):
            job = await elsewhere.enqueue_by_name("work")
            assert await pgq.handle(job.id).result(timeout=60) == "done"


async def test_a_commit_of_the_callers_transaction_wakes_a_worker(pgq: PgQueue, dsn: str) -> None:
    @pgq.task
    async def work() -> str:
        return "done"

    caller = await asyncpg.connect(dsn)
    async with pgq.worker(poll_interval=NEVER):
        await eventually(lambda: listens(pgq))
        await (await work.enqueue()).result(timeout=60)
        async with caller.transaction():
            job = await work.options(connection=caller).enqueue()
        assert await job.result(timeout=60) == "done"
    await caller.close()


async def test_an_enqueue_from_sql_wakes_a_worker(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def add(a: int, b: int) -> int:
        return a + b

    async with pgq.worker(poll_interval=NEVER):
        await eventually(lambda: listens(pgq))
        job_id = await db.fetchval("select pgqueue.enqueue('add', '[2, 3]')")
        assert await pgq.handle(job_id).result(timeout=60) == 5


async def test_a_listener_that_lost_its_connection_looks_once_for_what_it_missed(
    pgq: PgQueue, dsn: str, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    @pgq.task
    async def work() -> str:
        return "done"

    async with pgq.worker(poll_interval=NEVER) as worker, PgQueue(dsn) as elsewhere:
        await (await work.enqueue()).result(timeout=60)
        await eventually(lambda: listens(pgq))
        await eventually(lambda: holds(inside.sleeps(worker)))
        # What is announced while nobody listens is lost: this job is announced to nobody at all.
        monkeypatch.setattr(inside.signals(elsewhere), "publish", lambda _: None)
        job = await elsewhere.enqueue_by_name("work")
        listener = inside.listener(pgq)
        assert listener is not None
        assert await db.fetchval("select pg_terminate_backend($1)", listener.get_server_pid())
        assert await pgq.handle(job.id).result(timeout=60) == "done"


@pytest.mark.contract("BP13")
async def test_a_listener_whose_connection_is_closed_says_so_and_listens_anew_at_once(
    pgq: PgQueue, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing but the end of the connection itself wakes it.
    monkeypatch.setattr(notifications, "PROBE_INTERVAL", NEVER)

    async with pgq.worker(poll_interval=NEVER):
        await eventually(lambda: listens(pgq))
        closed = inside.listener(pgq)
        assert closed is not None
        said_then: list[bool] = []
        closed.add_termination_listener(lambda _: said_then.append(inside.signals(pgq).is_listening))
        assert await db.fetchval("select pg_terminate_backend($1)", closed.get_server_pid())
        await eventually(lambda: holds(bool(said_then)))
        await eventually(lambda: listens(pgq))
        anew = inside.listener(pgq)

    assert said_then == [False]
    assert anew is not None
    assert anew is not closed


async def test_a_job_that_is_announced_during_a_sweep_is_not_slept_through(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    @pgq.task
    async def work() -> str:
        return "done"

    jobs: list[JobHandle[str]] = []
    is_settled = False
    sweep = inside.store(pgq).sweep

    async def sweep_and_enqueue(connection: Any, lanes: Any) -> dict[int, int]:
        found = await sweep(connection, lanes)
        if is_settled and not jobs:
            # In a lane that this sweep has not seen.
            jobs.append(await work.options(queue="new").enqueue())
        return found

    monkeypatch.setattr(inside.store(pgq), "sweep", sweep_and_enqueue)
    async with pgq.worker(queues=["new", "known"], poll_interval=NEVER) as worker:
        await eventually(lambda: listens(pgq))
        await (await work.options(queue="known").enqueue()).result(timeout=60)
        is_settled = True
        inside.claimer_of(worker).look()
        await eventually(lambda: holds(bool(jobs)))
        assert await jobs[0].result(timeout=60) == "done"


@pytest.mark.parametrize(
    "message", ["", "nonsense", "ready", "ready x", "ready 999999", "cancel", "cancel x"]
)
async def test_a_message_that_is_not_pgqueues_disturbs_nobody(
    pgq: PgQueue, db: Connection, message: str
) -> None:
    @pgq.task
    async def work() -> str:
        return "done"

    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    async with pgq.worker() as worker:
        await eventually(lambda: listens(pgq))
        await db.execute("select pg_notify('pgqueue', $1), pg_notify('pgqueue_finished', $1)", message)
        assert await (await work.enqueue()).result(timeout=60) == "done"
        assert worker.is_alive

    assert problems == []


async def listens(queue: PgQueue) -> bool:
    return inside.signals(queue).is_listening


async def test_a_program_that_enqueues_and_leaves_has_told_workers(dsn: str, db: Connection) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await db.add_listener("pgqueue", lambda *said: heard.put_nowait(str(said[3])))

    async with PgQueue(dsn) as pgq:
        await pgq.enqueue_by_name("work")

    async with asyncio.timeout(60):
        assert (await heard.get()).startswith("ready ")
