"""Behind a real PgBouncer in transaction mode, which gives each transaction another server session."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import anyio
import asyncpg
import psycopg
import pytest
from kit.faults import FORGET_CLAIMS
from kit.servers import POOL_SIZE, free_port, needed_pgbouncer, pgbouncer
from kit.waiting import eventually, has_status, holds
from kit.web_client import client_of

from pgqueue import (
    DatabaseUnavailableError,
    DeadLetter,
    JobContext,
    JobFailed,
    JobNotFoundError,
    JobStatus,
    PgQueue,
    Progress,
    Rate,
    chord,
)
from pgqueue.events import AttemptsFenced
from pgqueue.web import status_app

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.contract("BP15")

ANOTHER_PROCESS = """
import asyncio, sys
from pgqueue import PgQueue

async def main() -> None:
    async with PgQueue(sys.argv[1]) as pgq:
        for text in ("one", "two"):
            await pgq.enqueue_by_name("shout", text)

asyncio.run(main())
"""


@pytest.fixture
async def pooled_dsn(dsn: str) -> AsyncIterator[str]:
    """The test's database, by way of PgBouncer."""
    with pgbouncer(needed_pgbouncer(), dsn) as pooled:
        async with AsyncExitStack() as stack:
            # As many transactions at once as there are sessions: from now on they change hands.
            for _ in range(POOL_SIZE):
                connection = await asyncpg.connect(pooled)
                stack.push_async_callback(connection.close)
                await stack.enter_async_context(connection.transaction())
        yield pooled


@pytest.fixture
async def pooled(pooled_dsn: str) -> AsyncIterator[PgQueue]:
    """An open PgQueue behind PgBouncer."""
    # Sixty callers wait for three sessions: on a busy machine for longer than five seconds.
    async with PgQueue(pooled_dsn, connect_timeout=30) as queue:
        yield queue


@pytest.mark.contract("P8.4")
async def test_consumers_receive_and_end_jobs_behind_a_pooler(pooled: PgQueue) -> None:
    handles = [await pooled.enqueue_by_name("work", options={"queue": "inbox"}) for _ in range(2)]
    acked, given_back = await pooled.receive("inbox", n=5, wait=60)
    await acked.extend(60)
    await acked.ack("done")
    assert await given_back.nack(delay=0) is JobStatus.SCHEDULED

    assert await handles[0].result(timeout=60) == "done"
    [again] = await pooled.receive("inbox", wait=60)
    async with again:
        assert (again.id, again.attempt) == (handles[1].id, 2)
    assert await handles[1].status() is JobStatus.SUCCEEDED


async def test_it_says_that_a_pooler_stands_before_the_database(
    pooled_dsn: str, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pgqueue.database")

    async with PgQueue(dsn):
        assert "pooler" not in caplog.text
    async with PgQueue(pooled_dsn):
        pass

    assert "connected through a transaction-mode pooler" in caplog.text


async def test_jobs_run_and_their_results_come_back(pooled: PgQueue) -> None:
    @pooled.task
    async def double(number: int) -> int:
        return 2 * number

    async with pooled.worker(concurrency=20):
        handles = await pooled.enqueue_many([double.s(number) for number in range(300)])
        results = [await handle.result(timeout=60) for handle in handles]

    assert results == [2 * number for number in range(300)]


async def test_callers_and_workers_share_few_sessions_at_once(pooled: PgQueue) -> None:
    @pooled.task
    async def double(number: int) -> int:
        return 2 * number

    results: dict[int, int] = {}

    async def call(number: int) -> None:
        handle = await double.enqueue(number)
        results[number] = await handle.result(timeout=60)

    async with (
        pooled.worker(concurrency=5),
        pooled.worker(concurrency=5),
        anyio.create_task_group() as callers,
    ):
        for number in range(60):
            callers.start_soon(call, number)

    assert results == {number: 2 * number for number in range(60)}


async def test_no_job_starts_before_its_claim_is_committed(pooled: PgQueue, db: Connection) -> None:
    # Runs at the end of the transaction that claims: a commit that takes its time.
    await db.execute(
        """
        create function linger() returns trigger language plpgsql
            as 'begin perform pg_sleep(0.3); return null; end';
        create constraint trigger linger after insert on pgqueue.running
            deferrable initially deferred for each row execute function linger();
        """
    )
    runs = []
    fenced = []
    pooled.observe(lambda event: fenced.append(event) if isinstance(event, AttemptsFenced) else None)

    @pooled.task
    async def note() -> str:
        runs.append("run")
        return "done"

    async with pooled.worker():
        handle = await note.enqueue()
        assert await handle.result(timeout=60) == "done"

    assert (runs, fenced) == (["run"], [])


async def test_a_failed_attempt_is_retried(pooled: PgQueue) -> None:
    attempts = []

    @pooled.task(max_retries=2, default_retry_delay=0.01)
    async def fail_once() -> int:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("not yet")
        return len(attempts)

    async with pooled.worker():
        handle = await fail_once.enqueue()

        assert await handle.result(timeout=60) == 2


async def test_a_job_that_fails_for_good_says_why(pooled: PgQueue) -> None:
    @pooled.task(max_retries=0)
    async def fail() -> None:
        raise ValueError("never")

    async with pooled.worker():
        handle = await fail.enqueue()

        with pytest.raises(JobFailed, match="ValueError: never"):
            await handle.result(timeout=60)


async def test_a_delayed_job_runs_when_its_time_has_come(pooled: PgQueue) -> None:
    @pooled.task
    async def note() -> str:
        return "ran"

    async with pooled.worker():
        handle = await note.options(delay=0.05).enqueue()

        assert await handle.result(timeout=60) == "ran"


async def test_a_job_exists_if_and_only_if_the_callers_transaction_commits(
    pooled: PgQueue, pooled_dsn: str
) -> None:
    @pooled.task
    async def note(what: str) -> str:
        return what

    # What asyncpg asks of everybody behind such a pooler.
    connection = await asyncpg.connect(pooled_dsn, statement_cache_size=0)
    try:
        async with connection.transaction():
            kept = await note.options(connection=connection).enqueue("kept")
        undo = connection.transaction()
        await undo.start()
        lost = await note.options(connection=connection).enqueue("lost")
        await undo.rollback()
    finally:
        await connection.close()

    async with pooled.worker():
        assert await kept.result(timeout=60) == "kept"
    with pytest.raises(JobNotFoundError):
        await lost.refresh()


async def test_a_running_job_is_cancelled(pooled: PgQueue) -> None:
    started = anyio.Event()

    @pooled.task
    async def hang() -> None:
        started.set()
        await anyio.sleep_forever()

    async with pooled.worker():
        handle = await hang.enqueue()
        await started.wait()
        await handle.cancel()
        job = await pooled.wait(handle.id)

    assert job.status is JobStatus.CANCELLED


async def test_processes_that_share_the_poolers_sessions_do_not_disturb_each_other(
    pooled: PgQueue, pooled_dsn: str
) -> None:
    @pooled.task
    async def shout(text: str) -> str:
        return text.upper()

    # Two processes name their prepared statements alike, and the pooler's sessions outlive both.
    async with pooled.worker():
        for _ in range(3):
            process = await anyio.run_process(
                [sys.executable, "-c", ANOTHER_PROCESS, pooled_dsn],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
                check=False,
            )
            assert process.returncode == 0, process.stdout.decode()


async def test_a_schema_is_made_through_the_pooler(pooled_dsn: str) -> None:
    other = PgQueue(pooled_dsn, schema="other")

    await other.migrate()

    async with other:
        assert await other.pending_migrations() == ""


async def test_a_handler_has_its_transaction_its_steps_and_its_progress(
    pooled: PgQueue, pooled_dsn: str
) -> None:
    calls: list[str] = []

    def charge() -> str:
        calls.append("charged")
        return "receipt"

    @pooled.task(max_retries=1, default_retry_delay=0.01)
    async def pay(context: JobContext) -> str:
        receipt = await context.step("charge", charge)
        context.progress(context.attempt, 2)
        async with context.transaction() as connection:
            await connection.execute("insert into effect values ($1)", context.attempt)
            assert await connection.fetchval("show enable_seqscan") == "on"
        if context.attempt == 1:
            raise ValueError("not yet")
        return receipt

    connection = await asyncpg.connect(pooled_dsn, statement_cache_size=0)
    try:
        await connection.execute("create table effect (attempt integer)")
        async with pooled.worker():
            handle = await pay.enqueue()
            assert await handle.result(timeout=60) == "receipt"
        written = await connection.fetch("select attempt from effect")
    finally:
        await connection.close()

    assert (calls, [row[0] for row in written]) == (["charged"], [2])
    assert (await handle.refresh()).progress == Progress(2, 2, None)


@pytest.mark.contract("P5.5", "P5.6", "P5.9")
async def test_dead_letters_are_told_of_and_redriven(pooled: PgQueue) -> None:
    is_broken = True
    heard: list[DeadLetter] = []
    pooled.on_dead(heard.append)

    @pooled.task(max_retries=0)
    async def work(number: int) -> int:
        if is_broken:
            raise ValueError
        return number

    jobs = await pooled.enqueue_many([work.s(number) for number in range(4)])
    async with pooled.worker():
        for job in jobs:
            with pytest.raises(JobFailed):
                await job.result(timeout=60)
    is_broken = False
    await pooled.redrive(jobs[0].id)
    assert await pooled.discard(jobs[1].id) is True
    async with pooled.worker():
        over = await (await pooled.redrive_many(all=True)).wait(timeout=60)
        results = [await jobs[number].result(timeout=60) for number in (0, 2, 3)]

    assert {letter.job_id for letter in heard} == {job.id for job in jobs}
    assert over.done == 2
    assert results == [0, 2, 3]


@pytest.mark.contract("W6")
async def test_a_pooler_that_goes_away_is_waited_for_and_no_call_raises_an_error_of_the_driver(
    dsn: str,
) -> None:
    port = free_port()
    first, second = (pgbouncer(needed_pgbouncer(), dsn, port) for _ in range(2))
    pgq = PgQueue(first.__enter__(), connect_timeout=10.0)

    @pgq.task
    async def double(number: int) -> int:
        return 2 * number

    async def works() -> bool:
        try:
            return await (await double.enqueue(1)).result(timeout=60) == 2
        except DatabaseUnavailableError:
            return False

    async with AsyncExitStack() as poolers, AsyncExitStack() as stack:
        await stack.enter_async_context(pgq)
        worker = await stack.enter_async_context(pgq.worker())
        await eventually(works)
        awaited = await double.options(delay=2).enqueue(21)
        first.__exit__(None, None, None)
        calls: list[Awaitable[object]] = [double.enqueue(1), pgq.jobs(), pgq.measure(), pgq.check()]
        answers = await asyncio.gather(*calls, awaited.cancel(), return_exceptions=True)
        assert [each for each in answers if not isinstance(each, DatabaseUnavailableError)] == []
        poolers.enter_context(second)
        await eventually(works)
        assert await awaited.result(timeout=60) == 42
        assert worker.is_alive


@pytest.mark.contract("P6.13")
async def test_a_workflow_is_watched_paused_and_shown(pooled: PgQueue) -> None:
    @pooled.task
    async def part(number: int) -> int:
        return number

    handle = await chord([part.s(1), part.s(2)], part.si(3)).enqueue()
    path = f"/workflows/{handle.workflow_id}"
    app = status_app(pooled, token="a-secret-for-tests")
    async with client_of(app, headers={"Authorization": "Bearer a-secret-for-tests"}) as client:
        for what in ("pause", "resume"):
            assert (await client.post(f"{path}/{what}")).status_code == 200
        etag = (await client.get(path)).headers["etag"]
        async with pooled.worker(poll_interval=0.1):
            changed = await client.get(f"{path}?wait=30", headers={"If-None-Match": etag})
            await handle.join(60)
            events = await client.get(f"{path}/events")
        page = await client.get(f"/dashboard{path}")
        nodes = await client.get(f"{path}/nodes?status=succeeded")

    assert changed.status_code == 200
    assert changed.headers["etag"] != etag
    assert '"status":"succeeded"' in events.text
    assert page.status_code == 200
    assert len(nodes.json()["nodes"]) == 3


@pytest.mark.contract("P7.25")
async def test_a_durable_function_sleeps_is_sent_events_and_waits_for_its_children(pooled: PgQueue) -> None:
    @pooled.task
    async def part(number: int) -> int:
        return number

    @pooled.task(version="2", pin=True)
    async def work(ctx: JobContext) -> list[int | None]:
        await ctx.sleep("nap", 0.2)
        told = await ctx.wait_for_event("go", int)
        late = await ctx.wait_for_event("late", int, timeout=0.1)
        return [told, late, await ctx.run("parts", part.s(7)), await ctx.step("last", lambda: 9)]

    job = await work.enqueue()
    async with pooled.worker(concurrency=1):
        assert await pooled.signal(job.id, "go", 5, dedup_id="1")
        assert not await pooled.signal(job.id, "go", 6, dedup_id="1")
        assert await job.result(timeout=60) == [5, None, 7, 9]


@pytest.mark.contract("P5.10", "P8.3", "P8.4", "P8.6", "P8.10")
@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_limiters_order_fair_shares_rates_and_schedules_hold(dsn: str, mode: str) -> None:
    inside, most, started, entered = 0, 0, defaultdict[str, list[int]](list), 0
    sessions = POOL_SIZE if mode == "transaction" else 40
    with pgbouncer(needed_pgbouncer(), dsn, sessions=sessions, mode=mode) as pooled:
        # As above: all wait for three sessions.
        async with PgQueue(pooled, connect_timeout=30) as pgq:
            pgq.queue("shared", fair_by="tenant", window=1)

            @pgq.task(max_retries=1, default_retry_delay=0.01)
            async def hold(number: int) -> None:
                nonlocal inside, most, entered
                async with pgq.mutex("ledger"):
                    inside += 1
                    most = max(most, inside)
                    await anyio.sleep(0.005)
                    inside -= 1
                async with pgq.bucket("mail", limit=100, per=1), pgq.window("api", limit=100, per=1):
                    entered += 1

            @pgq.task(ordered_by="account", max_retries=1, default_retry_delay=0.01)
            async def book(ctx: JobContext, account: str, number: int) -> None:
                if ctx.attempt == 1 and number == 1:
                    raise ValueError(account)
                started[account].append(number)

            @pgq.task(queue="shared")
            async def serve(tenant: str, number: int) -> None:
                started[tenant].append(number)

            @pgq.task(limits=[pgq.limit("paced", rate=Rate(200, burst=2))])
            async def pace() -> None: ...

            calls = [book.s(account, number) for number in range(4) for account in ("x", "y")]
            calls += [serve.s(tenant, number) for tenant in ("a", "b") for number in range(4)]
            calls += [*(hold.s(number) for number in range(6)), *(pace.s() for _ in range(6))]
            await pgq.set_weight("shared", "b", weight=2)
            await pgq.schedules.create("often", hold.s(0), every=1, misfire="all")
            jobs = await pgq.enqueue_many(calls)
            async with pgq.worker(poll_interval=0.1), pgq.worker(poll_interval=0.1):
                await pgq.schedules.run_now("often", actor="ann")
                for job in jobs:
                    await job.result(timeout=60)
                await eventually(partial(_has_ticked, pgq, 3))
            await pgq.schedules.pause("often")

            assert most == 1
            assert entered >= 6
            assert started["x"] == started["y"] == [0, 1, 2, 3]
            assert sorted(started["a"]) == sorted(started["b"]) == [0, 1, 2, 3]
            ticks = await pgq.schedules.history("often")
            assert len({each.job_id for each in ticks}) == len(ticks)
            assert await pgq.stopped_keys() == []
            assert [each.waiting for each in await pgq.limits()] == [0, 0]


async def _has_ticked(pgq: PgQueue, times: int) -> bool:
    return len(await pgq.schedules.history("often")) >= times


@pytest.mark.contract("P3.13")
async def test_limits_hold_and_what_waits_for_them_goes_on(pooled: PgQueue) -> None:
    running, most = 0, 0
    limit = pooled.limit("one", slots=2)

    @pooled.task(limits=[limit])
    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.01)
        running -= 1

    handles = await pooled.enqueue_many([work.s() for _ in range(10)])
    async with pooled.worker(poll_interval=0.1):
        await pooled.pause(queue="default")
        handles.append(await work.enqueue())
        await pooled.resume(queue="default")
        for handle in handles:
            await handle.result(timeout=60)

    assert most == 2
    [used] = await pooled.limits()
    assert (used.in_use, used.waiting) == (0, 0)


@pytest.mark.contract("F9")
async def test_a_job_whose_claim_was_forgotten_goes_on_and_is_not_started_again(
    pooled: PgQueue, db: Connection
) -> None:
    gate, runs = anyio.Event(), list[str]()

    @pooled.task
    async def work() -> str:
        runs.append("run")
        await gate.wait()
        return "done"

    handle = await work.enqueue()
    async with pooled.worker(concurrency=1, lease_ttl=60) as worker:
        await eventually(lambda: holds(runs == ["run"]))
        # A crash of the server: its sessions end, too.
        await db.execute(FORGET_CLAIMS)
        await db.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
        await eventually(lambda: has_status(handle, JobStatus.RUNNING))
        gate.set()
        assert await handle.result(timeout=60) == "done"
        assert worker.is_alive

    assert runs == ["run"]
    assert ((await handle.refresh()).attempt, (await handle.refresh()).losses) == (1, 0)


async def test_so_it_does_on_a_connection_of_psycopg(pooled: PgQueue, pooled_dsn: str) -> None:
    @pooled.task
    async def note(what: str) -> str:
        return what

    # What psycopg asks of everybody behind such a pooler.
    async with await psycopg.AsyncConnection.connect(pooled_dsn, prepare_threshold=None) as connection:
        for number in range(6):
            kept = await note.options(connection=connection).enqueue(f"kept {number}")
            await connection.commit()
            lost = await note.options(connection=connection).enqueue("lost")
            await connection.rollback()

    async with pooled.worker():
        assert await kept.result(timeout=60) == "kept 5"
    with pytest.raises(JobNotFoundError):
        await lost.refresh()
