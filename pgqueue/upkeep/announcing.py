"""Tells what was committed to workers, to callers that await results, and to the hooks for dead letters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from typing import Final, Protocol
from uuid import UUID

from pgqueue.background.notifications import Signals
from pgqueue.background.watching import WATCH_TTL, Watches
from pgqueue.upkeep.chore import TICK
from pgqueue.upkeep.state import WorkerState

TAKEN_WITHIN: Final = 0.03
"""Seconds within which a worker has claimed what it has let through itself, unless it is busy otherwise."""


class Announcer(Protocol):
    """Is told what was committed."""

    def committed(self, *, ended: Collection[UUID] = (), ready: Iterable[int] = ()) -> None:
        """Tell of jobs that have ended, and of lanes that have new ready jobs."""

    def handed_over(self, lanes: Collection[int]) -> None:
        """Tell of lanes that have new ready jobs, no more than the slots that have come free here."""

    def failed(self, job_ids: Collection[UUID]) -> None:
        """Tell of jobs that have failed permanently."""

    def noted(self, notes: Collection[int] | None) -> None:
        """Tell of notes that are to be attended to, because jobs that have ended are waited for.

        None: there may be some, which a function of the database has written.
        """

    def due_in(self, delay: float) -> None:
        """Tell of a job that is due in *delay* seconds."""


class DeadLetterReader(Protocol):
    """Reads dead letters, and tells of them."""

    def add(self, ids: Iterable[UUID]) -> None:
        """Take note of jobs whose failure is committed."""


class NoteReader(Protocol):
    """Attends to notes."""

    def add(self, notes: Iterable[int]) -> None:
        """Attend to committed *notes*."""


class WorkerAnnouncer:
    """Announces what the parts of one worker have committed."""

    def __init__(
        self,
        state: WorkerState,
        signals: Signals,
        watches: Watches,
        dead_letters: DeadLetterReader,
        attender: NoteReader,
        own: set[int],
    ) -> None:
        self._state = state
        self._signals = signals
        self._watches = watches
        self._dead_letters = dead_letters
        self._attender = attender
        self._own = own
        """Lanes into which this worker has let jobs through, until it has claimed there."""
        self._is_telling = False
        self.awaited_until = float("-inf")
        """The monotonic time until which another process awaits results."""

    def hear_watcher(self) -> None:
        """Take note that another process awaits results, and will say so again."""
        self.awaited_until = time.monotonic() + WATCH_TTL

    def committed(self, *, ended: Collection[UUID] = (), ready: Iterable[int] = ()) -> None:
        """See Announcer."""
        for lane_id in ready:
            self._signals.publish(f"ready {lane_id}")
        if ended and self._watches.is_watching:
            self._watches.hint(ended)
        if ended and time.monotonic() < self.awaited_until:
            self._signals.publish_finished(ended)

    def handed_over(self, lanes: Collection[int]) -> None:
        """See Announcer. Others are told only if this worker has not claimed those jobs a moment later.

        Told at once, all idle workers looked, each in vain, and beside the one that has them.
        """
        for lane_id in lanes:
            self._signals.tell_here(f"ready {lane_id}")
        if self._state.is_stopping:
            self.committed(ready=lanes)
            return
        self._own.update(lanes)
        if not self._is_telling:
            self._is_telling = True
            asyncio.get_running_loop().call_later(TAKEN_WITHIN, self._tell_others)

    def _tell_others(self) -> None:
        self._is_telling = False
        self.committed(ready=list(self._own))
        self._own.clear()

    def failed(self, job_ids: Collection[UUID]) -> None:
        """See Announcer."""
        self._dead_letters.add(job_ids)

    def noted(self, notes: Collection[int] | None) -> None:
        """See Announcer."""
        if notes is None:
            self._state.notes.hear()
        else:
            self._attender.add(notes)

    def due_in(self, delay: float) -> None:
        """See Announcer."""
        if delay < TICK:
            self._state.soon_due += 1
            self._state.upkeep.set()
