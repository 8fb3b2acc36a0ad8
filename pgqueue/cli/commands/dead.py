"""`pgqueue dead`: inspect, redrive and discard dead letters.

Commands print a table, or JSON with --json. Commands that change many jobs ask first, unless given --yes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final
from uuid import UUID

import anyio
import typer
from rich.console import Console
from rich.progress import Progress

from pgqueue import (
    DeadLetter,
    DeadLetterDetails,
    DeadLetterFilter,
    DeadLetterGroup,
    DeadLetterPage,
    PgQueue,
    RedriveHandle,
    RedriveProgress,
)
from pgqueue.cli.filters import EVERY_LETTER, OfErrorType, OfReason, OfTask, selects_letters
from pgqueue.cli.known_names import check_filter, check_new
from pgqueue.cli.output import known, plain, print_json, print_table, say, table
from pgqueue.cli.parameters import (
    Actor,
    App,
    AsJson,
    Cursor,
    Dsn,
    JobIds,
    Limit,
    OneJob,
    Schema,
    Session,
    ShowArguments,
    Yes,
    call,
    check_choice,
    confirm,
    read_json,
    session,
    user,
)
from pgqueue.model.documents import (
    JobDocument,
    dead_group_document,
    dead_letter_document,
    job_document,
    letter_details_document,
    redrive_document,
)
from pgqueue.model.figures import amount, count, moment

dead = typer.Typer(help="Inspect, redrive or discard dead letters (failed jobs).", no_args_is_help=True)

All = Annotated[bool, typer.Option("--all", help="Every dead letter.")]
PREVIEWED: Final = 1000
"""Dead letters that are counted, at most, for the question."""

LetterNote = Annotated[str | None, typer.Option("--note", help="Reason to record in the job history.")]
Redrive = Annotated[UUID, typer.Argument(metavar="REDRIVE", help="Id of the mass redrive.")]


@dead.command("list")
@selects_letters
def list_letters(
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    chosen: DeadLetterFilter = EVERY_LETTER,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first."""

    async def look(pgq: PgQueue) -> DeadLetterPage:
        await check_filter(pgq, chosen)
        return await pgq.dead_letters(chosen, limit=limit, cursor=cursor)

    page = call(app, dsn, schema, look)
    if as_json:
        letters = [dead_letter_document(each) for each in page.letters]
        print_json({"dead_letters": letters, "cursor": page.cursor})
        return
    print_table(
        table(
            ["job", "failed", "task", "queue", "reason", "error"],
            [
                [str(each.job_id), moment(each.failed_at), each.task, each.queue, each.reason, _error(each)]
                for each in page.letters
            ],
            prose="error",
        )
    )
    if page.cursor is not None:
        typer.echo(f"next page: --cursor {page.cursor}")


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
    """Count dead letters, grouped by error."""

    async def look(pgq: PgQueue) -> list[DeadLetterGroup]:
        await check_filter(pgq, DeadLetterFilter(task=task))
        return await pgq.dead_groups(task=task, reason=reason, error_type=error_type, limit=limit)

    found = call(app, dsn, schema, look)
    if as_json:
        print_json({"groups": [dead_group_document(group) for group in found]})
        return
    print_table(
        table(
            ["fingerprint", "count", "first", "last", "task", "reason", "error"],
            [
                [
                    group.fingerprint,
                    count(group.count),
                    moment(group.first_at),
                    moment(group.latest.failed_at),
                    group.latest.task,
                    group.latest.reason,
                    _error(group.latest),
                ]
                for group in found
            ],
            numbers=["count"],
            prose="error",
        )
    )


@dead.command()
def show(
    job: OneJob,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    show_arguments: ShowArguments = False,
    as_json: AsJson = False,
) -> None:
    """Show everything known about one dead letter.

    With --app, arguments that its redact option names are redacted; with --dsn, all of them.
    """

    async def read(pgq: PgQueue) -> DeadLetterDetails:
        return pgq.shown_details(await pgq.dead_letter(job))

    found = call(app, dsn, schema, read, show_arguments=show_arguments)
    if as_json:
        print_json(letter_details_document(found, show_tracebacks=True))
        return
    _print_details(found)


@dead.command()
@selects_letters
def redrive(
    jobs: JobIds = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    chosen: DeadLetterFilter = EVERY_LETTER,
    everything: All = False,
    to_queue: Annotated[
        str | None, typer.Option(help="Move the jobs to this queue (default: each job's own).")
    ] = None,
    arguments: Annotated[
        str | None,
        typer.Option(help="New arguments, for a single job: a JSON object by parameter name."),
    ] = None,
    keep_attempts: Annotated[
        bool,
        typer.Option(
            help="Do not reset the attempt count: each job runs once more, then retries only if it had "
            "retries left.",
        ),
    ] = False,
    rate: Annotated[float, typer.Option(help="Jobs per second in a mass redrive.")] = 100.0,
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait for a mass redrive to finish, showing progress.")
    ] = False,
    note: LetterNote = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make dead letters pending again: the given JOBs, or all that match the filters.

    With filters, workers redrive the jobs at --rate; this command does not have to keep running.
    """
    check_choice(jobs, is_empty=chosen.is_empty, everything=everything)
    payload = _arguments(arguments, jobs)
    who = user(actor)
    if jobs:

        async def redrive_jobs(pgq: PgQueue) -> list[JobDocument]:
            await check_new(pgq, queue=to_queue)
            for job in jobs:
                await pgq.redrive(
                    job,
                    queue=to_queue,
                    arguments=payload,
                    reset_attempts=not keep_attempts,
                    reason=note,
                    actor=who,
                )
            return await _as_they_are(pgq, jobs) if as_json else []

        now = call(app, dsn, schema, redrive_jobs)
        say(as_json, {"redriven": list(jobs), "jobs": now}, f"redriven: {count(len(jobs))}")
        return

    async def redrive_many(pgq: PgQueue) -> RedriveProgress:
        handle = await pgq.redrive_many(
            chosen,
            all=everything,
            rate=rate,
            queue=to_queue,
            reset_attempts=not keep_attempts,
            reason=note,
            actor=who,
        )
        return await _watch(handle) if watch else await handle.progress()

    with session(app, dsn, schema) as opened:
        opened.call(lambda pgq: check_filter(pgq, chosen))
        opened.call(lambda pgq: check_new(pgq, queue=to_queue))
        _confirm("redrive", chosen, opened, yes=yes)
        started = opened.call(redrive_many)
    say(as_json, redrive_document(started), _describe(started))


@dead.command()
def progress(
    redrive: Redrive,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    watch: Annotated[bool, typer.Option("--watch", help="Wait for it to finish, showing progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the progress of a mass redrive."""

    async def look(pgq: PgQueue) -> RedriveProgress:
        handle = pgq.redrive_handle(redrive)
        return await _watch(handle) if watch else await handle.progress()

    found = call(app, dsn, schema, look)
    say(as_json, redrive_document(found), _describe(found))


@dead.command()
def stop(
    redrive: Redrive, app: App = None, dsn: Dsn = None, schema: Schema = "pgqueue", as_json: AsJson = False
) -> None:
    """Stop a mass redrive. Jobs already made pending stay pending."""

    async def cancel(pgq: PgQueue) -> RedriveProgress:
        handle = pgq.redrive_handle(redrive)
        await handle.cancel()
        return await handle.progress()

    found = call(app, dsn, schema, cancel)
    say(as_json, redrive_document(found), _describe(found))


@dead.command()
@selects_letters
def discard(
    jobs: JobIds = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    chosen: DeadLetterFilter = EVERY_LETTER,
    everything: All = False,
    note: LetterNote = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove jobs from the dead letters: the given JOBs, or all that match the filters. They stay failed."""
    check_choice(jobs, is_empty=chosen.is_empty, everything=everything)
    who = user(actor)

    async def discard_them(pgq: PgQueue) -> int:
        if jobs:
            return sum([await pgq.discard(job, reason=note, actor=who) for job in jobs])
        return await pgq.discard_many(chosen, all=everything, reason=note, actor=who)

    with session(app, dsn, schema) as opened:
        if not jobs:
            opened.call(lambda pgq: check_filter(pgq, chosen))
            _confirm("discard", chosen, opened, yes=yes)
        discarded = opened.call(discard_them)
        now = opened.call(lambda pgq: _as_they_are(pgq, jobs)) if jobs and as_json else []
    say(
        as_json, {"discarded": discarded, **({"jobs": now} if jobs else {})}, f"discarded: {count(discarded)}"
    )


async def _as_they_are(pgq: PgQueue, jobs: Sequence[UUID]) -> list[JobDocument]:
    return [job_document(await pgq.get(job)) for job in jobs]


def _arguments(given: str | None, jobs: Sequence[UUID] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    if jobs is None or len(jobs) != 1:
        raise typer.BadParameter("--arguments needs exactly one JOB")
    arguments = read_json("--arguments", given)
    if not isinstance(arguments, dict):
        raise typer.BadParameter("--arguments must be a JSON object by parameter name")
    return arguments


def _confirm(what: str, chosen: DeadLetterFilter, opened: Session, *, yes: bool) -> None:
    """Ask whether to change the dead letters that match, and say how many there are."""
    if yes:
        return

    async def count_matching(pgq: PgQueue) -> tuple[int, bool]:
        page = await pgq.dead_letters(chosen, limit=PREVIEWED)
        return len(page.letters), page.cursor is None

    total, is_whole = opened.call(count_matching)
    many = f"{count(total)}{'' if is_whole else ' or more'}"
    if chosen.is_empty:
        question = f"{what} every dead letter ({many})?"
    else:
        question = f"{what} the {many} dead letters that match {plain(chosen.to_json())}?"
    confirm(question, yes=False)


async def _watch(handle: RedriveHandle) -> RedriveProgress:
    """Show progress on stderr until the mass redrive ends."""
    with Progress(console=Console(stderr=True)) as bar:
        shown = bar.add_task(f"redrive {handle.id}", total=None)
        while True:
            found = await handle.progress()
            bar.update(shown, completed=found.done, total=found.total)
            if found.is_over:
                return found
            await anyio.sleep(0.5)


def _describe(found: RedriveProgress) -> str:
    done, total = count(found.done), count(found.total)
    return f"redrive {found.id}: {found.state}, {done} of {total}, {amount(found.rate)} jobs/s"


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
                    known(moment, past.started_at),
                    moment(past.ended_at),
                    past.worker or "",
                    past.reason,
                    "" if past.error is None else f"{past.error.type}: {past.error.message}",
                ]
                for past in found.attempts
            ],
            numbers=["attempt"],
            prose="error",
        )
    )
    for action in found.actions:
        why = "" if action.reason is None else f": {action.reason}"
        typer.echo(plain(f"{moment(action.at)} {action.action} by {action.actor}{why}"))
    if job.error is not None and job.error.traceback:
        typer.echo(plain(job.error.traceback.rstrip(), keep_lines=True))


def _error(letter: DeadLetter) -> str:
    return "" if letter.error_type is None else f"{letter.error_type}: {letter.message}"
