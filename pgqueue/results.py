"""Waiting for jobs to end: any number of waiters, one listener, one query for all of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from uuid import UUID

import anyio

from pgqueue.database import CONNECTION_ERRORS, Database
from pgqueue.errors import DatabaseUnavailableError, JobNotFoundError
from pgqueue.jobs import Job
from pgqueue.signals import Signals
from pgqueue.store import Store

logger = logging.getLogger("pgqueue.results")

POLL_INTERVAL = 1.0
"""Seconds between two looks at all awaited jobs while notifications arrive."""
POLL_INTERVAL_UNHEARD = 0.1
"""... and while they do not."""
WATCH_INTERVAL = 10.0
"""Seconds between two reminders to workers that somebody awaits results."""
WATCH_TTL = 30.0
"""Seconds for which a worker heeds such a reminder."""
READ_LIMIT = 1000


class Results:
    """The waiters of one process."""

    def __init__(self, database: Database, store: Store, signals: Signals) -> None:
        self._database = database
        self._store = store
        self._signals = signals
        self._waiters: dict[UUID, set[asyncio.Future[Job]]] = {}
        self._fresh: set[UUID] = set()
        self._wakeup = anyio.Event()
        self._is_listening = False

    @property
    def is_awaited(self) -> bool:
        """Whether anybody in this process awaits a job."""
        return bool(self._waiters)

    async def wait(self, job_id: UUID) -> Job:
        """Return the job once it is terminal. Raises JobNotFoundError."""
        future: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job_id, set()).add(future)
        # Registered first, then read: a job that ends in between is found by the reading.
        self.hint([job_id])
        try:
            return await future
        finally:
            waiting = self._waiters.get(job_id)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._waiters[job_id]

    def hint(self, ids: Iterable[UUID]) -> None:
        """Look at those of *ids* that are awaited."""
        self._fresh.update(self._waiters.keys() & set(ids))
        if self._fresh:
            self._wakeup.set()

    async def run(self) -> None:
        """Serve waiters until cancelled."""
        watched_at = -WATCH_INTERVAL
        while True:
            self._wakeup = anyio.Event()
            if self._waiters:
                if not self._is_listening:
                    self._signals.listen_finished(self._hear)
                    self._is_listening = True
                if time.monotonic() - watched_at >= WATCH_INTERVAL:
                    watched_at = time.monotonic()
                    self._signals.publish("watch")
                interval = POLL_INTERVAL if self._signals.is_listening else POLL_INTERVAL_UNHEARD
                if not self._fresh:
                    with anyio.move_on_after(interval) as poll:
                        await self._wakeup.wait()
                    if poll.cancelled_caught:
                        self._fresh.update(self._waiters)
                await self._look()
            else:
                await self._wakeup.wait()

    async def _look(self) -> None:
        ids, self._fresh = list(self._fresh), set()
        try:
            for start in range(0, len(ids), READ_LIMIT):
                await self._read(ids[start : start + READ_LIMIT])
        except (*CONNECTION_ERRORS, DatabaseUnavailableError) as error:
            logger.warning("results: waiting for the database: %s; trying again at the next poll", error)
            await anyio.sleep(POLL_INTERVAL_UNHEARD)

    async def _read(self, ids: list[UUID]) -> None:
        async with self._database.acquire() as connection:
            jobs = await self._store.read_jobs(connection, ids)
        for job_id in ids:
            job = jobs.get(job_id)
            for future in self._waiters.get(job_id, ()):
                if future.done():
                    continue
                if job is None:
                    future.set_exception(JobNotFoundError(job_id))
                elif job.is_terminal:
                    future.set_result(job)

    def _hear(self, message: str) -> None:
        self.hint([UUID(each) for each in message.split()])
