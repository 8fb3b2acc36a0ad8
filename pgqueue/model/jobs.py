"""The statuses of a job, the allowed transitions between them, and the record that callers read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from pgqueue.model.job_error import JobError
from pgqueue.model.progress import Progress
from pgqueue.model.unset import UNSET, Unset

_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


class JobStatus(StrEnum):
    """The status of a job. The last four are terminal."""

    PENDING = "pending"
    """Ready to run, not yet claimed."""
    SCHEDULED = "scheduled"
    """Starts at a later time: the first attempt, or a retry (`attempt` >= 1)."""
    BLOCKED = "blocked"
    """Waiting for another job to end."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Failed, and will not be retried automatically: a dead letter."""
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Did not start by its expiry."""

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self in TERMINAL


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED})

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.PENDING: frozenset(
        {
            JobStatus.RUNNING,
            JobStatus.SCHEDULED,
            JobStatus.BLOCKED,
            JobStatus.CANCELLED,
            JobStatus.EXPIRED,
            JobStatus.FAILED,
        }
    ),
    JobStatus.SCHEDULED: frozenset(
        {JobStatus.PENDING, JobStatus.BLOCKED, JobStatus.CANCELLED, JobStatus.EXPIRED}
    ),
    JobStatus.BLOCKED: frozenset(
        {JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.CANCELLED, JobStatus.EXPIRED, JobStatus.FAILED}
    ),
    JobStatus.RUNNING: frozenset(
        {
            JobStatus.PENDING,
            JobStatus.SCHEDULED,
            JobStatus.BLOCKED,
            JobStatus.SUCCEEDED,
            JobStatus.FAILED,
            JobStatus.CANCELLED,
        }
    ),
    **{status: frozenset[JobStatus]() for status in TERMINAL},
}
"""The statuses that may follow each status. The database enforces the same table
(`pgqueue.is_legal_transition`)."""


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Return the seconds from *start* to *end*; None if one of them is not known."""
    return None if start is None or end is None else (end - start).total_seconds()


LARGE_RESULT: Final = 64 * 1024
"""Characters of JSON from which a result is left out of lists and pages."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was when it was read. All times are time zone-aware and by the database's clock."""

    id: UUID
    status: JobStatus
    queue: str
    priority: int
    task: str
    arguments: Any
    """A dict by parameter name, with positional arguments whose names were not known under "*", or a list by
    position. Arguments that cannot be decoded are as they are stored: see `undecodable`."""
    attempt: int
    """The number of the current or latest attempt; 0 before the first."""
    losses: int
    """Attempts that ended because their worker was lost. They are not counted in `attempt`."""
    created_at: datetime
    started_at: datetime | None
    """When the first attempt started."""
    completed_at: datetime | None
    next_run_at: datetime | None
    """When a scheduled job becomes pending."""
    run_at: datetime | None
    """The earliest start that the call set."""
    expires_at: datetime | None
    worker: str | None
    result: Any
    """The value that the handler returned, decoded from JSON. None is ambiguous: see `has_result`."""
    has_result: bool
    """Whether a result was stored: also if the handler returned None, but not if results are ignored."""
    reason: str | None
    """The reason code of a job that did not succeed."""
    error: JobError | None
    last_reason: str | None
    """The reason code of the latest unsuccessful attempt."""
    last_error: JobError | None
    tags: tuple[str, ...]
    key: str | None
    headers: dict[str, str]
    progress: Progress | None
    """The latest progress that the handler reported, in any attempt."""
    options: dict[str, Any]
    """The options for its attempts that the call itself set."""
    read_at: datetime = field(compare=False)
    """When the job was read."""
    waits_for_limit: str | None = None
    """The limit that a blocked job waits for: its name. None: it waits for none, or is not blocked."""
    raised_to: int | None = None
    """The priority that a pending job was raised to because it has waited (`ageing`); None: it was not."""
    attempt_started_at: datetime | None = None
    """When the latest attempt started; None: there was none, or an older worker ended it."""
    attempt_ended_at: datetime | None = None
    """When the latest attempt ended; None: it is running, or there was none."""
    result_size: int | None = None
    """Characters of JSON of the stored result, or the bytes that it is stored in if it was left out unread.
    None: there is none."""
    max_attempts: int | None = None
    """The maximum number of attempts; None without a limit, or if this process does not declare the task."""
    undecodable: Mapping[str, str] = field(default_factory=dict)
    """The fields that cannot be decoded here ("arguments", "result", ...), each with the reason."""
    redacted_result: Any = UNSET
    """The result with its secrets replaced; UNSET: its type has none."""
    redacted_headers: Mapping[str, str] | Unset = UNSET
    """The headers without the values that the option `redact` names; UNSET: it names none."""

    @property
    def shown_headers(self) -> Mapping[str, str]:
        """The headers as they may be shown."""
        return self.headers if isinstance(self.redacted_headers, Unset) else self.redacted_headers

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self.status.is_terminal

    @property
    def trace_id(self) -> str | None:
        """The id of the trace that the job belongs to, from the W3C header `traceparent`, as far as shown."""
        parts = self.shown_headers.get("traceparent", "").split("-")
        return parts[1] if len(parts) == 4 and _TRACE_ID.fullmatch(parts[1]) else None

    @property
    def took(self) -> float | None:
        """Seconds that the latest attempt took, without the waits between attempts.

        None: it is running, there was none, or its start is not known.
        """
        return seconds_between(self.attempt_started_at, self.attempt_ended_at)

    @property
    def has_large_result(self) -> bool:
        """Whether its result is left out of lists and of its state: it has an address of its own."""
        return self.result_size is not None and self.result_size > LARGE_RESULT

    @property
    def shown_result(self) -> Any:
        """The result as it may be shown: without values of types such as SecretStr."""
        return self.result if self.redacted_result is UNSET else self.redacted_result


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that did not succeed."""

    attempt: int
    started_at: datetime | None
    ended_at: datetime
    worker: str | None
    version: str | None
    """The version of the code that ran it, from `PgQueue(version=...)`."""
    reason: str
    error: JobError | None


@dataclass(frozen=True, slots=True)
class Action:
    """An operator's action on a job, or on a workflow as a whole."""

    at: datetime
    action: str
    """"cancelled", "cancel_requested", "redriven", "requeued", "discarded", "reprioritised",
    "run_now" or "edited".

    Of a workflow: "paused" or "resumed".
    """
    attempt: int
    """The number of attempts at that time; 0 for a workflow."""
    reason: str | None
    actor: str
    """The name that the caller gave; otherwise the database user."""
