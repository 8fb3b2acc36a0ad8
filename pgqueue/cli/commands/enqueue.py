"""`pgqueue enqueue`: enqueue a job from the shell."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, cast
from uuid import UUID

import typer

from pgqueue import JobStatus, PgQueue
from pgqueue.cli.known_names import check_new
from pgqueue.cli.output import say
from pgqueue.cli.parameters import App, AsJson, Dsn, Force, Schema, call, in_utc, read_json
from pgqueue.options.declared import CallOptions
from pgqueue.tasks.handle import JobHandle
from pgqueue.tasks.signature import Signature


def enqueue(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Task name.")],
    arguments: Annotated[
        str,
        typer.Argument(
            metavar="[ARGUMENTS]",
            help="Arguments as JSON: an object by parameter name, or an array by position.",
        ),
    ] = "[]",
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    queue: Annotated[str | None, typer.Option(help="Queue (default: the task's own).")] = None,
    priority: Annotated[
        int | None, typer.Option(help="Priority; jobs with a higher number run first.")
    ] = None,
    at_front: Annotated[
        bool, typer.Option("--at-front", help="Start before the jobs of the queue that wait now.")
    ] = False,
    delay: Annotated[
        float | None, typer.Option(help="Start the job no sooner than in this many seconds.")
    ] = None,
    run_at: Annotated[
        datetime | None, typer.Option(help="Start the job no sooner than at this time (UTC).")
    ] = None,
    expires: Annotated[
        float | None, typer.Option(help="Expire the job if it has not started within this many seconds.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Key to find the job by.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tag; may be given more than once.")] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Header; may be given more than once."),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="If a job already holds this key, enqueue nothing and print that job's id."),
    ] = None,
    job: Annotated[UUID | None, typer.Option("--id", help="Job id (default: a new one).")] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Enqueue one call of TASK, and print the job's id.

    With --app, arguments of a task that it declares are validated now; otherwise the worker validates them.
    """
    given = read_arguments(arguments)
    values = {
        "queue": queue,
        "priority": priority,
        "at_front": at_front or None,
        "delay": delay,
        "run_at": in_utc(run_at),
        "expires": expires,
        "key": key,
        "tags": tag or None,
        "headers": dict(map(_header, header or [])) or None,
        "idempotency_key": idempotency_key,
        "id": job,
    }
    options = cast(CallOptions, {name: value for name, value in values.items() if value is not None})

    async def enqueue_it(pgq: PgQueue) -> tuple[JobHandle[Any], JobStatus | None]:
        if not force:
            await check_new(pgq, task=task, queue=queue)
        made = await pgq.enqueue(call_of(pgq, task, given, options))
        return made, await made.status() if as_json else None

    handle, status = call(app, dsn, schema, enqueue_it)
    document = {"job_id": str(handle.id), "status": status, "created": handle.created}
    say(as_json, document, str(handle.id))


def read_arguments(arguments: str) -> dict[str, Any] | list[Any]:
    """Return the arguments of a call from the command line."""
    given = read_json("ARGUMENTS", arguments)
    if not isinstance(given, dict | list):
        raise typer.BadParameter("ARGUMENTS must be a JSON object by parameter name, or an array by position")
    return given


def call_of(
    pgq: PgQueue, task: str, given: dict[str, Any] | list[Any], options: CallOptions
) -> Signature[Any]:
    """Return a call of a task with JSON arguments; they are validated if *pgq* declares it."""
    named = pgq.signature(task, options=options)
    # Not as keywords of `signature`: a parameter can have any name, such as `options`.
    args, kwargs = (tuple(given), {}) if isinstance(given, list) else ((), given)
    definition = None if named.definition is None else named.definition.for_json()
    return replace(named, args=args, kwargs=kwargs, definition=definition)


def _header(given: str) -> tuple[str, str]:
    name, is_pair, value = given.partition("=")
    if not (name and is_pair):
        raise typer.BadParameter(f"--header must be NAME=VALUE, got {given!r}")
    return name, value
