"""When to ask again: `Retry-After`, from what is known about a job and its queue. A hint, never a promise."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pgqueue.app import PgQueue
from pgqueue.model.jobs import Job, JobStatus
from pgqueue.model.measures import QueueMeasure

MAX_RETRY_AFTER: Final = 300
"""Seconds. Even a long job may be cancelled, or get another priority."""
PATIENCE: Final = 4.0
"""A state that lasts longer than expected is asked for again after its age divided by this."""
FRESH_FOR: Final = 10.0
"""Seconds for which a measure of the queues is used."""

logger = logging.getLogger("pgqueue.web")


@dataclass(frozen=True, slots=True)
class Outlook:
    """What to expect of a queue's jobs, in seconds; None: unknown."""

    wait: float | None = None
    """Wait time of a job that is enqueued now."""
    run: float | None = None
    """Run time of an attempt."""

    @classmethod
    def of(cls, queue: QueueMeasure) -> Outlook:
        """Return what to expect, from a measure of *queue*."""
        if queue.is_paused:
            wait = math.inf
        elif not queue.pending.value:
            wait = 0.0
        elif queue.drain is not None:
            wait = queue.drain.likely
        else:
            wait = queue.oldest_age or 0.0
        return cls(wait, None if queue.run is None else queue.run.p50)


def retry_after(job: Job, outlook: Outlook) -> int:
    """Return after how many seconds to ask for *job* again: a positive integer, MAX_RETRY_AFTER at most."""
    run = outlook.run or 0.0
    if job.status is JobStatus.SCHEDULED and job.next_run_at is not None:
        return bounded(_seconds(job.next_run_at - job.read_at) + run)
    if job.status is JobStatus.RUNNING:
        elapsed = _seconds(job.read_at - job.started_at) if job.started_at is not None else 0.0
        return bounded(_left_by_progress(job, elapsed) or left(outlook.run, elapsed))
    # For a job that has had an attempt, it is unknown since when it has waited.
    since = job.run_at or job.created_at
    waited = 0.0 if job.attempt else max(0.0, _seconds(job.read_at - since))
    return bounded(left(outlook.wait, waited) + run)


def retry_after_submission(outlook: Outlook) -> int:
    """Return after how many seconds to ask for a job that has just been enqueued."""
    return bounded((outlook.wait or 0.0) + (outlook.run or 0.0))


def left(expected: float | None, elapsed: float) -> float:
    """Return how much longer a state may last that has lasted *elapsed* of *expected* seconds."""
    if expected is None or elapsed >= expected:
        return elapsed / PATIENCE
    return expected - elapsed


def bounded(seconds: float) -> int:
    """Return *seconds* for the header: a positive integer, MAX_RETRY_AFTER at most."""
    if not seconds > 0:
        return 1
    return MAX_RETRY_AFTER if seconds >= MAX_RETRY_AFTER else math.ceil(seconds)


def _left_by_progress(job: Job, elapsed: float) -> float | None:
    progress = job.progress
    if progress is None or progress.total is None or not 0 < progress.current <= progress.total:
        return None
    return elapsed * (progress.total - progress.current) / progress.current


def _seconds(span: timedelta) -> float:
    return span.total_seconds()


class Outlooks:
    """What to expect of each queue, from its last measure.

    Polls only read it, so that none costs more than reading its job. `refresh` is called after a response.
    """

    def __init__(self, pgq: PgQueue) -> None:
        self._pgq = pgq
        self._known: Mapping[str, Outlook] = {}
        self._good_until = -math.inf

    def of(self, queue: str) -> Outlook:
        """Return what to expect of *queue*."""
        return self._known.get(queue, Outlook())

    @property
    def are_stale(self) -> bool:
        """Whether to measure again. False while a measure is under way."""
        return time.monotonic() >= self._good_until

    async def refresh(self) -> None:
        """Measure again. Raises nothing but cancellation: it is only for hints."""
        self._good_until = time.monotonic() + FRESH_FOR
        try:
            self._known = {queue.queue: Outlook.of(queue) for queue in await self._pgq.measure()}
        except Exception:
            # Whatever it is, requests that need the database report it.
            logger.debug("the queues could not be measured for Retry-After", exc_info=True)
