"""What maintenance does: promoting, expiring, removing, partitions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from pgqueue.events.kinds import JobMoved
from pgqueue.model.jobs import JobStatus
from pgqueue.options.retention import Retention
from pgqueue.store.base import Statements, interval, job_moved
from pgqueue.store.values import Partition, Promoted, Step

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class UpkeepStatements(Statements):
    """What maintenance does."""

    async def promote(self, connection: Connection, limit: int, *, names_jobs: bool = False) -> Promoted:
        """Move due scheduled jobs to ready; *names_jobs*: say which."""
        row = await connection.fetchrow(self._sql["promote"], limit, names_jobs)
        assert row is not None
        jobs = [
            JobMoved(UUID(job_id), task, queue, JobStatus.SCHEDULED, JobStatus.PENDING, attempt)
            for job_id, task, queue, attempt in json.loads(row["jobs"] or "[]")
        ]
        return Promoted(row["promoted"], row["lanes"], row["next_in"], jobs)

    async def fail_unknown(
        self, connection: Connection, grace: float, known: Iterable[str], limit: int
    ) -> list[tuple[UUID, str]]:
        """Fail jobs put aside for longer than *grace* seconds; return (job id, task) of each."""
        rows = await connection.fetch(self._sql["fail_unknown"], timedelta(seconds=grace), list(known), limit)
        return [tuple(row) for row in rows]

    async def find_waiting_aside(self, connection: Connection, seconds: float) -> list[str]:
        """Return the tasks whose jobs have been put aside and wait for longer than *seconds*."""
        rows = await connection.fetch(self._sql["find_waiting_aside"], timedelta(seconds=seconds))
        return [row["task"] for row in rows]

    async def expire(self, connection: Connection, limit: int) -> list[JobMoved]:
        """End jobs that wait and were not started by their expiry; return them."""
        rows = await connection.fetch(self._sql["expire"], limit)
        return [job_moved(row, JobStatus.EXPIRED) for row in rows]

    async def make_partitions(self, connection: Connection, days_ahead: int) -> int:
        """Make missing partitions; return how many were made."""
        made = await connection.fetchval(self._sql["make_partitions"], days_ahead)
        assert isinstance(made, int)
        return made

    async def unblock(self, connection: Connection, limit: int) -> list[tuple[JobMoved, int]]:
        """Move jobs on whose predecessor is over; return each, and its lane."""
        rows = await connection.fetch(self._sql["unblock"], limit)
        return [
            (job_moved(row, JobStatus.SCHEDULED if row["is_scheduled"] else JobStatus.PENDING), row["lane"])
            for row in rows
        ]

    async def purge_keys(self, connection: Connection, limit: int) -> int:
        """Remove idempotency keys that are not held any more; return how many were looked at."""
        return int(await connection.fetchval(self._sql["purge_keys"], limit))

    async def purge_inbox(self, connection: Connection, limit: int) -> int:
        """Forget processed events whose time is over; return how many."""
        return int(await connection.fetchval(self._sql["purge_inbox"], limit))

    async def take_chore(self, connection: Connection, name: str, holder: UUID, seconds: float) -> bool:
        """Begin or keep a chore that one worker does at a time; False: it is not to be begun now."""
        taken = await connection.fetchval(self._sql["take_chore"], name, holder, timedelta(seconds=seconds))
        return taken is not None

    async def end_chore(self, connection: Connection, name: str, holder: UUID, seconds: float) -> None:
        """Let a chore rest."""
        await connection.execute(self._sql["end_chore"], name, holder, timedelta(seconds=seconds))

    async def find_day_partitions(self, connection: Connection, seconds: float) -> list[Partition]:
        """Return the day partitions, oldest first."""
        rows = await connection.fetch(self._sql["find_day_partitions"], timedelta(seconds=seconds))
        return [Partition._make(row) for row in rows]

    async def check_retention(
        self, connection: Connection, low: UUID, high: UUID, limit: int, retention: Retention
    ) -> Step:
        """Look at the next jobs of a range of ids."""
        row = await connection.fetchrow(
            self._sql["check_retention"], low, high, limit, *_intervals(retention)
        )
        assert row is not None
        return Step(row["looked"], row["reached"], are_past=row["are_past"])

    async def purge(
        self, connection: Connection, low: UUID, high: UUID, limit: int, retention: Retention
    ) -> Step:
        """Look at the next jobs of a range of ids and remove those past their retention."""
        row = await connection.fetchrow(self._sql["purge"], low, high, limit, *_intervals(retention))
        assert row is not None
        return Step(row["looked"], row["reached"], removed=row["removed"])

    async def forget_range(self, connection: Connection, low: UUID, high: UUID) -> None:
        """Remove what other tables keep of jobs in a range of ids."""
        await connection.execute(self._sql["forget_range"], low, high)

    async def drop_partition(self, connection: Connection, partition: Partition) -> bool:
        """Drop a day partition that has no live job; False: not now."""
        return bool(await connection.fetchval(self._sql["drop_partition"], *partition[:3]))

    async def find_cancel_requests(self, connection: Connection, lease_id: UUID) -> list[UUID]:
        """Return the jobs of a lease that somebody asked to cancel."""
        return [row[0] for row in await connection.fetch(self._sql["find_cancel_requests"], lease_id)]

    async def carry_out_cancels(self, connection: Connection) -> list[tuple[JobMoved, str | None]]:
        """Carry out or drop requests whose attempt has ended; return the jobs that are cancelled, and why."""
        rows = await connection.fetch(self._sql["carry_out_cancels"])
        return [
            (job_moved(row, JobStatus.CANCELLED), row["reason"])
            for row in rows
            if row["answer"] == "cancelled"
        ]


def _intervals(retention: Retention) -> Iterable[timedelta | None]:
    return map(interval, (retention.succeeded, retention.failed, retention.cancelled, retention.expired))
