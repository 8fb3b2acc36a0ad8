"""Counts what a process does, per queue, and stores it for `PgQueue.history` and the rates."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Final

import anyio
import asyncpg

from pgqueue.background.loop import Loop
from pgqueue.database.failing import log_fields
from pgqueue.database.outages import PASSING_ERRORS, is_about_values
from pgqueue.database.pool import Database
from pgqueue.errors import InvalidOptionError, MissingPrivilegeError, NotOpenError, RefusedByDatabaseError
from pgqueue.events.attempts import AttemptEnded, AttemptsEnded, JobsClaimed
from pgqueue.events.kinds import Event, JobsEnqueued, JobsRescued
from pgqueue.events.observers import Observers
from pgqueue.model.estimates import BUCKETS, count_into
from pgqueue.model.ids import new_id
from pgqueue.model.jobs import JobStatus
from pgqueue.store import Store

logger = logging.getLogger("pgqueue.stats")

INTERVAL: Final = 10.0
"""Seconds between two writes while there are counts to write."""
LAST_WITHIN: Final = 1.0
"""Seconds that the last write may take when a PgQueue is closed."""
MAX_QUEUES: Final = 1000
"""Maximum number of queues counted between two writes; further queues are not counted."""
MAX_COUNT: Final = 2**31 - 1
_REFUSALS: Final = (
    asyncpg.PostgresError,
    InvalidOptionError,
    MissingPrivilegeError,
    RefusedByDatabaseError,
)
"""How the database, or what it cannot store, keeps statistics from being written."""


@dataclass(slots=True)
class Tally:
    """What was done in one queue."""

    enqueued: int = 0
    claimed: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    retried: int = 0
    lost: int = 0
    waits: list[int] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)
    first_wait: float | None = None
    """Seconds; of a queue with one job it is that job's, which a histogram does not say."""
    first_run: float | None = None


class Tallies:
    """Counts events per queue, as an observer. Does not use the database.

    A batch of jobs that succeeded costs no more than counting their queues and sampling some durations.
    """

    def __init__(self) -> None:
        self._by_queue: dict[str, Tally] = {}

    def __bool__(self) -> bool:
        return bool(self._by_queue)

    def take(self) -> dict[str, Tally]:
        """Return the counts, and start over from zero."""
        taken, self._by_queue = self._by_queue, {}
        return taken

    def observe(self, event: Event) -> None:  # noqa: C901, PLR0912  # a case for each kind
        """Count an event."""
        match event:
            case JobsEnqueued():
                for (_, queue), count in event.counts.items():
                    self._of(queue).enqueued += count
            case JobsClaimed():
                for queue, share in event.by_queue.items():
                    tally = self._of(queue)
                    tally.claimed += share.size
                    if not tally.waits:
                        tally.first_wait = _begin(tally.waits, share.seconds)
                    count_into(tally.waits, share.seconds, share.size)
            case AttemptsEnded(is_success=True):
                for queue, share in event.by_queue.items():
                    tally = self._of(queue)
                    tally.succeeded += share.size
                    if not tally.runs:
                        tally.first_run = _begin(tally.runs, share.seconds)
                    count_into(tally.runs, share.seconds, share.size)
            case AttemptsEnded():
                for attempt in event.attempts:
                    self._count_ended(attempt)
            case JobsRescued():
                for job in event.jobs:
                    tally = self._of(job.queue)
                    tally.lost += job.was_running
                    tally.failed += job.status is JobStatus.FAILED
                    tally.cancelled += job.status is JobStatus.CANCELLED
            case _:
                pass

    def _count_ended(self, attempt: AttemptEnded) -> None:
        tally = self._of(attempt.queue)
        match attempt.status:
            case JobStatus.SUCCEEDED:
                tally.succeeded += 1
            case JobStatus.FAILED:
                tally.failed += 1
            case JobStatus.CANCELLED:
                tally.cancelled += 1
            case JobStatus.EXPIRED:
                tally.expired += 1
            case JobStatus.SCHEDULED:
                tally.retried += 1
            case _:
                # Returned to the queue: it has not ended.
                return
        # 0 means that it ended before its handler started.
        if attempt.seconds:
            if not tally.runs:
                tally.first_run = _begin(tally.runs, (attempt.seconds,))
            count_into(tally.runs, (attempt.seconds,), 1)

    def _of(self, queue: str) -> Tally:
        tally = self._by_queue.get(queue)
        if tally is None:
            tally = Tally()
            if len(self._by_queue) < MAX_QUEUES:
                self._by_queue[queue] = tally
        return tally


def _begin(counts: list[int], seconds: Sequence[float]) -> float | None:
    """Make the buckets of *counts*; return the first of *seconds*."""
    counts += [0] * BUCKETS
    return seconds[0] if seconds else None


class StatsWriter:
    """Keeps the counts until they are written. They accumulate while the database is unavailable."""

    def __init__(self, database: Database, store: Store, observers: Observers) -> None:
        self._database = database
        self._store = store
        self.loop = Loop("statistics")
        self._tallies = Tallies()
        self._unwritten: list[dict[str, object]] = []
        self._since = 0.0
        self.is_refused = False
        """Whether the database is known to refuse them. Said once."""
        self._wakeup = anyio.Event()
        observers.add(self._observe, JobsEnqueued, JobsClaimed, AttemptsEnded, JobsRescued)

    async def run(self) -> None:
        """Write the counts until cancelled."""
        with self.loop.lifetime():
            await self.loop.outlive(self._run)

    async def _run(self) -> None:
        while True:
            if not self._tallies and not self._unwritten:
                self._wakeup = anyio.Event()
                await self._wakeup.wait()
            await anyio.sleep(INTERVAL)
            with self.loop.step():
                await self._flush()

    async def close(self) -> None:
        """Write the remaining counts, unless the database takes too long."""
        if not self._tallies and not self._unwritten:
            return
        with anyio.move_on_after(LAST_WITHIN):
            await self._flush()

    async def _flush(self) -> None:
        # Rows that may have been written already are written again first, unchanged. Their ids keep them from
        # counting twice.
        try:
            if self._unwritten:
                await self._write()
            if self._tallies:
                now = monotonic()
                seconds, self._since = now - self._since, now
                self._unwritten = _rows(self._tallies.take(), seconds)
                await self._write()
        except _REFUSALS as error:
            # A role without the right to write them, for example. Jobs must not fail because of that.
            self._unwritten = []
            self._tell_refused(error)
        except (*PASSING_ERRORS, NotOpenError) as error:
            logger.debug("statistics not written yet, will retry (%s: %s)", type(error).__name__, error)

    async def _write(self) -> None:
        try:
            await self._record(self._unwritten)
        except _REFUSALS as error:
            if not is_about_values(error):
                raise
            # The counts of one queue, perhaps: only those are lost.
            for row in self._unwritten:
                try:
                    await self._record([row])
                except _REFUSALS as second:
                    self._tell_refused(second)
        self._unwritten = []

    async def _record(self, rows: Sequence[dict[str, object]]) -> None:
        async with self._database.acquire() as connection:
            await self._store.record_stats(connection, rows)

    def _tell_refused(self, error: Exception) -> None:
        level = logging.DEBUG if self.is_refused else logging.WARNING
        self.is_refused = True
        logger.log(
            level,
            "statistics cannot be written: %s: %s",
            type(error).__name__,
            error,
            extra=log_fields(error),
        )

    def _observe(self, event: Event) -> None:
        if not self._tallies:
            self._begin()
        self._tallies.observe(event)

    def _begin(self) -> None:
        now = monotonic()
        if now - self._since > INTERVAL:
            # The process has been idle since the last write.
            self._since = now
        self._wakeup.set()


def _rows(tallies: Mapping[str, Tally], seconds: float) -> list[dict[str, object]]:
    """Return rows for the table `stat`."""
    return [
        {
            "id": str(new_id()),
            "seconds": seconds,
            "queue": queue,
            **{name: _stored(value) for name, value in asdict(tally).items()},
        }
        for queue, tally in tallies.items()
    ]


def _stored(value: float | list[int] | None) -> float | list[int] | None:
    if isinstance(value, list):
        return [min(each, MAX_COUNT) for each in value] or None
    # Counts are int, durations are float.
    return min(value, MAX_COUNT) if isinstance(value, int) else value
