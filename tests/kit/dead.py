"""Dead letters, made without running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from conftest import Connection

    from pgqueue import PgQueue


async def fail_jobs(db: Connection, number: int, task: str = "work") -> list[UUID]:
    """Make jobs that have failed."""
    rows = await db.fetch(
        "select pgqueue.enqueue($2, json_build_object('number', n)) as id from generate_series(1, $1) as n",
        number,
        task,
    )
    ids = [row["id"] for row in rows]
    await db.execute(
        "select pgqueue.transition(id, 'failed', reason => 'exception') from unnest($1::uuid[]) as id", ids
    )
    return ids


async def count(db: Connection, table: str) -> int:
    found: int = await db.fetchval(f"select count(*) from pgqueue.{table}")
    return found


async def two_failed(pgq: PgQueue) -> list[UUID]:
    """Return two jobs that have failed alike."""

    @pgq.task(max_retries=0)
    async def fail(number: int) -> None:
        raise ValueError(f"number {number} is wrong")

    jobs = [await fail.enqueue(number) for number in (1, 2)]
    async with pgq.worker():
        for job in jobs:
            await pgq.wait(job.id)
    return [job.id for job in jobs]
