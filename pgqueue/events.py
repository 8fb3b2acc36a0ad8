"""What observers hear: one event a batch, so that an event costs a batch and not a job.

An observer is a plain function. It is called on the event loop and must return at once; metrics and
logs are observers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from pgqueue.jobs import JobStatus

logger = logging.getLogger("pgqueue.events")


@dataclass(frozen=True, slots=True)
class JobsEnqueued:
    """Jobs were enqueued by this process. Inside a caller's transaction: if it commits."""

    count: int


@dataclass(frozen=True, slots=True)
class JobsClaimed:
    """A claim brought jobs; `waited` is each one's seconds from ready to claimed."""

    waited: Sequence[float]


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """What observers hear of one attempt once its outcome is committed."""

    job_id: UUID
    task: str
    queue: str
    attempt: int
    status: JobStatus
    """The status that the job has now."""
    reason: str | None
    seconds: float
    """How long the handler ran."""


@dataclass(frozen=True, slots=True)
class AttemptsEnded:
    """A batch of outcomes was committed."""

    attempts: Sequence[AttemptEnded]


@dataclass(frozen=True, slots=True)
class AttemptsFenced:
    """Outcomes were dropped: the lease they were reached under was lost."""

    job_ids: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class AttemptsAbandoned:
    """Handlers did not end when they were cancelled: their slots are free, and they go on for nothing."""

    job_ids: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class JobsRescued:
    """Jobs of a lost worker were taken back."""

    requeued: int
    failed: Sequence[UUID]
    worker: str


Event = JobsEnqueued | JobsClaimed | AttemptsEnded | AttemptsFenced | AttemptsAbandoned | JobsRescued
Observer = Callable[[Event], None]


class Observers:
    """Everybody who hears of events. False where there is nobody: then no event need be made."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []

    def add(self, observer: Observer) -> None:
        """Call *observer* with every event from now on."""
        self._observers.append(observer)

    def __bool__(self) -> bool:
        return bool(self._observers)

    def emit(self, event: Event) -> None:
        """Tell everybody. An observer that fails is logged and does not disturb the others."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception:
                logger.exception("observer %r failed at %s", observer, type(event).__name__)
