"""Schedules that code declares, above its tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from pgqueue.client.declared_schedules import DeclaredSchedules
from pgqueue.client.parts import Parts
from pgqueue.client.schedules import Schedules
from pgqueue.errors import ConfigurationError
from pgqueue.model.checks import Duration, shown
from pgqueue.model.unset import UNSET, Unset
from pgqueue.schedules.definition import timing_of
from pgqueue.schedules.ticks import Misfire, Overlap
from pgqueue.tasks.signature import Signature
from pgqueue.tasks.task import Task

T = TypeVar("T", bound=Task[Any, Any])


class ScheduleInterface(Parts):
    """What a PgQueue says of schedules."""

    _declared_schedules: DeclaredSchedules
    schedules: Schedules
    """Schedules at run time: made, changed, paused, run, read and removed."""

    def schedule(
        self,
        cron: str | None = None,
        /,
        *,
        name: str | None = None,
        every: Duration | None = None,
        at: datetime | None = None,
        timezone: str = "UTC",
        misfire: Misfire = "once",
        overlap: Overlap = "allow",
        catch_up: Duration = 86400.0,
        jitter: Duration = 0.0,
        starts_at: datetime | None = None,
        ends_at: datetime | None = None,
        tick_argument: str | None = None,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | Unset = UNSET,
    ) -> Callable[[T], T]:
        """Declare that a task runs by itself, at times; above `@pgq.task`. Workers write it when they start.

            @pgq.schedule("0 9 * * 1-5", timezone="Europe/Paris")
            @pgq.task
            async def report() -> None: ...

        *cron* needs `pip install 'pgqueue-asyncio[schedules]'`. Instead of it: *every*, in seconds or a
        timedelta, a second or more; or *at*, once. *name*: the task's if not given. *misfire*, for ticks that
        no worker saw in time: "once" makes one job, for the latest; "skip" none if over a minute late; "all"
        one for each within *catch_up*, 1,000 at most. *overlap*, while the job before has not ended: "allow"
        makes another; "skip" none; "queue" one that waits for it; "replace" cancels it first. *jitter*: jobs
        start up to so much later. *tick_argument*: the parameter that gets the tick's time. Raises
        InvalidOptionError, InvalidArgumentsError, ConfigurationError.
        """
        given = {
            "cron": cron,
            "every": every,
            "at": at,
            "timezone": timezone,
            "misfire": misfire,
            "overlap": overlap,
            "catch_up": catch_up,
            "jitter": jitter,
            "starts_at": starts_at,
            "ends_at": ends_at,
            "tick_argument": tick_argument,
        }

        timing_of("schedule", given)

        def declare(task: T) -> T:
            if not isinstance(task, Task):
                raise ConfigurationError(f"schedule: put it above @pgq.task, got {shown(task)}")
            call: Signature[Any] = Signature(
                task.name,
                tuple(args),
                {} if isinstance(kwargs, Unset) else dict(kwargs),
                task.options_of_calls,
                task.definition,
            )
            self._declared_schedules.declare(task.name if name is None else name, call, given)
            return task

        return declare
