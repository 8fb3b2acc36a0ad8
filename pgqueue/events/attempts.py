"""What observers hear of claims and attempts, worked out from what a worker knows when it is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple, Protocol
from uuid import UUID

from pgqueue.events.shares import Share, TaskAndQueue, shares
from pgqueue.model.job_error import JobError, name_of
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, Outcome, Retried, Succeeded, next_in, status_after
from pgqueue.model.raised import Raised, stand_in

_lane_of = attrgetter("lane")
_waited_of = attrgetter("waited")
_queue_of = attrgetter("queue")
_queue_of_lane = attrgetter("lane.queue")
_seconds_of = attrgetter("seconds")


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
