"""Watches jobs: any number of watchers of any number of jobs share one listener and one query per second.

The query reads versions only. A job is read in full when its first watcher comes, when it has changed, and
when a notification says that it has ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import anyio

from pgqueue.background.loop import Loop
from pgqueue.background.notifications import Signals
from pgqueue.background.row_errors import is_of_a_row
from pgqueue.database.outages import PASSING_ERRORS
from pgqueue.database.patience import Reminder
from pgqueue.database.pool import Database
from pgqueue.database.visibility import hidden_job, may_hide_jobs
from pgqueue.errors import (
    CodecError,
    JobNotFoundError,
    PgQueueError,
)
from pgqueue.model.jobs import Job
from pgqueue.store import Store

logger = logging.getLogger("pgqueue.watches")

POLL_INTERVAL = 1.0
"""Seconds between two polls of all watched jobs while notifications arrive."""
POLL_INTERVAL_UNHEARD = 0.1
"""Seconds between two polls while notifications do not arrive."""
WATCH_INTERVAL = 10.0
"""Seconds between two reminders to workers that this process watches jobs."""
WATCH_TTL = 30.0
"""Seconds for which a worker heeds such a reminder."""
MAX_HINTS = 3
"""Notifications that one watched job has ended, between two polls, for which it is read."""
VERSIONS_LIMIT = 10_000
"""Maximum number of versions that one statement reads."""
READ_LIMIT = 200
"""Maximum number of jobs that one statement reads, because each may have a result of a megabyte."""


class Watches:
    """The watched jobs of one process."""

    def __init__(self, database: Database, store: Store, signals: Signals) -> None:
        self._database = database
        self._store = store
        self._signals = signals
        self.loop = Loop("watching")
        self._watched: dict[UUID, _Watched] = {}
        self._fresh: set[UUID] = set()
        self._wakeup = anyio.Event()
        self._is_listening = False
        self._polled_at = float("-inf")
        self._reminded_at = float("-inf")
        self._reminder = Reminder()

    @property
    def is_watching(self) -> bool:
        """Whether this process watches any job."""
        return bool(self._watched)

    async def wait(self, job_id: UUID) -> Job:
        """Return the job once it has ended. Raises JobNotFoundError."""
        with self._watch(job_id, _Watcher(sees_changes=False)) as watcher:
            return await watcher.next()

    async def watch(self, job_id: UUID) -> AsyncGenerator[Job]:
        """Yield the job as it is now and after each change, until it has ended. Raises JobNotFoundError."""
        with self._watch(job_id, _Watcher(sees_changes=True)) as watcher:
            while True:
                job = await watcher.next()
                yield job
                if job.is_terminal:
                    return

    def hint(self, ids: Iterable[UUID]) -> None:
        """Read the watched jobs among *ids*."""
        self._fresh.update(self._watched.keys() & set(ids))
        if self._fresh:
            self._wakeup.set()

    async def run(self) -> None:
        """Serve watchers until cancelled."""
        try:
            with self.loop.lifetime():
                await self.loop.outlive(self._run)
        finally:
            if self._is_listening:
                self._signals.stop_listening_finished(self._hear)
                self._is_listening = False
            self._reminded_at = float("-inf")
            for watched in self._watched.values():
                watched.fail(partial(self.loop.end_error, "a job was being awaited"))

    async def _run(self) -> None:
        while True:
            # Re-armed before looking, so that no hint from here on is slept through.
            self._wakeup = anyio.Event()
            if not self._watched:
                await self._wakeup.wait()
                self._polled_at = time.monotonic()
            self._ask_for_news()
            if not self._fresh:
                with anyio.move_on_after(self._seconds_to_poll()):
                    await self._wakeup.wait()
            with self.loop.step():
                await self._look()

    @contextmanager
    def _watch(self, job_id: UUID, watcher: _Watcher) -> Iterator[_Watcher]:
        self.loop.check()
        watched = self._watched.setdefault(job_id, _Watched())
        watched.watchers.add(watcher)
        # Registered first and read afterwards: the read finds a job that ends in between.
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
            # By the clock, so that a steady stream of hints does not postpone it.
            if self._seconds_to_poll() <= 0:
                self._polled_at = time.monotonic()
                await self._poll()
        except PASSING_ERRORS as error:
            logger.log(
                self._reminder.level(),
                "watches: waiting for the database: %s; trying again at the next poll",
                error,
            )
            await anyio.sleep(POLL_INTERVAL_UNHEARD)

    async def _poll(self) -> None:
        ids = list(self._watched)
        for start in range(0, len(ids), VERSIONS_LIMIT):
            asked = ids[start : start + VERSIONS_LIMIT]
            async with self._database.acquire() as connection:
                found = await self._store.read_versions(connection, asked)
            moved: dict[UUID, str | None] = {}
            for job_id in asked:
                if watched := self._watched.get(job_id):
                    watched.hints = 0
                # A job that is gone counts as ended: it will not change any more.
                is_terminal, version = found.get(job_id, (True, None))
                watched = self._watched.get(job_id)
                if watched is not None and watched.needs_reading(version, is_terminal=is_terminal):
                    moved[job_id] = version
            await self._read(moved)
            # Noted after the watchers were told, so that a failed read is repeated.
            for job_id, version in moved.items():
                if watched := self._watched.get(job_id):
                    watched.version = version

    async def _read(self, ids: Iterable[UUID]) -> None:
        wanted = list(ids)
        for start in range(0, len(wanted), READ_LIMIT):
            asked = wanted[start : start + READ_LIMIT]
            try:
                await self._read_together(asked)
            except Exception as error:
                if not is_of_a_row(error):
                    raise
                for job_id in asked:
                    await self._read_alone(job_id)

    async def _read_together(self, asked: Sequence[UUID]) -> None:
        async with self._database.acquire() as connection:
            jobs = await self._store.read_jobs(connection, asked)
            is_hidden = len(jobs) < len(asked) and await may_hide_jobs(connection, self._database.schema)
        for job_id in asked:
            watched = self._watched.get(job_id)
            if watched is None:
                continue
            job = jobs.get(job_id)
            if job is None:
                watched.fail(partial(hidden_job if is_hidden else JobNotFoundError, job_id))
            else:
                watched.tell(job)

    async def _read_alone(self, job_id: UUID) -> None:
        """Read one job. If its row cannot be read, its own watchers are told, and nobody else."""
        try:
            await self._read_together([job_id])
        except Exception as error:
            if not is_of_a_row(error):
                raise
            if watched := self._watched.get(job_id):
                watched.fail(partial(CodecError.of_row, job_id, error))

    def _hear(self, message: str) -> None:
        # Any role can send the ids of jobs that have not ended, and what is not heeded is found by the poll.
        names = message.split()
        if len(self._watched) < len(names):
            # A busy worker announces thousands of jobs per second, and few of them are watched here.
            heard = set(names)
            told = [job_id for job_id in self._watched if str(job_id) in heard]
        else:
            told = [job_id for job_id in map(UUID, names) if job_id in self._watched]
        self.hint(job_id for job_id in told if self._watched[job_id].heeds_hint())


class _Watcher:
    """One watcher of a job. Holds the latest news only."""

    __slots__ = ("_arrived", "_news", "sees_changes")

    def __init__(self, *, sees_changes: bool) -> None:
        self.sees_changes = sees_changes
        """If not, the watcher is told of the end only."""
        self._news: Job | PgQueueError | None = None
        self._arrived = asyncio.Event()

    def tell(self, news: Job | PgQueueError) -> None:
        """Have `next` return the job, or raise the error. Earlier news that was not returned is dropped."""
        if news is not self._news:
            self._news = news
            self._arrived.set()

    async def next(self) -> Job:
        """Wait for news, and return the job as it was last read."""
        await self._arrived.wait()
        self._arrived.clear()
        assert self._news is not None
        if isinstance(self._news, PgQueueError):
            raise self._news
        return self._news


@dataclass(slots=True)
class _Watched:
    """A watched job, as it was last read."""

    watchers: set[_Watcher] = field(default_factory=set)
    job: Job | None = None
    version: str | None = None
    hints: int = 0
    """Notifications of its end since the last poll."""

    def heeds_hint(self) -> bool:
        """Whether to read the job because a notification says that it has ended."""
        self.hints += 1
        return self.hints <= MAX_HINTS

    def needs_reading(self, version: str | None, *, is_terminal: bool) -> bool:
        """Whether a watcher wants to see the job, now that it has this version."""
        return is_terminal or (
            version != self.version and any(watcher.sees_changes for watcher in self.watchers)
        )

    def tell(self, job: Job) -> None:
        """Tell the job to the watchers that have not seen it in this state."""
        # Not every write to a job is visible here. Watchers compare jobs by identity, because comparing two
        # jobs by value may mean comparing megabytes.
        shown = self.job if self.job is not None and self.job == job else job
        self.job = shown
        for watcher in self.watchers:
            if watcher.sees_changes or shown.is_terminal:
                watcher.tell(shown)

    def fail(self, make_error: Callable[[], PgQueueError]) -> None:
        """Raise a new error in each watcher."""
        for watcher in self.watchers:
            watcher.tell(make_error())
