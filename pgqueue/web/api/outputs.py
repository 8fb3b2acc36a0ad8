"""The shapes of responses that are only HTTP's: pages, lists and counts of what `model.documents` shows."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from pgqueue.model.documents import (
    ActionDocument,
    AttemptDocument,
    GroupDocument,
    Id,
    JobDocument,
    LetterDocument,
    QueueDocument,
    SettingDocument,
    TaskDocument,
    WorkerDocument,
)
from pgqueue.model.jobs import JobStatus
from pgqueue.model.limit_documents import LimitDocument, LimitKeyDocument
from pgqueue.model.limiters import LimiterDocument
from pgqueue.model.ordered_documents import OrderedGroupDocument, StoppedKeyDocument
from pgqueue.model.schedule_documents import ScheduleDocument, TickDocument
from pgqueue.model.waits import WaitDocument
from pgqueue.model.workflow_documents import MemberDocument, WorkflowDocument


class ProblemDocument(TypedDict):
    """An error, as defined by RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    """What happened, to which thing, and what to do."""
    errors: NotRequired[list[dict[str, str]]]
    """Invalid fields, if any."""


class Health(TypedDict):
    """The health of this process."""

    status: str


class SubmittedJob(TypedDict):
    """A submitted job."""

    job_id: Id
    status: JobStatus | None
    """Null: the job has been removed since."""
    poll_url: str
    """Path to poll."""


class JobPage(TypedDict):
    """Jobs, newest first."""

    jobs: list[JobDocument]
    cursor: str | None
    """Cursor of the next page; null on the last page."""
    next: str | None
    """Path of the next page."""
    is_cut_short: bool
    """Whether the search of this page stopped before it had enough jobs; the next page goes on with it."""


class JobCount(TypedDict):
    """How many jobs have a status, counted up to a bound."""

    jobs: int
    is_more: bool
    """Whether the count stopped at its bound, and there may be more."""


class JobCounts(TypedDict):
    """How many jobs of each status match a filter."""

    counts: dict[JobStatus, JobCount]


class SentEvent(TypedDict):
    """What became of an event."""

    is_new: bool
    """False: the job was sent an event with this name and id before, and nothing was sent."""


class CancelledJobs(TypedDict):
    """The number of jobs that were cancelled or asked to stop."""

    cancelled: int
    is_complete: bool
    """False: the request's limit was reached; send it again to continue."""


class RequeuedJobs(TypedDict):
    """The number of jobs that are pending again."""

    requeued: int
    is_complete: bool
    """False: the request's limit was reached; send it again to continue."""


class Attempts(TypedDict):
    """Attempts that did not succeed, oldest first."""

    attempts: list[AttemptDocument]


class Actions(TypedDict):
    """Operator actions on a job, or on a workflow as a whole, oldest first."""

    actions: list[ActionDocument]


class LetterPage(TypedDict):
    """Dead letters, newest first."""

    dead_letters: list[LetterDocument]
    cursor: str | None
    """Cursor of the next page; null on the last page."""
    next: str | None
    """Path of the next page."""


class Groups(TypedDict):
    """Groups of dead letters, the latest failure first."""

    groups: list[GroupDocument]


class Discarded(TypedDict):
    """The number of dead letters that were discarded."""

    discarded: int


class JobWait(TypedDict):
    """What a job waits for."""

    waits: WaitDocument | None
    """Null: it is running, or has ended."""


class QueueSetting(SettingDocument):
    """A queue after it was paused or resumed."""

    queue: str


class Queues(TypedDict):
    """All queues."""

    queues: list[QueueDocument]


class Tasks(TypedDict):
    """All tasks that are declared, paused or configured."""

    tasks: list[TaskDocument]


class Workers(TypedDict):
    """All workers."""

    workers: list[WorkerDocument]


class WorkflowOverview(WorkflowDocument):
    """A workflow. Its jobs, and its result, are behind links of their own."""

    nodes_url: str
    """Path of its jobs."""
    result_url: str | None
    """Path of its result. Null: there is none, or not yet; or it ends with a group: its members have one."""


class Workflows(TypedDict):
    """Workflows, newest first."""

    workflows: list[WorkflowOverview]
    cursor: str | None
    """Cursor of the next page; null on the last page."""
    next: str | None
    """Path of the next page."""
    is_cut_short: bool
    """Whether the search of this page stopped before it had enough; the next page goes on with it."""


class WorkflowNode(MemberDocument):
    """A job of a workflow. Its result is behind a link of its own."""

    poll_url: str
    """Path of the job."""
    result_url: str | None
    """Path of its result; null: none is stored."""


class WorkflowNodes(TypedDict):
    """Jobs of a workflow: those that failed first, then the others."""

    nodes: list[WorkflowNode]
    cursor: str | None
    """Cursor of the next page; null on the last page."""
    next: str | None
    """Path of the next page."""


class ChangedWorkflow(TypedDict):
    """A workflow after an operation, and the number of its jobs that this changed."""

    changed: int
    workflow: WorkflowOverview


class Limits(TypedDict):
    """Limits, by name."""

    limits: list[LimitDocument]
    cursor: str | None
    """Cursor of the next page; null on the last page."""
    next: str | None
    """Path of the next page."""


class LimitDetails(LimitDocument):
    """A limit with its keys."""

    busy: list[LimitKeyDocument]
    """The ten keys that most jobs wait for, most first. Of more than a thousand keys, some are looked at."""
    keys: list[LimitKeyDocument]
    """Its keys, in an order of their own; not those that nothing has used for a day."""
    weights: dict[str, float]
    """Of a fair queue: the weights of its keys that were set. All others have 1."""
    holders: list[Id] | None
    """With `key`: up to 25 jobs that it has let through and that have not ended, oldest first. Else null."""
    first_waiting: list[Id] | None
    """With `key`: up to 25 jobs that wait for it, in their turn. Else null."""
    cursor: str | None
    """Cursor of the next page of keys; null on the last page."""
    next: str | None
    """Path of the next page."""


class Limiters(TypedDict):
    """Limiters that running jobs hold or wait for, those that most wait for first."""

    limiters: list[LimiterDocument]


class OrderedGroups(TypedDict):
    """Ordered groups, by name."""

    groups: list[OrderedGroupDocument]


class StoppedKeys(TypedDict):
    """Keys of ordered groups that stand still, by group and key."""

    keys: list[StoppedKeyDocument]


class ResumedKey(TypedDict):
    """A key of an ordered group, and whether it stood still."""

    name: str
    key: str
    changed: bool


class Schedules(TypedDict):
    """Schedules, by name."""

    schedules: list[ScheduleDocument]
    cursor: str | None
    """Cursor of the next page; null on the last page."""
    next: str | None
    """Path of the next page."""


class ScheduleDetails(ScheduleDocument):
    """A schedule with its history."""

    ticks: list[TickDocument]
    """Its latest ticks, newest first."""


class RunSchedule(TypedDict):
    """What became of a tick that was asked for."""

    job_id: Id | None
    """The job that it made. Null: the job before has not ended, and the schedule skips such ticks."""
    poll_url: str | None
    """Path of the job."""
