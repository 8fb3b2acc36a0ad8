"""What answers look like: models of the documents in `pgqueue.documents`, for the description of the API.

Answers are not made by these; a test compares what is answered with them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from pgqueue.model.jobs import JobStatus

Time = Annotated[datetime, WithJsonSchema({"type": "string", "format": "date-time"})]
Seconds = float
Shown = Annotated[Any, WithJsonSchema({})]
"""Any JSON value."""


class Output(BaseModel):
    """What is answered. Every key is always there, and no other."""

    model_config = ConfigDict(extra="forbid")


class ProblemDocument(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str = Field(description="Which thing, what happened, what now.")
    errors: list[dict[str, str]] = Field(default=[], description="The fields at fault, where there are some.")


class Health(Output):
    """That this process lives, or can do its work."""

    status: str


class ProgressDocument(Output):
    """What a handler reported last."""

    current: float
    total: float | None
    meta: Shown


class ErrorDocument(Output):
    """What an attempt raised."""

    type: str
    message: str
    traceback: str | None = Field(default=None, description="Only where the service shows tracebacks.")


class JobDocument(Output):
    """A job as a poll shows it."""

    job_id: UUID
    status: JobStatus
    is_terminal: bool
    created_at: Time
    started_at: Time | None
    completed_at: Time | None
    next_run_at: Time | None = Field(description="When a scheduled job becomes pending.")
    result: Shown = Field(
        description="What the handler returned; null unless the job succeeded and it can be decoded."
    )
    error: ErrorDocument | None = Field(description="Null unless the job failed.")
    progress: ProgressDocument | None
    queue: str
    task: str
    attempt: int = Field(description="Attempts spent or under way.")
    max_attempts: int | None = Field(description="Null: nobody here knows, or there is no limit.")
    undecodable: list[str] = Field(description="Fields that cannot be decoded by this service.")


class SubmittedJob(Output):
    """A job that was submitted."""

    job_id: UUID
    status: JobStatus | None = Field(description="Null: it has been removed since.")
    poll_url: str = Field(description="The path to poll.")


class JobPage(Output):
    """Jobs, newest first."""

    jobs: list[JobDocument]
    cursor: str | None = Field(description="Of the next page; null: this is the last.")
    next: str | None = Field(description="The path of the next page.")


class CancelledJobs(Output):
    """How many jobs were cancelled, or asked to stop."""

    cancelled: int
    is_complete: bool = Field(description="False: the request's limit was reached; send it again to go on.")


class RequeuedJobs(Output):
    """How many jobs are pending again."""

    requeued: int
    is_complete: bool = Field(description="False: the request's limit was reached; send it again to go on.")


class AttemptDocument(Output):
    """An attempt that did not succeed."""

    attempt: int
    started_at: Time | None
    ended_at: Time
    worker: str | None
    version: str | None = Field(description="Of the code that ran it.")
    reason: str
    error: ErrorDocument | None


class Attempts(Output):
    """Attempts that did not succeed, oldest first."""

    attempts: list[AttemptDocument]


class ActionDocument(Output):
    """What an operator did to a job."""

    at: Time
    action: str
    attempt: int = Field(description="Attempts spent by then.")
    reason: str | None
    actor: str


class Actions(Output):
    """What operators did to a job, oldest first."""

    actions: list[ActionDocument]


class JobDetails(JobDocument):
    """All that is known of a job."""

    priority: int
    arguments: Shown = Field(description="As they may be shown; undecodable ones as they are stored.")
    tags: list[str]
    key: str | None
    headers: dict[str, str]
    run_at: Time | None
    expires_at: Time | None
    worker: str | None
    losses: int
    reason: str | None
    last_reason: str | None
    last_error: ErrorDocument | None
    attempts: list[AttemptDocument]
    actions: list[ActionDocument]


class LetterDocument(Output):
    """A job that has failed, and that nobody has redriven or discarded."""

    job_id: UUID
    failed_at: Time
    task: str
    queue: str
    reason: str
    fingerprint: str = Field(
        description="The same for errors that differ in numbers, ids and quoted parts only."
    )
    error_type: str | None
    message: str | None
    attempt: int
    worker: str | None
    version: str | None


class LetterPage(Output):
    """Dead letters, newest first."""

    dead_letters: list[LetterDocument]
    cursor: str | None = Field(description="Of the next page; null: this is the last.")
    next: str | None = Field(description="The path of the next page.")


class LetterDetails(LetterDocument):
    """All that is known of a dead letter."""

    trace_id: str | None
    job: JobDetails


class GroupDocument(Output):
    """Dead letters of one fingerprint."""

    fingerprint: str
    count: int = Field(description="Stops at a cap.")
    first_at: Time
    latest: LetterDocument


class Groups(Output):
    """Groups of dead letters, those that failed last first."""

    groups: list[GroupDocument]


class Discarded(Output):
    """How many dead letters were discarded."""

    discarded: int


class RedriveDocument(Output):
    """How far a mass redrive has come."""

    redrive_id: UUID
    state: Literal["running", "done", "cancelled"]
    is_over: bool
    done: int = Field(description="Jobs that are pending again.")
    total: int = Field(description="Dead letters at its start; stops at a cap.")
    rate: float = Field(description="Jobs a second.")
    queue: str | None
    reason: str | None
    actor: str
    created_at: Time
    ended_at: Time | None


class SettingDocument(Output):
    """Whether a queue or a task is paused, and who changed that or its options last, when and why."""

    is_paused: bool
    paused_at: Time | None
    changed_at: Time | None
    changed_by: str | None
    change_reason: str | None


class QueueSetting(SettingDocument):
    """A queue after it was paused or resumed."""

    queue: str


class CountDocument(Output):
    """How many there are."""

    value: int
    is_exact: bool = Field(description="False: an estimate.")


class PercentilesDocument(Output):
    """Of durations, in seconds."""

    p50: Seconds
    p95: Seconds
    p99: Seconds


class DrainDocument(Output):
    """In how many seconds the queue would be empty; null: never."""

    low: Seconds | None
    likely: Seconds | None
    high: Seconds | None


class QueueDocument(SettingDocument):
    """What a queue holds and how fast it moves."""

    queue: str
    pending: CountDocument
    scheduled: CountDocument
    retrying: CountDocument
    blocked: CountDocument
    running: CountDocument
    failed: CountDocument = Field(description="Dead letters.")
    oldest_age: Seconds | None = Field(description="That the job has waited that is first in it.")
    enqueued_rate: float = Field(description="Jobs a second.")
    finished_rate: float = Field(description="Jobs a second.")
    wait: PercentilesDocument | None
    run: PercentilesDocument | None
    drain: DrainDocument | None


class Queues(Output):
    """All queues."""

    queues: list[QueueDocument]


class TaskDocument(SettingDocument):
    """A task."""

    task: str
    is_declared: bool = Field(description="Whether the process that answers knows it.")
    queue: str | None
    options: dict[str, Shown] = Field(description="Those set at run time.")


class Tasks(Output):
    """All tasks that are declared, paused or configured."""

    tasks: list[TaskDocument]


class RunningDocument(Output):
    """A job that a worker runs now."""

    job_id: UUID
    task: str
    queue: str
    attempt: int
    started_at: Time
    seconds: Seconds
    progress: ProgressDocument | None


class WorkerDocument(Output):
    """A worker that holds a lease."""

    lease_id: UUID
    name: str
    version: str | None
    is_alive: bool = Field(description="Whether its lease holds.")
    queues: list[str]
    started_at: Time
    lease_age: Seconds
    lease_left: Seconds
    loop_lag: Seconds | None
    running: int
    prefetched: int
    jobs: list[RunningDocument]


class Workers(Output):
    """All workers."""

    workers: list[WorkerDocument]
