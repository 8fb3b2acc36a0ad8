"""What observers hear: one event per batch, so that events cost something per batch and not per job.

An observer is a plain function. It is called on the event loop and must return at once; metrics and logs are
observers. Events are values: an observer may keep one and read it later. What an event tells of each job of a
large batch is worked out when it is read, from data that no longer changes.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, Literal, NamedTuple, Protocol, TypeVar, get_args
from uuid import UUID

from pgqueue.model.dead_letters import DeadLetter
from pgqueue.model.job_error import JobError, name_of
from pgqueue.model.jobs import Job, JobStatus
from pgqueue.model.outcomes import Ended, Outcome, Retried, Succeeded, next_in, status_after
from pgqueue.model.raised import Raised, stand_in

logger = logging.getLogger("pgqueue.events")

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

_lane_of = attrgetter("lane")
_waited_of = attrgetter("waited")
_queue_of = attrgetter("queue")
_queue_of_lane = attrgetter("lane.queue")
_seconds_of = attrgetter("seconds")

SAMPLE: Final = 8
"""Durations that are looked at in a batch: counting by queue must not cost something per job."""


class Share(NamedTuple):
    """The part of a batch that belongs to one queue."""

    size: int
    seconds: Sequence[float]
    """How long some of its members took: a sample."""


def shares(
    batch: Sequence[T], key: Callable[[T], K], seconds: Callable[[T], float], *, keys: Sequence[K] = ()
) -> dict[K, Share]:
    """Return the share of *batch* for each key, with the *seconds* of at most SAMPLE members, evenly picked.

    *keys*: the possible ones, if they are known. If there is only one, no member is asked for its key.
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
    """What observers hear of a job that no attempt has moved: where it was before, and where it is now."""

    job_id: UUID
    task: str
    queue: str
    before: JobStatus | None
    """None: it is new, or begins again. The same as `status`: something else about it has changed."""
    status: JobStatus
    attempt: int = 0
    """The number of attempts so far."""


@dataclass(frozen=True, slots=True)
class JobsEnqueued:
    """This process enqueued jobs. In a caller's transaction: if it commits."""

    counts: Mapping[TaskAndQueue, int]
    """How many of each task and queue."""
    describe: Callable[[], Sequence[JobMoved]] = field(default=tuple, repr=False, compare=False)
    """Returns `jobs`, whenever it is called."""
    is_committed: bool = True
    """False: they are part of a caller's transaction, which is open."""

    @property
    def count(self) -> int:
        """How many in all."""
        return sum(self.counts.values())

    @property
    def jobs(self) -> Sequence[JobMoved]:
        """Each of them. Made when it is read."""
        return self.describe()


class ClaimedJob(Protocol):
    """A job that a claim brought, as far as its event reads it."""

    @property
    def task(self) -> str:
        """Its task."""

    @property
    def lane(self) -> int:
        """The id of its lane."""

    @property
    def waited(self) -> float:
        """Seconds from ready to claimed."""


class ClaimedLane(Protocol):
    """A lane that claimed jobs come from."""

    @property
    def queue(self) -> str:
        """Its queue."""


@dataclass(frozen=True, slots=True)
class JobsClaimed:
    """A claim brought jobs."""

    jobs: Sequence[ClaimedJob]
    lanes: Mapping[int, ClaimedLane]
    """By id, those that the jobs come from."""
    queues: Sequence[str] = ()
    """The queues that they can come from, if those are known."""

    @property
    def waited(self) -> Sequence[float]:
        """The seconds from ready to claimed of each job."""
        return [job.waited for job in self.jobs]

    @property
    def waits(self) -> Mapping[TaskAndQueue, Sequence[float]]:
        """The same by task and queue."""
        by_lane: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        for job in self.jobs:
            by_lane[job.task, job.lane].append(job.waited)
        waits: defaultdict[TaskAndQueue, list[float]] = defaultdict(list)
        for (task, lane), waited in by_lane.items():
            waits[task, self._queue_of(lane)] += waited
        return waits

    @property
    def by_queue(self) -> Mapping[str, Share]:
        """How many jobs came from each queue, and how long some of them had waited."""
        if len(self.queues) == 1:
            return shares(self.jobs, _lane_of, _waited_of, keys=self.queues)
        found: dict[str, Share] = {}
        for lane, share in shares(self.jobs, _lane_of, _waited_of).items():
            queue = self._queue_of(lane)
            known = found.get(queue, Share(0, ()))
            found[queue] = Share(known.size + share.size, (*known.seconds, *share.seconds))
        return found

    def _queue_of(self, lane_id: int) -> str:
        # Its lane may have been removed since it was prefetched.
        lane = self.lanes.get(lane_id)
        return "" if lane is None else lane.queue


@dataclass(frozen=True, slots=True)
class BatchSent:
    """A statement about a batch of jobs was executed; `seconds` includes retries of the statement."""

    verb: Literal["enqueue", "claim", "finish"]
    size: int
    """Number of jobs; for a claim, those that it brought, which may be none."""
    seconds: float


@dataclass(frozen=True, slots=True)
class LoopTurned:
    """The event loop of a worker took `lag` seconds to turn when it was asked to."""

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


@dataclass(frozen=True, slots=True)
class JobsStarted:
    """A worker starts jobs that it has claimed."""

    jobs: Sequence[JobStarted]


class AttemptEnded(NamedTuple):
    """What observers hear of one attempt once its outcome is committed.

    A tuple: if an observer reads them, every job makes one, and a tuple is made in C.
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
    """Seconds until it runs again, if that is known."""
    has_started: bool = True
    """False: it was claimed but not started. To observers, the job was pending all the time."""
    raised: Raised | None = None
    """What its handler raised in this process, without the variables of its frames."""

    @property
    def exc_info(self) -> Raised | None:
        """The error as `sys.exc_info()` would have it; None: there was none.

        An exception that looks like the error, if it was raised in a child process, or is pgqueue's own.
        """
        if self.error is None or (self.raised is not None and name_of(self.raised.type) == self.error.type):
            return None if self.error is None else self.raised
        return stand_in(self.error)

    @classmethod
    def of(cls, attempt: CommittedAttempt) -> AttemptEnded:
        """Return what observers hear of *attempt*."""
        claimed, outcome = attempt.claimed, attempt.outcome
        assert outcome is not None
        status, reason = status_after(outcome)
        return cls(
            job_id=claimed.id,
            task=claimed.task,
            queue=attempt.lane.queue,
            attempt=claimed.attempt,
            status=status,
            reason=reason,
            seconds=attempt.seconds,
            waited=claimed.waited,
            worker=attempt.worker,
            error=outcome.error if isinstance(outcome, Retried | Ended) else None,
            next_in=next_in(outcome),
            has_started=attempt.was_started,
            # Not set unless it raised something.
            raised=getattr(attempt, "raised", None) if type(outcome) is not Succeeded else None,
        )


class _Claimed(ClaimedJob, Protocol):
    @property
    def id(self) -> UUID: ...
    @property
    def attempt(self) -> int: ...


class CommittedAttempt(Protocol):
    """An attempt whose outcome is committed, as far as its event reads it: none of this changes any more."""

    @property
    def claimed(self) -> _Claimed:
        """Its job, as it was claimed."""

    @property
    def lane(self) -> ClaimedLane:
        """Where its job was claimed from."""

    @property
    def worker(self) -> str:
        """Who ran it."""

    @property
    def outcome(self) -> Outcome | None:
        """How it ended."""

    @property
    def seconds(self) -> float:
        """How long the handler ran."""

    @property
    def was_started(self) -> bool:
        """Whether it was told of as running."""


class AttemptsEnded:
    """A batch of outcomes of one kind was committed. `is_success`: all of them are successes.

    Made from *attempts*, or from what a worker *committed* on *queues* (empty: on any). In the latter case
    the attempts are described when they are read, so a batch that nobody reads costs nothing per job.
    """

    __slots__ = ("_attempts", "_committed", "_queues", "is_success")

    def __init__(
        self,
        attempts: Sequence[AttemptEnded] | None = None,
        *,
        committed: Sequence[CommittedAttempt] = (),
        queues: Sequence[str] = (),
        is_success: bool = False,
    ) -> None:
        self._attempts = attempts
        self._committed = committed
        self._queues = queues
        self.is_success = is_success

    @property
    def attempts(self) -> Sequence[AttemptEnded]:
        """Each of them."""
        if self._attempts is None:
            self._attempts = tuple(map(AttemptEnded.of, self._committed))
        return self._attempts

    @property
    def by_queue(self) -> Mapping[str, Share]:
        """How many there are in each queue, and how long the handlers of some of them ran."""
        if self._committed:
            return shares(self._committed, _queue_of_lane, _seconds_of, keys=self._queues)
        return shares(self.attempts, _queue_of, _seconds_of)


@dataclass(frozen=True, slots=True)
class AttemptsFenced:
    """Outcomes were dropped: their lease was lost before they were written."""

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
    """Attempts were abandoned: their handlers ignored cancellation. Their slots are free again."""

    job_ids: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class JobsRescued:
    """Jobs of a lost worker were rescued."""

    requeued: int
    failed: Sequence[UUID]
    worker: str
    jobs: Sequence[JobRescued] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class DeadLettersEntered:
    """Jobs have failed permanently, in a worker of this process or in one whose jobs it rescued.

    Told at most once: if the process dies first, no other process tells of them.
    """

    letters: Sequence[DeadLetter]


@dataclass(frozen=True, slots=True)
class JobsCancelled:
    """Waiting jobs were cancelled by this process. Running ones end as attempts do."""

    jobs: Sequence[JobMoved]
    reason: str | None

    @property
    def job_ids(self) -> Sequence[UUID]:
        """Their ids."""
        return [job.job_id for job in self.jobs]


REFUSED: Final = "limit"
"""Why a job was cancelled that a full limit did not let wait."""


def cancelled_by_reason(jobs: Iterable[Job]) -> list[JobsCancelled]:
    """Return the events of blocked jobs that the database has cancelled, one for each reason."""
    moved: dict[str | None, list[JobMoved]] = {}
    for job in jobs:
        moved.setdefault(job.reason, []).append(
            JobMoved(job.id, job.task, job.queue, JobStatus.BLOCKED, JobStatus.CANCELLED, job.attempt)
        )
    return [JobsCancelled(each, reason) for reason, each in moved.items()]


@dataclass(frozen=True, slots=True)
class CancelsRequested:
    """Running jobs were asked by this process to stop. They end as attempts do."""

    jobs: Sequence[JobMoved]
    reason: str | None


@dataclass(frozen=True, slots=True)
class JobsReopened:
    """Ended jobs are pending again: by a call in this process, or by a mass redrive that it works on."""

    jobs: Sequence[JobMoved]
    verb: Literal["requeued", "redriven"]
    reason: str | None


@dataclass(frozen=True, slots=True)
class JobsReplaced:
    """Jobs that had not started were replaced by later calls with the same idempotency keys."""

    jobs: Sequence[JobMoved]
    is_committed: bool = True
    """False: this is part of a caller's open transaction."""


@dataclass(frozen=True, slots=True)
class JobsPromoted:
    """Scheduled jobs became due: they are pending now."""

    jobs: Sequence[JobMoved]


@dataclass(frozen=True, slots=True)
class JobsUnblocked:
    """The jobs that blocked others have ended: the blocked ones are pending or scheduled now."""

    jobs: Sequence[JobMoved]


@dataclass(frozen=True, slots=True)
class JobsRaised:
    """Pending jobs of a queue have waited so long that their priority was raised: see `PgQueue.queue`."""

    queue: str
    counts: Mapping[int, int]
    """How many jobs were raised to each priority."""


@dataclass(frozen=True, slots=True)
class JobsExpired:
    """Waiting jobs were not started before they expired, and never will be."""

    jobs: Sequence[JobMoved]

    @property
    def job_ids(self) -> Sequence[UUID]:
        """Their ids."""
        return [job.job_id for job in self.jobs]


@dataclass(frozen=True, slots=True)
class WorkErrorIsolated:
    """A worker's own work failed at something, such as a statement or a job, and the worker goes on."""

    doing: str
    """"claiming", "finishing" or the name of a chore."""
    error: str
    """The error's type."""
    job_ids: Sequence[UUID] = ()
    """Jobs that were set aside as failed for it."""
    statement: str | None = None
    """The statement that failed, by its file: "upkeep/promote". None: the error came from no statement."""


@dataclass(frozen=True, slots=True)
class StraysFound:
    """Rows were found that fit nowhere, such as a job in no queue; they were put right, or failed."""

    kind: str
    """"no_record", "no_place", "two_places", "ended", "no_lane" or "no_lease"."""
    ids: Sequence[UUID]
    """The ids of jobs, or of leases."""


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
    | JobsRaised
    | JobsExpired
    | WorkErrorIsolated
    | StraysFound
)


KINDS: Final[tuple[type[Event], ...]] = get_args(Event)
