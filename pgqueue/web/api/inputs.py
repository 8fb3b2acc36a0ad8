"""The queries and bodies of requests: models that check them, and from which the API's document is made."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, create_model

from pgqueue.model.bulk import MAX_IDS, BulkVerb
from pgqueue.model.checks import (
    MAX_INTEGER,
    MAX_KEY_LENGTH,
    MAX_NOTE_LENGTH,
    MAX_QUEUE_LENGTH,
    MAX_SECONDS,
    MIN_SECONDS,
    count,
    flag,
    positive_seconds,
    retry_limit,
    some_seconds,
)
from pgqueue.model.dead_letters import MAX_COUNT, MAX_PAGE, MAX_RATE, MIN_RATE, DeadLetterFilter
from pgqueue.model.filters import JobFilter, read_statuses
from pgqueue.model.jobs import JobStatus
from pgqueue.model.workflows import WorkflowFilter
from pgqueue.options import checks
from pgqueue.options.checks import (
    MAX_HEADER_LENGTH,
    MAX_HEADERS,
    MAX_INTERVALS,
    MAX_PRIORITY,
    MAX_TAGS,
    MIN_PRIORITY,
)
from pgqueue.options.meanings import meanings
from pgqueue.options.table import AT, Level, Option

NO_NUL: Final = r"^[^\x00]*$"
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


def _moment(value: object) -> object:
    if not isinstance(value, str):
        return value
    problem = "must be a time with its zone, like 2026-01-31T12:00:00Z (in a query, write + as %2B)"
    if not _TIME.fullmatch(value):
        raise ValueError(problem)
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(problem) from None


def _whole(value: object) -> object:
    # A number without a fraction is an integer of JSON Schema, however it is written.
    return int(value) if isinstance(value, float) and value.is_integer() else value


Moment = Annotated[
    datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})
]
Text = Annotated[str, Field(min_length=1, max_length=MAX_KEY_LENGTH, pattern=r"^[^\x00]*$")]
Reason = Annotated[
    str, Field(max_length=MAX_NOTE_LENGTH, pattern=r"^[^\x00]*$", description="Recorded in the history.")
]
Queue = Annotated[str, Field(min_length=1, max_length=MAX_QUEUE_LENGTH, pattern=r"^[^\x00]*$")]
Positive = Annotated[float, Field(ge=MIN_SECONDS, le=MAX_SECONDS)]
Delay = Annotated[float, Field(ge=-MAX_SECONDS, le=MAX_SECONDS)]
HeaderValue = Annotated[str, Field(min_length=1, max_length=MAX_HEADER_LENGTH, pattern=r"^[^\x00]*$")]
Some = Annotated[float, Field(ge=0, le=MAX_SECONDS)]
WHOLE: Final = BeforeValidator(_whole)
"""Behind the bounds of a number: before them, they would be none of its schema."""
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER), WHOLE]
Priority = Annotated[int, Field(ge=MIN_PRIORITY, le=MAX_PRIORITY), WHOLE]
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE, description="The size of a page.")]
Cursor = Annotated[str, Field(description="The cursor of the previous page; omit it for the first page.")]


class Input(BaseModel):
    """What a request sends. Unknown fields are refused."""

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
    """Selects the jobs that match every field that is set."""

    status: Annotated[list[JobStatus], Field(min_length=1)] | None = None
    task: Text | None = None
    queue: Text | None = None
    tag: Text | None = Field(default=None, description="One of the job's tags.")
    key: Text | None = None
    created_after: Moment | None = Field(default=None, description="Created at or after this time.")
    created_before: Moment | None = Field(default=None, description="Created before this time.")
    finished_after: Moment | None = Field(default=None, description="Ended at or after this time.")
    finished_before: Moment | None = Field(default=None, description="Ended before this time.")
    search: Text | None = Field(
        default=None,
        description="Text in the arguments, in whatever case; in the first 10,000 characters of their JSON.",
    )

    def filter(self) -> JobFilter:
        """Return it as a value. Raises InvalidFilterError."""
        return JobFilter.of(**{name: getattr(self, name) for name in JobChoice.model_fields})


class CountQuery(Input):
    """Selects the jobs that are counted."""

    task: Text | None = None
    queue: Text | None = None
    tag: Text | None = Field(default=None, description="One of the job's tags.")
    key: Text | None = None
    created_after: Moment | None = Field(default=None, description="Created at or after this time.")
    created_before: Moment | None = Field(default=None, description="Created before this time.")
    finished_after: Moment | None = Field(default=None, description="Ended at or after this time.")
    finished_before: Moment | None = Field(default=None, description="Ended before this time.")

    def filter(self) -> JobFilter:
        """Return it as a value. Raises InvalidFilterError."""
        return JobFilter.of(**{name: getattr(self, name) for name in CountQuery.model_fields})


class JobQuery(JobChoice):
    """A page of jobs."""

    limit: Limit = 100
    cursor: Cursor | None = None


class WorkflowQuery(Input):
    """A page of workflows that match every field that is set."""

    status: Annotated[list[JobStatus], Field(min_length=1)] | None = None
    name: Text | None = None
    created_after: Moment | None = Field(default=None, description="Created at or after this time.")
    created_before: Moment | None = Field(default=None, description="Created before this time.")
    limit: Annotated[int, Field(ge=1, le=100, description="The size of a page.")] = 25
    cursor: Cursor | None = None

    def filter(self) -> WorkflowFilter:
        """Return it as a value. Raises InvalidFilterError."""
        return WorkflowFilter(read_statuses(self.status), self.name, self.created_after, self.created_before)


class WorkflowNodeQuery(Input):
    """A page of a workflow's jobs."""

    status: JobStatus | None = Field(default=None, description="Jobs with this status alone.")
    limit: Limit = 100
    cursor: Cursor | None = None


class GraphQuery(Input):
    """How a workflow is drawn."""

    format: Literal["json", "mermaid", "dot"] = "json"


class Because(Input):
    """Why an operation is done."""

    reason: Reason | None = None


class EventBody(Input):
    """An event for one job."""

    name: str = Field(min_length=1, max_length=194, description="What the job waits for.")
    value: Any = Field(default=None, description="Its value, which the job validates.")
    dedup_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="Of the events with the same name and id the job gets the first.",
    )


class JobsBody(Because):
    """Many jobs at once."""

    filter: JobChoice = JobChoice()
    all: bool = Field(default=False, description="Confirms an empty filter, which matches everything.")
    limit: int = Field(
        default=10_000, ge=1, le=MAX_COUNT, description="About how many jobs this request changes, at most."
    )


class BulkBody(Because):
    """What to do to many jobs in the background: to those listed, or to those that match the filter."""

    verb: BulkVerb = Field(description="cancel, requeue (retry), or discard dead letters.")
    ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_IDS)] | None = None
    filter: JobChoice | None = None
    all: bool = Field(default=False, description="Confirms an empty filter, which matches everything.")
    as_of: Moment | None = Field(
        default=None, description="Leave out what was created, or has ended, since; now, if not sent."
    )
    expected: Count | None = Field(default=None, description="What a preview counted, to be shown.")


class PriorityBody(Because):
    """A new priority."""

    priority: Priority = Field(description="Higher priorities run first.")


class EditBody(Because):
    """What to change of a waiting job; what is left out, or null, stays as it is."""

    queue: Queue | None = None
    priority: Priority | None = None
    run_at: Moment | None = Field(default=None, description="The time of its first start, or of its retry.")
    arguments: dict[str, Any] | None = Field(default=None, description="All arguments, by name.")


class LetterChoice(Input):
    """Selects the dead letters that match every field that is set."""

    task: Text | None = None
    queue: Text | None = None
    reason: Text | None = Field(default=None, description="A reason code, such as exception or hard_timeout.")
    fingerprint: Text | None = None
    error_type: Text | None = None
    failed_after: Moment | None = Field(default=None, description="Failed at or after this time.")
    failed_before: Moment | None = Field(default=None, description="Failed before this time.")

    def filter(self) -> DeadLetterFilter:
        """Return it as a value. Raises InvalidFilterError."""
        return DeadLetterFilter(**{name: getattr(self, name) for name in LetterChoice.model_fields})


class LetterQuery(LetterChoice):
    """A page of dead letters."""

    limit: Limit = 100
    cursor: Cursor | None = None


class GroupQuery(Input):
    """Selects groups of dead letters."""

    task: Text | None = None
    reason: Text | None = None
    error_type: Text | None = None
    limit: Limit = 100


class RedriveBody(Because):
    """How to redrive one dead letter."""

    queue: Queue | None = Field(default=None, description="Move the job to this queue.")
    arguments: dict[str, Any] | None = Field(default=None, description="New arguments, by name.")
    reset_attempts: bool = Field(
        default=True, description="False keeps the attempt count; the job has at least one more attempt."
    )


class MassRedriveBody(Because):
    """Which dead letters to redrive, and how."""

    filter: LetterChoice = LetterChoice()
    all: bool = Field(default=False, description="Confirms an empty filter, which matches every dead letter.")
    rate: float = Field(default=100.0, ge=MIN_RATE, le=MAX_RATE, description="Jobs per second.")
    queue: Queue | None = Field(default=None, description="Move the jobs to this queue.")
    reset_attempts: bool = True


class DiscardBody(Because):
    """Which dead letters to discard."""

    filter: LetterChoice = LetterChoice()
    all: bool = Field(default=False, description="Confirms an empty filter, which matches every dead letter.")


class WorkerQuery(Input):
    """How much to show of each worker."""

    jobs: int = Field(
        default=10,
        ge=0,
        le=100,
        description="How many running jobs to show per worker, the longest-running first.",
    )


_KINDS: Final[Mapping[Callable[[str, object], Any], Any]] = {
    checks.queue: Queue,
    checks.priority: Priority,
    checks.delay: Delay | None,
    checks.run_at: Moment | None,
    checks.expires: Positive | Moment | None,
    checks.tags: Annotated[list[Text], Field(max_length=MAX_TAGS)],
    checks.key: Text | None,
    checks.headers: Annotated[dict[Text, HeaderValue], Field(max_length=MAX_HEADERS)],
    checks.job_id: UUID | None,
    checks.seconds_or_none: Positive | None,
    checks.retry_backoff: bool | Positive | None,
    checks.retry_jitter: bool | Literal["full", "equal", "none"],
    checks.retry_intervals: Annotated[list[Some], Field(max_length=MAX_INTERVALS)] | None,
    count: Count,
    flag: bool,
    positive_seconds: Positive,
    retry_limit: Count | None,
    some_seconds: Some,
}
"""The JSON types of the values that each check of an option accepts."""
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
    """A task's options at run time. They replace those set before; without any, it runs as declared."""

    options: AttemptOptionsBody = AttemptOptionsBody()


class SubmitBody(_options_at(Level.HTTP)):  # type: ignore[misc]  # made from the table
    """A call of a task, with options of its job.

    Durations are in seconds; the defaults hold where the task, its queue and the PgQueue set nothing else.
    """

    task: Text
    arguments: dict[str, Any] | list[Any] = Field(
        default_factory=dict, description="By name, or by position."
    )
