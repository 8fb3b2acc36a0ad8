"""The names that RQ has for the statuses of jobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import Final

from pgqueue import JobStatus as Status


class JobStatus(str, Enum):  # noqa: UP042  # as in RQ, its text is JobStatus.QUEUED
    """The status of a job, in RQ's words."""

    CREATED = "created"
    QUEUED = "queued"
    FINISHED = "finished"
    FAILED = "failed"
    STARTED = "started"
    DEFERRED = "deferred"
    SCHEDULED = "scheduled"
    STOPPED = "stopped"
    CANCELED = "canceled"


NAMES: Final = {
    Status.PENDING: JobStatus.QUEUED,
    Status.SCHEDULED: JobStatus.SCHEDULED,
    Status.BLOCKED: JobStatus.DEFERRED,
    Status.RUNNING: JobStatus.STARTED,
    Status.SUCCEEDED: JobStatus.FINISHED,
    Status.FAILED: JobStatus.FAILED,
    Status.CANCELLED: JobStatus.CANCELED,
    # RQ forgets a job whose ttl is over before it has started.
    Status.EXPIRED: JobStatus.CANCELED,
}


class HasStatus(ABC):
    """What has a status, and says which by its properties."""

    @abstractmethod
    def get_status(self, refresh: bool = True) -> JobStatus:
        """Return its status, in RQ's words."""

    @property
    def is_finished(self) -> bool:
        """Whether it has succeeded."""
        return self.get_status() is JobStatus.FINISHED

    @property
    def is_queued(self) -> bool:
        """Whether it waits for a worker."""
        return self.get_status() is JobStatus.QUEUED

    @property
    def is_failed(self) -> bool:
        """Whether it has failed for good."""
        return self.get_status() is JobStatus.FAILED

    @property
    def is_started(self) -> bool:
        """Whether it is running."""
        return self.get_status() is JobStatus.STARTED

    @property
    def is_deferred(self) -> bool:
        """Whether it waits for other jobs."""
        return self.get_status() is JobStatus.DEFERRED

    @property
    def is_canceled(self) -> bool:
        """Whether it was cancelled, or its ttl was over before it started."""
        return self.get_status() is JobStatus.CANCELED

    @property
    def is_scheduled(self) -> bool:
        """Whether it starts at a later time."""
        return self.get_status() is JobStatus.SCHEDULED

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped: such a job is canceled here."""
        return False
