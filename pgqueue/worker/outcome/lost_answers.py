"""Finds out whether an outcome was committed whose acknowledgement was lost: it looks fenced off."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from pgqueue.database.link import Link
from pgqueue.database.patience import persist
from pgqueue.model.jobs import TERMINAL, JobStatus
from pgqueue.model.outcomes import Ended, Restarted, Succeeded, Suspended, status_after
from pgqueue.store import Store
from pgqueue.worker.attempt.attempt import RunningAttempt

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class LostAnswers:
    """What jobs tell of the outcomes that the worker *worker* sent."""

    def __init__(self, store: Store, link: Link, *, worker: str) -> None:
        self._store = store
        self._link = link
        self._worker = worker

    async def find_written(
        self, batch: Sequence[RunningAttempt], kept: Collection[UUID]
    ) -> dict[UUID, JobStatus]:
        """Return the jobs whose outcome an earlier try committed, and what they became."""
        missing = [attempt for attempt in batch if attempt.claimed.id not in kept]

        async def read() -> dict[UUID, JobStatus]:
            async with self._link.use() as connection:
                written = {
                    attempt.claimed.id: status
                    for attempt in missing
                    if (status := await self._written_status(connection, attempt)) is not None
                }
                if written:
                    await self._store.reach_standby(connection)
                return written

        return await persist("finishing", read)

    async def _written_status(self, connection: Connection, attempt: RunningAttempt) -> JobStatus | None:
        """Return what an outcome made of its job; None: it was fenced off."""
        assert attempt.outcome is not None
        job_id, number = attempt.claimed.id, attempt.claimed.attempt
        status, reason = status_after(attempt.outcome)
        expected = {status} if isinstance(attempt.outcome, Succeeded | Ended) else {JobStatus.CANCELLED}
        job = (await self._store.read_jobs(connection, [job_id])).get(job_id)
        if isinstance(attempt.outcome, Suspended | Restarted):
            # It leaves no row; but its attempt does not count any more.
            is_back = job is not None and (job.attempt or 0) < number and job.status not in TERMINAL
            return status if is_back else None
        if job is not None and (job.worker, job.attempt) == (self._worker, number) and job.status in expected:
            return job.status
        # Any end but success leaves a row in the job's history.
        is_past = any(
            (past.worker, past.attempt, past.reason) == (self._worker, number, reason)
            for past in await self._store.read_attempts(connection, job_id)
        )
        return status if is_past else None
