"""The queries and bodies of requests about schedules. See `inputs`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pgqueue.schedules.definition import DAY, FIELDS, MAX_NAME
from pgqueue.schedules.rule import LEAST_EVERY, MOST_EVERY
from pgqueue.web.api.inputs import NO_NUL, Because, Input, Moment, Priority, Queue, Some, Text

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=NO_NUL)]
ScheduleText = Annotated[str, Field(min_length=1, max_length=1000, pattern=NO_NUL)]


class ScheduleListQuery(Input):
    """A page of schedules."""

    limit: Annotated[int, Field(ge=1, le=100, description="The size of a page.")] = 25
    cursor: Name | None = Field(
        default=None, description="The cursor of the previous page: the name of its last schedule."
    )


class ScheduleQuery(Input):
    """How much to show of a schedule's history."""

    ticks: int = Field(
        default=10, ge=0, le=100, description="How many ticks to show, the latest first; a hundred are kept."
    )


class ScheduleChanges(Because):
    """What changes of a schedule; the rest stays. One of cron, every and at replaces the others.

    With `task` the whole call is replaced: arguments, queue and priority that are left out become the task's.
    Without it they cannot be sent.
    """

    cron: ScheduleText | None = Field(default=None, description="A cron expression, such as `0 9 * * 1-5`.")
    every: Annotated[float, Field(ge=LEAST_EVERY, le=MOST_EVERY)] | None = Field(
        default=None, description="Seconds between two ticks."
    )
    at: Moment | None = Field(default=None, description="The time of its only tick.")
    timezone: ScheduleText = Field(default="UTC", description="The time zone of cron, such as Europe/Paris.")
    misfire: Literal["once", "skip", "all"] = Field(
        default="once", description="What is done about ticks that no worker saw in time."
    )
    overlap: Literal["allow", "skip", "queue", "replace"] = Field(
        default="allow", description="What a tick does while the job before has not ended."
    )
    catch_up: Some = Field(default=DAY, description="How long ago a tick may be for misfire `all`.")
    jitter: Some = Field(default=0.0, description="Up to how much later its jobs start.")
    starts_at: Moment | None = Field(default=None, description="No tick is before this time.")
    ends_at: Moment | None = Field(default=None, description="No tick is after this time.")
    tick_argument: Text | None = Field(default=None, description="The parameter that gets the tick's time.")
    task: Text | None = Field(default=None, description="The task that it enqueues.")
    arguments: dict[str, Any] | list[Any] = Field(
        default_factory=dict, description="By name, or by position."
    )
    queue: Queue | None = Field(default=None, description="The queue of its jobs; null: the task's own.")
    priority: Priority | None = Field(
        default=None, description="The priority of its jobs; null: the task's own."
    )

    def timing(self) -> dict[str, Any]:
        """Return what was sent of when it ticks, as `schedules.create` and `edit` take it."""
        return {name: getattr(self, name) for name in FIELDS if name in self.model_fields_set}

    def options(self) -> dict[str, Any]:
        """Return the options of its jobs that were sent."""
        given = {"queue": self.queue, "priority": self.priority}
        return {name: value for name, value in given.items() if value is not None}


class ScheduleBody(ScheduleChanges):
    """A new schedule: one of cron, every and at, and the call that each tick enqueues."""

    name: Name
    task: Text = Field(description="The task that it enqueues.")
