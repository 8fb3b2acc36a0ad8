"""Attends to what has ended: counts it at barriers, and moves on what waited for it.

The finisher hands over the notes that its statements wrote, right after their commit. One note of a member of
a group is one row that is counted under the lock of its workflow, so the finisher never waits for that. What
follows from it (a join has ended, a job was cancelled) is a note again, attended to in the next transaction.

These transactions need not be on the disk, and may fail: a note is there until it was attended to. A chore of
any worker, `upkeep/attending`, hands over again what it finds.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.database.failing import log_fields, statement_of
from pgqueue.database.link import Link
from pgqueue.database.outages import is_away, told
from pgqueue.events.kinds import JobsCancelled, WorkErrorIsolated, cancelled_by_reason
from pgqueue.events.observers import Observers
from pgqueue.store import Store
from pgqueue.upkeep.announcing import Announcer
from pgqueue.upkeep.broken_rows import Stuck

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.worker")

MOST: Final = 1000
"""Notes of one transaction."""
TOGETHER: Final = 0.01
"""Seconds: those that are due within it are attended to at once."""
DOING: Final = "attending to workflows"


class Attender:
    """Owns the notes of a worker until they were attended to."""

    def __init__(self, store: Store, link: Link, observers: Observers) -> None:
        self.announcer: Announcer | None = None
        """Is told what became ready and what ended. Set once it is there: it hands notes to this."""
        self._store = store
        self._link = link
        self._observers = observers
        self._waiting: dict[int, None] = {}
        self._found: dict[int, None] = {}
        """Notes that others have left, and this worker has found: many, at times."""
        self._later: list[tuple[float, int]] = []
        """A heap of notes that are not to be attended to before a monotonic time: of limits by rate."""
        self._stuck: dict[int, Stuck] = {}
        """Notes that cannot be attended to, and are skipped for a while."""
        self._wakeup = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_idle(self) -> bool:
        """Whether all notes that were handed over were attended to."""
        return self._idle.is_set()

    @property
    def skipped(self) -> Collection[int]:
        """The notes that are not to be tried now."""
        now = time.monotonic()
        return [note for note, stuck in self._stuck.items() if stuck.until > now]

    def add(self, notes: Iterable[int]) -> None:
        """Attend to committed *notes*."""
        self._waiting |= dict.fromkeys(notes)
        self._wake()

    def add_found(self, notes: Iterable[int]) -> None:
        """Attend to committed *notes* of others, as there is room beside those of this worker."""
        self._found |= dict.fromkeys(notes)
        self._wake()

    def _wake(self) -> None:
        if self._waiting or self._found:
            self._idle.clear()
            self._wakeup.set()

    def add_later(self, notes: Iterable[tuple[int, float]]) -> None:
        """Attend to each of the committed *notes* in so many seconds."""
        now = time.monotonic()
        for note, seconds in notes:
            heapq.heappush(self._later, (now + seconds, note))
            self._wakeup.set()

    async def flush(self) -> None:
        """Wait until all that was handed over was attended to, or has failed."""
        await self._idle.wait()

    async def run(self) -> None:
        """Attend to what has collected, then to what has collected meanwhile, until cancelled."""
        while True:
            if not self._waiting and not self._found:
                self._wakeup.clear()
                self._idle.set()
                await self._sleep()
            if notes := self._take():
                await self._attend(notes)

    def _take(self) -> list[int]:
        """Remove what is attended to next; return it."""
        # Neither keeps the other waiting for more than one transaction.
        own = min(len(self._waiting), max(MOST // 2, MOST - len(self._found)))
        notes = [*islice(self._waiting, own), *islice(self._found, MOST - own)]
        for note in notes:
            self._waiting.pop(note, None)
            self._found.pop(note, None)
        return notes

    async def _sleep(self) -> None:
        """Wait until there are notes, or one is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._later[0][0] - time.monotonic() if self._later else None):
                await self._wakeup.wait()
        now = time.monotonic() + TOGETHER
        while self._later and self._later[0][0] <= now:
            self._waiting[heapq.heappop(self._later)[1]] = None
        if self._waiting or self._found:
            self._idle.clear()

    async def _attend(self, notes: Sequence[int]) -> None:
        """Attend to notes, in parts if that fails, so that one that cannot be attended to stops no other."""
        try:
            async with self._link.use() as connection:
                attended = await self._store.attend(connection, notes, MOST)
                cancelled = await self._describe(connection, attended.cancelled)
        except Exception as error:
            if is_away(error):
                # The notes are there, and found again when the database is.
                logger.debug("%s: the database is unavailable: %s", DOING, error)
            elif len(notes) == 1:
                self._skip(notes[0], error)
            else:
                half = len(notes) // 2
                await self._attend(notes[:half])
                await self._attend(notes[half:])
            return
        for note in notes:
            self._stuck.pop(note, None)
        self.add(attended.more)
        self.add_later(attended.later)
        if self.announcer is not None and (attended.cancelled or attended.lanes):
            self.announcer.committed(ended=attended.cancelled, ready=attended.lanes)
        for event in cancelled:
            self._observers.emit(event)

    async def _describe(self, connection: Connection, ids: Sequence[UUID]) -> list[JobsCancelled]:
        """Return what observers hear of cancelled jobs, if any listen."""
        if not ids or not self._observers.want(JobsCancelled):
            return []
        return cancelled_by_reason((await self._store.read_jobs(connection, ids)).values())

    def _skip(self, note: int, error: Exception) -> None:
        stuck = self._stuck.setdefault(note, Stuck())
        pause = stuck.fail()
        logger.log(
            logging.ERROR if stuck.is_news else logging.DEBUG,
            "%s: note %d cannot be attended to (%s); the others continue; trying it again in %g s",
            DOING,
            note,
            told(error),
            pause,
            extra=log_fields(error),
        )
        self._observers.emit(WorkErrorIsolated(DOING, type(error).__name__, statement=statement_of(error)))
