"""How jobs, queues and workers look from outside, as JSON: the same over HTTP and on the command line.

Every key is always there, times are ISO 8601, and what does not apply is null. A traceback is shown only
where the caller asks for it. The API's description is made of these types: their docstrings are its texts.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired, TypeAlias, overload

from pgqueue.model.bulk import BulkProgress, BulkVerb
from pgqueue.model.dead_letters import DeadLetter, DeadLetterDetails, DeadLetterGroup, RedriveProgress
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import Action, Attempt, Job, JobStatus
from pgqueue.model.measures import Count, Drain, Percentiles, QueueMeasure, RunningJob, WorkerMeasure
from pgqueue.model.progress import Progress
from pgqueue.model.setting import Setting

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    # pydantic, which describes these types, cannot read those of an older `typing`.
    from typing_extensions import TypedDict


@dataclass(frozen=True, slots=True)
class Format:
    """The format of a string, as JSON Schema names it."""

    name: str

    def __get_pydantic_json_schema__(
        self, core_schema: Any, handler: Callable[[Any], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the schema of a string of this format. Called by pydantic alone."""
        return {**handler(core_schema), "format": self.name}


Id: TypeAlias = Annotated[str, Format("uuid")]
Time: TypeAlias = Annotated[str, Format("date-time")]
Seconds: TypeAlias = float


class ProgressDocument(TypedDict):
    """The latest progress that a handler reported."""

    current: float
    total: float | None
    meta: Any


class ErrorDocument(TypedDict):
    """The error that an attempt ended with."""

    type: str
    message: str
    traceback: NotRequired[str | None]
    """Present only if the service shows tracebacks."""


class JobDocument(TypedDict):
    """A job as a poll shows it."""

    job_id: Id
    status: JobStatus
    is_terminal: bool
    created_at: Time
    started_at: Time | None
    completed_at: Time | None
    next_run_at: Time | None
    """When a scheduled job becomes pending."""
    waits_for_limit: str | None
    """Name of the limit that a blocked job waits for; null: it waits for none."""
    result: Any
    """What the handler returned. Null unless the job succeeded and its result can be decoded. One of more
    than 65,536 characters of JSON is left out: it is at `result_url`."""
    result_size: int | None
    """Characters of JSON of the stored result; null: there is none. In a list, the size of a large one can be
    the bytes that it is stored in, since it is not read."""
    result_url: str | None
    """Path of the result alone, below the root of the status app; null: there is none."""
    error: ErrorDocument | None
    """Null unless the job failed."""
    progress: ProgressDocument | None
    queue: str
    task: str
    attempt: int
    """Number of attempts so far, including a running one."""
    max_attempts: int | None
    """Null: unknown to this service, or no limit."""
    losses: int
    """Attempts that were lost with their workers, since the job was enqueued or redriven."""
    undecodable: list[str]
    """Fields that cannot be decoded by this service."""


class AttemptDocument(TypedDict):
    """An attempt that did not succeed."""

    attempt: int
    started_at: Time | None
    ended_at: Time
    worker: str | None
    version: str | None
    """Version of the code that ran it."""
    reason: str
    error: ErrorDocument | None


class ActionDocument(TypedDict):
    """An operator's action on a job."""

    at: Time
    action: str
    attempt: int
    """Number of attempts at that time."""
    reason: str | None
    actor: str


class JobDetails(JobDocument):
    """Everything known about a job."""

    priority: int
    arguments: Any
    """The arguments, with secret ones redacted; if they cannot be decoded, as they are stored."""
    tags: list[str]
    key: str | None
    headers: dict[str, str]
    run_at: Time | None
    expires_at: Time | None
    worker: str | None
    reason: str | None
    last_reason: str | None
    last_error: ErrorDocument | None
    attempts: list[AttemptDocument]
    actions: list[ActionDocument]


class LetterDocument(TypedDict):
    """A failed job that was neither redriven nor discarded."""

    job_id: Id
    failed_at: Time
    task: str
    queue: str
    reason: str
    fingerprint: str
    """The same for errors that differ only in numbers, ids and quoted parts."""
    error_type: str | None
    message: str | None
    attempt: int
    worker: str | None
    version: str | None


class LetterDetails(LetterDocument):
    """Everything known about a dead letter."""

    trace_id: str | None
    job: JobDetails


class GroupDocument(TypedDict):
    """Dead letters with the same fingerprint."""

    fingerprint: str
    count: int
    """Counting stops at a cap."""
    first_at: Time
    latest: LetterDocument


class RedriveDocument(TypedDict):
    """The progress of a mass redrive."""

    redrive_id: Id
    state: Literal["running", "done", "cancelled"]
    is_over: bool
    done: int
    """Number of jobs that are pending again."""
    total: int
    """Number of dead letters when it was started; counting stops at a cap."""
    rate: float
    """Jobs per second."""
    queue: str | None
    reason: str | None
    actor: str
    created_at: Time
    ended_at: Time | None


class BulkDocument(TypedDict):
    """The progress of a bulk operation."""

    bulk_id: Id
    verb: BulkVerb
    state: Literal["running", "done", "cancelled"]
    is_over: bool
    found: int
    """Number of jobs that it has come to."""
    done: int
    """Number of jobs that it has changed. The others had changed meanwhile."""
    expected: int | None
    """Number of jobs that its preview counted; null: it had none."""
    reason: str | None
    actor: str
    created_at: Time
    ended_at: Time | None


class SettingDocument(TypedDict):
    """Whether a queue or a task is paused, and who changed its pause or its options last, when and why."""

    is_paused: bool
    paused_at: Time | None
    changed_at: Time | None
    changed_by: str | None
    change_reason: str | None


class TaskDocument(SettingDocument):
    """A task."""

    task: str
    is_declared: bool
    """Whether the process that responds declares it."""
    queue: str | None
    options: dict[str, Any]
    """Options set at run time."""


class CountDocument(TypedDict):
    """A number of jobs."""

    value: int
    is_exact: bool
    """False: an estimate."""


class PercentilesDocument(TypedDict):
    """Percentiles of durations, in seconds."""

    p50: Seconds
    p95: Seconds
    p99: Seconds


class DrainDocument(TypedDict):
    """Estimated seconds until the queue is empty, at current rates; null: never."""

    low: Seconds | None
    likely: Seconds | None
    high: Seconds | None


class QueueMeasureDocument(TypedDict):
    """What a queue holds and how fast it moves."""

    queue: str
    is_paused: bool
    pending: CountDocument
    scheduled: CountDocument
    retrying: CountDocument
    blocked: CountDocument
    running: CountDocument
    claimed: CountDocument
    """Those of the pending jobs that workers have claimed and not started."""
    failed: CountDocument
    """Dead letters."""
    oldest_age: Seconds | None
    """Wait time of the oldest pending job."""
    enqueued_rate: float
    """Jobs per second."""
    finished_rate: float
    """Jobs per second."""
    wait: PercentilesDocument | None
    run: PercentilesDocument | None
    drain: DrainDocument | None


class QueueDocument(QueueMeasureDocument, SettingDocument):
    """What a queue holds, how fast it moves, and whether it is paused."""


class RunningDocument(TypedDict):
    """A job that a worker is running."""

    job_id: Id
    task: str
    queue: str
    attempt: int
    started_at: Time
    seconds: Seconds
    progress: ProgressDocument | None


class WorkerDocument(TypedDict):
    """A worker that holds a lease."""

    lease_id: Id
    name: str
    version: str | None
    is_alive: bool
    """Whether its lease is valid."""
    queues: list[str]
    started_at: Time
    lease_age: Seconds
    lease_left: Seconds
    loop_lag: Seconds | None
    abandoned_threads: int | None
    """Threads that run on although their attempts have ended; null: the worker has not said."""
    slots: int | None
    """Attempts that it makes at once; null: the worker has not said, as in what follows."""
    host: str | None
    """The name of its machine."""
    pid: int | None
    """The id of its process there."""
    memory: int | None
    """Bytes of memory that its process holds."""
    running: int
    """Attempts under way: never more than its slots."""
    claimed: int
    """Jobs that it has claimed and not started."""
    prefetched: int
    """The same number, by its earlier name."""
    jobs: list[RunningDocument]


def job_document(job: Job, *, is_whole: bool = False) -> JobDocument:
    """Return what a poll of *job* shows.

    `result` is null unless the job succeeded, `error` unless it failed; a traceback is never shown. What
    cannot be decoded is named in `undecodable`: a codec's reasons may tell what it hides. *is_whole*: with
    its result, however large that is.
    """
    has_result = job.status is JobStatus.SUCCEEDED and job.has_result
    is_shown = has_result and "result" not in job.undecodable and (is_whole or not job.has_large_result)
    return {
        "job_id": str(job.id),
        "status": job.status,
        "is_terminal": job.is_terminal,
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "completed_at": _time(job.completed_at),
        "next_run_at": _time(job.next_run_at),
        "waits_for_limit": job.waits_for_limit,
        "result": job.shown_result if is_shown else None,
        "result_size": job.result_size if has_result else None,
        "result_url": f"jobs/{job.id}/result" if has_result else None,
        "error": _error(job.error) if job.status is JobStatus.FAILED else None,
        "progress": _progress(job.progress),
        "queue": job.queue,
        "task": job.task,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "losses": job.losses,
        "undecodable": sorted(job.undecodable),
    }


def job_details_document(
    job: Job,
    *,
    arguments: Any,
    attempts: Sequence[Attempt],
    actions: Sequence[Action],
    show_tracebacks: bool = False,
) -> JobDetails:
    """Return everything known about *job*. *arguments*: as they may be shown."""
    return {
        **job_document(job, is_whole=True),
        "error": _error(job.error, show_tracebacks) if job.status is JobStatus.FAILED else None,
        "priority": job.priority,
        "arguments": arguments,
        "tags": list(job.tags),
        "key": job.key,
        "headers": dict(job.shown_headers),
        "run_at": _time(job.run_at),
        "expires_at": _time(job.expires_at),
        "worker": job.worker,
        "reason": job.reason,
        "last_reason": job.last_reason,
        "last_error": _error(job.last_error, show_tracebacks),
        "attempts": [attempt_document(attempt, show_tracebacks=show_tracebacks) for attempt in attempts],
        "actions": [action_document(action) for action in actions],
    }


def attempt_document(attempt: Attempt, *, show_tracebacks: bool = False) -> AttemptDocument:
    """Return an attempt that did not succeed."""
    return {
        "attempt": attempt.attempt,
        "started_at": _time(attempt.started_at),
        "ended_at": _time(attempt.ended_at),
        "worker": attempt.worker,
        "version": attempt.version,
        "reason": attempt.reason,
        "error": _error(attempt.error, show_tracebacks),
    }


def action_document(action: Action) -> ActionDocument:
    """Return an operator's action on a job."""
    return {
        "at": _time(action.at),
        "action": action.action,
        "attempt": action.attempt,
        "reason": action.reason,
        "actor": action.actor,
    }


def dead_letter_document(letter: DeadLetter) -> LetterDocument:
    """Return a dead letter."""
    return {
        "job_id": str(letter.job_id),
        "failed_at": _time(letter.failed_at),
        "task": letter.task,
        "queue": letter.queue,
        "reason": letter.reason,
        "fingerprint": letter.fingerprint,
        "error_type": letter.error_type,
        "message": letter.message,
        "attempt": letter.attempt,
        "worker": letter.worker,
        "version": letter.version,
    }


def letter_details_document(details: DeadLetterDetails, *, show_tracebacks: bool = False) -> LetterDetails:
    """Return everything known about a dead letter, whose arguments are as they may be shown."""
    return {
        **dead_letter_document(details.letter),
        "trace_id": details.trace_id,
        "job": job_details_document(
            details.job,
            arguments=details.job.arguments,
            attempts=details.attempts,
            actions=details.actions,
            show_tracebacks=show_tracebacks,
        ),
    }


def dead_group_document(group: DeadLetterGroup) -> GroupDocument:
    """Return dead letters with the same fingerprint; the latest is the example."""
    return {
        "fingerprint": group.fingerprint,
        "count": group.count,
        "first_at": _time(group.first_at),
        "latest": dead_letter_document(group.latest),
    }


def redrive_document(redrive: RedriveProgress) -> RedriveDocument:
    """Return the progress of a mass redrive."""
    return {
        "redrive_id": str(redrive.id),
        "state": redrive.state,
        "is_over": redrive.is_over,
        "done": redrive.done,
        "total": redrive.total,
        "rate": redrive.rate,
        "queue": redrive.queue,
        "reason": redrive.reason,
        "actor": redrive.actor,
        "created_at": _time(redrive.created_at),
        "ended_at": _time(redrive.ended_at),
    }


def bulk_document(bulk: BulkProgress) -> BulkDocument:
    """Return the progress of a bulk operation."""
    return {
        "bulk_id": str(bulk.id),
        "verb": bulk.verb,
        "state": bulk.state,
        "is_over": bulk.is_over,
        "found": bulk.found,
        "done": bulk.done,
        "expected": bulk.expected,
        "reason": bulk.reason,
        "actor": bulk.actor,
        "created_at": _time(bulk.created_at),
        "ended_at": _time(bulk.ended_at),
    }


def task_document(name: str, queue: str | None, setting: Setting | None) -> TaskDocument:
    """Return a task; *queue*: its own, None where the task is not declared in this process."""
    return {
        "task": name,
        "is_declared": queue is not None,
        "queue": queue,
        **setting_document(setting),
        "options": {} if setting is None else dict(setting.options),
    }


def setting_document(setting: Setting | None) -> SettingDocument:
    """Return whether a queue or a task is paused, and its last change; None: it was never changed."""
    return {
        "is_paused": setting is not None and setting.paused_at is not None,
        "paused_at": None if setting is None else _time(setting.paused_at),
        "changed_at": None if setting is None else _time(setting.changed_at),
        "changed_by": None if setting is None else setting.actor,
        "change_reason": None if setting is None else setting.reason,
    }


def queue_document(queue: QueueMeasure) -> QueueMeasureDocument:
    """Return what a queue holds and how fast it moves."""
    return {
        "queue": queue.queue,
        "is_paused": queue.is_paused,
        "pending": _count(queue.pending),
        "scheduled": _count(queue.scheduled),
        "retrying": _count(queue.retrying),
        "blocked": _count(queue.blocked),
        "running": _count(queue.running),
        "claimed": _count(queue.claimed),
        "failed": _count(queue.failed),
        "oldest_age": queue.oldest_age,
        "enqueued_rate": queue.enqueued_rate,
        "finished_rate": queue.finished_rate,
        "wait": _percentiles(queue.wait),
        "run": _percentiles(queue.run),
        "drain": _drain(queue.drain),
    }


def queue_and_setting_document(queue: QueueMeasure, setting: Setting | None) -> QueueDocument:
    """Return what a queue holds, how fast it moves, and whether it is paused."""
    # What was measured is newer.
    return {**setting_document(setting), **queue_document(queue)}


def worker_document(worker: WorkerMeasure) -> WorkerDocument:
    """Return a worker and its longest-running jobs."""
    return {
        "lease_id": str(worker.lease_id),
        "name": worker.name,
        "version": worker.version,
        "is_alive": worker.is_alive,
        "queues": list(worker.queues),
        "started_at": _time(worker.started_at),
        "lease_age": worker.lease_age,
        "lease_left": worker.lease_left,
        "loop_lag": worker.loop_lag,
        "abandoned_threads": worker.abandoned_threads,
        "slots": worker.slots,
        "host": worker.host,
        "pid": worker.pid,
        "memory": worker.memory,
        "running": worker.running,
        "claimed": worker.prefetched,
        "prefetched": worker.prefetched,
        "jobs": [running_document(job) for job in worker.jobs],
    }


def running_document(job: RunningJob) -> RunningDocument:
    """Return a job that a worker is running."""
    return {
        "job_id": str(job.job_id),
        "task": job.task,
        "queue": job.queue,
        "attempt": job.attempt,
        "started_at": _time(job.started_at),
        "seconds": job.seconds,
        "progress": _progress(job.progress),
    }


@overload
def _time(time: datetime) -> str: ...
@overload
def _time(time: datetime | None) -> str | None: ...
def _time(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _progress(progress: Progress | None) -> ProgressDocument | None:
    if progress is None:
        return None
    return {"current": progress.current, "total": progress.total, "meta": progress.meta}


def _error(error: JobError | None, show_traceback: bool = False) -> ErrorDocument | None:
    if error is None:
        return None
    document: ErrorDocument = {"type": error.type, "message": error.message}
    if show_traceback:
        document["traceback"] = error.traceback
    return document


def _count(count: Count) -> CountDocument:
    return {"value": count.value, "is_exact": count.is_exact}


def _percentiles(durations: Percentiles | None) -> PercentilesDocument | None:
    return None if durations is None else {"p50": durations.p50, "p95": durations.p95, "p99": durations.p99}


def _drain(drain: Drain | None) -> DrainDocument | None:
    if drain is None:
        return None
    return {"low": _finite(drain.low), "likely": _finite(drain.likely), "high": _finite(drain.high)}


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None
