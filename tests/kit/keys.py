"""Jobs with idempotency keys, brought to the states in which a second call finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.faults import Ghost
from pgqueue import JobHandle, JobStatus, PgQueue, Task
from pgqueue.database.encoding import encoding_of
from pgqueue.model.job_error import JobError
from pgqueue.model.outcomes import Ended, Retried

if TYPE_CHECKING:
    from conftest import Connection


JOBS = "select count(*) from pgqueue.job"
KEYS = "select count(*) from pgqueue.idempotency_key"
LET_WINDOWS_END = "update pgqueue.idempotency_key set expires_at = now() - interval '1 second'"


class RolledBackError(Exception):
    """Ends a transaction without a commit."""


def declare_work(pgq: PgQueue) -> Task[[int], int]:
    @pgq.task
    async def work(number: int) -> int:
        return number

    task: Task[[int], int] = work
    return task


STATES = [
    "pending", "scheduled", "prefetched", "running", "released", "retrying", "lost",
    "succeeded", "failed", "cancelled", "deleted",
]  # fmt: skip


async def bring(  # noqa: C901  # one case a state
    pgq: PgQueue, holder: Ghost, job: JobHandle[Any], state: str
) -> None:
    """Bring a pending job to *state*, by the statements that a worker would run."""
    connection, store, lease_id = holder.connection, holder.store, holder.lease_id
    match state:
        case "pending":
            return
        case "scheduled":
            await connection.execute(
                "select pgqueue.transition($1, 'scheduled', at => now() + interval '1 hour')", job.id
            )
            return
        case "cancelled":
            assert await job.cancel()
            return
        case "prefetched":
            assert await holder.prefetch() == [job.id]
            return
    assert [claimed.id for claimed in await holder.claim()] == [job.id]
    error = JobError("RuntimeError", "no")
    match state:
        case "released":
            await store.release(connection, lease_id, "ghost", [job.id])
        case "retrying":
            await store.retry(
                connection, lease_id, "ghost", [Retried(job.id, 3600.0, "exception", error, spent=True)]
            )
        case "lost":
            await holder.die()
            async with connection.transaction():
                assert await store.lock_expired_lease(connection, lease_id)
                await store.rescue(connection, lease_id, 10, 3)
        case "succeeded" | "deleted":
            await store.finish(connection, lease_id, "ghost", [job.id], None)
        case "failed":
            ended = Ended(job.id, JobStatus.FAILED, "exception", error)
            await store.fail(connection, lease_id, "ghost", [ended])
        case _:
            assert state == "running"
    if state == "deleted":
        await connection.execute("delete from pgqueue.job where id = $1", job.id)


async def holds(db: Connection, text: str) -> bool:
    """Whether the database's encoding has all characters of *text*."""
    encoding = encoding_of(await db.fetchval("show server_encoding"))
    return encoding is None or encoding.holds(text)
