"""A job that is over is over: it is not completed again, and it does not run again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from kit.faults import ghost
from kit.waiting import eventually

from pgqueue import JobContext, JobStatus, PgQueue
from pgqueue.model.job_error import JobError
from pgqueue.model.outcomes import Ended, Retried

if TYPE_CHECKING:
    from conftest import Connection
    from kit.faults import Ghost

PLACES = ["ready", "scheduled", "blocked", "running"]
EVERYTHING = """
    select to_jsonb(job)::text,
           (select count(*) from pgqueue.ready), (select count(*) from pgqueue.running),
           (select count(*) from pgqueue.scheduled), (select count(*) from pgqueue.attempt)
    from pgqueue.job
"""

Complete = Callable[["Ghost", Any], Awaitable[object]]
COMPLETIONS: dict[str, Complete] = {
    "finish": lambda holder, job_id: holder.store.finish(
        holder.connection, holder.lease_id, holder.name, [job_id], ['"again"']
    ),
    "retry": lambda holder, job_id: holder.store.retry(
        holder.connection,
        holder.lease_id,
        holder.name,
        [Retried(job_id, 0.0, "exception", JobError("ValueError", "again"))],
    ),
    "fail": lambda holder, job_id: holder.store.fail(
        holder.connection,
        holder.lease_id,
        holder.name,
        [Ended(job_id, JobStatus.FAILED, "exception", JobError("ValueError", "again"))],
    ),
    "release": lambda holder, job_id: holder.store.release(
        holder.connection, holder.lease_id, holder.name, [job_id]
    ),
}


@pytest.mark.contract("P3.12")
@pytest.mark.parametrize("again", COMPLETIONS)
@pytest.mark.parametrize("first", ["finish", "fail"])
async def test_completing_twice_with_the_same_token_changes_nothing(
    pgq: PgQueue, db: Connection, first: str, again: str
) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()
    async with ghost(pgq) as holder:
        await holder.claim()
        assert await COMPLETIONS[first](holder, job.id)
        before = await db.fetchrow(EVERYTHING)

        assert not await COMPLETIONS[again](holder, job.id)

    assert await db.fetchrow(EVERYTHING) == before


@pytest.mark.contract("P3.12", "P3.1")
@pytest.mark.parametrize("is_transactional", [False, True])
async def test_a_job_that_is_over_is_not_redelivered_and_does_not_run_again(
    pgq: PgQueue, dsn: str, db: Connection, is_transactional: bool
) -> None:
    runs: list[int] = []
    await db.execute("create table effect (what text not null)")

    @pgq.task
    async def work(ctx: JobContext) -> str:
        runs.append(ctx.attempt)
        if is_transactional:
            async with ctx.transaction() as connection:
                await connection.execute("insert into effect values ('done')")
        return "done"

    @pgq.task
    async def neighbour() -> None: ...

    job = await work.enqueue()
    async with pgq.worker():
        await job.result(timeout=60)
        before = await job.refresh()
        # The lease under which it ran expires, as if its worker had died right after the commit.
        await db.execute("update pgqueue.lease set expires_at = now() - interval '1 second'")
        # And somebody, an old program perhaps, queues it once more by hand.
        for place in PLACES:
            with pytest.raises(asyncpg.PostgresError):
                await db.execute(f"insert into pgqueue.{place} (job_id, lane) values ($1, 1)", job.id)
        with pytest.raises(asyncpg.PostgresError, match="it cannot become pending"):
            await db.execute("select pgqueue.transition($1, 'pending')", job.id)
        # What is enqueued after it runs, so it would have run by now.
        await (await neighbour.enqueue()).result(timeout=60)
        await eventually(lambda: has_no_expired_lease(db))
        await (await neighbour.enqueue()).result(timeout=60)

    assert runs == [1]
    assert await job.refresh() == before
    assert await db.fetchval("select count(*) from effect") == int(is_transactional)


async def has_no_expired_lease(db: Connection) -> bool:
    return bool(await db.fetchval("select count(*) = 0 from pgqueue.lease where expires_at < now()"))
