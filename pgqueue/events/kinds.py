"""What observers hear: one event per batch, so that events cost something per batch and not per job.

An observer is a plain function. It is called on the event loop and must return at once; metrics and logs are
observers. Events are values: an observer may keep one and read it later. What an event tells of each job of a
large batch is worked out when it is read, from data that no longer changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, get_args
from uuid import UUID

from pgqueue.events.attempts import AttemptsEnded, AttemptsFenced, JobsClaimed, JobsStarted
from pgqueue.events.shares import TaskAndQueue
from pgqueue.model.dead_letters import DeadLetter
from pgqueue.model.jobs import Job, JobStatus


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
