"""Keeps one row at which statements fail from holding up the others.

A batch that fails is done again in smaller parts, until the row is found at which it fails. Its job is set
aside: failed with reason `broken_row`, and the error. If the error may be about all rows (a trigger of the
user's, row-level security), one row is not blamed for it before another one has gone through. A row that
cannot be set aside either is skipped for a while, and tried again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.database.failing import log_fields, statement_of
from pgqueue.database.link import Link
from pgqueue.database.outages import is_about_values, is_away, told
from pgqueue.database.patience import Reminder
from pgqueue.events.kinds import WorkErrorIsolated
from pgqueue.events.observers import Observers
from pgqueue.model.job_error import JobError
from pgqueue.store import Store
from pgqueue.upkeep.announcing import Announcer

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.worker")

REASON: Final = "broken_row"
PAUSES: Final = (2.0, 5.0, 15.0, 60.0)
"""Seconds for which a row is skipped that cannot be set aside; the last one repeats."""
PARTS: Final = 8
"""Into so many parts a batch that fails is divided, each time."""
FORGOTTEN: Final = 2 * PAUSES[-1]
"""Seconds after which a row is forgotten that was to be tried again, and was not met."""
DOUBTFUL: Final = 4
"""Rows at which an error is met that may be about all rows, before it is taken for that."""
MOST: Final = 20
"""Rows that are set aside before other work has its turn."""


class Stuck:
    """A row that is skipped."""

    def __init__(self) -> None:
        self.first_at = time.monotonic()
        self.failures = 0
        self.until = 0.0

    def fail(self) -> float:
        """Skip it for a while; return for how many seconds."""
        pause = PAUSES[min(self.failures, len(PAUSES) - 1)]
        self.failures += 1
        self.until = time.monotonic() + pause
        return pause

    @property
    def is_news(self) -> bool:
        """Whether its last failure is to be seen in the log."""
        return self.failures in (1, len(PAUSES))


class BrokenRows:
    """Sets aside the rows at which one kind of work fails. *doing* names that work in the log."""

    def __init__(
        self, doing: str, store: Store, announcer: Announcer, observers: Observers, *, worker: str
    ) -> None:
        self._doing = doing
        self._store = store
        self._announcer = announcer
        self._observers = observers
        self._worker = worker
        self._stuck: dict[UUID, Stuck] = {}
        self._went_through_at = float("-inf")
        self._reminder = Reminder()

    @property
    def skipped(self) -> list[UUID]:
        """The rows that are not to be tried now."""
        self._forget()
        if not self._stuck:
            return []
        now = time.monotonic()
        return [row for row, stuck in self._stuck.items() if stuck.until > now]

    @property
    def is_suspicious(self) -> bool:
        """Whether some row is known that cannot be set aside: a batch with it would fail."""
        self._forget()
        return bool(self._stuck)

    def _forget(self) -> None:
        """Forget rows that are there no longer: with one known, claims go job by job."""
        if self._stuck:
            since = time.monotonic() - FORGOTTEN
            self._stuck = {row: stuck for row, stuck in self._stuck.items() if stuck.until > since}

    def went_through(self, rows: Collection[UUID] = ()) -> None:
        """Take note that something went through: from now on a row that does not is to blame itself."""
        self._went_through_at = time.monotonic()
        for row in rows:
            self._stuck.pop(row, None)

    async def blame(self, link: Link, job_id: UUID, error: Exception, lease_id: UUID | None = None) -> bool:
        """Set aside the job at which *error* was raised; return False if it is only skipped for a while.

        Raises the errors of a database that is away.
        """
        stuck = self._stuck.get(job_id) or Stuck()
        if is_about_values(error) or self._went_through_at > stuck.first_at:
            try:
                is_set_aside = await self._set_aside(link, job_id, error, lease_id)
            except Exception as second:
                if is_away(second):
                    raise
                error = second
            else:
                # If not, another worker holds the job, or it has ended. It failed again at once without end.
                if is_set_aside:
                    self._stuck.pop(job_id, None)
                    return True
        self._skip(job_id, stuck, error)
        return False

    def skip(self, row: UUID, error: Exception) -> None:
        """Skip a row that is no job's, for a while."""
        self._skip(row, self._stuck.get(row) or Stuck(), error)

    def _skip(self, row: UUID, stuck: Stuck, error: Exception) -> None:
        pause = stuck.fail()
        self._stuck[row] = stuck
        level = logging.ERROR if stuck.is_news else logging.DEBUG
        if stuck.is_news and not is_about_values(error):
            # Perhaps it is about all rows, of which there may be thousands.
            level = self._reminder.level(logging.ERROR)
        logger.log(
            level,
            "%s: row %s cannot be worked on (%s); the others continue; trying it again in %g s",
            self._doing,
            row,
            told(error),
            pause,
            extra=log_fields(error),
        )
        self._observers.emit(
            WorkErrorIsolated(self._doing, type(error).__name__, statement=statement_of(error))
        )

    async def _set_aside(self, link: Link, job_id: UUID, error: Exception, lease_id: UUID | None) -> bool:
        """Put the job right, or fail it; return False if there is nothing that could be done to it."""
        store = self._store
        described = JobError(
            "BrokenRow", f"{self._doing} failed at this job: {type(error).__name__}: {error}"
        )
        async with link.use() as connection, connection.transaction():
            # What stands in two places is put right, and not failed.
            is_put_right = bool(await store.keep_one_place(connection, [job_id]))
            is_failed = False
            if not is_put_right:
                await store.remake_lanes(connection, [job_id])
                is_failed = await store.fail_broken(
                    connection, job_id, REASON, described, self._worker, lease_id
                )
        if not (is_put_right or is_failed):
            return False
        if is_failed:
            self._announcer.committed(ended=[job_id])
            self._announcer.failed([job_id])
        logger.error(
            "%s: job %s %s (%s); the others continue",
            self._doing,
            job_id,
            "was set aside as failed" if is_failed else "was put right",
            told(error),
            extra=log_fields(error),
        )
        ids = [job_id] if is_failed else []
        self._observers.emit(WorkErrorIsolated(self._doing, type(error).__name__, ids, statement_of(error)))
        return True

    async def move(  # noqa: C901  # one loop: a batch that fails, and what is then done
        self,
        link: Link,
        limit: int,
        do: Callable[[int, Collection[UUID]], Awaitable[int]],
        find: Callable[[Connection, Collection[UUID]], Awaitable[UUID | None]],
        cure: Callable[[UUID, Exception], Awaitable[bool]] | None = None,
    ) -> bool:
        """Do a batch of up to *limit* rows, and in parts if it fails; return whether there may be more.

        *do* takes a limit and rows to skip, and returns how many it moved. *find* returns the row with which
        such a batch begins. *cure* sets that row aside when a batch of it alone fails, and returns whether it
        could: `blame` by default. Raises the errors of a database that is away, and one that seems to be
        about all rows.
        """
        size, left = limit, MOST
        while True:
            try:
                moved = await do(size, self.skipped)
            except Exception as error:
                if is_away(error):
                    raise
                if size > 1:
                    size = max(1, size // PARTS)
                    continue
                async with link.use() as connection:
                    row = await find(connection, self.skipped)
                if row is None:
                    raise
                is_cured = await (self.blame(link, row, error) if cure is None else cure(row, error))
                left -= 1 if is_cured else MOST // DOUBTFUL
                if left <= 0 and not is_cured:
                    raise
                if left <= 0:
                    return True
                size = limit
                continue
            if moved:
                self.went_through()
            if size == limit:
                return moved >= limit
            if moved < size:
                return False
