"""`pgqueue enqueue`: a job from the shell."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

import typer

from pgqueue import PgQueue
from pgqueue.cli.parameters import App, AsJson, Dsn, Schema, call, read_json
from pgqueue.cli.terminal import say
from pgqueue.options import CallOptions
from pgqueue.tasks import JobHandle


def enqueue(
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task, by its name.")],
    arguments: Annotated[
        str,
        typer.Argument(
            metavar="[ARGUMENTS]", help="JSON: an object by parameter name, or an array by position."
        ),
    ] = "[]",
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    queue: Annotated[str | None, typer.Option(help="Into this queue. Default: the task's own.")] = None,
    priority: Annotated[int | None, typer.Option(help="Higher runs first.")] = None,
    delay: Annotated[
        float | None, typer.Option(help="Seconds from now before which it does not run.")
    ] = None,
    expires: Annotated[
        float | None, typer.Option(help="Seconds from now after which it does not start any more.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="A key to find the job by.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="A tag of the job; may be given more than once.")
    ] = None,
    job: Annotated[UUID | None, typer.Option("--id", help="The job's id. Default: a new one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Enqueue one call of TASK, and print the job's id.

    With --app, a task that it declares has its arguments checked; else the worker does that.
    """
    given = read_json("ARGUMENTS", arguments)
    if not isinstance(given, dict | list):
        raise typer.BadParameter("ARGUMENTS: give a JSON object by parameter name, or an array by position")
    options: CallOptions = {}
    if queue is not None:
        options["queue"] = queue
    if priority is not None:
        options["priority"] = priority
    if delay is not None:
        options["delay"] = delay
    if expires is not None:
        options["expires"] = expires
    if key is not None:
        options["key"] = key
    if tag:
        options["tags"] = tag
    if job is not None:
        options["id"] = job

    async def enqueue_it(pgq: PgQueue) -> JobHandle[Any]:
        named = pgq.signature(task, options=options)
        # Not by keywords: a parameter can have any name.
        args, kwargs = (tuple(given), {}) if isinstance(given, list) else ((), given)
        return await pgq.enqueue(replace(named, args=args, kwargs=kwargs))

    handle = call(app, dsn, schema, enqueue_it)
    say(as_json, {"job_id": str(handle.id), "created": handle.created}, str(handle.id))
