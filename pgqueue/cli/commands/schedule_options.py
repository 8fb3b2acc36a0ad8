"""What says when a schedule ticks, on the command line."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.")]
Cron = Annotated[str | None, typer.Option(help="Cron expression, as '0 9 * * 1-5'.")]
Every = Annotated[float | None, typer.Option(help="Seconds between two ticks, instead of --cron.")]
At = Annotated[datetime | None, typer.Option(help="Tick once, at this time (UTC), instead of --cron.")]
Zone = Annotated[str | None, typer.Option(help="Time zone of --cron, as Europe/Paris (default: UTC).")]
OnMisfire = Annotated[
    str | None,
    typer.Option("--misfire", help="For ticks that no worker saw in time: once (default), skip or all."),
]
OnOverlap = Annotated[
    str | None,
    typer.Option(
        "--overlap", help="While the job before has not ended: allow (default), skip, queue or replace."
    ),
]
CatchUp = Annotated[
    float | None, typer.Option(help="Seconds for which --misfire all makes up (default: a day).")
]
Jitter = Annotated[float | None, typer.Option(help="Start jobs up to so many seconds later.")]
StartsAt = Annotated[datetime | None, typer.Option(help="No tick before this time (UTC).")]
EndsAt = Annotated[datetime | None, typer.Option(help="No tick after this time (UTC).")]
TickArgument = Annotated[str | None, typer.Option(help="Parameter that gets the tick's time.")]
NewTask = Annotated[str | None, typer.Option("--task", help="Replace the call by one of this task.")]
NewArguments = Annotated[
    str | None,
    typer.Option(
        "--arguments",
        help="Arguments of --task as JSON: an object by parameter, or an array by position.",
    ),
]
Queue = Annotated[str | None, typer.Option(help="Queue of its jobs (default: the task's own).")]
Priority = Annotated[int | None, typer.Option(help="Priority of its jobs.")]
