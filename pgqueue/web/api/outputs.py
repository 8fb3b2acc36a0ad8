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
    """Operator actions on a job, oldest first."""

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
