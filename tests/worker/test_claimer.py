"""Claims find every job, also what a remembered position or a lost answer would hide."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
import pytest
from kit import inside
from kit.faults import expire_lease, ghost, lossy_proxy
from kit.waiting import eventually, over

from pgqueue import JobStatus, PgQueue
from pgqueue.worker.claim.lanes import LATE

if TYPE_CHECKING:
    from conftest import Connection


async def test_a_job_of_a_transaction_that_commits_late_is_found_below_the_remembered_position(
    pgq: PgQueue, dsn: str
) -> None:
    @pgq.task
    async def work() -> str:
        return "done"

    caller = await asyncpg.connect(dsn)
    async with pgq.worker(concurrency=50):
        transaction = caller.transaction()
        await transaction.start()
        late = await work.options(connection=caller).enqueue()
        # Far more than a claim starts below its last position.
        jobs = await pgq.enqueue_many(work.s() for _ in range(4 * LATE))
        await jobs[-1].result(timeout=60)
        await transaction.commit()
        assert await late.result(timeout=60) == "done"
    await caller.close()


@pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "busy"])
async def test_a_job_that_nobody_announced_is_found(pgq: PgQueue, db: Connection, is_busy: bool) -> None:
    stop = asyncio.Event()

    @pgq.task
    async def work() -> str:
        return "done"

    async def keep_busy() -> None:
        while not stop.is_set():
            await (await work.enqueue()).result(timeout=60)

    async with pgq.worker() as worker, asyncio.TaskGroup() as group:
        await worker.wait_ready()
        if is_busy:
            group.create_task(keep_busy())
        # In two statements by hand, in a lane of its own: no notification, no known lane.
        lane = await db.fetchval(
            "insert into pgqueue.lane (queue, priority) values ('default', -7) returning id"
        )
        async with db.transaction():
            job_id = await db.fetchval(
                "insert into pgqueue.job (id, lane, task, arguments) "
                "values (pgqueue.uuid7(), $1, 'work', '{}') returning id",
                lane,
            )
            await db.execute("insert into pgqueue.ready (job_id, lane) values ($1, $2)", job_id, lane)
        assert await pgq.handle(job_id).result(timeout=60) == "done"
        stop.set()


async def test_the_jobs_of_a_claim_whose_answer_is_lost_are_given_back_and_run_once(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    runs: Counter[int] = Counter()

    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as queue:

        @queue.task(max_retries=0)
        async def work(number: int) -> int:
            runs[number] += 1
            return number

        proxy.lose_answer_to("claim")
        jobs = await queue.enqueue_many(work.s(number) for number in range(5))
        # Nobody else is there to rescue, and the lease stays alive.
        async with queue.worker(lease_ttl=600) as worker:
            await proxy.lost.wait()
            lease_id = inside.lease_of(worker)
            assert [await job.result(timeout=60) for job in jobs] == list(range(5))
            assert inside.lease_of(worker) == lease_id

    assert runs == Counter(range(5))
    reads = [await pgq.get(job.id) for job in jobs]
    assert {(read.attempt, read.losses) for read in reads} == {(1, 0)}
    assert await db.fetchval("select count(*) from pgqueue.attempt") == 0


@pytest.mark.contract("W8")
@pytest.mark.parametrize("is_carried_out", [True, False], ids=["answer lost", "never sent"])
async def test_a_connection_lost_between_two_single_claims_starts_no_job_twice(
    dsn: str, db: Connection, is_carried_out: bool
) -> None:
    runs: Counter[int] = Counter()

    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as queue:

        @queue.task
        async def work(number: int) -> int:
            runs[number] += 1
            return number

        jobs = await queue.enqueue_many(work.s(number) for number in range(5))
        # One that no claim can take: the batch fails at it, and the others are claimed one by one.
        await db.execute("set pgqueue.writer to 'on'")
        await db.execute("update pgqueue.ready set attempt = 2147483647 where job_id = $1", jobs[4].id)
        proxy.lose_statement("claim_one", is_carried_out=is_carried_out, skip=2)
        async with queue.worker(lease_ttl=600):
            await proxy.lost.wait()
            assert [await job.result(timeout=60) for job in jobs[:4]] == list(range(4))
            broken = await over(jobs[4])
        losses = [(await job.refresh()).losses for job in jobs]

    assert runs == Counter(range(4))
    assert (broken.status, broken.reason) == (JobStatus.FAILED, "broken_row")
    assert losses == [0] * 5


async def test_what_a_claim_takes_that_is_still_under_way_is_given_back_too(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()
    async with ghost(pgq) as holder, inside.database(pgq).acquire() as connection:
        store = holder.store

        async def give_back() -> list[Any]:
            async with connection.transaction():
                await store.lock_lease(connection, holder.lease_id)
                return await store.release_unknown(connection, holder.lease_id, [])

        async with holder.connection.transaction():
            await holder.claim()
            giving_back = asyncio.ensure_future(give_back())
            await eventually(lambda: waits_for_a_lock(db))
        assert await giving_back == [job.id]

    assert await job.status() is JobStatus.PENDING


async def test_a_lease_that_has_run_out_claims_nothing(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()
    async with ghost(pgq) as holder:
        await expire_lease(db)
        claimed, prefetched = await holder.claim(), await holder.prefetch()

    assert (claimed, prefetched) == ([], [])
    assert await job.status() is JobStatus.PENDING


async def test_a_claim_takes_no_more_than_its_limit_and_passes_over_what_others_hold(
    pgq: PgQueue, dsn: str
) -> None:
    @pgq.task
    async def work() -> None: ...

    jobs = await pgq.enqueue_many(work.s() for _ in range(10))
    async with ghost(pgq) as first, ghost(pgq) as second, first.connection.transaction():
        # Not committed: the second must neither wait for it nor take the same.
        taken = [job.id for job in await first.claim(4)]
        others = [job.id for job in await second.claim(4)]

    assert len(taken) == len(others) == 4
    assert {*taken} == {job.id for job in jobs[:4]}
    assert {*others} == {job.id for job in jobs[4:8]}


async def waits_for_a_lock(db: Connection) -> bool:
    return bool(
        await db.fetchval(
            "select exists (select from pg_stat_activity "
            "where wait_event_type = 'Lock' and datname = current_database())"
        )
    )


@pytest.mark.contract("W28")
async def test_forged_notifications_cost_a_look_and_no_memory(
    pgq: PgQueue, db: Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @pgq.task
    async def work() -> str:
        return "done"

    @pgq.task
    async def stay() -> None:
        started.set()
        await go_on.wait()

    started, go_on = anyio.Event(), anyio.Event()
    statements: Counter[str] = Counter()

    def count(name: str) -> None:
        call = getattr(inside.store(pgq), name)

        async def counted(*arguments: Any) -> Any:
            statements[name] += 1
            return await call(*arguments)

        monkeypatch.setattr(inside.store(pgq), name, counted)

    # Each is what one kind of notification has a process read.
    for name in ("find_lanes", "read_settings", "find_cancel_requests", "read_jobs"):
        count(name)
    async with pgq.worker() as worker, anyio.create_task_group() as watching:
        await (await work.enqueue()).result(timeout=60)
        staying = await stay.enqueue()
        watching.start_soon(pgq.wait, staying.id)
        await started.wait()
        before, began_at = statements.copy(), time.monotonic()
        # Any role that may connect can send these, as many as it likes, and knows ids by listening.
        for channel, message in (
            ("pgqueue", "'ready ' || number"),
            ("pgqueue", "'ready ' || -number"),
            ("pgqueue", "'ready ' || repeat('9', 4000)"),
            ("pgqueue", "repeat('7', 4000)"),
            ("pgqueue", "'cancel ' || number"),
            ("pgqueue", f"'cancel {staying.id}'"),
            ("pgqueue", "'settings ' || number"),
            ("pgqueue", "'watch ' || number"),
            ("pgqueue_finished", "'x' || number"),
            ("pgqueue_finished", f"'{staying.id}' || repeat(' ', number % 100)"),
        ):
            for _ in range(20):
                await db.execute(
                    f"select pg_notify('{channel}', {message}) from generate_series(100000, 100500) as number"
                )
        assert await (await work.enqueue()).result(timeout=60) == "done"
        # Of what comes again and again, so many looks per second.
        seconds = time.monotonic() - began_at
        looks = statements - before
        remembered = inside.foreign_lanes(worker)
        go_on.set()

    assert looks["find_lanes"] < 50 + 2 * seconds
    assert looks["read_settings"] < 5 + 12 * seconds
    assert looks["find_cancel_requests"] < 5 + 12 * seconds
    assert looks["read_jobs"] < 10 + 5 * seconds
    assert remembered <= 1000
    # At most once a minute.
    told = sum("malformed" in record.message for record in caplog.records)
    assert 1 <= told <= 1 + seconds / 60
