"""Statements of the upkeep: promote, expire and remove jobs, and make and drop partitions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

from pgqueue.events.kinds import JobMoved
from pgqueue.model.jobs import JobStatus
from pgqueue.options.retention import Retention
from pgqueue.store.base import Statements, interval, job_moved
from pgqueue.store.measure import STAT_AGE, STAT_MERGE_AGE
from pgqueue.store.values import LanesSeen, Partition, Promoted, Step

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


FirstOf = Literal[
    "promote",
    "expire",
    "unblock",
    "wake",
    "cancel",
    "purge_keys",
    "purge_inbox",
    "purge_stats",
    "merge_stats",
    "purge_bulk",
    "purge_redrives",
]
"""The chores whose first row can be looked for."""
OPERATION_AGE: Final = timedelta(days=30)
"""How long the record of a bulk operation or a mass redrive is kept after its end."""
_AGES: Mapping[FirstOf, timedelta] = {
    "purge_stats": STAT_AGE,
    "merge_stats": STAT_MERGE_AGE,
    "purge_bulk": OPERATION_AGE,
    "purge_redrives": OPERATION_AGE,
}
"""How old a row is with which they work."""


class UpkeepStatements(Statements):
    """Statements of the upkeep."""

    async def find_first(
        self, connection: Connection, chore: FirstOf, without: Iterable[UUID]
    ) -> UUID | None:
        """Return the row with which a batch of a chore begins that skips *without*."""
        found: UUID | None = await connection.fetchval(
            self._sql["find_first"], chore, list(without), _AGES.get(chore)
        )
        return found

    async def promote(
        self, connection: Connection, limit: int, without: Iterable[UUID] = (), *, names_jobs: bool = False
    ) -> Promoted:
        """Make due scheduled jobs except *without* pending. With *names_jobs*, the answer lists them."""
        row = await connection.fetchrow(self._sql["promote"], limit, names_jobs, list(without))
        assert row is not None
        jobs = [
            JobMoved(UUID(job_id), task, queue, JobStatus.SCHEDULED, JobStatus.PENDING, attempt)
            for job_id, task, queue, attempt in json.loads(row["jobs"] or "[]")
        ]
        return Promoted(row["promoted"], row["lanes"], row["next_in"], jobs, row["notes"] or ())

    async def sweep_gates(self, connection: Connection, after: UUID, limit: int) -> UUID | None:
        """Look at the next gates behind *after* for what was missed; return the last, None: no more."""
        reached: UUID | None = await connection.fetchval(self._sql["sweep_gates"], after, limit)
        return reached

    async def fail_unknown(
        self,
        connection: Connection,
        grace: float,
        known: Iterable[str],
        limit: int,
        without: Iterable[UUID] = (),
    ) -> list[tuple[UUID, str]]:
        """Fail jobs, except *without*, put aside more than *grace* seconds ago; return (job id, task)."""
        rows = await connection.fetch(
            self._sql["fail_unknown"], timedelta(seconds=grace), list(known), limit, list(without)
        )
        return [(row["id"], row["task"]) for row in rows]

    async def find_first_unknown(
        self, connection: Connection, grace: float, known: Iterable[str], without: Iterable[UUID]
    ) -> UUID | None:
        """Return the job with which a batch of `fail_unknown` begins that skips *without*."""
        found: UUID | None = await connection.fetchval(
            self._sql["find_first_unknown"], timedelta(seconds=grace), list(known), list(without)
        )
        return found

    async def find_waiting_aside(self, connection: Connection, seconds: float) -> list[str]:
        """Return the tasks whose jobs were put aside more than *seconds* seconds ago."""
        rows = await connection.fetch(self._sql["find_waiting_aside"], timedelta(seconds=seconds))
        return [row["task"] for row in rows]

    async def expire(
        self, connection: Connection, limit: int, without: Iterable[UUID] = ()
    ) -> list[JobMoved]:
        """Expire waiting jobs, except *without*, that did not start by their expiry; return them."""
        rows = await connection.fetch(self._sql["expire"], limit, list(without))
        return [job_moved(row, JobStatus.EXPIRED) for row in rows]

    async def lacks_partitions(self, connection: Connection, days_ahead: int) -> bool:
        """Return whether today, or one of the next *days_ahead* days, has no partition."""
        return bool(await connection.fetchval(self._sql["lacks_partitions"], days_ahead))

    async def make_partitions(self, connection: Connection, days_ahead: int) -> int:
        """Make the missing partitions of today and the next *days_ahead* days; return how many."""
        made = await connection.fetchval(self._sql["make_partitions"], days_ahead)
        assert isinstance(made, int)
        return made

    async def unblock(
        self, connection: Connection, limit: int, without: Iterable[UUID] = ()
    ) -> list[tuple[JobMoved, int]]:
        """Unblock jobs, except *without*, whose predecessor has ended; return each with its lane."""
        rows = await connection.fetch(self._sql["unblock"], limit, list(without))
        return [
            (job_moved(row, JobStatus.SCHEDULED if row["is_scheduled"] else JobStatus.PENDING), row["lane"])
            for row in rows
        ]

    async def purge_keys(self, connection: Connection, limit: int, without: Iterable[UUID] = ()) -> int:
        """Remove keys that are no longer held, except *without*; return how many were examined."""
        return int(await connection.fetchval(self._sql["purge_keys"], limit, list(without)))

    async def purge_inbox(self, connection: Connection, limit: int, without: Iterable[UUID] = ()) -> int:
        """Remove expired records of processed events, except *without*; return how many."""
        return int(await connection.fetchval(self._sql["purge_inbox"], limit, list(without)))

    async def purge_bulk(self, connection: Connection, limit: int, without: Iterable[UUID] = ()) -> int:
        """Remove records of bulk operations that ended long ago, except *without*; return how many."""
        return int(await connection.fetchval(self._sql["purge_bulk"], limit, OPERATION_AGE, list(without)))

    async def purge_redrives(self, connection: Connection, limit: int, without: Iterable[UUID] = ()) -> int:
        """Remove records of mass redrives that ended long ago, except *without*; return how many."""
        return int(
            await connection.fetchval(self._sql["purge_redrives"], limit, OPERATION_AGE, list(without))
        )

    async def take_chore(self, connection: Connection, name: str, holder: UUID, seconds: float) -> bool:
        """Begin or keep a chore that one worker does at a time; return False if it is not due."""
        taken = await connection.fetchval(self._sql["take_chore"], name, holder, timedelta(seconds=seconds))
        return taken is not None

    async def end_chore(self, connection: Connection, name: str, holder: UUID, seconds: float) -> None:
        """End a chore, and let it rest for *seconds*."""
        await connection.execute(self._sql["end_chore"], name, holder, timedelta(seconds=seconds))

    async def raise_waiting(
        self, connection: Connection, queue: str, seconds: float, limit: int
    ) -> dict[int, tuple[int, int]]:
        """Raise jobs of a queue by a priority for each *seconds* seconds that they have waited.

        Returns, by lane, the priority that jobs have now, and how many.
        """
        rows = await connection.fetch(self._sql["raise_waiting"], queue, seconds, limit)
        return {row["lane"]: (row["priority"], row["jobs"]) for row in rows}

    async def find_day_partitions(self, connection: Connection, seconds: float) -> list[Partition]:
        """Return the daily partitions, oldest first."""
        rows = await connection.fetch(self._sql["find_day_partitions"], timedelta(seconds=seconds))
        return [Partition._make(row) for row in rows]

    async def check_retention(
        self, connection: Connection, low: UUID, high: UUID, limit: int, retention: Retention
    ) -> Step:
        """Check whether the next jobs in a range of ids are past their retention."""
        row = await connection.fetchrow(
            self._sql["check_retention"], low, high, limit, *_intervals(retention)
        )
        assert row is not None
        return Step(row["looked"], row["reached"], are_past=row["are_past"])

    async def find_job_from(self, connection: Connection, low: UUID, high: UUID) -> UUID | None:
        """Return the first job in a range of ids."""
        found: UUID | None = await connection.fetchval(self._sql["find_job_from"], low, high)
        return found

    async def purge(
        self, connection: Connection, low: UUID, high: UUID, limit: int, retention: Retention
    ) -> Step:
        """Remove those of the next jobs in a range of ids that are past their retention."""
        row = await connection.fetchrow(self._sql["purge"], low, high, limit, *_intervals(retention))
        assert row is not None
        return Step(row["looked"], row["reached"], removed=row["removed"])

    async def forget_range(self, connection: Connection, low: UUID, high: UUID) -> None:
        """Remove the rows of other tables on jobs in a range of ids."""
        await connection.execute(self._sql["forget_range"], low, high)

    async def drop_partition(self, connection: Connection, partition: Partition) -> bool:
        """Drop a daily partition without live jobs; return whether it was dropped."""
        return bool(await connection.fetchval(self._sql["drop_partition"], *partition[:3]))

    async def find_hidden(self, connection: Connection) -> list[str]:
        """Return the tables of which row-level security may hide rows from this role."""
        row = await connection.fetchrow(self._sql["find_hidden"])
        assert row is not None
        return list(row["hidden"])

    async def advance_ids(self, connection: Connection) -> list[str]:
        """Advance the sequences that are behind their tables; return the names of those tables."""
        return [row["name"] for row in await connection.fetch(self._sql["advance_ids"])]

    async def walk_ids(self, connection: Connection, after: UUID, limit: int) -> list[UUID]:
        """Return the next ids behind *after* of jobs, and of places where jobs stand."""
        return [row["id"] for row in await connection.fetch(self._sql["walk_ids"], after, limit)]

    async def find_strays(self, connection: Connection, ids: Iterable[UUID]) -> dict[UUID, str]:
        """Return those of *ids* that fit nowhere, and why."""
        rows = await connection.fetch(self._sql["find_strays"], list(ids))
        return {row["id"]: row["kind"] for row in rows}

    async def keep_one_place(self, connection: Connection, ids: Iterable[UUID]) -> list[UUID]:
        """Have each job stand in one place, an ended or missing one in none; return those that changed."""
        return [row[0] for row in await connection.fetch(self._sql["keep_one_place"], list(ids))]

    async def queue_strays(self, connection: Connection, ids: Iterable[UUID]) -> dict[UUID, int]:
        """Put live jobs that stand nowhere where they belong; return their lanes by id."""
        rows = await connection.fetch(self._sql["queue_strays"], list(ids))
        return {row["id"]: row["lane"] for row in rows}

    async def remake_lanes(self, connection: Connection, ids: Iterable[UUID]) -> list[int]:
        """Make the lanes that jobs name and that there are not; return these."""
        return [row["id"] for row in await connection.fetch(self._sql["remake_lanes"], list(ids))]

    async def look_at_lanes(self, connection: Connection, after: int, limit: int) -> LanesSeen:
        """Note which of the next lanes have no jobs; bring back removed ones that have."""
        row = await connection.fetchrow(self._sql["look_at_lanes"], after, limit)
        assert row is not None
        return LanesSeen(*row)

    async def remove_lanes(self, connection: Connection, idle: float, limit: int) -> int:
        """Remove lanes that have had no job for *idle* seconds and that nobody needs; return how many."""
        return int(await connection.fetchval(self._sql["remove_lanes"], timedelta(seconds=idle), limit))

    async def delete_lanes(self, connection: Connection, removed: float, limit: int) -> int:
        """Delete lanes, removed *removed* seconds ago, whose jobs are gone; return how many."""
        return int(await connection.fetchval(self._sql["delete_lanes"], timedelta(seconds=removed), limit))

    async def find_cancel_requests(self, connection: Connection, lease_id: UUID) -> list[UUID]:
        """Return the jobs under a lease that have a request to cancel them."""
        return [row[0] for row in await connection.fetch(self._sql["find_cancel_requests"], lease_id)]

    async def carry_out_cancels(
        self, connection: Connection, limit: int, without: Iterable[UUID] = ()
    ) -> tuple[list[tuple[JobMoved, str | None]], int]:
        """Settle cancel requests, except of jobs *without*, whose attempt has ended.

        Returns the cancelled jobs with their reasons, and how many requests of jobs that exist were settled.
        """
        rows = await connection.fetch(self._sql["carry_out_cancels"], limit, list(without))
        return [
            (job_moved(row, JobStatus.CANCELLED), row["reason"])
            for row in rows
            if row["answer"] == "cancelled"
        ], len(rows)


def _intervals(retention: Retention) -> Iterable[timedelta | None]:
    return map(interval, (retention.succeeded, retention.failed, retention.cancelled, retention.expired))
