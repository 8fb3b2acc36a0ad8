"""`pgqueue signal`: send an event to a job that waits for it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from pgqueue.cli.output import say
from pgqueue.cli.parameters import App, AsJson, Dsn, Schema, call, read_json


def signal(
    job: Annotated[UUID, typer.Argument(metavar="JOB", help="Job id.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the event.")],
    value: Annotated[str, typer.Argument(metavar="[VALUE]", help="Value of the event, as JSON.")] = "null",
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    dedup_id: Annotated[
        str | None,
        typer.Option(help="Send nothing if the job was sent an event of this NAME and id before."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send JOB the event NAME, for which it waits by ctx.wait_for_event, or will.

    Exit codes: 0 sent, or sent before; 1 the job was not found or has ended, or another error; 2 wrong usage.
    """
    given = read_json("VALUE", value)
    is_new = call(app, dsn, schema, lambda pgq: pgq.signal(job, name, given, dedup_id=dedup_id))
    say(
        as_json, {"job_id": str(job), "is_new": is_new}, "sent" if is_new else "sent before; nothing was sent"
    )
