"""Dead letters, made without running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from conftest import Connection


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
