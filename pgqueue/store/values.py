"""Parameters and results of statements. Values only."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, NamedTuple
from uuid import UUID

from pgqueue.events.kinds import JobMoved
from pgqueue.model.jobs import JobStatus
from pgqueue.model.webhooks import KEY

HAS_WEBHOOKS: Final = f'"{KEY}"'
"""In the options of a job, as the database looks for it."""


@dataclass(frozen=True, slots=True)
class Template:
    """A job without its id and arguments. `lane` is (queue, priority); durations are in seconds."""

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
    lane_id: int | None = None
    """The lane's id, where the transaction that writes the job cannot see the lane."""

    @property
    def is_timed(self) -> bool:
        """Whether its jobs have a delay or a start time."""
        return self.delay is not None or self.run_at is not None

    @property
    def has_webhooks(self) -> bool:
        """Whether the ends of its jobs are to be told."""
        return self.options is not None and HAS_WEBHOOKS in self.options


@dataclass(slots=True)
class NewJobs:
    """Jobs to be written: parallel lists of ids, arguments as JSON, and numbers of templates, from 1."""

    ids: list[UUID] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    templates: list[Template] = field(default_factory=list)

    def add(self, job_id: UUID, document: str, template: Template) -> None:
        """Add a job."""
        # In most bulk calls all jobs share one template object; calls with keys of their own have equal ones.
        if not self.templates or (self.templates[-1] is not template and self.templates[-1] != template):
            self.templates.append(template)
        self.ids.append(job_id)
        self.documents.append(document)
        self.numbers.append(len(self.templates))

    def without(self, ids: Collection[UUID]) -> NewJobs:
        """Return these jobs except those with *ids*."""
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


class LanesSeen(NamedTuple):
    """A part of all lanes, in the order of their ids."""

    reached: int | None
    looked: int
    brought_back: Sequence[int]
    """Those that were removed, and have a job."""


class Place(NamedTuple):
    """Where a step stands among those of its job, as what, and in which call of the task."""

    number: int | None
    """None: its order says nothing."""
    kind: str | None
    """'step', 'sleep', 'event' or 'workflow'; None: stored before places were."""
    call: int | None
    """A checksum of the job's arguments: steps of another call are no measure for the order of these."""


NO_PLACE: Final = Place(None, None, None)


class StoredStep(NamedTuple):
    """What is stored of a step: its result as JSON, and its place."""

    result: str
    place: Place


class Claimed(NamedTuple):
    """A claimed job, as a worker gets it. A tuple, because one is made per job, and tuples are made in C."""

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
    """Seconds from the start of the first attempt to this claim; None if this is the first."""
    tags: str | None = None
    """As JSON."""
    created: float | None = None
    """When it was enqueued, in seconds since 1970."""


@dataclass(slots=True)
class Settled:
    """What statements that end jobs leave to be done for those that wait for them."""

    notes: list[int] = field(default_factory=list)
    """To be attended to."""
    lanes: set[int] = field(default_factory=set)
    """Lanes that have new ready jobs."""
    own: set[int] = field(default_factory=set)
    """Those of them that have no more than have just ended here."""

    def add(self, document: str | None) -> None:
        """Add what a statement returned; None: nobody waits for those jobs."""
        if document is not None:
            settled = json.loads(document)
            self.notes += settled["notes"]
            self.lanes.update(settled["lanes"])
            self.own.update(settled.get("own", ()))


@dataclass(frozen=True, slots=True)
class Lane:
    """A FIFO: one queue at one priority. A lane for jobs put aside has a task; others have ''."""

    id: int
    queue: str
    priority: int
    task: str


@dataclass(frozen=True, slots=True)
class Promoted:
    """The result of promoting: `next_in` is the time in seconds until the next job is due."""

    count: int
    lanes: Sequence[int]
    next_in: float | None
    jobs: Sequence[JobMoved] = ()
    """The jobs, if they were requested."""
    notes: Sequence[int] = ()
    """What is to be attended to: some go to limits."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """The result of requeuing jobs."""

    count: int
    lanes: Sequence[int]
    jobs: Sequence[JobMoved]
    """The jobs, if they were requested."""


class Carried(NamedTuple):
    """A step of a mass redrive: the lanes of its jobs, and the position after which all of them are."""

    lanes: Sequence[int]
    position: int


class Underway(NamedTuple):
    """An attempt, as its claim made it, and for how many seconds it has run."""

    job_id: UUID
    attempt: int
    losses: int
    seconds: float


class DoubtfulLease(NamedTuple):
    """A lease whose worker may be dead."""

    id: UUID
    worker: str
    renewed_at: datetime
    expires_at: datetime
    is_judged: bool
    """Its rescue has begun."""
    is_unlocked: bool
    """Its process does not hold the lock that it has taken."""
    is_receipt: bool = False
    """It is the receipt of a job: it has run out when its time is over."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """A job rescued from a lost worker: pending again, failed, or cancelled."""

    id: UUID
    task: str
    lane: int
    status: JobStatus
    queue: str
    attempt: int
    """The number of the attempt that was lost, or of the last one if none was."""
    was_running: bool


class KeyRow(NamedTuple):
    """The stored form of an idempotency key. `window` is in seconds; None means no end."""

    id: UUID
    scope: str
    key: str
    job_id: UUID
    span: str
    fingerprint: str | None
    window: float | None


class KeyHolder(NamedTuple):
    """The job that holds an idempotency key, and the digest of its call, or None if arguments are ignored."""

    job_id: UUID
    fingerprint: str | None


class Hold(NamedTuple):
    """The idempotency key that a call asks for, and what it wants where another job holds it."""

    row: KeyRow
    on_conflict: str


class Replacement(NamedTuple):
    """What a job that has not started is to become, with its arguments as JSON, and what it passes."""

    job_id: UUID
    document: str
    template: Template
    gates: Iterable[tuple[str, str]]
    keeps_time: bool
    """It starts when it was to start."""


class Submitted(NamedTuple):
    """What became of a submitted job: 'held', 'replaced', 'follows' or 'due' (see `pgqueue.submit`)."""

    id: UUID
    outcome: str
    holder: UUID | None
    agrees: bool
    """Whether the holder was enqueued by the same call, as far as calls are compared."""
    was: str | None
    now: str | None
    """Where the holder stands, and stood, if it was replaced."""


class Standing(StrEnum):
    """Where a job stands, for another one that may join or follow it."""

    WAITING = "waiting"
    RUNNING = "running"
    OVER = "over"


class LaneCounts(NamedTuple):
    """What a lane holds, each number counted to `cap`; `oldest_age` is in seconds."""

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
    held: int
    """Running and prefetched ones, and those whose outcomes are about to be written."""
    oldest_age: float | None


class TaskDone(NamedTuple):
    """What became of the jobs of a task in one period; without a place: in all of them."""

    place: int | None
    succeeded: int
    retried: int
    failed: int
    cancelled: int
    expired: int
    live: int
    run: Sequence[float | None] | None
    buckets: Sequence[int] | None
    runs: Sequence[int] | None
    looked: int
    now: datetime


class DeadCount(NamedTuple):
    """How many dead letters a queue has, counted to `cap`."""

    queue: str
    cap: int
    letters: int


Countable = Literal["ready", "scheduled", "blocked", "dead_letter"]
"""A table that may have too many rows to count."""


class Estimate(NamedTuple):
    """An estimate: ready, scheduled, retrying or blocked jobs of a lane, or failed jobs of a queue."""

    what: str
    lane: int | None
    queue: str | None
    jobs: int


class Done(NamedTuple):
    """What was done in a period; the latest one is 0. Durations are counted in the buckets of `estimates`."""

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
    first_wait: float | None
    """Of one job. If only one was claimed, it is that one's."""
    first_run: float | None


class Partition(NamedTuple):
    """A daily partition and its ids, without the upper bound."""

    name: str
    low: UUID
    high: UUID
    is_old: bool
    """Whether all its ids are older than the retention."""
    limit_id: UUID
    """The first id that is not older than the retention."""


class Step(NamedTuple):
    """The result of one step through the jobs: `reached` is the id of the last one."""

    looked: int
    reached: UUID | None
    are_past: bool = False
    """Whether all of them may be removed."""
    removed: int = 0


class Found(NamedTuple):
    """The result of one search of a list: `reached` is the last job that was examined."""

    ids: Sequence[UUID]
    looked: int
    reached: UUID | None
