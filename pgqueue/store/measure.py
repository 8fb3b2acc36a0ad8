"""Statements that measure a running system, and store the statistics of its processes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.model.estimates import BOUNDS
from pgqueue.model.measures import RunningJob, WorkerMeasure
from pgqueue.model.progress import Progress, decode_progress
from pgqueue.store.base import Statements
from pgqueue.store.values import Countable, DeadCount, Done, Estimate, LaneCounts, TaskDone

if TYPE_CHECKING:
    from asyncpg import Record

    from pgqueue.database.connection import Connection

STAT_MERGE_AGE: Final = timedelta(minutes=10)
"""How long the rows of single processes are kept before those of one minute are merged."""
STAT_AGE: Final = timedelta(hours=24)
"""How long statistics are kept."""
MOST_LANES: Final = 1000
"""Lanes, and queues with dead letters, that one measure looks at: clients can make up any number of names."""


class MeasureStatements(Statements):
    """Statements that measure a running system."""

    async def measure(self, connection: Connection, cap: int, most_running: int) -> list[LaneCounts]:
        """Return what each lane holds, counting to *cap* per kind and to *most_running* running jobs.

        At most MOST_LANES: first those that workers serve or that are paused, then the others by name.
        """
        rows = await connection.fetch(self._sql["measure"], cap, most_running, MOST_LANES)
        return [LaneCounts._make(row) for row in rows]

    async def count_dead_letters(self, connection: Connection, cap: int) -> list[DeadCount]:
        """Return how many dead letters each queue has, counting to *cap*; of MOST_LANES queues at most."""
        rows = await connection.fetch(self._sql["count_dead_letters"], cap, MOST_LANES)
        return [DeadCount._make(row) for row in rows]

    async def estimate(
        self, connection: Connection, blocks: int, tables: Collection[Countable]
    ) -> list[Estimate]:
        """Return estimated numbers of jobs, from a sample of *blocks* blocks of each of *tables*."""
        rows = await connection.fetch(self._sql["estimate"], blocks, sorted(tables))
        return [Estimate._make(row) for row in rows]

    async def record_stats(self, connection: Connection, rows: Collection[Mapping[str, object]]) -> None:
        """Store the statistics of a process. A row that is stored twice counts once, by its id."""
        await connection.execute(self._sql["record_stats"], json.dumps(list(rows), ensure_ascii=False))

    async def read_stats(
        self, connection: Connection, span: float, width: float, *, queue: str | None, by_queue: bool
    ) -> list[Done]:
        """Return what was done in each period of *width* seconds within the last *span* seconds."""
        rows = await connection.fetch(
            self._sql["read_stats"], timedelta(seconds=span), timedelta(seconds=width), queue, by_queue
        )
        return [Done._make(row) for row in rows]

    async def read_stat_span(self, connection: Connection, span: float) -> tuple[datetime, float]:
        """Return the present time, and for how many seconds, *span* at most, there are statistics."""
        row = await connection.fetchrow(self._sql["read_stat_span"], timedelta(seconds=span))
        assert row is not None
        return row["now"], row["seconds"]

    async def measure_task(
        self,
        connection: Connection,
        task: str,
        span: float,
        width: float,
        *,
        looks: int,
        window: tuple[UUID, UUID],
    ) -> list[TaskDone]:
        """Return what became of the jobs of *task* created in the last *span* seconds.

        In periods of *width* seconds, and last of all together. Of the *looks* newest jobs whose ids are in
        *window*.
        """
        rows = await connection.fetch(
            self._sql["measure_task"], task, timedelta(seconds=span), width, looks, *window, list(BOUNDS)
        )
        return [TaskDone._make(row) for row in rows]

    async def merge_stats(self, connection: Connection, limit: int, without: Iterable[UUID] = ()) -> int:
        """Merge up to *limit* older rows into one per queue and minute; return how many were merged."""
        return int(await connection.fetchval(self._sql["merge_stats"], limit, STAT_MERGE_AGE, list(without)))

    async def purge_stats(self, connection: Connection, limit: int, without: Iterable[UUID] = ()) -> int:
        """Remove old rows; return how many."""
        return int(await connection.fetchval(self._sql["purge_stats"], limit, STAT_AGE, list(without)))

    async def list_workers(
        self, connection: Connection, *, most_running: int, jobs: int, limit: int
    ) -> list[WorkerMeasure]:
        """Return up to *limit* workers, each with its *jobs* longest-running jobs."""
        workers = await connection.fetch(self._sql["list_workers"], most_running, limit)
        running: Mapping[UUID, Sequence[RunningJob]] = {}
        if jobs:
            running = await self.list_running(connection, most_running=most_running, jobs=jobs)
        return [WorkerMeasure(**row, jobs=running.get(row["lease_id"], ())) for row in workers]

    async def list_running(
        self, connection: Connection, *, most_running: int, jobs: int
    ) -> dict[UUID, list[RunningJob]]:
        """Return the *jobs* longest-running jobs of each lease, looking at *most_running* jobs at most."""
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
