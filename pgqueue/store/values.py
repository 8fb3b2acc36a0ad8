"""What goes into statements and comes out of them. Values only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, NamedTuple
from uuid import UUID

from pgqueue.events.kinds import JobMoved
from pgqueue.model.jobs import JobStatus


@dataclass(frozen=True, slots=True)
class Template:
    """All of a job but its id and arguments. `lane` is (queue, priority); durations are in seconds."""

    lane: tuple[str, int]
    task: str
    run_at: datetime | None = None
    delay: float | None = None
    expires_at: datetime | None = None
    expires_after: float | None = None
    options: str | None = None
    headers: str | None = None
    tags: str | None = None
    key: str | None = None

    @property
    def is_timed(self) -> bool:
        """Whether its jobs may have to wait for a time."""
        return self.delay is not None or self.run_at is not None


@dataclass(slots=True)
class NewJobs:
    """Jobs to be written: parallel lists of ids, arguments as JSON, and numbers of templates, from 1."""

    ids: list[UUID] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    templates: list[Template] = field(default_factory=list)

    def add(self, job_id: UUID, document: str, template: Template) -> None:
        """Add a job."""
        # The same template object again and again is the usual case of a bulk call; calls with keys of
        # their own have equal ones.
        if not self.templates or (self.templates[-1] is not template and self.templates[-1] != template):
            self.templates.append(template)
        self.ids.append(job_id)
        self.documents.append(document)
        self.numbers.append(len(self.templates))

    def without(self, ids: Collection[UUID]) -> NewJobs:
        """Return these jobs but those with *ids*."""
        kept = [index for index, job_id in enumerate(self.ids) if job_id not in ids]
        return NewJobs(
            [self.ids[index] for index in kept],
            [self.documents[index] for index in kept],
            [self.numbers[index] for index in kept],
            self.templates,
        )

    def slice(self, start: int, end: int) -> NewJobs:
        """Return the jobs from *start* to before *end*."""
        if start == 0 and end == len(self.ids):
            return self
        if start == end:
            return NewJobs()
        first, last = self.numbers[start], self.numbers[end - 1]
        return NewJobs(
            self.ids[start:end],
            self.documents[start:end],
            [number - first + 1 for number in self.numbers[start:end]],
            self.templates[first - 1 : last],
        )


class Claimed(NamedTuple):
    """A job under lease, as a worker gets it. A tuple: every job makes one, and it is made in C."""

    id: UUID
    lane: int
    position: int
    attempt: int
    losses: int
    task: str
    arguments: str
    options: str | None
    headers: str | None
    key: str | None
    expired: bool | None
    waited: float
    """Seconds from ready to claimed."""
    age: float | None
    """Seconds from the first attempt's start to this claim; None: this is the first."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One FIFO: a queue at a priority, and the task it is for where it is for one alone."""

    id: int
    queue: str
    priority: int
    task: str


@dataclass(frozen=True, slots=True)
class Promoted:
    """What promoting found: `next_in` is the seconds until the next job is due."""

    count: int
    lanes: Sequence[int]
    next_in: float | None
    jobs: Sequence[JobMoved] = ()
    """Each of them, where that was asked for."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """What making jobs pending again came to."""

    count: int
    lanes: Sequence[int]
    jobs: Sequence[JobMoved]
    """Each of them, where that was asked for."""


class Carried(NamedTuple):
    """What carrying a mass redrive on came to: the lanes of the jobs, all of which are behind a position."""

    lanes: Sequence[int]
    position: int


@dataclass(frozen=True, slots=True)
class Rescued:
    """A job taken back from a lost worker: pending again, failed, or cancelled."""

    id: UUID
    task: str
    lane: int
    status: JobStatus
    queue: str
    attempt: int
    """The number of the attempt that was lost, or of the last one if none was."""
    was_running: bool


class KeyRow(NamedTuple):
    """What is stored of an idempotency key. `window` is in seconds, None: for ever."""

    id: UUID
    scope: str
    key: str
    job_id: UUID
    span: str
    fingerprint: str | None
    window: float | None


class KeyHolder(NamedTuple):
    """The job that has an idempotency key, and the digest of its call; None: any call is the same."""

    job_id: UUID
    fingerprint: str | None


class Standing(StrEnum):
    """Where a job stands, as far as one that may join or follow it is concerned."""

    WAITING = "waiting"
    RUNNING = "running"
    OVER = "over"


class LaneCounts(NamedTuple):
    """What a lane holds, each counted to `cap` at most; `oldest_age` in seconds."""

    lane: int
    queue: str
    cap: int
    is_paused: bool
    ready: int
    scheduled: int
    retrying: int
    blocked: int
    running: int
    prefetched: int
    oldest_age: float | None


class DeadCount(NamedTuple):
    """How many dead letters a queue has, counted to `cap` at most."""

    queue: str
    cap: int
    letters: int


Countable = Literal["ready", "scheduled", "blocked", "dead_letter"]
"""A table that can have more rows than are to be counted."""


class Estimate(NamedTuple):
    """About how many there are: of a lane ready, scheduled, retrying or blocked; of a queue failed."""

    what: str
    lane: int | None
    queue: str | None
    jobs: int


class Done(NamedTuple):
    """What was done in a stretch of time, the latest being 0. Durations are counted as `estimates` does."""

    queue: str | None
    place: int
    enqueued: int
    claimed: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    retried: int
    lost: int
    waits: Sequence[int | None]
    runs: Sequence[int | None]


class Partition(NamedTuple):
    """A day partition and the ids that it takes, the upper end not included."""

    name: str
    low: UUID
    high: UUID
    is_old: bool
    """Whether all its ids are of moments past the retention."""
    limit_id: UUID
    """The first id that is not."""


class Step(NamedTuple):
    """What one step through the jobs found: `reached` is the last one's id."""

    looked: int
    reached: UUID | None
    are_past: bool = False
    """Whether all of them may go."""
    removed: int = 0


class Found(NamedTuple):
    """What one look at a list found: `reached` is the last job looked at."""

    ids: Sequence[UUID]
    looked: int
    reached: UUID | None
