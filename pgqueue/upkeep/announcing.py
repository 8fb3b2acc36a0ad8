"""Tells what was committed to workers, to callers that await results, and to the hooks for dead letters."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Protocol
from uuid import UUID

from pgqueue.background.notifications import Signals
from pgqueue.background.watching import WATCH_TTL, Watches
from pgqueue.upkeep.chore import TICK
from pgqueue.upkeep.state import WorkerState


class Announcer(Protocol):
    """Is told what was committed."""

    def committed(self, *, ended: Collection[UUID] = (), ready: Iterable[int] = ()) -> None:
        """Tell of jobs that have ended, and of lanes that have new ready jobs."""

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
    ) -> None:
        self._state = state
        self._signals = signals
        self._watches = watches
        self._dead_letters = dead_letters
        self._attender = attender
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
