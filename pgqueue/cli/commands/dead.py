"""`pgqueue dead`: look at what has failed, make it pending again, or be done with it.

Output is a table for eyes, or JSON with --json. What changes many jobs asks first, unless told --yes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import anyio
import typer
from rich.console import Console
from rich.progress import Progress

from pgqueue import DeadLetter, DeadLetterDetails, DeadLetterFilter, PgQueue, RedriveHandle, RedriveProgress
from pgqueue.cli.output import moment, plain, print_json, print_table, say, table
from pgqueue.cli.parameters import (
    Actor,
    App,
    AsJson,
    Cursor,
    Dsn,
    JobIds,
    Limit,
    OfQueue,
    OfTask,
    OneJob,
    Schema,
    Yes,
    call,
    check_choice,
    confirm,
    in_utc,
    read_json,
    user,
)

dead = typer.Typer(help="Jobs that have failed: look, redrive, discard.", no_args_is_help=True)

OfReason = Annotated[str | None, typer.Option("--reason", help="Failed for this reason, e.g. exception.")]
OfFingerprint = Annotated[str | None, typer.Option("--fingerprint", help="Of this group.")]
OfErrorType = Annotated[str | None, typer.Option("--error-type", help="Of this error, e.g. ValueError.")]
After = Annotated[datetime | None, typer.Option("--failed-after", help="Failed then (UTC) or later.")]
Before = Annotated[datetime | None, typer.Option("--failed-before", help="Failed before then (UTC).")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter.")]
Note = Annotated[str | None, typer.Option("--note", help="Why, for the jobs' history.")]
Redrive = Annotated[UUID, typer.Argument(metavar="REDRIVE", help="The mass redrive, by its id.")]


@dead.command("list")
def list_letters(
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    task: OfTask = None,
    queue: OfQueue = None,
    reason: OfReason = None,
    fingerprint: OfFingerprint = None,
    error_type: OfErrorType = None,
    failed_after: After = None,
    failed_before: Before = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first."""
    wanted = _filter(task, queue, reason, fingerprint, error_type, failed_after, failed_before)
    page = call(app, dsn, schema, lambda pgq: pgq.dead_letters(wanted, limit=limit, cursor=cursor))
    if as_json:
        print_json(asdict(page))
        return
    print_table(
        table(
            ["job", "failed", "task", "queue", "reason", "error"],
            [
                [str(each.job_id), moment(each.failed_at), each.task, each.queue, each.reason, _error(each)]
                for each in page.letters
            ],
        )
    )
    if page.cursor is not None:
        typer.echo(f"more: --cursor {page.cursor}")


@dead.command()
def groups(
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    task: OfTask = None,
    reason: OfReason = None,
    error_type: OfErrorType = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Group dead letters by what went wrong."""
    found = call(
        app,
        dsn,
        schema,
        lambda pgq: pgq.dead_groups(task=task, reason=reason, error_type=error_type, limit=limit),
    )
    if as_json:
        print_json([asdict(group) for group in found])
        return
    print_table(
        table(
            ["fingerprint", "count", "first", "last", "task", "reason", "error"],
            [
                [
                    group.fingerprint,
                    str(group.count),
                    moment(group.first_at),
                    moment(group.latest.failed_at),
                    group.latest.task,
                    group.latest.reason,
                    _error(group.latest),
                ]
                for group in found
            ],
        )
    )


@dead.command()
def show(
    job: OneJob,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one dead letter."""

    async def read(pgq: PgQueue) -> DeadLetterDetails:
        return pgq.shown_details(await pgq.dead_letter(job))

    found = call(app, dsn, schema, read)
    if as_json:
        print_json({**asdict(found), "trace_id": found.trace_id})
        return
    _print_details(found)


@dead.command()
def redrive(
    jobs: JobIds = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    task: OfTask = None,
    queue: OfQueue = None,
    reason: OfReason = None,
    fingerprint: OfFingerprint = None,
    error_type: OfErrorType = None,
    failed_after: After = None,
    failed_before: Before = None,
    everything: All = False,
    to_queue: Annotated[str | None, typer.Option(help="Into this queue. Default: each job's own.")] = None,
    arguments: Annotated[
        str | None, typer.Option(help="Other arguments for the one job: a JSON object by parameter name.")
    ] = None,
    keep_attempts: Annotated[bool, typer.Option(help="Give the attempts not back: one more each.")] = False,
    rate: Annotated[float, typer.Option(help="Jobs a second, of many.")] = 100.0,
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait for the end of many, and show progress.")
    ] = False,
    note: Note = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make dead letters pending again: the JOBs, or all that the options take in.

    Many are redriven by the workers, at the rate; this command need not stay.
    """
    wanted = _filter(task, queue, reason, fingerprint, error_type, failed_after, failed_before)
    check_choice(jobs, is_empty=wanted.is_empty, everything=everything)
    payload = _arguments(arguments, jobs)
    who = user(actor)
    if jobs:

        async def redrive_jobs(pgq: PgQueue) -> None:
            for job in jobs:
                await pgq.redrive(
                    job,
                    queue=to_queue,
                    arguments=payload,
                    reset_attempts=not keep_attempts,
                    reason=note,
                    actor=who,
                )

        call(app, dsn, schema, redrive_jobs)
        say(as_json, {"redriven": list(jobs)}, f"redriven: {len(jobs)}")
        return
    _confirm("redrive", wanted, yes)

    async def redrive_many(pgq: PgQueue) -> RedriveProgress:
        handle = await pgq.redrive_many(
            wanted,
            all=everything,
            rate=rate,
            queue=to_queue,
            reset_attempts=not keep_attempts,
            reason=note,
            actor=who,
        )
        return await _watch(handle) if watch else await handle.progress()

    started = call(app, dsn, schema, redrive_many)
    say(as_json, asdict(started), _describe(started))


@dead.command()
def progress(
    redrive: Redrive,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    watch: Annotated[bool, typer.Option("--watch", help="Wait for its end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say how far a mass redrive has come."""

    async def look(pgq: PgQueue) -> RedriveProgress:
        handle = pgq.redrive_handle(redrive)
        return await _watch(handle) if watch else await handle.progress()

    found = call(app, dsn, schema, look)
    say(as_json, asdict(found), _describe(found))


@dead.command()
def stop(
    redrive: Redrive, app: App = None, dsn: Dsn = None, schema: Schema = "pgqueue", as_json: AsJson = False
) -> None:
    """Stop a mass redrive. What is pending again by now stays so."""

    async def cancel(pgq: PgQueue) -> RedriveProgress:
        handle = pgq.redrive_handle(redrive)
        await handle.cancel()
        return await handle.progress()

    found = call(app, dsn, schema, cancel)
    say(as_json, asdict(found), _describe(found))


@dead.command()
def discard(
    jobs: JobIds = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    task: OfTask = None,
    queue: OfQueue = None,
    reason: OfReason = None,
    fingerprint: OfFingerprint = None,
    error_type: OfErrorType = None,
    failed_after: After = None,
    failed_before: Before = None,
    everything: All = False,
    note: Note = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take dead letters out of the list for good: the JOBs, or all that the options take in."""
    wanted = _filter(task, queue, reason, fingerprint, error_type, failed_after, failed_before)
    check_choice(jobs, is_empty=wanted.is_empty, everything=everything)
    who = user(actor)
    if not jobs:
        _confirm("discard", wanted, yes)

    async def discard_them(pgq: PgQueue) -> int:
        if jobs:
            return sum([await pgq.discard(job, reason=note, actor=who) for job in jobs])
        return await pgq.discard_many(wanted, all=everything, reason=note, actor=who)

    count = call(app, dsn, schema, discard_them)
    say(as_json, {"discarded": count}, f"discarded: {count}")


def _filter(
    task: str | None,
    queue: str | None,
    reason: str | None,
    fingerprint: str | None,
    error_type: str | None,
    failed_after: datetime | None,
    failed_before: datetime | None,
) -> DeadLetterFilter:
    return DeadLetterFilter(
        task=task,
        queue=queue,
        reason=reason,
        fingerprint=fingerprint,
        error_type=error_type,
        failed_after=in_utc(failed_after),
        failed_before=in_utc(failed_before),
    )


def _arguments(given: str | None, jobs: Sequence[UUID] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    if jobs is None or len(jobs) != 1:
        raise typer.BadParameter("--arguments are for one job")
    arguments = read_json("--arguments", given)
    if not isinstance(arguments, dict):
        raise typer.BadParameter("--arguments: give a JSON object by parameter name")
    return arguments


def _confirm(what: str, wanted: DeadLetterFilter, yes: bool) -> None:
    which = "every dead letter" if wanted.is_empty else f"the dead letters of {wanted.to_json()}"
    confirm(f"{what} {plain(which)}?", yes=yes)


async def _watch(handle: RedriveHandle) -> RedriveProgress:
    """Show progress on stderr until the mass redrive is over."""
    with Progress(console=Console(stderr=True)) as bar:
        shown = bar.add_task(f"redrive {handle.id}", total=None)
        while True:
            found = await handle.progress()
            bar.update(shown, completed=found.done, total=found.total)
            if found.is_over:
                return found
            await anyio.sleep(0.5)


def _describe(found: RedriveProgress) -> str:
    return f"redrive {found.id}: {found.state}, {found.done} of {found.total}, {found.rate:g} a second"


def _print_details(found: DeadLetterDetails) -> None:
    letter, job = found.letter, found.job
    for name, value in {
        "job": letter.job_id,
        "task": letter.task,
        "queue": letter.queue,
        "enqueued": moment(job.created_at),
        "failed": moment(letter.failed_at),
        "reason": letter.reason,
        "attempts": letter.attempt,
        "worker": letter.worker,
        "version": letter.version,
        "trace": found.trace_id,
        "fingerprint": letter.fingerprint,
        "payload": found.payload,
    }.items():
        if value is not None:
            typer.echo(plain(f"{name + ':':<13}{value}"))
    print_table(
        table(
            ["attempt", "started", "ended", "worker", "reason", "error"],
            [
                [
                    str(past.attempt),
                    moment(past.started_at),
                    moment(past.ended_at),
                    past.worker or "",
                    past.reason,
                    "" if past.error is None else f"{past.error.type}: {past.error.message}",
                ]
                for past in found.attempts
            ],
        )
    )
    for action in found.actions:
        why = "" if action.reason is None else f": {action.reason}"
        typer.echo(plain(f"{moment(action.at)} {action.action} by {action.actor}{why}"))
    if job.error is not None and job.error.traceback:
        typer.echo(plain(job.error.traceback.rstrip(), keep_lines=True))


def _error(letter: DeadLetter) -> str:
    return "" if letter.error_type is None else f"{letter.error_type}: {letter.message}"
