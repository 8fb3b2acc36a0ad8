"""Watching jobs: any number of watchers of any number of jobs, one listener, one query a second for all.

The query reads versions; jobs are read whole when they are watched first, when they changed, and when they
are said to have ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import anyio

from pgqueue.background.notifications import Signals
from pgqueue.database.outages import CONNECTION_ERRORS
from pgqueue.database.pool import Database
from pgqueue.errors import DatabaseUnavailableError, JobNotFoundError, NotOpenError, PgQueueError
from pgqueue.model.jobs import Job
from pgqueue.store import Store

logger = logging.getLogger("pgqueue.watches")

POLL_INTERVAL = 1.0
"""Seconds between two looks at all watched jobs while notifications arrive."""
POLL_INTERVAL_UNHEARD = 0.1
"""... and while they do not."""
WATCH_INTERVAL = 10.0
"""Seconds between two reminders to workers that somebody watches jobs."""
WATCH_TTL = 30.0
"""Seconds for which a worker heeds such a reminder."""
VERSIONS_LIMIT = 10_000
"""Jobs whose versions are read by one statement."""
READ_LIMIT = 200
"""Jobs that are read whole by one statement: each may have a result of a megabyte."""


class Watches:
    """The watched jobs of one process."""

    def __init__(self, database: Database, store: Store, signals: Signals) -> None:
        self._database = database
        self._store = store
        self._signals = signals
        self._watched: dict[UUID, _Watched] = {}
        self._fresh: set[UUID] = set()
        self._wakeup = anyio.Event()
        self._is_listening = False
        self._polled_at = float("-inf")
        self._reminded_at = float("-inf")

    @property
    def is_watching(self) -> bool:
        """Whether anybody in this process watches a job."""
        return bool(self._watched)

    async def wait(self, job_id: UUID) -> Job:
        """Return the job once it is terminal. Raises JobNotFoundError."""
        with self._watch(job_id, _Watcher(sees_changes=False)) as watcher:
            return await watcher.next()

    async def watch(self, job_id: UUID) -> AsyncGenerator[Job]:
        """Yield the job as it is now and after each change, until it is terminal. Raises JobNotFoundError."""
        with self._watch(job_id, _Watcher(sees_changes=True)) as watcher:
            while True:
                job = await watcher.next()
                yield job
                if job.is_terminal:
                    return

    def hint(self, ids: Iterable[UUID]) -> None:
        """Look at those of *ids* that are watched."""
        self._fresh.update(self._watched.keys() & set(ids))
        if self._fresh:
            self._wakeup.set()

    async def run(self) -> None:
        """Serve watchers until cancelled."""
        try:
            while True:
                # Re-armed before looking: what is hinted at from here on is not slept through.
                self._wakeup = anyio.Event()
                if not self._watched:
                    await self._wakeup.wait()
                    self._polled_at = time.monotonic()
                self._ask_for_news()
                if not self._fresh:
                    with anyio.move_on_after(self._seconds_to_poll()):
                        await self._wakeup.wait()
                await self._look()
        finally:
            if self._is_listening:
                self._signals.stop_listening_finished(self._hear)
                self._is_listening = False
            self._reminded_at = float("-inf")
            for watched in self._watched.values():
                watched.fail(lambda: NotOpenError("this PgQueue was closed while a job was awaited"))

    @contextmanager
    def _watch(self, job_id: UUID, watcher: _Watcher) -> Iterator[_Watcher]:
        watched = self._watched.setdefault(job_id, _Watched())
        watched.watchers.add(watcher)
        # Registered first, then read: a job that ends in between is found by the reading.
        self.hint([job_id])
        try:
            yield watcher
        finally:
            watched.watchers.discard(watcher)
            if not watched.watchers:
                del self._watched[job_id]

    def _ask_for_news(self) -> None:
        if not self._is_listening:
            self._signals.listen_finished(self._hear)
            self._is_listening = True
        if time.monotonic() - self._reminded_at >= WATCH_INTERVAL:
            self._reminded_at = time.monotonic()
            self._signals.publish("watch")

    def _seconds_to_poll(self) -> float:
        interval = POLL_INTERVAL if self._signals.is_listening else POLL_INTERVAL_UNHEARD
        return self._polled_at + interval - time.monotonic()

    async def _look(self) -> None:
        fresh, self._fresh = self._fresh, set()
        try:
            await self._read(fresh)
            # By the clock: hints that come all the time do not put it off.
            if self._seconds_to_poll() <= 0:
                self._polled_at = time.monotonic()
                await self._poll()
        except (*CONNECTION_ERRORS, DatabaseUnavailableError) as error:
            logger.warning("watches: waiting for the database: %s; trying again at the next poll", error)
            await anyio.sleep(POLL_INTERVAL_UNHEARD)

    async def _poll(self) -> None:
        ids = list(self._watched)
        for start in range(0, len(ids), VERSIONS_LIMIT):
            asked = ids[start : start + VERSIONS_LIMIT]
            async with self._database.acquire() as connection:
                found = await self._store.read_versions(connection, asked)
            moved: dict[UUID, str | None] = {}
            for job_id in asked:
                # One that is gone is over: nothing more becomes of it.
                is_terminal, version = found.get(job_id, (True, None))
                watched = self._watched.get(job_id)
                if watched is not None and watched.needs_reading(version, is_terminal=is_terminal):
                    moved[job_id] = version
            await self._read(moved)
            # Noted once it has been shown: had the reading failed, it would be news still.
            for job_id, version in moved.items():
                if watched := self._watched.get(job_id):
                    watched.version = version

    async def _read(self, ids: Iterable[UUID]) -> None:
        wanted = list(ids)
        for start in range(0, len(wanted), READ_LIMIT):
            asked = wanted[start : start + READ_LIMIT]
            async with self._database.acquire() as connection:
                jobs = await self._store.read_jobs(connection, asked)
            for job_id in asked:
                watched = self._watched.get(job_id)
                if watched is None:
                    continue
                job = jobs.get(job_id)
                if job is None:
                    watched.fail(partial(JobNotFoundError, job_id))
                else:
                    watched.tell(job)

    def _hear(self, message: str) -> None:
        names = message.split()
        if len(self._watched) < len(names):
            # A busy worker announces thousands a second, and somebody waits for one.
            heard = set(names)
            self.hint(job_id for job_id in list(self._watched) if str(job_id) in heard)
        else:
            self.hint(map(UUID, names))


class _Watcher:
    """Somebody who watches a job: has room for the latest news, and no more."""

    __slots__ = ("_arrived", "_news", "sees_changes")

    def __init__(self, *, sees_changes: bool) -> None:
        self.sees_changes = sees_changes
        """False: sees the end alone."""
        self._news: Job | PgQueueError | None = None
        self._arrived = asyncio.Event()

    def tell(self, news: Job | PgQueueError) -> None:
        """Have `next` return the job, or raise the error. Whatever it has not returned yet is forgotten."""
        if news is not self._news:
            self._news = news
            self._arrived.set()

    async def next(self) -> Job:
        """Return the job as it was read last, once that is news."""
        await self._arrived.wait()
        self._arrived.clear()
        assert self._news is not None
        if isinstance(self._news, PgQueueError):
            raise self._news
        return self._news


@dataclass(slots=True)
class _Watched:
    """A job that is watched, as it was read last."""

    watchers: set[_Watcher] = field(default_factory=set)
    job: Job | None = None
    version: str | None = None

    def needs_reading(self, version: str | None, *, is_terminal: bool) -> bool:
        """Whether somebody wants to see what the job has become, now that it has this version."""
        return is_terminal or (
            version != self.version and any(watcher.sees_changes for watcher in self.watchers)
        )

    def tell(self, job: Job) -> None:
        """Show the job to those who have not seen it like this."""
        # Not everything that is written about a job shows. Watchers tell news from old by identity: comparing
        # a job may mean comparing a megabyte.
        shown = self.job if self.job is not None and self.job == job else job
        self.job = shown
        for watcher in self.watchers:
            if watcher.sees_changes or shown.is_terminal:
                watcher.tell(shown)

    def fail(self, make_error: Callable[[], PgQueueError]) -> None:
        """Raise an error of its own in each watcher."""
        for watcher in self.watchers:
            watcher.tell(make_error())
