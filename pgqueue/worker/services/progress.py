"""Writes the progress of jobs: the last report of each, in batches, about twice a second.

A report is a row of its own. As a column of `running` it would be a second version of a row that every claim
and finish goes through.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from uuid import UUID

import anyio
import asyncpg

from pgqueue.database.failing import log_fields
from pgqueue.database.outages import PASSING_ERRORS
from pgqueue.database.pool import Database
from pgqueue.errors import PgQueueError
from pgqueue.store import Store

logger = logging.getLogger("pgqueue.worker")

INTERVAL = 0.5
"""Seconds between two batches. The first report after a pause is written at once."""
FLUSH_WITHIN = 5.0
"""Seconds for which the end of a job may wait for its last report to be written."""
MAX_BATCH = 500


class ProgressWriter:
    """Owns the reports of a worker's jobs until they are written.

    A report is worth less than the work that it is about, so one that cannot be written in time is dropped.
    """

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store
        self._lock = threading.Lock()
        self._writing = asyncio.Lock()
        self._reports: dict[UUID, tuple[UUID, str]] = {}
        """By job: its lease, and the report."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakeup = anyio.Event()

    def report(self, job_id: UUID, lease_id: UUID, report: str) -> None:
        """Take a report, as JSON, which replaces the one before. From any thread."""
        with self._lock:
            is_first = not self._reports
            self._reports[job_id] = (lease_id, report)
        if is_first and self._loop is not None:
            # Closed: the worker has ended, and the thread of an abandoned attempt goes on.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    async def run(self) -> None:
        """Write reports until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._wakeup = anyio.Event()
            if not self._reports:
                await self._wakeup.wait()
            await self._write()
            await anyio.sleep(INTERVAL)

    async def flush(self, job_id: UUID) -> None:
        """Write the last report of a job that is about to end."""
        try:
            async with asyncio.timeout(FLUSH_WITHIN):
                await self._write(job_id)
        except TimeoutError:
            pass
        if self.drop(job_id):
            logger.warning(
                "job %s: the database is unavailable; its last progress report was not written", job_id
            )

    def drop(self, job_id: UUID) -> bool:
        """Forget the report of a job whose attempt is over; return whether there was one."""
        with self._lock:
            return self._reports.pop(job_id, None) is not None

    async def _write(self, only: UUID | None = None) -> None:
        # One at a time: an older report must not overtake a newer one, nor come after the end of its job.
        async with self._writing:
            with self._lock:
                ids = list(self._reports)[:MAX_BATCH] if only is None else self._reports.keys() & {only}
                taken = {job_id: self._reports.pop(job_id) for job_id in ids}
            if not taken:
                return
            await self._send(taken)

    async def _send(self, taken: Mapping[UUID, tuple[UUID, str]]) -> None:
        reports = [(lease_id, job_id, report) for job_id, (lease_id, report) in taken.items()]
        try:
            async with self._database.acquire() as connection:
                await self._store.report_progress(connection, reports)
        except PASSING_ERRORS as error:
            logger.debug("progress: the database is unavailable: %s", error)
            with self._lock:
                # What was reported meanwhile is newer.
                self._reports = {**taken, **self._reports}
        except (asyncpg.PostgresError, PgQueueError) as error:
            if len(taken) > 1:
                # One of them, perhaps: only that is lost.
                for job_id, report in taken.items():
                    await self._send({job_id: report})
                return
            [job_id] = taken
            logger.warning(
                "progress: the database rejected a report of job %s: %s",
                job_id,
                error,
                extra=log_fields(error),
            )

    def _wake(self) -> None:
        self._wakeup.set()
