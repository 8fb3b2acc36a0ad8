"""What is seen of a running system: queues, workers, and how it went. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from pgqueue.model.progress import Progress


class Count(NamedTuple):
    """How many there are. Counting stops at a cap, so that looking does not cost more as a queue grows."""

    value: int
    is_exact: bool = True
    """False: `value` is an estimate."""


class Percentiles(NamedTuple):
    """Of some durations, in seconds."""

    p50: float
    p95: float
    p99: float


class Bucket(NamedTuple):
    """How many of some durations lie between two bounds, in seconds; the upper one is in it."""

    above: float
    upto: float
    """Infinite: there is none."""
    jobs: int


class Drain(NamedTuple):
    """In how many seconds a queue would be empty if all went on as it has lately; infinite: never."""

    low: float
    likely: float
    high: float


@dataclass(frozen=True, slots=True)
class QueueMeasure:
    """What a queue holds and how fast it moves. Rates and durations are of the last five minutes."""

    queue: str
    is_paused: bool
    pending: Count
    scheduled: Count
    """Waiting for their first start."""
    retrying: Count
    """Waiting for another attempt."""
    blocked: Count
    running: Count
    failed: Count
    """Dead letters."""
    oldest_age: float | None
    """Seconds that the job has waited that is first in its queue; None: none waits."""
    enqueued_rate: float
    """Jobs a second, by what processes have written down. Jobs enqueued by SQL are not in it, those of a
    transaction that was rolled back are."""
    finished_rate: float
    """Jobs a second that got to an end in a worker, whichever it was."""
    wait: Percentiles | None
    """From ready to claimed; None: nothing was claimed."""
    run: Percentiles | None
    """Of handlers; None: none ended."""
    drain: Drain | None
    """None: nothing is pending, or nobody knows."""
    waits: Sequence[Bucket] = ()
    """What `wait` is of, every bucket there is in order; empty: nothing was claimed."""
    runs: Sequence[Bucket] = ()
    """What `run` is of."""


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a worker runs now."""

    job_id: UUID
    task: str
    queue: str
    attempt: int
    started_at: datetime
    seconds: float
    """Since its start, by the database's clock."""
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class WorkerMeasure:
    """A worker that holds a lease, anywhere."""

    lease_id: UUID
    name: str
    version: str | None
    """Of the code, as `PgQueue(version=...)` names it."""
    queues: Sequence[str]
    started_at: datetime
    lease_age: float
    """Seconds since its lease was renewed."""
    lease_left: float
    """Seconds until it runs out; negative: it has, and its jobs are about to be taken back."""
    loop_lag: float | None
    """Seconds that its event loop lately took to turn; None: it has not said yet, or its version does not."""
    running: int
    prefetched: int
    jobs: Sequence[RunningJob]
    """Those that have run longest, up to the limit asked for."""

    @property
    def is_alive(self) -> bool:
        """Whether its lease holds."""
        return self.lease_left > 0


@dataclass(frozen=True, slots=True)
class Period:
    """What was done in a stretch of time, by what processes have written down."""

    at: datetime
    """Its beginning."""
    seconds: float
    enqueued: int
    claimed: int
    succeeded: int
    failed: int
    retried: int
    wait: Percentiles | None
    run: Percentiles | None
