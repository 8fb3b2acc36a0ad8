"""What observers hear: one event a batch, so that an event costs a batch and not a job.

An observer is a plain function. It is called on the event loop and must return at once; metrics and
logs are observers.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeVar, get_args
from uuid import UUID

from pgqueue.model.dead_letters import DeadLetter
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus

logger = logging.getLogger("pgqueue.events")

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

SAMPLE: Final = 8
"""Durations that are looked at in a batch: what counts by queue must cost a batch, and not a job."""


class Share(NamedTuple):
    """What a batch has of one queue."""

    size: int
    seconds: Sequence[float]
    """How long some of them took: a sample."""


def shares(
    batch: Sequence[T], key: Callable[[T], K], seconds: Callable[[T], float], *, keys: Sequence[K] = ()
) -> dict[K, Share]:
    """Return what *batch* has of each key, with *seconds* of SAMPLE members at most, evenly picked.

    *keys*: those that there can be, if that is known. Where it is one alone, no member is asked.
    """
    # From the middle of each stretch, so that neither the first nor the last is favoured.
    stride = -(-len(batch) // SAMPLE) or 1
    picked = batch[(stride - 1) // 2 :: stride]
    if len(keys) == 1 and batch:
        return {keys[0]: Share(len(batch), list(map(seconds, picked)))}
    counts = Counter(map(key, batch))
    sample: dict[K, list[float]] = {each: [] for each in counts}
    for member in picked:
        sample[key(member)].append(seconds(member))
    return {each: Share(count, sample[each]) for each, count in counts.items()}


TaskAndQueue = tuple[str, str]


class JobMoved(NamedTuple):
    """What observers hear of one job that no attempt has moved: where it was before, and where it is now."""

    job_id: UUID
    task: str
    queue: str
    before: JobStatus | None
    """None: it is new, or begins anew. As it is now: something else about it has changed."""
    status: JobStatus
    attempt: int = 0
    """Attempts that it has spent."""


class JobsEnqueued:
    """`count` jobs were enqueued by this process. Inside a caller's transaction: if it commits."""

    __slots__ = ("_counts", "_jobs", "_make", "count", "is_committed")

    def __init__(
        self,
        count: int,
        make: Callable[[], Mapping[TaskAndQueue, int]] = dict,
        *,
        jobs: Callable[[], Sequence[JobMoved]] = tuple,
        is_committed: bool = True,
    ) -> None:
        self.count = count
        self.is_committed = is_committed
        """False: they are part of a caller's transaction, which is open."""
        self._make = make
        self._jobs = jobs
        self._counts: Mapping[TaskAndQueue, int] | None = None

    @property
    def jobs(self) -> Sequence[JobMoved]:
        """Each of them. Made when it is asked for."""
        return self._jobs()

    @property
    def counts(self) -> Mapping[TaskAndQueue, int]:
        """How many of each task and queue. Made when somebody asks."""
        if self._counts is None:
            self._counts = self._make()
        return self._counts


class JobsClaimed:
    """A claim brought jobs."""

    __slots__ = ("_make", "_share", "_waited", "_waits")

    def __init__(
        self,
        waited: Callable[[], Sequence[float]],
        make: Callable[[], Mapping[TaskAndQueue, Sequence[float]]] = dict,
        *,
        share: Callable[[], Mapping[str, Share]] = dict,
    ) -> None:
        self._waited = waited
        self._make = make
        self._share = share
        self._waits: Mapping[TaskAndQueue, Sequence[float]] | None = None

    @property
    def waited(self) -> Sequence[float]:
        """Each one's seconds from ready to claimed. Made when it is asked for."""
        return self._waited()

    @property
    def by_queue(self) -> Mapping[str, Share]:
        """What it brought of each queue, and how long some of them had waited."""
        return self._share()

    @property
    def waits(self) -> Mapping[TaskAndQueue, Sequence[float]]:
        """The same by task and queue. Made when somebody asks."""
        if self._waits is None:
            self._waits = self._make()
        return self._waits


@dataclass(frozen=True, slots=True)
class BatchSent:
    """A statement that takes a batch of jobs along was carried out, within `seconds` for all its tries."""

    verb: Literal["enqueue", "claim", "finish"]
    size: int
    """Jobs; for a claim those that it brought, perhaps none."""
    seconds: float


@dataclass(frozen=True, slots=True)
class LoopTurned:
    """The event loop of a worker was asked to turn, and has taken `lag` seconds to do it."""

    lag: float


class JobStarted(NamedTuple):
    """What observers hear of one job whose handler is about to run. A tuple: see AttemptEnded."""

    job_id: UUID
    task: str
    queue: str
    attempt: int
    waited: float
    """Seconds from ready to claimed."""
    worker: str


class JobsStarted:
    """A worker starts jobs that it has claimed."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], Sequence[JobStarted]]) -> None:
        self._make = make

    @property
    def jobs(self) -> Sequence[JobStarted]:
        """Each of them. Made when it is asked for, during the call of the observer."""
        return self._make()


class AttemptEnded(NamedTuple):
    """What observers hear of one attempt once its outcome is committed.

    A tuple: where somebody listens every job makes one, and it is made in C.
    """

    job_id: UUID
    task: str
    queue: str
    attempt: int
    status: JobStatus
    """The status that the job has now."""
    reason: str | None
    seconds: float
    """How long the handler ran."""
    waited: float = 0.0
    """Seconds from ready to claimed."""
    worker: str | None = None
    error: JobError | None = None
    next_in: float | None = None
    """Seconds until it is run again, where that is known."""
    has_started: bool = True
    """False: it was claimed and nobody began to run it. To whoever watches, the job was pending all along."""


class AttemptsEnded:
    """A batch of outcomes of one kind was committed. `is_success`: all of them are successes."""

    __slots__ = ("_attempts", "_make", "_share", "is_success")

    def __init__(
        self,
        make: Callable[[], Sequence[AttemptEnded]],
        *,
        share: Callable[[], Mapping[str, Share]] = dict,
        is_success: bool = False,
    ) -> None:
        self._make = make
        self._share = share
        self._attempts: Sequence[AttemptEnded] | None = None
        self.is_success = is_success

    @property
    def attempts(self) -> Sequence[AttemptEnded]:
        """Each of them. Made when somebody asks: a batch that nobody reads costs nothing."""
        if self._attempts is None:
            self._attempts = self._make()
        return self._attempts

    @property
    def by_queue(self) -> Mapping[str, Share]:
        """How many there are of each queue, and how long the handlers of some of them ran."""
        return self._share()


@dataclass(frozen=True, slots=True)
class AttemptsFenced:
    """Outcomes were dropped: the lease they were reached under was lost."""

    job_ids: Sequence[UUID]


class JobRescued(NamedTuple):
    """What observers hear of one job of a lost worker."""

    job_id: UUID
    task: str
    queue: str
    attempt: int
    """The number of the attempt that was lost."""
    was_running: bool
    """False: its worker had only prefetched it."""
    status: JobStatus
    """The status that the job has now."""


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
    jobs: Sequence[JobRescued] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class DeadLettersEntered:
    """Jobs have failed for good, in a worker of this process or in one that it found dead.

    At most once: what a process does not get to tell is told by nobody.
    """

    letters: Sequence[DeadLetter]


@dataclass(frozen=True, slots=True)
class JobsCancelled:
    """Jobs that waited were cancelled by this process. Running ones end as attempts do."""

    jobs: Sequence[JobMoved]
    reason: str | None

    @property
    def job_ids(self) -> Sequence[UUID]:
        """Their ids."""
        return [job.job_id for job in self.jobs]


@dataclass(frozen=True, slots=True)
class CancelsRequested:
    """Jobs that run were asked by this process to stop. They end as attempts do."""

    jobs: Sequence[JobMoved]
    reason: str | None


@dataclass(frozen=True, slots=True)
class JobsReopened:
    """Jobs that were over are pending again: this process was told so, or carries a mass redrive on."""

    jobs: Sequence[JobMoved]
    verb: Literal["requeued", "redriven"]
    reason: str | None


@dataclass(frozen=True, slots=True)
class JobsReplaced:
    """Jobs that had not started took what later calls say, because of their idempotency keys."""

    jobs: Sequence[JobMoved]
    is_committed: bool = True
    """False: that is part of a caller's transaction, which is open."""


@dataclass(frozen=True, slots=True)
class JobsPromoted:
    """The time of scheduled jobs has come: they are pending."""

    jobs: Sequence[JobMoved]


@dataclass(frozen=True, slots=True)
class JobsUnblocked:
    """What blocked jobs waited for is over: they are pending, or scheduled."""

    jobs: Sequence[JobMoved]


@dataclass(frozen=True, slots=True)
class JobsExpired:
    """Jobs that waited were not started by their expiry, and never will be."""

    jobs: Sequence[JobMoved]

    @property
    def job_ids(self) -> Sequence[UUID]:
        """Their ids."""
        return [job.job_id for job in self.jobs]


Event = (
    JobsEnqueued
    | JobsClaimed
    | BatchSent
    | LoopTurned
    | JobsStarted
    | AttemptsEnded
    | AttemptsFenced
    | AttemptsAbandoned
    | JobsRescued
    | DeadLettersEntered
    | JobsCancelled
    | CancelsRequested
    | JobsReopened
    | JobsReplaced
    | JobsPromoted
    | JobsUnblocked
    | JobsExpired
)


KINDS: Final[tuple[type[Event], ...]] = get_args(Event)
