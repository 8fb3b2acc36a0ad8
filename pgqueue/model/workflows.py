"""A workflow as it is read. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pgqueue.model.checks import shown
from pgqueue.model.filters import check_criteria, check_range, read_statuses, set_fields
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import TERMINAL, JobStatus


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow: jobs that wait for each other, and were enqueued as one."""

    id: UUID
    root: UUID
    """The job, or the join of a group, whose end is the workflow's."""
    name: str | None
    status: JobStatus
    """That of its root: blocked while a group goes on."""
    created_at: datetime
    paused_at: datetime | None
    parent_job: UUID | None


@dataclass(frozen=True, slots=True)
class WorkflowJob:
    """A job of a workflow. See `Job` for all that is known about it."""

    id: UUID
    task: str
    status: JobStatus
    reason: str | None
    created_at: datetime
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class WorkflowGroup:
    """A job of a workflow, or several that are alike: of one task, and between the same nodes."""

    id: UUID
    """The job, or the first of them."""
    task: str
    counts: Mapping[JobStatus, int]
    """How many of them have which status."""

    @property
    def total(self) -> int:
        """How many they are."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class WorkflowEdge:
    """The second one waits for the first. Each is a job, or a join: the end of a group."""

    upstream: UUID
    downstream: UUID
    position: int
    """Of the first one's result among what the second one takes; negative: it is only waited for."""


@dataclass(frozen=True, slots=True)
class WorkflowDetails(Workflow):
    """A workflow, and how far it is."""

    is_group: bool
    """Whether it ends with a group, so that its root is no job."""
    completed_at: datetime | None
    stalled_at: datetime | None
    """Since when nothing in it moves, as a worker has noticed; None: something does."""
    counts: Mapping[JobStatus, int] | None
    """Its jobs by status; a status that none has is absent. None: it has more than a list counts."""

    @property
    def is_terminal(self) -> bool:
        """Whether its root has ended, and with that the workflow."""
        return self.status in TERMINAL

    @property
    def is_over(self) -> bool:
        """Whether it has ended, and each of its jobs too: some may be running that its end did not need."""
        return self.is_terminal and self.counts is not None and self.counts.keys() <= TERMINAL


@dataclass(frozen=True, slots=True)
class WorkflowMember(WorkflowJob):
    """A job of a workflow, with what became of it."""

    started_at: datetime | None
    """When its first attempt started, or the running one."""
    attempt: int | None
    """The number of the last attempt; None while the job goes on, and if it never started."""
    has_result: bool
    error: JobError | None
    took: float | None = None
    """Seconds that its latest attempt took; None: it is running, there was none, or its start is unknown."""


@dataclass(frozen=True, slots=True)
class Standstill:
    """Nothing in a workflow moves: none of its jobs is ready, running or scheduled, nor will be by itself."""

    job_id: UUID | None
    """A job of it that waits. None: all have ended, and its end was not counted yet."""
    task: str | None
    event: str | None
    """The event that the job waits for, without a time limit. None: it waits for others."""
    is_blocked: bool
    """Whether it waits. False: it stands in no queue; the upkeep of a worker puts it right."""

    def __str__(self) -> str:
        """Say what it stands still for, in a sentence."""
        return self.why if self.job_id is None else f"Job {self.job_id} ({self.task}) {self.why}"

    @property
    def why(self) -> str:
        """The same without the job."""
        if self.job_id is None:
            return "All its jobs have ended, but its end was not counted; a running worker does that."
        if self.event is not None:
            event = shown(self.event)
            return f"waits for event {event} and has no time limit: send the event, or cancel the workflow."
        if not self.is_blocked:
            return "stands in no queue; a running worker puts it right."
        return (
            "waits for others, and none of them is ready, running or scheduled. A running worker looks for "
            "missed ends once a minute; if this stays, cancel the workflow."
        )


@dataclass(frozen=True, slots=True)
class WorkflowFilter:
    """Selects the workflows that match every field that is set. Raises InvalidFilterError."""

    statuses: frozenset[JobStatus] | None = None
    name: str | None = None
    created_after: datetime | None = None
    """Created at or after this time zone-aware datetime."""
    created_before: datetime | None = None
    """Created before this time zone-aware datetime."""

    def __post_init__(self) -> None:
        """Raise InvalidFilterError for values that no workflow can match."""
        object.__setattr__(self, "statuses", read_statuses(self.statuses))
        check_criteria({name: value for name, value in set_fields(self).items() if name != "statuses"})
        check_range("created", self.created_after, self.created_before)

    def matches(self, workflow: Workflow) -> bool:
        """Whether it selects *workflow*."""
        return (
            (self.statuses is None or workflow.status in self.statuses)
            and (self.name is None or workflow.name == self.name)
            and (self.created_after is None or workflow.created_at >= self.created_after)
            and (self.created_before is None or workflow.created_at < self.created_before)
        )


@dataclass(frozen=True, slots=True)
class WorkflowPage:
    """Some workflows, newest first, and the cursor of the next page."""

    workflows: Sequence[WorkflowDetails]
    cursor: str | None
    """Pass it to get the next page; None: this is the last."""
    is_cut_short: bool = False
    """Whether the search of this page stopped before it had enough; the next page goes on with it."""


@dataclass(frozen=True, slots=True)
class MemberPage:
    """Some jobs of a workflow, those that failed first, and the cursor of the next page."""

    jobs: Sequence[WorkflowMember]
    cursor: str | None
    """Pass it to get the next page; None: this is the last."""


@dataclass(frozen=True, slots=True)
class WorkflowMeasure:
    """What there is of workflows. That one has ended, or stands still, a worker notices within seconds."""

    ended: Mapping[JobStatus, int]
    """How many have ended so far, by status; a redriven one counts again each time that it ends."""
    live: int
    """Those that have not ended."""
    paused: int
    """Those of them that are paused."""
    oldest_age: float | None
    """How many seconds ago the oldest live one that is not paused was enqueued; None: there is none."""
    stalled: int
    """Those in which nothing moves, and nothing will by itself."""
    stalled_age: float | None
    """For how many seconds the first of them has stood still; None: there is none."""
    barriers: int
    """Jobs that wait for several others."""

    @property
    def started(self) -> int:
        """How many have been enqueued, or were opened again by a redrive."""
        return sum(self.ended.values()) + self.live
