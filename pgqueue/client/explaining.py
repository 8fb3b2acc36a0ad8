"""What a job waits for, and where it comes from."""

from __future__ import annotations

from uuid import UUID

from pgqueue.client.parts import Parts
from pgqueue.model.ids import read_id
from pgqueue.model.waits import MOST_BEFORE, Wait, explain


class ExplainInterface(Parts):
    """What users can ask of a job that is not in its record."""

    async def explain_wait(self, job_id: UUID | str) -> Wait | None:
        """Return what a job waits for, as a word and as a sentence. None: it is running, or has ended.

        Jobs before it are counted to 1,000. Raises JobNotFoundError, JobPurgedError.
        """
        job_id = read_id(job_id)
        async with self._database.acquire() as connection:
            standing = await self._store.explain_wait(connection, job_id, MOST_BEFORE)
            if standing is None and not await self._store.read_jobs(connection, [job_id]):
                raise await self._missing(connection, job_id)
        return None if standing is None else explain(standing)

    async def schedule_of(self, job_id: UUID | str) -> str | None:
        """Return the name of the schedule that made a job; None: none did, or its history is past it."""
        job_id = read_id(job_id)
        async with self._database.acquire() as connection:
            return await self._store.find_schedule_of(connection, job_id)
