"""What requests may say: their queries and bodies. These check what is read, and document it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, create_model

from pgqueue.model.checks import (
    MAX_QUEUE_LENGTH,
    MAX_SECONDS,
    count,
    flag,
    positive_seconds,
    retry_limit,
    some_seconds,
)
from pgqueue.model.dead_letters import MAX_COUNT, MAX_PAGE, MAX_RATE, DeadLetterFilter
from pgqueue.model.filters import JobFilter
from pgqueue.model.jobs import JobStatus
from pgqueue.options import checks
from pgqueue.options.checks import MAX_PRIORITY, MIN_PRIORITY
from pgqueue.options.meanings import meanings
from pgqueue.options.table import AT, Level, Option

MAX_REASON: Final = 1000
"""Characters of a reason for the history."""
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


def _moment(value: object) -> object:
    if not isinstance(value, str):
        return value
    problem = "give a time with its zone, as 2026-01-31T12:00:00Z (in a query, + is written %2B)"
    if not _TIME.fullmatch(value):
        raise ValueError(problem)
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(problem) from None


Moment = Annotated[
    datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})
]
Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
Reason = Annotated[str, Field(max_length=MAX_REASON, pattern=r"^[^\x00]*$", description="For the history.")]
Queue = Annotated[str, Field(min_length=1, max_length=MAX_QUEUE_LENGTH, pattern=r"^[^\x00]*$")]
Positive = Annotated[float, Field(gt=0, le=MAX_SECONDS)]
Some = Annotated[float, Field(ge=0, le=MAX_SECONDS)]
Count = Annotated[int, Field(ge=0)]
Priority = Annotated[int, Field(ge=MIN_PRIORITY, le=MAX_PRIORITY)]
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE, description="Of one page.")]
Cursor = Annotated[str, Field(description="Of the page before; leave it out to begin.")]


class Input(BaseModel):
    """What somebody sends. There is nothing in it that is not known."""

    model_config = ConfigDict(extra="forbid")


class NoQuery(Input):
    """No parameters."""


class PollQuery(Input):
    """How long a poll waits."""

    wait: str | None = Field(
        default=None,
        pattern=r"^\d{1,9}(\.\d{1,9})?$",
        description="Seconds to wait for a change; the service sets a limit.",
    )


class JobChoice(Input):
    """Which jobs are meant: those that fit everything that is given."""

    status: Annotated[list[JobStatus], Field(min_length=1)] | None = None
    task: Text | None = None
    queue: Text | None = None
    tag: Text | None = Field(default=None, description="One of the job's tags.")
    key: Text | None = None
    created_after: Moment | None = Field(default=None, description="Created then or later.")
    created_before: Moment | None = Field(default=None, description="Created earlier than then.")

    def filter(self) -> JobFilter:
        """Return it as a value. Raises InvalidFilterError."""
        return JobFilter.of(**{name: getattr(self, name) for name in JobChoice.model_fields})


class JobQuery(JobChoice):
    """A page of jobs."""

    limit: Limit = 100
    cursor: Cursor | None = None


class Because(Input):
    """Why something is done."""

    reason: Reason | None = None


class JobsBody(Because):
    """Many jobs at once."""

    filter: JobChoice = JobChoice()
    all: bool = Field(default=False, description="That a filter that leaves nothing out is meant.")
    limit: int = Field(default=10_000, ge=1, le=MAX_COUNT, description="About how many in this request.")


class PriorityBody(Because):
    """Another priority."""

    priority: Priority = Field(description="Higher priorities run first.")


class LetterChoice(Input):
    """Which dead letters are meant: those that fit everything that is given."""

    task: Text | None = None
    queue: Text | None = None
    reason: Text | None = Field(default=None, description="A code, as exception or hard_timeout.")
    fingerprint: Text | None = None
    error_type: Text | None = None
    failed_after: Moment | None = Field(default=None, description="Failed then or later.")
    failed_before: Moment | None = Field(default=None, description="Failed earlier than then.")

    def filter(self) -> DeadLetterFilter:
        """Return it as a value. Raises InvalidFilterError."""
        return DeadLetterFilter(**{name: getattr(self, name) for name in LetterChoice.model_fields})


class LetterQuery(LetterChoice):
    """A page of dead letters."""

    limit: Limit = 100
    cursor: Cursor | None = None


class GroupQuery(Input):
    """Which groups of dead letters are meant."""

    task: Text | None = None
    reason: Text | None = None
    error_type: Text | None = None
    limit: Limit = 100


class RedriveBody(Because):
    """How one dead letter is redriven."""

    queue: Queue | None = Field(default=None, description="Another one than its own.")
    arguments: dict[str, Any] | None = Field(default=None, description="Instead of its own, by name.")
    reset_attempts: bool = Field(
        default=True, description="Give its attempts back; without, it has one more."
    )


class MassRedriveBody(Because):
    """How many dead letters are redriven."""

    filter: LetterChoice = LetterChoice()
    all: bool = Field(default=False, description="That every dead letter is meant.")
    rate: float = Field(default=100.0, gt=0, le=MAX_RATE, description="Jobs a second.")
    queue: Queue | None = Field(default=None, description="Another one than their own.")
    reset_attempts: bool = True


class DiscardBody(Because):
    """Which dead letters are discarded."""

    filter: LetterChoice = LetterChoice()
    all: bool = Field(default=False, description="That every dead letter is meant.")


class WorkerQuery(Input):
    """How much of the workers is shown."""

    jobs: int = Field(default=10, ge=0, le=100, description="Of those that each runs, the longest running.")


_KINDS: Final[Mapping[Callable[[str, object], Any], Any]] = {
    checks.queue: Queue,
    checks.priority: Priority,
    checks.delay: float | None,
    checks.run_at: Moment | None,
    checks.expires: float | Moment | None,
    checks.tags: list[Text],
    checks.key: Text | None,
    checks.headers: dict[str, str],
    checks.job_id: UUID | None,
    checks.seconds_or_none: Positive | None,
    checks.retry_backoff: bool | Positive | None,
    checks.retry_jitter: bool | Literal["full", "equal", "none"],
    checks.retry_intervals: list[Some] | None,
    count: Count,
    flag: bool,
    positive_seconds: Positive,
    retry_limit: Count | None,
    some_seconds: Some,
}
"""What JSON has for the values that each check of an option takes."""
_JSON_WORDS: Final = {"None": "null", "True": "true", "False": "false"}


def _options_at(level: Level) -> Any:
    """Return a model of the options that *level* can set, each with the default that holds without it."""
    options: dict[str, Any] = {
        name: (_KINDS[option.check], Field(default=_json_default(option), description=_describe(name)))
        for name, option in AT[level].items()
    }
    return create_model("Options", __base__=Input, **options)


def _json_default(option: Option) -> Any:
    return list(option.default) if isinstance(option.default, tuple) else option.default


def _describe(name: str) -> str | None:
    words = meanings().get(name)
    return words and re.sub(r"\b(None|True|False)\b", lambda word: _JSON_WORDS[word[0]], words)


class AttemptOptionsBody(_options_at(Level.RUN_TIME)):  # type: ignore[misc]  # made from the table
    """How attempts of a task run. Durations are in seconds; the defaults hold where nothing else is set."""


class TaskOptionsBody(Because):
    """A task's options at run time, instead of those set before. None: as the task was declared."""

    options: AttemptOptionsBody = AttemptOptionsBody()


class SubmitBody(_options_at(Level.HTTP)):  # type: ignore[misc]  # made from the table
    """A call of a task, with options of its job.

    Durations are in seconds; the defaults hold where the task, its queue and the PgQueue set nothing else.
    """

    task: Text
    arguments: dict[str, Any] | list[Any] = Field(
        default_factory=dict, description="By name, or by position."
    )
