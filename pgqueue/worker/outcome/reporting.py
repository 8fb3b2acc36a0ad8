"""Tells of outcomes that are committed or were fenced off: other parts of the worker, observers, the log."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from uuid import UUID

from pgqueue.events.attempts import AttemptsEnded, AttemptsFenced
from pgqueue.events.observers import Observers
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, Retried, Succeeded, Suspended, next_in
from pgqueue.upkeep.announcing import Announcer
from pgqueue.worker.attempt.attempt import RunningAttempt

logger = logging.getLogger("pgqueue.worker")


class Reporter:
    """Tells of outcomes. *queues*: those of the worker's jobs, if known."""

    def __init__(self, announcer: Announcer, observers: Observers, queues: Sequence[str]) -> None:
        self._announcer = announcer
        self._observers = observers
        self._queues = queues

    def report(self, batch: Sequence[RunningAttempt], kept: Collection[UUID], lanes: Collection[int]) -> None:
        """Tell of outcomes of one kind, of which those of the jobs *kept* are committed.

        *lanes*: those that have new ready jobs.
        """
        if isinstance(batch[0].outcome, Retried | Suspended):
            delays = [
                delay
                for attempt in batch
                if attempt.outcome is not None and (delay := next_in(attempt.outcome)) is not None
            ]
            self._announcer.due_in(min(delays, default=math.inf))
        is_terminal = isinstance(batch[0].outcome, Succeeded | Ended)
        if is_terminal or lanes:
            self._announcer.committed(ended=kept if is_terminal else (), ready=lanes)
        if len(kept) < len(batch):
            fenced = [attempt.claimed.id for attempt in batch if attempt.claimed.id not in kept]
            logger.warning(
                "lease lost before the outcomes were written: dropped %d, including job %s",
                len(fenced),
                fenced[0],
            )
            self._observers.emit(AttemptsFenced(fenced))
            batch = [attempt for attempt in batch if attempt.claimed.id in kept]
        if batch and isinstance(batch[0].outcome, Ended):
            self._announcer.failed([attempt.claimed.id for attempt in batch if _has_failed(attempt)])
        if batch and self._observers.want(AttemptsEnded):
            self._observers.emit(
                AttemptsEnded(
                    committed=tuple(batch),
                    queues=self._queues,
                    is_success=isinstance(batch[0].outcome, Succeeded),
                )
            )
        if batch and isinstance(batch[0].outcome, Retried | Ended):
            for attempt in batch:
                attempt.let_go()

    def report_cancelled(
        self, batch: Sequence[RunningAttempt], cancelled: Collection[UUID]
    ) -> list[RunningAttempt]:
        """Tell of jobs that were to run again, and were cancelled instead; return the others."""
        ended = [attempt for attempt in batch if attempt.claimed.id in cancelled]
        for attempt in ended:
            attempt.outcome = Ended(attempt.claimed.id, JobStatus.CANCELLED, "cancelled", None)
        self.report(ended, cancelled, ())
        return [attempt for attempt in batch if attempt.claimed.id not in cancelled]

    def pass_on(self, notes: Collection[int] | None, own: Collection[int]) -> None:
        """Tell of what the ends of jobs have left for others."""
        if notes is None or notes:
            self._announcer.noted(notes)
        if own:
            self._announcer.handed_over(own)


def _has_failed(attempt: RunningAttempt) -> bool:
    return isinstance(attempt.outcome, Ended) and attempt.outcome.status is JobStatus.FAILED
