"""`pgqueue enqueue`: a job from the shell."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, cast
from uuid import UUID

import typer

from pgqueue import PgQueue
from pgqueue.cli.output import say
from pgqueue.cli.parameters import App, AsJson, Dsn, Schema, call, in_utc, read_json
from pgqueue.options.declared import CallOptions
from pgqueue.tasks.handle import JobHandle


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
    run_at: Annotated[
        datetime | None, typer.Option(help="A time (UTC) before which it does not run.")
    ] = None,
    expires: Annotated[
        float | None, typer.Option(help="Seconds from now after which it does not start any more.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="A key to find the job by.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="A tag of the job; may be given more than once.")
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A header of the job; may be given more than once."),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="Enqueue nothing if a job holds this key: print that job's id."),
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
    said = {
        "queue": queue,
        "priority": priority,
        "delay": delay,
        "run_at": in_utc(run_at),
        "expires": expires,
        "key": key,
        "tags": tag or None,
        "headers": dict(map(_header, header or [])) or None,
        "idempotency_key": idempotency_key,
        "id": job,
    }
    options = cast(CallOptions, {name: value for name, value in said.items() if value is not None})

    async def enqueue_it(pgq: PgQueue) -> JobHandle[Any]:
        named = pgq.signature(task, options=options)
        # Not by keywords: a parameter can have any name.
        args, kwargs = (tuple(given), {}) if isinstance(given, list) else ((), given)
        return await pgq.enqueue(replace(named, args=args, kwargs=kwargs))

    handle = call(app, dsn, schema, enqueue_it)
    say(as_json, {"job_id": str(handle.id), "created": handle.created}, str(handle.id))


def _header(given: str) -> tuple[str, str]:
    name, is_pair, value = given.partition("=")
    if not (name and is_pair):
        raise typer.BadParameter(f"--header: {given!r} is not NAME=VALUE")
    return name, value
