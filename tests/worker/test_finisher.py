"""Outcomes are written once and whole, whatever happens to the connection that writes them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from kit.faults import attempt_reasons, blocked_session, is_blocked, lossy_proxy
from kit.waiting import eventually, is_terminal

from pgqueue import JobStatus, PgQueue
from pgqueue.events import AttemptEnded, AttemptsEnded, AttemptsFenced, Event

if TYPE_CHECKING:
    from conftest import Connection

EVERYTHING = """
select job.status::text, job.result::text, job.reason, job.completed_at is null as is_open,
       (select count(*) from pgqueue.running where job_id = job.id) as running,
       (select count(*) from pgqueue.scheduled where job_id = job.id) as scheduled,
       (select count(*) from pgqueue.attempt where job_id = job.id) as attempts
from pgqueue.job
"""


@pytest.mark.contract("P2.18", "P2.19")
@pytest.mark.parametrize(
    ("end", "statement", "after"),
    [
        ("succeed", "finish", ("succeeded", '"done"', None, False, 0, 0, 0)),
        ("fail", "fail", ("failed", None, "exception", False, 0, 0, 1)),
        ("retry", "retry", (None, None, None, True, 0, 1, 1)),
    ],
)
async def test_an_outcome_is_written_whole_or_not_at_all_and_again_after_a_lost_connection(
    pgq: PgQueue, db: Connection, dsn: str, end: str, statement: str, after: tuple[Any, ...]
) -> None:
    heard: list[Event] = []
    pgq.observe(heard.append)
    runs: list[str] = []

    @pgq.task(max_retries=1 if end == "retry" else 0, default_retry_delay=3600)
    async def work() -> str:
        runs.append("run")
        if end != "succeed":
            raise ValueError
        return "done"

    job = await work.enqueue()
    locker = await asyncpg.connect(dsn)
    async with pgq.worker():
        async with locker.transaction():
            # The statement has taken the job from `running` and waits here to write its record.
            await locker.execute("select from pgqueue.job where id = $1 for update", job.id)
            await eventually(lambda: is_blocked(db, statement))
            during = await db.fetchrow(EVERYTHING)
            # Before its commit: the server takes all of it back. The worker sends the same once more.
            first = await blocked_session(db, statement)
            assert await db.fetchval("select pg_terminate_backend($1)", first)
            await eventually(lambda: is_blocked_elsewhere(db, statement, first))
            again = await db.fetchrow(EVERYTHING)
        await eventually(lambda: is_ended(heard))
    await locker.close()

    assert during is not None
    assert again is not None
    assert tuple(during) == tuple(again) == (None, None, None, True, 1, 0, 0)
    assert tuple(await db.fetchrow(EVERYTHING) or ()) == after
    assert runs == ["run"]
    assert [each.job_id for each in ended(heard)] == [job.id]
    assert not any(isinstance(event, AttemptsFenced) for event in heard)


@pytest.mark.contract("P2.19")
@pytest.mark.parametrize(
    ("end", "statement", "status", "reasons"),
    [
        ("succeed", "finish", JobStatus.SUCCEEDED, []),
        ("fail", "fail", JobStatus.FAILED, ["exception"]),
        ("retry", "retry", JobStatus.SCHEDULED, ["exception"]),
    ],
)
async def test_an_outcome_whose_acknowledgement_is_lost_is_written_once_and_is_not_fenced(
    pgq: PgQueue, dsn: str, end: str, statement: str, status: JobStatus, reasons: list[str]
) -> None:
    heard: list[Event] = []
    runs: list[str] = []

    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as queue:
        queue.observe(heard.append)

        @queue.task(max_retries=1 if end == "retry" else 0, default_retry_delay=3600)
        async def work() -> str:
            runs.append("run")
            if end != "succeed":
                raise ValueError
            return "done"

        proxy.lose_answer_to(statement)
        async with queue.worker():
            job = await work.enqueue()
            await proxy.lost.wait()
            await eventually(lambda: is_ended(heard))

    assert [(each.job_id, each.status) for each in ended(heard)] == [(job.id, status)]
    assert not any(isinstance(event, AttemptsFenced) for event in heard)
    read = await pgq.get(job.id)
    assert (read.status, read.attempt) == (status, 1)
    assert await attempt_reasons(pgq, job.id) == reasons
    assert runs == ["run"]


@pytest.mark.contract("P2.19")
async def test_a_batch_of_outcomes_whose_acknowledgement_is_lost_is_written_once(
    dsn: str, db: Connection
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as queue:

        @queue.task
        async def work(number: int) -> int:
            started.set()
            await go_on.wait()
            return number

        jobs = await queue.enqueue_many(work.s(number) for number in range(20))
        async with queue.worker(concurrency=20):
            await started.wait()
            await eventually(lambda: has_running(db, 20))
            proxy.lose_answer_to("finish")
            go_on.set()
            assert [await job.result(timeout=60) for job in jobs] == list(range(20))

    assert await has_running(db, 0)
    assert await db.fetchval("select count(*) from pgqueue.attempt") == 0


async def test_one_outcome_that_the_database_refuses_does_not_keep_others_from_being_written(
    pgq: PgQueue, db: Connection
) -> None:
    together = asyncio.Barrier(3)

    @pgq.task
    async def work(number: int) -> int:
        await together.wait()
        return number

    # Whatever it is that a server refuses: here, one value.
    await db.execute(
        """
        create function refuse() returns trigger language plpgsql as $$
            begin raise exception 'no ones' using errcode = 'data_exception'; end $$;
        create trigger refuse before update on pgqueue.job for each row
            when (new.result::text = '1') execute function refuse()
        """
    )
    jobs = await pgq.enqueue_many(work.s(number) for number in range(3))
    async with pgq.worker() as worker:
        assert [await jobs[0].result(timeout=60), await jobs[2].result(timeout=60)] == [0, 2]
        await eventually(lambda: is_terminal(jobs[1]))
        assert worker.is_alive

    refused = await jobs[1].refresh()
    assert (refused.status, refused.reason) == (JobStatus.FAILED, "unstorable_result")
    assert refused.error is not None
    assert "no ones" in refused.error.message


async def test_outcomes_of_all_kinds_come_out_of_one_batch(pgq: PgQueue) -> None:
    together = asyncio.Barrier(4)

    @pgq.task(default_retry_delay=3600)
    async def work(end: str) -> str:
        await together.wait()
        if end == "retry":
            raise ValueError
        return end

    calls = [
        work.s("kept"),
        work.options(ignore_result=True).s("ignored"),
        work.s("retry"),
        work.options(max_retries=0).s("retry"),
    ]
    kept, ignored, retried, failed = await pgq.enqueue_many(calls)
    async with pgq.worker():
        await eventually(lambda: is_terminal(failed))
        await eventually(lambda: is_terminal(ignored))

    reads = [await job.refresh() for job in (kept, ignored, retried, failed)]
    assert [(read.status, read.has_result) for read in reads] == [
        (JobStatus.SUCCEEDED, True),
        (JobStatus.SUCCEEDED, False),
        (JobStatus.SCHEDULED, False),
        (JobStatus.FAILED, False),
    ]


def ended(heard: list[Event]) -> list[AttemptEnded]:
    return [each for event in heard if isinstance(event, AttemptsEnded) for each in event.attempts]


async def is_ended(heard: list[Event]) -> bool:
    return bool(ended(heard)) or any(isinstance(event, AttemptsFenced) for event in heard)


async def is_blocked_elsewhere(db: Connection, statement: str, session: int | None) -> bool:
    return await blocked_session(db, statement) not in (None, session)


async def has_running(db: Connection, count: int) -> bool:
    return bool(await db.fetchval("select count(*) = $1 from pgqueue.running", count))
