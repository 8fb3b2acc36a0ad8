"""A database that goes away and comes back: nobody restarts anything, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import anyio
import asyncpg
import pytest
from kit import inside
from kit.faults import FORGET_CLAIMS, ghost
from kit.servers import CrashableServer, crashable_server
from kit.waiting import eventually, is_over

from pgqueue import DatabaseUnavailableError, JobCancelled, JobContext, JobStatus, PgQueue
from pgqueue.events import AttemptsFenced, Event
from pgqueue.testing.databases import with_database

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


@pytest.fixture(scope="module")
def module_server() -> Iterator[CrashableServer]:
    with crashable_server() as server:
        yield server


@pytest.fixture
async def crashable(module_server: CrashableServer) -> CrashableServer:
    """A server of this module's own, running."""
    await module_server.ensure_started()
    return module_server


@pytest.fixture
async def crash_dsn(crashable: CrashableServer) -> str:
    """A migrated database of the test's own on that server."""
    name = f"pgqueue_test_{uuid4().hex[:12]}"
    admin = await asyncpg.connect(crashable.dsn)
    await admin.execute(f"create database {name}")
    await admin.close()
    dsn = with_database(crashable.dsn, name)
    await PgQueue(dsn).migrate()
    return dsn


@pytest.fixture
async def crash_pgq(crash_dsn: str) -> AsyncIterator[PgQueue]:
    """An open PgQueue on that database."""
    async with PgQueue(crash_dsn, connect_timeout=60) as queue:
        yield queue


@pytest.fixture(autouse=True)
def only_sentences(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever is logged of an outage is a sentence, without a traceback. Failed jobs have theirs."""
    yield
    of_outages = (record for record in caplog.get_records("call") if record.name != "pgqueue.jobs")
    assert [record.getMessage() for record in of_outages if record.exc_info] == []


async def configure(dsn: str, change: str) -> None:
    """Change a setting of the server."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"alter system {change}")
    await connection.execute("select pg_reload_conf()")
    await connection.close()


async def flush_to_disk(dsn: str) -> None:
    """Make durable what was committed without waiting for the disk: claims, leases."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("checkpoint")
    await connection.close()


@pytest.mark.contract("P2.14")
async def test_a_server_that_crashes_does_not_forget_that_a_job_was_acknowledged_early(
    crashable: CrashableServer, crash_dsn: str
) -> None:
    # What is committed without waiting for the disk gets there when somebody else's commit does, or late.
    await configure(crash_dsn, "set wal_writer_delay = '10s'")
    runs: list[int] = []
    started, crashed = anyio.Event(), anyio.Event()

    async with PgQueue(crash_dsn, connect_timeout=60) as pgq:

        @pgq.task(acks_late=False)
        async def once() -> None:
            runs.append(1)
            started.set()
            await crashed.wait()

        job = await once.enqueue()
        async with pgq.worker(lease_ttl=3, grace=60) as worker:
            await started.wait()
            await crashable.crash()
            crashed.set()
            # Not by the handler, which is stopped where this takes longer than the lease.
            await crashable.start()
            await eventually(lambda: reached(worker.running == 0))
            await eventually(lambda: is_over(pgq, job.id))

    await configure(crash_dsn, "reset wal_writer_delay")
    assert runs == [1]


@pytest.mark.contract("BP13", "BP2")
async def test_a_running_worker_carries_on_after_a_crash_and_finishes_the_backlog(
    crashable: CrashableServer, crash_pgq: PgQueue
) -> None:
    gate, runs = anyio.Event(), Counter[int]()

    @crash_pgq.task
    async def count(number: int) -> int:
        runs[number] += 1
        await gate.wait()
        return number

    handles = await crash_pgq.enqueue_many([count.s(number) for number in range(200)])
    async with crash_pgq.worker(concurrency=10) as worker:
        await eventually(lambda: reached(len(runs) == 10))
        await crashable.crash()
        gate.set()
        await crashable.start()
        results = [await handle.result(timeout=60) for handle in handles]

        assert worker.is_alive

    assert results == list(range(200))
    assert runs.keys() == set(range(200))


@pytest.mark.contract("BP13", "BP2")
@pytest.mark.contract("P3.13", "P5.10")
@pytest.mark.parametrize("kind", ["plain", "limited", "ordered"])
async def test_nothing_is_lost_when_the_server_crashes_while_jobs_flow(
    crashable: CrashableServer, crash_pgq: PgQueue, crash_dsn: str, kind: str
) -> None:
    jobs, keys, crashes = (3000, 3000, 3) if kind == "plain" else (400, 20, 1)
    starts = Counter[int]()
    at_once: dict[int, set[int]] = {key: set() for key in range(keys)}
    limits = [crash_pgq.limit("two", slots=2).by("key")] if kind == "limited" else []

    @crash_pgq.task(limits=limits, ordered_by="key" if kind == "ordered" else None)
    async def count(number: int, key: int) -> int:
        if not starts[number] and kind == "ordered":
            # What starts again after a crash may be one that has ended meanwhile.
            assert all(starts[earlier] for earlier in range(key, number, keys))
        starts[number] += 1
        at_once[key].add(number)
        assert len(at_once[key]) <= (2 if kind == "limited" else 1)
        if kind != "plain":
            await anyio.sleep(0.002)
        at_once[key].discard(number)
        return number

    handles = await crash_pgq.enqueue_many([count.s(number, number % keys) for number in range(jobs)])
    async with crash_pgq.worker(concurrency=20):
        for crash in range(1, crashes + 1):
            await eventually(lambda: reached(len(starts) > jobs * crash / 6))  # noqa: B023
            await crashable.crash()
            await crashable.start()
        async with asyncio.timeout(180):
            results = await asyncio.gather(*(handle.result() for handle in handles))

    assert results == list(range(jobs))
    connection = await asyncpg.connect(crash_dsn)
    assert await connection.fetchval("select count(*) from pgqueue.gate_pass") == 0
    await connection.close()


@pytest.mark.contract("P4.9", "BP2")
async def test_a_cancellation_outlives_the_worker_and_the_server(
    crashable: CrashableServer, crash_pgq: PgQueue, crash_dsn: str
) -> None:
    started, runs = anyio.Event(), []

    @crash_pgq.task
    async def work() -> None:
        runs.append("run")
        started.set()
        await anyio.sleep_forever()

    running, waiting = await work.enqueue(), await work.options(delay=3600).enqueue()
    async with crash_pgq.worker(grace=0, lease_ttl=9, cancel_grace=0.1):
        await started.wait()
        await flush_to_disk(crash_dsn)
        # Durable when it is answered; nobody has acted on the request by then, and the server is gone.
        assert await waiting.cancel()
        async with inside.database(crash_pgq).acquire() as connection:
            _, requested = await inside.store(crash_pgq).cancel_jobs(
                connection, [running.id], "not needed", None
            )
            assert [job.job_id for job in requested] == [running.id]
        await crashable.crash()
    await crashable.start()
    async with crash_pgq.worker():
        for handle in (running, waiting):
            with pytest.raises(JobCancelled):
                await handle.result(timeout=60)

    assert runs == ["run"]


@pytest.mark.contract("P2.19")
async def test_an_outcome_reached_while_the_database_is_down_is_written_once_it_is_back(
    crashable: CrashableServer, crash_pgq: PgQueue, crash_dsn: str
) -> None:
    started, gate, runs = anyio.Event(), anyio.Event(), []

    @crash_pgq.task
    async def work() -> str:
        runs.append("run")
        started.set()
        await gate.wait()
        runs.append("finished")
        return "done"

    handle = await work.enqueue()
    async with crash_pgq.worker():
        await started.wait()
        await flush_to_disk(crash_dsn)
        await crashable.crash()
        gate.set()
        await eventually(lambda: reached("finished" in runs))
        await crashable.start()

        assert await handle.result(timeout=60) == "done"

    job = await handle.refresh()
    assert runs == ["run", "finished"]
    assert (job.attempt, job.losses) == (1, 0)
    assert await crash_pgq.attempts(handle.id) == []


@pytest.mark.contract("P2.19", "BP13")
async def test_a_failure_reached_while_the_database_is_down_is_retried_once_it_is_back(
    crashable: CrashableServer, crash_pgq: PgQueue, crash_dsn: str
) -> None:
    started, gate, runs = anyio.Event(), anyio.Event(), []

    @crash_pgq.task(max_retries=1, default_retry_delay=0.01)
    async def fail_once() -> int:
        runs.append("run")
        if len(runs) == 1:
            started.set()
            await gate.wait()
            raise ValueError("not yet")
        return len(runs)

    handle = await fail_once.enqueue()
    async with crash_pgq.worker():
        await started.wait()
        await flush_to_disk(crash_dsn)
        await crashable.crash()
        gate.set()
        await crashable.start()

        assert await handle.result(timeout=60) == 2

    [failed] = await crash_pgq.attempts(handle.id)
    assert (failed.attempt, failed.reason) == (1, "exception")


@pytest.mark.contract("P1.5")
async def test_enqueueing_while_the_database_is_down_raises_and_works_again_afterwards(
    crashable: CrashableServer, crash_pgq: PgQueue
) -> None:
    @crash_pgq.task
    async def note(what: str) -> str:
        return what

    before = await note.enqueue("before")
    await crashable.crash()
    patience, inside.database(crash_pgq).connect_timeout = inside.database(crash_pgq).connect_timeout, 1.0
    with anyio.fail_after(60), pytest.raises(DatabaseUnavailableError, match="check that it is running"):
        await note.enqueue("meanwhile")
    inside.database(crash_pgq).connect_timeout = patience
    await crashable.start()
    after = await note.enqueue("after")

    async with crash_pgq.worker():
        assert await before.result(timeout=60) == "before"
        assert await after.result(timeout=60) == "after"


@pytest.mark.contract("P1.5")
async def test_opening_while_the_database_is_down_raises(crashable: CrashableServer, crash_dsn: str) -> None:
    pgq = PgQueue(crash_dsn, connect_timeout=1)
    await crashable.crash()

    with anyio.fail_after(60), pytest.raises(DatabaseUnavailableError, match="check that it is running"):
        await pgq.open()
    with anyio.fail_after(60), pytest.raises(DatabaseUnavailableError, match="check that it is running"):
        await pgq.migrate()

    await crashable.start()
    async with PgQueue(crash_dsn, connect_timeout=60) as pgq:
        await pgq.check()


@pytest.mark.contract("BP2")
async def test_enqueued_jobs_survive_a_crash(crashable: CrashableServer, crash_dsn: str) -> None:
    async with PgQueue(crash_dsn) as pgq:
        handles = await pgq.enqueue_many([pgq.signature("anything", number) for number in range(50)])
        later = await pgq.enqueue_by_name("anything", options={"delay": 3600})
        await crashable.crash()
    await crashable.start()

    async with PgQueue(crash_dsn) as pgq:
        statuses = {(await pgq.get(handle.id)).status for handle in handles}
        assert statuses == {JobStatus.PENDING}
        assert (await pgq.get(later.id)).status is JobStatus.SCHEDULED


@pytest.mark.contract("BP13", "P1.9")
async def test_waiting_for_a_result_survives_a_crash(
    crashable: CrashableServer, crash_pgq: PgQueue, crash_dsn: str
) -> None:
    @crash_pgq.task
    async def work() -> str:
        return "done"

    handle = await work.enqueue()
    waiting = asyncio.create_task(handle.result(timeout=60))
    await asyncio.sleep(0)
    await crashable.crash()
    await crashable.start()
    assert not waiting.done()

    # The worker is another process's: nothing here tells the waiter but the database.
    async with PgQueue(crash_dsn) as elsewhere:
        elsewhere.task(name="work")(work.definition.handler)
        async with elsewhere.worker():
            assert await waiting == "done"


@pytest.mark.contract("BP13")
async def test_a_worker_stops_while_the_database_is_down(crashable: CrashableServer, crash_dsn: str) -> None:
    pgq = PgQueue(crash_dsn)
    started = anyio.Event()

    @pgq.task
    async def work() -> None:
        started.set()
        await anyio.sleep_forever()

    with anyio.fail_after(60):
        async with pgq:
            await work.enqueue()
            async with pgq.worker(grace=0, cancel_grace=1, lease_ttl=3):
                await started.wait()
                inside.database(pgq).connect_timeout = 1.0
                await crashable.crash()


@asynccontextmanager
async def no_writing_by_itself(dsn: str) -> AsyncIterator[None]:
    """Have the server write to disk only what somebody waits for, so that a crash forgets the last claims."""
    await configure(dsn, "set wal_writer_delay = '10s'")
    try:
        yield
    finally:
        await configure(dsn, "reset wal_writer_delay")


@pytest.mark.contract("F9", "BP2")
@pytest.mark.parametrize(("ends", "succeeds"), [("while it is away", True), ("afterwards", False)])
async def test_a_job_whose_claim_a_crash_forgot_goes_on_and_is_not_started_again(
    crashable: CrashableServer, crash_pgq: PgQueue, crash_dsn: str, *, ends: str, succeeds: bool
) -> None:
    gate, runs, fenced = anyio.Event(), list[str](), list[Event]()
    crash_pgq.observe(fenced.append, AttemptsFenced)

    @crash_pgq.task(max_retries=0)
    async def work() -> str:
        runs.append("run")
        await gate.wait()
        if not succeeds:
            raise ValueError("it always fails")
        return "done"

    # A lease that outlasts a slow start of the server.
    worker = crash_pgq.worker(poll_interval=0.05, lease_ttl=120)
    async with worker, no_writing_by_itself(crash_dsn):
        await worker.wait_ready()
        handle = await work.enqueue()
        await eventually(lambda: reached(bool(runs)))
        await crashable.crash()
        if ends == "while it is away":
            gate.set()
            await eventually(lambda: reached(worker.running == 0))
        await crashable.start()
        async with PgQueue(crash_dsn) as observer:
            await eventually(lambda: is_running_or_over(observer, handle.id))
        gate.set()
        job = await crash_pgq.wait(handle.id)

    assert runs == ["run"]
    assert fenced == []
    assert job.status is (JobStatus.SUCCEEDED if succeeds else JobStatus.FAILED)
    assert (job.attempt, job.losses) == (1, 0)


async def is_running_or_over(pgq: PgQueue, job_id: UUID) -> bool:
    status = (await pgq.get(job_id)).status
    return status is JobStatus.RUNNING or status.is_terminal


@pytest.mark.contract("F9")
async def test_a_job_whose_forgotten_claim_another_worker_has_by_now_is_stopped_here(
    pgq: PgQueue, db: Connection
) -> None:
    runs: list[str] = []

    @pgq.task
    async def work() -> None:
        try:
            runs.append("run")
            await anyio.sleep_forever()
        finally:
            runs.append("stopped")

    handle = await work.enqueue()
    async with pgq.worker(concurrency=1, lease_ttl=60), ghost(pgq) as other:
        await eventually(lambda: reached(runs == ["run"]))
        async with other.connection.transaction():
            # What a crash leaves, and the other worker is faster.
            await other.connection.execute(FORGET_CLAIMS)
            assert [job.id for job in await other.claim()] == [handle.id]
        await cut(db)
        await eventually(lambda: reached(runs == ["run", "stopped"]))

        assert (await handle.refresh()).worker == "ghost"


@pytest.mark.contract("F5", "P2.14", "P2.19")
async def test_after_an_outage_longer_than_the_lease_the_outcomes_that_workers_hold_count(
    crashable: CrashableServer, crash_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate, runs, fenced = anyio.Event(), Counter[UUID](), list[Event]()

    async def work(context: JobContext) -> str:
        runs[context.job_id] += 1
        await gate.wait()
        return "done"

    def declare(pgq: PgQueue) -> None:
        pgq.observe(fenced.append, AttemptsFenced)
        pgq.task(name="usual")(work)
        pgq.task(name="at most once", acks_late=False)(work)

    queues = [PgQueue(crash_dsn, connect_timeout=60) for _ in range(3)]
    async with AsyncExitStack() as stack:
        for pgq in queues:
            declare(pgq)
            await stack.enter_async_context(pgq)
            worker = await stack.enter_async_context(pgq.worker(concurrency=4, lease_ttl=6))
            await worker.wait_ready()
        calls = [queues[0].signature(name) for name in ("usual", "at most once") for _ in range(6)]
        handles = await queues[0].enqueue_many(calls)
        await eventually(lambda: reached(len(runs) == 12))
        await flush_to_disk(crash_dsn)
        await crashable.crash()
        gate.set()
        await eventually(lambda: reached(caplog.text.count("was not renewed in time") >= len(queues)))
        await crashable.start()
        jobs = [await queues[0].wait(handle.id) for handle in handles]

    assert {(job.status, job.attempt, job.losses) for job in jobs} == {(JobStatus.SUCCEEDED, 1, 0)}
    assert set(runs.values()) == {1}
    assert fenced == []


@pytest.mark.contract("F5")
async def test_what_a_worker_had_prefetched_before_such_an_outage_runs_after_it(
    crashable: CrashableServer, crash_pgq: PgQueue, crash_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate, runs = anyio.Event(), Counter[int]()

    @crash_pgq.task
    async def work(number: int) -> int:
        runs[number] += 1
        await gate.wait()
        return number

    handles = await crash_pgq.enqueue_many(work.s(number) for number in range(6))
    async with crash_pgq.worker(concurrency=2, prefetch_multiplier=2, lease_ttl=6):
        await eventually(lambda: reached(len(runs) == 2))
        await flush_to_disk(crash_dsn)
        await crashable.crash()
        await eventually(lambda: reached("was not renewed in time" in caplog.text))
        gate.set()
        await crashable.start()
        results = [await handle.result(timeout=60) for handle in handles]

    assert results == list(range(6))
    # What was running was stopped when the lease was over: another worker could have had it.
    assert sum(runs.values()) <= 8


@pytest.mark.contract("BP13", "BP2")
@pytest.mark.parametrize("succeeds", [True, False])
async def test_a_job_claimed_again_under_the_same_lease_ends_once(
    pgq: PgQueue, db: Connection, *, succeeds: bool
) -> None:
    gate, runs = anyio.Event(), []
    fenced: list[UUID] = []

    @pgq.task(max_retries=1, default_retry_delay=3600)
    async def work() -> str:
        runs.append("run")
        await gate.wait()
        if not succeeds:
            raise ValueError("not yet")
        return "done"

    def note_fenced(event: Event) -> None:
        if isinstance(event, AttemptsFenced):
            fenced.extend(event.job_ids)

    pgq.observe(note_fenced)
    handle = await work.enqueue()
    async with pgq.worker(poll_interval=0.05) as worker:
        await eventually(lambda: reached(len(runs) == 1))
        # Claims are committed without waiting for the disk: this is what a crash leaves of one. A loss more,
        # or the worker would take the job again for the attempt that runs.
        await db.execute(FORGET_CLAIMS.replace("attempt - 1, losses", "attempt - 1, losses + 1"))
        await eventually(lambda: reached(len(runs) == 2))
        gate.set()
        await eventually(lambda: reached(worker.running == 0 and fenced == [handle.id]))

        assert worker.is_alive

    job = await handle.refresh()
    assert job.status is (JobStatus.SUCCEEDED if succeeds else JobStatus.SCHEDULED)
    assert job.attempt == 1


async def reached(condition: bool) -> bool:
    return condition


async def cut(db: Connection) -> None:
    """Cut every connection that pgqueue has to the test's database; wait until there is one to cut."""

    async def cuts_some() -> bool:
        count: int = await db.fetchval(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid() and application_name = 'pgqueue'"
        )
        return count > 0

    await eventually(cuts_some)


@pytest.mark.contract("BP13")
async def test_no_job_is_lost_or_stuck_when_connections_are_cut_while_jobs_flow(
    pgq: PgQueue, db: Connection
) -> None:
    runs = Counter[int]()

    @pgq.task
    async def count(number: int) -> int:
        runs[number] += 1
        return number

    handles = await pgq.enqueue_many([count.s(number) for number in range(2000)])
    async with pgq.worker(concurrency=20, lease_ttl=60):
        for cuts in range(1, 10):
            await eventually(lambda: reached(len(runs) > 150 * cuts))  # noqa: B023
            await cut(db)
        async with asyncio.timeout(180):
            results = await asyncio.gather(*(handle.result() for handle in handles))

    assert results == list(range(2000))
    # The lease held all the time: what ran has run once.
    assert set(runs.values()) == {1}


@pytest.mark.contract("BP13")
async def test_a_worker_listens_again_after_its_connections_were_cut(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    @pgq.task
    async def note(what: str) -> str:
        return what

    async with PgQueue(dsn) as elsewhere, pgq.worker(poll_interval=600) as worker:
        await worker.wait_ready()
        first = await elsewhere.enqueue_by_name("note", "first")
        assert await first.result(timeout=60) == "first"

        await cut(db)
        second = await elsewhere.enqueue_by_name("note", "second")
        assert await second.result(timeout=60) == "second"
        third = await elsewhere.enqueue_by_name("note", "third")
        assert await third.result(timeout=60) == "third"
