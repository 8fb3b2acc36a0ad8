"""Measures of a running system: its queues, its workers, and its history. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, Self
from uuid import UUID

from pgqueue.model.progress import Progress


class Count(int):
    """A number of jobs. Counting stops at a cap, so that it does not cost more as a queue grows.

    It adds and compares like the int that it is. A sum with an estimate is an estimate; an estimate and an
    exact count are not equal, for what shows them shows the difference.
    """

    is_exact: bool
    """If not, the number is an estimate."""

    def __new__(cls, value: int, is_exact: bool = True) -> Self:  # as it is read
        """Return *value* as a count."""
        counted = super().__new__(cls, value)
        counted.is_exact = is_exact
        return counted

    @property
    def value(self) -> int:
        """The number, as a plain int."""
        return int(self)

    def __add__(self, other: int, /) -> Count:
        """Return the sum; it is exact if both are."""
        if not isinstance(other, int):
            return NotImplemented
        return Count(int(self) + int(other), self.is_exact and getattr(other, "is_exact", True))

    __radd__ = __add__

    def __eq__(self, other: object, /) -> bool:
        """Compare with a number; with a count, also whether both are exact."""
        if isinstance(other, Count) and self.is_exact is not other.is_exact:
            return False
        return int(self) == other

    def __ne__(self, other: object, /) -> bool:
        """Compare as `==` does: int has a comparison of its own."""
        return not self == other

    __hash__ = int.__hash__
    __str__ = int.__repr__

    def __repr__(self) -> str:
        return f"Count({int(self)}{'' if self.is_exact else ', is_exact=False'})"


NO_JOBS: Final = Count(0)


class Percentiles(NamedTuple):
    """Percentiles of durations, in seconds."""

    p50: float
    p95: float
    p99: float


class Bucket(NamedTuple):
    """The number of durations above one bound and up to another, in seconds."""

    above: float
    upto: float
    """Infinite in the last bucket."""
    jobs: int


class Drain(NamedTuple):
    """The estimated time in seconds until a queue is empty, at recent rates; infinite if it never is."""

    low: float
    likely: float
    high: float


@dataclass(frozen=True, slots=True)
class QueueMeasure:
    """What a queue holds, and how fast it moves. Rates and durations cover the last five minutes."""

    queue: str
    is_paused: bool
    pending: Count
    scheduled: Count
    """Jobs scheduled for their first attempt."""
    retrying: Count
    """Jobs scheduled for a retry."""
    blocked: Count
    running: Count
    failed: Count
    """Dead letters."""
    oldest_age: float | None
    """Seconds that the oldest pending job has waited; None if no job is pending."""
    enqueued_rate: float
    """Jobs per second, as counted by the processes. Jobs enqueued by SQL are not included; those enqueued in
    a transaction that was rolled back are."""
    finished_rate: float
    """Jobs per second that ended in a worker, with any status."""
    wait: Percentiles | None
    """Wait times, from ready to claimed; None if no job was claimed."""
    run: Percentiles | None
    """Run times of handlers; None if none ended."""
    drain: Drain | None
    """None if no job is pending, or there is no data."""
    waits: Sequence[Bucket] = ()
    """The histogram of wait times: all buckets in order, or none if no job was claimed."""
    runs: Sequence[Bucket] = ()
    """The histogram of run times."""
    claimed: Count = NO_JOBS
    """Those of the pending jobs that workers have claimed and not started: for their next slots."""


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A running job."""

    job_id: UUID
    task: str
    queue: str
    attempt: int
    started_at: datetime
    seconds: float
    """The run time so far, by the database's clock."""
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class WorkerMeasure:
    """A worker in any process that holds a lease."""

    lease_id: UUID
    name: str
    version: str | None
    """The version of its code, from `PgQueue(version=...)`."""
    queues: Sequence[str]
    started_at: datetime
    lease_age: float
    """Seconds since its lease was last renewed."""
    lease_left: float
    """Seconds until its lease expires; negative if it has expired and its jobs are about to be rescued."""
    loop_lag: float | None
    """Event-loop lag in seconds; None if the worker has not reported it yet, or its version does not."""
    abandoned_threads: int | None
    """Threads that run on although their attempts have ended, when the lease was renewed; None: as above."""
    running: int
    """Attempts under way: never more than its slots."""
    prefetched: int
    """Jobs that it has claimed and not started."""
    jobs: Sequence[RunningJob]
    """The longest-running jobs, up to the requested limit."""
    tasks: Sequence[str] | None = None
    """The tasks that it declares; None: its version does not say."""
    slots: int | None = None
    """Attempts that it makes at once; None: as above."""
    host: str | None = None
    """The name of the machine that it runs on; None: as above."""
    pid: int | None = None
    """The id of its process there; None: as above."""
    memory: int | None = None
    """Bytes of memory that its process held when the lease was renewed, without its children's; None: it has
    not said yet, or its system does not say."""

    @property
    def is_alive(self) -> bool:
        """Whether its lease is valid."""
        return self.lease_left > 0


@dataclass(frozen=True, slots=True)
class Period:
    """What was done in a period, as counted by the processes."""

    at: datetime
    """When it began."""
    seconds: float
    enqueued: int
    claimed: int
    succeeded: int
    failed: int
    retried: int
    wait: Percentiles | None
    run: Percentiles | None


class TaskCounts(NamedTuple):
    """How many jobs of a task came to what end."""

    succeeded: int
    """At the first attempt."""
    retried: int
    """Succeeded at a later attempt."""
    failed: int
    cancelled: int
    expired: int
    live: int
    """Those that have not ended."""

    @property
    def ended(self) -> int:
        """Those that succeeded or failed."""
        return self.succeeded + self.retried + self.failed

    @property
    def success_rate(self) -> float | None:
        """The share of those that succeeded, at whichever attempt; None: none has ended."""
        return (self.succeeded + self.retried) / self.ended if self.ended else None


class TaskPeriod(NamedTuple):
    """What became of the jobs that were created in a period."""

    at: datetime
    """When it began."""
    seconds: float
    counts: TaskCounts
    run: Percentiles | None
    """Run times of the attempts that succeeded."""


@dataclass(frozen=True, slots=True)
class TaskMeasure:
    """What became of the jobs of a task that were created in a span of time."""

    task: str
    span: float
    """Seconds, up to now."""
    counts: TaskCounts
    run: Percentiles | None
    """Run times of the attempts that succeeded; None if none did."""
    runs: Sequence[Bucket]
    """The histogram of those run times."""
    periods: Sequence[TaskPeriod]
    """Stretches of the span, oldest first."""
    looked: int
    """Jobs of all tasks that were looked at, the newest first."""
    is_whole: bool
    """Whether those are all of the span. If not, what is said holds for the newest jobs only."""
