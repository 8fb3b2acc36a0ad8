"""`pgqueue dead`: look at what has failed, make it pending again, or be done with it.

Output is a table for eyes, or JSON with --json. What changes many jobs asks first, unless told --yes.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import anyio
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pgqueue import DeadLetter, DeadLetterDetails, DeadLetterFilter, PgQueue, RedriveHandle, RedriveProgress
from pgqueue.cli.loading import load

T = TypeVar("T")

dead = typer.Typer(help="Jobs that have failed: look, redrive, discard.", no_args_is_help=True)

App = Annotated[
    str | None, typer.Option("--app", metavar="MODULE:PGQ", help="The PgQueue, e.g. app.jobs:pgq.")
]
Dsn = Annotated[str | None, typer.Option(envvar="PGQUEUE_DSN", help="The database, where no --app is given.")]
Schema = Annotated[str, typer.Option(help="The schema that holds the queues.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OfTask = Annotated[str | None, typer.Option("--task", help="Of this task.")]
OfQueue = Annotated[str | None, typer.Option("--queue", help="Of this queue.")]
OfReason = Annotated[str | None, typer.Option("--reason", help="Failed for this reason, e.g. exception.")]
OfFingerprint = Annotated[str | None, typer.Option("--fingerprint", help="Of this group.")]
OfErrorType = Annotated[str | None, typer.Option("--error-type", help="Of this error, e.g. ValueError.")]
After = Annotated[datetime | None, typer.Option("--failed-after", help="Failed then (UTC) or later.")]
Before = Annotated[datetime | None, typer.Option("--failed-before", help="Failed before then (UTC).")]
Jobs = Annotated[list[UUID] | None, typer.Argument(metavar="[JOB]...", help="Jobs, by their ids.")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Note = Annotated[str | None, typer.Option("--note", help="Why, for the jobs' history.")]
Actor = Annotated[str | None, typer.Option("--actor", help="Who, for the jobs' history. Default: the user.")]
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
    limit: Annotated[int, typer.Option(help="At most so many.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where the last page ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first."""
    wanted = _filter(task, queue, reason, fingerprint, error_type, failed_after, failed_before)
    page = _run(app, dsn, schema, lambda pgq: pgq.dead_letters(wanted, limit=limit, cursor=cursor))
    if as_json:
        _print_json(asdict(page))
        return
    _print_table(
        ["job", "failed", "task", "queue", "reason", "error"],
        [
            [str(each.job_id), _time(each.failed_at), each.task, each.queue, each.reason, _error(each)]
            for each in page.letters
        ],
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
    limit: Annotated[int, typer.Option(help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Group dead letters by what went wrong."""
    found = _run(
        app,
        dsn,
        schema,
        lambda pgq: pgq.dead_groups(task=task, reason=reason, error_type=error_type, limit=limit),
    )
    if as_json:
        _print_json([asdict(group) for group in found])
        return
    _print_table(
        ["fingerprint", "count", "first", "last", "task", "reason", "error"],
        [
            [
                group.fingerprint,
                str(group.count),
                _time(group.first_at),
                _time(group.latest.failed_at),
                group.latest.task,
                group.latest.reason,
                _error(group.latest),
            ]
            for group in found
        ],
    )


@dead.command()
def show(
    job: Annotated[UUID, typer.Argument(metavar="JOB", help="The job, by its id.")],
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one dead letter."""
    found = _run(app, dsn, schema, lambda pgq: pgq.dead_letter(job))
    if as_json:
        _print_json({**asdict(found), "trace_id": found.trace_id})
        return
    _print_details(found)


@dead.command()
def redrive(
    jobs: Jobs = None,
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
    _check_choice(jobs, wanted, everything)
    payload = _arguments(arguments, jobs)
    who = actor or getpass.getuser()
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

        _run(app, dsn, schema, redrive_jobs)
        _say(as_json, {"redriven": list(jobs)}, f"redriven: {len(jobs)}")
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

    started = _run(app, dsn, schema, redrive_many)
    _say(as_json, asdict(started), _describe(started))


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

    found = _run(app, dsn, schema, look)
    _say(as_json, asdict(found), _describe(found))


@dead.command()
def stop(
    redrive: Redrive, app: App = None, dsn: Dsn = None, schema: Schema = "pgqueue", as_json: AsJson = False
) -> None:
    """Stop a mass redrive. What is pending again by now stays so."""

    async def cancel(pgq: PgQueue) -> RedriveProgress:
        handle = pgq.redrive_handle(redrive)
        await handle.cancel()
        return await handle.progress()

    found = _run(app, dsn, schema, cancel)
    _say(as_json, asdict(found), _describe(found))


@dead.command()
def discard(
    jobs: Jobs = None,
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
    _check_choice(jobs, wanted, everything)
    who = actor or getpass.getuser()
    if not jobs:
        _confirm("discard", wanted, yes)

    async def discard_them(pgq: PgQueue) -> int:
        if jobs:
            return sum([await pgq.discard(job, reason=note, actor=who) for job in jobs])
        return await pgq.discard_many(wanted, all=everything, reason=note, actor=who)

    count = _run(app, dsn, schema, discard_them)
    _say(as_json, {"discarded": count}, f"discarded: {count}")


def _run(app: str | None, dsn: str | None, schema: str, call: Callable[[PgQueue], Awaitable[T]]) -> T:
    if app is not None:
        pgq = load(app)
    elif dsn is not None:
        pgq = PgQueue(dsn, schema=schema)
    else:
        raise typer.BadParameter("say which database: --dsn (or PGQUEUE_DSN), or --app")

    async def open_and_call() -> T:
        async with pgq:
            return await call(pgq)

    return asyncio.run(open_and_call())


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
        failed_after=failed_after and failed_after.replace(tzinfo=UTC),
        failed_before=failed_before and failed_before.replace(tzinfo=UTC),
    )


def _check_choice(jobs: list[UUID] | None, wanted: DeadLetterFilter, everything: bool) -> None:
    if [bool(jobs), not wanted.is_empty, everything].count(True) != 1:
        raise typer.BadParameter("name jobs, or say which by options such as --task, or --all: one of these")


def _arguments(given: str | None, jobs: Sequence[UUID] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    if jobs is None or len(jobs) != 1:
        raise typer.BadParameter("--arguments are for one job")
    try:
        arguments = json.loads(given)
    except ValueError as error:
        raise typer.BadParameter(f"--arguments: {error}") from error
    if not isinstance(arguments, dict):
        raise typer.BadParameter("--arguments: give a JSON object by parameter name")
    return arguments


def _confirm(what: str, wanted: DeadLetterFilter, yes: bool) -> None:
    if not yes:
        which = "every dead letter" if wanted.is_empty else f"the dead letters of {wanted.to_json()}"
        typer.confirm(f"{what} {which}?", abort=True, err=True)


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
        "enqueued": _time(job.created_at),
        "failed": _time(letter.failed_at),
        "reason": letter.reason,
        "attempts": letter.attempt,
        "worker": letter.worker,
        "version": letter.version,
        "trace": found.trace_id,
        "fingerprint": letter.fingerprint,
        "payload": found.payload,
    }.items():
        if value is not None:
            typer.echo(f"{name + ':':<13}{value}")
    _print_table(
        ["attempt", "started", "ended", "worker", "reason", "error"],
        [
            [
                str(past.attempt),
                _time(past.started_at),
                _time(past.ended_at),
                past.worker or "",
                past.reason,
                "" if past.error is None else f"{past.error.type}: {past.error.message}",
            ]
            for past in found.attempts
        ],
    )
    for action in found.actions:
        why = "" if action.reason is None else f": {action.reason}"
        typer.echo(f"{_time(action.at)} {action.action} by {action.actor}{why}")
    if job.error is not None and job.error.traceback:
        typer.echo(job.error.traceback.rstrip())


def _error(letter: DeadLetter) -> str:
    return "" if letter.error_type is None else f"{letter.error_type}: {letter.message}"


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # Wide enough where no terminal has a width. What jobs say is not markup.
    width = None if sys.stdout.isatty() else 400
    console = Console(markup=False, highlight=False, emoji=False, width=width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        # The id is there to be copied: never broken.
        table.add_column(column, no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _say(as_json: bool, document: Any, text: str) -> None:
    if as_json:
        _print_json(document)
    else:
        typer.echo(text)


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, default=_plain, indent=2))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
