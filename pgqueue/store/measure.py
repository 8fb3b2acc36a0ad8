"""What is seen of a running system, and what processes write down for it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.model.measures import RunningJob, WorkerMeasure
from pgqueue.model.progress import Progress, decode_progress
from pgqueue.store.base import Statements
from pgqueue.store.values import Countable, DeadCount, Done, Estimate, LaneCounts

if TYPE_CHECKING:
    from asyncpg import Record

    from pgqueue.database.connection import Connection

STAT_MERGE_AGE: Final = timedelta(minutes=10)
"""For how long it is kept as it was written down, by whom and when; then a minute's is made one."""
STAT_AGE: Final = timedelta(hours=24)
"""For how long what was written down is kept."""


class MeasureStatements(Statements):
    """What is seen of a running system."""

    async def measure(self, connection: Connection, cap: int, most_running: int) -> list[LaneCounts]:
        """Return what each lane holds, counting to *cap* of each kind and to *most_running* running jobs."""
        rows = await connection.fetch(self._sql["measure"], cap, most_running)
        return [LaneCounts._make(row) for row in rows]

    async def count_dead_letters(self, connection: Connection, cap: int) -> list[DeadCount]:
        """Return how many dead letters each queue has, counting at most *cap*."""
        return [DeadCount._make(row) for row in await connection.fetch(self._sql["count_dead_letters"], cap)]

    async def estimate(
        self, connection: Connection, blocks: int, tables: Collection[Countable]
    ) -> list[Estimate]:
        """Return about how much waits where, from a sample of some *blocks* of each of some tables."""
        rows = await connection.fetch(self._sql["estimate"], blocks, sorted(tables))
        return [Estimate._make(row) for row in rows]

    async def record_stats(self, connection: Connection, rows: Collection[Mapping[str, object]]) -> None:
        """Write down what a process did: columns of `stat`, each row with its id. Twice is once."""
        await connection.execute(self._sql["record_stats"], json.dumps(list(rows)))

    async def read_stats(
        self, connection: Connection, span: float, width: float, *, queue: str | None, by_queue: bool
    ) -> list[Done]:
        """Return what was done in each stretch of *width* seconds of the last *span*."""
        rows = await connection.fetch(
            self._sql["read_stats"], timedelta(seconds=span), timedelta(seconds=width), queue, by_queue
        )
        return [Done._make(row) for row in rows]

    async def read_stat_span(self, connection: Connection, span: float) -> tuple[datetime, float]:
        """Return the time now, and for how many seconds, *span* at most, something has been written down."""
        row = await connection.fetchrow(self._sql["read_stat_span"], timedelta(seconds=span))
        assert row is not None
        return row["now"], row["seconds"]

    async def merge_stats(self, connection: Connection, limit: int) -> int:
        """Make up to *limit* rows that are not new into one a queue and minute; return how many it took."""
        return int(await connection.fetchval(self._sql["merge_stats"], limit, STAT_MERGE_AGE))

    async def purge_stats(self, connection: Connection, limit: int) -> int:
        """Remove what was written down long ago; return how many rows."""
        return int(await connection.fetchval(self._sql["purge_stats"], limit, STAT_AGE))

    async def list_workers(
        self, connection: Connection, *, most_running: int, jobs: int, limit: int
    ) -> list[WorkerMeasure]:
        """Return up to *limit* workers, each with the *jobs* of its jobs that have run longest."""
        workers = await connection.fetch(self._sql["list_workers"], most_running, limit)
        running: Mapping[UUID, Sequence[RunningJob]] = {}
        if jobs:
            running = await self.list_running(connection, most_running=most_running, jobs=jobs)
        return [WorkerMeasure(**row, jobs=running.get(row["lease_id"], ())) for row in workers]

    async def list_running(
        self, connection: Connection, *, most_running: int, jobs: int
    ) -> dict[UUID, list[RunningJob]]:
        """Return by lease the *jobs* that have run longest, of the first *most_running* there are."""
        running: dict[UUID, list[RunningJob]] = {}
        for row in await connection.fetch(self._sql["list_running"], most_running, jobs):
            running.setdefault(row["lease_id"], []).append(_running(row))
        return running


def _running(row: Record) -> RunningJob:
    return RunningJob(
        job_id=row["job_id"],
        task=row["task"],
        queue=row["queue"],
        attempt=row["attempt"],
        started_at=row["started_at"],
        seconds=row["seconds"],
        progress=None if row["progress"] is None else _progress(row["progress"]),
    )


def _progress(stored: str) -> Progress | None:
    try:
        return decode_progress(stored)
    except ValueError:
        return None
