"""`ctx.transaction()`: the user's writes and the job's success are one commit, or nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from kit import inside
from kit.faults import lossy_proxy
from kit.waiting import eventually, is_terminal, over

from pgqueue import ContextError, JobContext, JobFailed, JobHandle, JobStatus, LeaseLostError, PgQueue
from pgqueue.events import AttemptEnded, AttemptsEnded, AttemptsFenced, Event

if TYPE_CHECKING:
    from conftest import Connection

ADD = "insert into effect (what) values ($1)"


@pytest.fixture(autouse=True)
async def effects(db: Connection) -> None:
    """A table of the user's."""
    await db.execute("create table effect (what text not null unique deferrable initially deferred)")


async def written(db: Connection) -> list[str]:
    return [row[0] for row in await db.fetch("select what from effect order by what")]


@pytest.mark.contract("P3.1")
async def test_the_writes_and_the_success_become_visible_together(pgq: PgQueue, db: Connection) -> None:
    await db.execute(
        """
        alter table effect add column transaction xid8 not null default pg_current_xact_id();
        create function note_success() returns trigger language plpgsql as
            $$ begin insert into public.effect values ('success'); return null; end $$;
        create trigger note_success after update on pgqueue.job for each row execute function note_success();
        """
    )
    heard: list[Event] = []
    pgq.observe(heard.append)
    after_block, go_on = asyncio.Event(), asyncio.Event()

    @pgq.task
    async def work(ctx: JobContext) -> str:
        async with ctx.transaction() as connection:
            await connection.execute(ADD, "one")
        after_block.set()
        await go_on.wait()
        async with ctx.transaction() as connection:
            await connection.execute(ADD, "two")
            assert await connection.fetchval("select count(*) from effect") == 2
        return "done"

    job = await work.enqueue()
    async with pgq.worker():
        await after_block.wait()
        during = (await written(db), await job.status())
        go_on.set()
        assert await job.result(timeout=60) == "done"
        await eventually(lambda: has_heard(heard))

    assert during == ([], JobStatus.RUNNING)
    assert await written(db) == ["one", "success", "two"]
    assert await db.fetchval("select count(distinct transaction) from effect") == 1
    assert [each.status for each in ended(heard)] == [JobStatus.SUCCEEDED]
    read = await job.refresh()
    assert (read.attempt, read.result, read.worker is not None) == (1, "done", True)


@pytest.mark.contract("P3.1")
async def test_a_handler_that_raises_after_its_block_has_written_nothing(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task(max_retries=1, default_retry_delay=0)
    async def work(ctx: JobContext) -> int:
        async with ctx.transaction() as connection:
            await connection.execute(ADD, f"attempt {ctx.attempt}")
        if ctx.attempt == 1:
            raise ValueError("after the block")
        return ctx.attempt

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == 2

    assert await written(db) == ["attempt 2"]
    assert [attempt.reason for attempt in await pgq.attempts(job.id)] == ["exception"]


@pytest.mark.contract("P3.1")
async def test_an_exception_takes_back_what_its_own_block_wrote(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work(ctx: JobContext) -> None:
        async with ctx.transaction() as outer:
            await outer.execute(ADD, "kept")
            with suppress(ValueError):
                async with ctx.transaction() as inner:
                    await inner.execute(ADD, "nested, taken back")
                    raise ValueError
        with suppress(asyncpg.DivisionByZeroError):
            async with ctx.transaction() as connection:
                await connection.execute(ADD, "taken back")
                await connection.execute("select 1 / 0")
        async with ctx.transaction() as connection:
            await connection.execute(ADD, "kept, too")

    job = await work.enqueue()
    async with pgq.worker():
        await job.result(timeout=60)

    assert await written(db) == ["kept", "kept, too"]


@pytest.mark.contract("P3.1")
async def test_a_constraint_that_is_checked_at_the_end_fails_the_attempt(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task(max_retries=0)
    async def work(ctx: JobContext) -> None:
        async with ctx.transaction() as connection:
            await connection.execute(ADD, "same")
            await connection.execute(ADD, "same")

    job = await work.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed, match=r"\(exception\): UniqueViolationError") as raised:
            await job.result(timeout=60)

    assert raised.value.reason == "exception"
    assert await written(db) == []


@pytest.mark.contract("P3.1")
async def test_a_transaction_broken_by_hand_is_never_taken_for_success(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(max_retries=0)
    async def work(ctx: JobContext, statement: str) -> str:
        try:
            async with ctx.transaction() as connection:
                await connection.execute(ADD, "broken")
                await connection.execute(statement)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            pass
        return "as if nothing had happened"

    statements = ["rollback", "select pg_terminate_backend(pg_backend_pid())"]
    jobs = [await work.enqueue(statement) for statement in statements]
    async with pgq.worker():
        broken = [await over(job) for job in jobs]

    assert [(job.status, job.reason) for job in broken] == [(JobStatus.FAILED, "exception")] * 2
    assert await written(db) == []


@pytest.mark.contract("P3.1")
async def test_jobs_enqueued_in_the_transaction_exist_if_and_only_if_it_commits(pgq: PgQueue) -> None:
    ran: list[int] = []

    @pgq.task
    async def child(number: int) -> None:
        ran.append(number)

    children: list[JobHandle[None]] = []

    @pgq.task(max_retries=1, default_retry_delay=0)
    async def work(ctx: JobContext) -> None:
        async with ctx.transaction() as connection:
            children.append(await child.options(connection=connection).enqueue(ctx.attempt))
        if ctx.attempt == 1:
            raise ValueError

    job = await work.enqueue()
    async with pgq.worker():
        await job.result(timeout=60)
        await children[1].result(timeout=60)

    assert ran == [2]


@pytest.mark.contract("P3.1")
@pytest.mark.parametrize("end", ["timeout", "cancel", "release"])
async def test_an_attempt_that_is_stopped_has_written_nothing(pgq: PgQueue, db: Connection, end: str) -> None:
    entered = asyncio.Event()

    @pgq.task(max_retries=0, soft_timeout=None, timeout=3600)
    async def work(ctx: JobContext) -> None:
        async with ctx.transaction() as connection:
            await connection.execute(ADD, "stopped")
        async with ctx.transaction() as connection:
            entered.set()
            await connection.execute("select pg_sleep(600)")

    job = await work.enqueue()
    async with pgq.worker() as worker:
        await entered.wait()
        if end == "timeout":
            inside.let_time_pass(worker, 3599.9)
        elif end == "cancel":
            await job.cancel()
        elif end == "release":
            worker.release()
        if end == "release":
            await worker.wait_stopped()
        else:
            await eventually(lambda: is_terminal(job))

    becomes = {"timeout": JobStatus.FAILED, "cancel": JobStatus.CANCELLED, "release": JobStatus.PENDING}
    assert await job.status() is becomes[end]
    assert await written(db) == []
    # And nobody sits in a transaction.
    await eventually(lambda: nobody_idles(db))


@pytest.mark.contract("P3.1", "P2.17")
async def test_an_attempt_that_lost_its_lease_commits_nothing(pgq: PgQueue, db: Connection) -> None:
    heard: list[Event] = []
    pgq.observe(heard.append)

    @pgq.task
    async def work(ctx: JobContext) -> str:
        async with ctx.transaction() as connection:
            await connection.execute(ADD, "too late")
        await give_to_another(db)
        return "done"

    job = await work.enqueue()
    async with pgq.worker():
        await eventually(lambda: has_heard(heard))

    assert any(isinstance(event, AttemptsFenced) for event in heard)
    assert await job.status() is JobStatus.RUNNING
    assert await written(db) == []


@pytest.mark.contract("P3.1", "P2.17")
async def test_without_its_lease_an_attempt_begins_no_transaction(pgq: PgQueue, db: Connection) -> None:
    raised: list[BaseException] = []
    ended = asyncio.Event()

    @pgq.task
    async def work(ctx: JobContext) -> None:
        await give_to_another(db)
        try:
            async with ctx.transaction():
                pytest.fail("entered")
        except LeaseLostError as error:
            raised.append(error)
        ended.set()

    await work.enqueue()
    async with pgq.worker():
        await ended.wait()

    assert "its lease is lost" in str(raised[0])


@pytest.mark.contract("P3.1")
async def test_blocks_of_two_asyncio_tasks_at_once_are_an_error(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work(ctx: JobContext) -> str:
        async def other() -> None:
            async with ctx.transaction():
                pytest.fail("entered")

        async with ctx.transaction() as connection:
            await connection.execute(ADD, "kept")
            with pytest.raises(ContextError, match="one after the other"):
                await asyncio.ensure_future(other())
        return "done"

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == "done"

    assert await written(db) == ["kept"]


@pytest.mark.contract("P3.1", "P3.12")
@pytest.mark.parametrize(("lost", "runs"), [("after", 1), ("before", 2)])
async def test_a_commit_whose_acknowledgement_is_lost_is_settled_by_asking_the_job(
    dsn: str, db: Connection, lost: str, runs: int
) -> None:
    heard: list[Event] = []
    ran: list[int] = []
    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as queue:
        queue.observe(heard.append)

        @queue.task(max_retries=1, default_retry_delay=0)
        async def work(ctx: JobContext) -> int:
            async with ctx.transaction() as connection:
                ran.append(ctx.attempt)
                await connection.execute(ADD, f"attempt {ctx.attempt}")
            if ctx.attempt == 1:
                proxy.lose_text("COMMIT;", after="set constraints", is_carried_out=lost == "after")
            return ctx.attempt

        async with queue.worker():
            job = await work.enqueue()
            await proxy.lost.wait()
            assert await job.result(timeout=60) == runs

    assert len(ran) == runs
    assert await written(db) == [f"attempt {runs}"]
    assert not any(isinstance(event, AttemptsFenced) for event in heard)


@pytest.mark.contract("P3.1")
async def test_the_connection_is_a_plain_one_and_comes_back_clean(pgq: PgQueue) -> None:
    seen: list[tuple[Any, ...]] = []

    @pgq.task
    async def work(ctx: JobContext) -> None:
        async with ctx.transaction() as connection:
            row = await connection.fetchrow(
                "select pg_backend_pid(), current_setting('enable_seqscan'), current_setting('search_path'), "
                "coalesce(current_setting('pgqueue.writer', true), '')"
            )
            assert row is not None
            seen.append(tuple(row))
            await connection.execute("set search_path to nowhere")

    async with pgq.worker(concurrency=1):
        for _ in range(2):
            await (await work.enqueue()).result(timeout=60)

    assert seen[0] == seen[1]
    assert seen[0][1:] == ("on", '"$user", public', "")


@pytest.mark.contract("P3.1", "P4.4")
async def test_the_job_is_completed_at_the_end_of_its_transaction(pgq: PgQueue) -> None:
    @pgq.task
    async def work(ctx: JobContext) -> datetime:
        async with ctx.transaction() as connection:
            now: datetime = await connection.fetchval("select clock_timestamp()")
        return now

    job = await work.enqueue()
    async with pgq.worker():
        at = await job.result(timeout=60)

    completed_at = (await job.refresh()).completed_at
    assert completed_at is not None
    assert completed_at > at


@pytest.mark.contract("P3.1")
async def test_more_handlers_than_connections_take_turns(dsn: str, db: Connection) -> None:
    async with PgQueue(dsn, max_connections=2) as pgq:

        @pgq.task
        async def work(ctx: JobContext, number: int) -> None:
            async with ctx.transaction() as connection:
                await connection.execute(ADD, str(number))

        jobs = await pgq.enqueue_many(work.s(number) for number in range(20))
        async with pgq.worker(concurrency=20):
            for job in jobs:
                await job.result(timeout=60)

    assert sorted(map(int, await written(db))) == list(range(20))


@pytest.mark.contract("P3.1", "P2.17", "P2.6")
async def test_a_handler_that_goes_on_after_it_was_given_up_keeps_nothing(
    pgq: PgQueue, db: Connection
) -> None:
    """Even if the same worker, under the same lease, runs the job again meanwhile."""
    written_by_it, let_go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    kept_out: list[str] = []

    @pgq.task(soft_timeout=None, timeout=3600, max_retries=1, default_retry_delay=0)
    async def work(ctx: JobContext) -> str:
        if ctx.attempt == 2:
            return "second"
        try:
            async with ctx.transaction() as connection:
                await connection.execute(ADD, "from the attempt that was given up")
            written_by_it.set()
            while not let_go.is_set():
                with suppress(asyncio.CancelledError):
                    await let_go.wait()
            with pytest.raises(LeaseLostError, match="this attempt is over"):
                await ctx.step("step", pytest.fail, "called")
            with pytest.raises(LeaseLostError, match="this attempt is over"):
                ctx.transaction()
            kept_out.append("all")
        finally:
            ended.set()
        return "first"

    job = await work.enqueue()
    async with pgq.worker(cancel_grace=0.1) as worker:
        await written_by_it.wait()
        inside.let_time_pass(worker, 3599.9)
        assert await job.result(timeout=60) == "second"
        let_go.set()
        await ended.wait()

    assert kept_out == ["all"]
    assert (await job.refresh()).result == "second"
    assert await written(db) == []
    await eventually(lambda: nobody_idles(db))


@pytest.mark.contract("P3.1", "P4.9")
async def test_a_job_that_is_being_committed_is_not_cancelled_any_more(
    pgq: PgQueue, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.execute(
        """
        create function wait_for_the_test() returns trigger language plpgsql as
            $$ begin perform pg_advisory_xact_lock_shared(7, 7); return null; end $$;
        create constraint trigger wait after insert on effect deferrable initially deferred
            for each row execute function wait_for_the_test();
        select pg_advisory_lock(7, 7);
        """
    )
    looks: list[list[UUID]] = []
    find_cancel_requests = inside.store(pgq).find_cancel_requests

    async def look(connection: Any, lease_id: UUID) -> list[UUID]:
        looks.append(await find_cancel_requests(connection, lease_id))
        return looks[-1]

    monkeypatch.setattr(inside.store(pgq), "find_cancel_requests", look)

    @pgq.task
    async def work(ctx: JobContext) -> str:
        async with ctx.transaction() as connection:
            await connection.execute(ADD, "one")
        return "done"

    job = await work.enqueue()

    async def looked_twice() -> bool:
        return looks.count([job.id]) >= 2 or await is_terminal(job)

    async with pgq.worker():
        await eventually(lambda: is_committing(db))
        assert await job.cancel()
        # By its second look the worker has heeded what it found at the first.
        await eventually(looked_twice)
        await db.execute("select pg_advisory_unlock(7, 7)")
        ended = await over(job)

    assert ended.status is JobStatus.SUCCEEDED
    assert await written(db) == ["one"]


async def is_committing(db: Connection) -> bool:
    query = "select exists (select from pg_locks where locktype = 'advisory' and objid = 7 and not granted)"
    return bool(await db.fetchval(query))


@pytest.mark.contract("P4.14")
async def test_an_ignored_result_is_not_kept_by_a_transaction_either(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(ignore_result=True)
    async def work(ctx: JobContext) -> object:
        async with ctx.transaction() as connection:
            await connection.execute(ADD, "kept")
        return object()

    job = await work.enqueue()
    async with pgq.worker():
        await job.result(timeout=60)

    assert (await job.refresh()).has_result is False
    assert await written(db) == ["kept"]


@pytest.mark.contract("P3.1")
async def test_in_another_schema_too(empty_dsn: str) -> None:
    pgq = PgQueue(empty_dsn, schema="other_jobs")
    await pgq.migrate()
    async with pgq:

        @pgq.task
        async def work(ctx: JobContext) -> int:
            ctx.progress(1)
            async with ctx.transaction() as connection:
                await connection.execute("create table effect (what text)")
            return await ctx.step("number", lambda: 7)

        job = await work.enqueue()
        async with pgq.worker():
            assert await job.result(timeout=60) == 7
        progress = (await job.refresh()).progress

    assert progress is not None
    connection = await asyncpg.connect(empty_dsn)
    assert await connection.fetchval("select count(*) from effect") == 0
    await connection.close()


async def give_to_another(db: Connection) -> None:
    """Give every running job to a lease that this worker does not have, as a rescue and a claim would."""
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute("update pgqueue.running set lease_id = $1", uuid4())


def ended(heard: list[Event]) -> list[AttemptEnded]:
    return [each for event in heard if isinstance(event, AttemptsEnded) for each in event.attempts]


async def has_heard(heard: list[Event]) -> bool:
    return any(isinstance(event, AttemptsEnded | AttemptsFenced) for event in heard)


async def nobody_idles(db: Connection) -> bool:
    return bool(
        await db.fetchval(
            "select count(*) = 0 from pg_stat_activity where datname = current_database() "
            "and pid <> pg_backend_pid() and state like 'idle in transaction%'"
        )
    )
