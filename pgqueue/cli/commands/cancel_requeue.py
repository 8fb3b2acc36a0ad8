"""`pgqueue cancel`, `requeue` and `queues purge`: jobs by id, or all that match filters. And `run-now`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
from typing import Annotated, Final, NamedTuple
from uuid import UUID

import typer

from pgqueue import JobFilter, JobNotFoundError, JobNotScheduledError, JobStatus, PgQueue
from pgqueue.cli.filters import EVERY_JOB, selects_jobs
from pgqueue.cli.known_names import check_filter
from pgqueue.cli.output import plain, print_json
from pgqueue.cli.parameters import (
    Actor,
    App,
    AsJson,
    Dsn,
    JobIds,
    Note,
    Schema,
    Session,
    Yes,
    call,
    check_choice,
    confirm,
    session,
    user,
)
from pgqueue.client.jobs import BATCH
from pgqueue.model.documents import JobDocument, job_document
from pgqueue.model.figures import count, moment
from pgqueue.model.jobs import TERMINAL

PREVIEWED = 1000
"""Jobs that are counted, at most, for the question."""
LOOKS = 10
"""Pages that are read, at most, to count them."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a command changes, and how it reports it. Programs rely on the keys, and readers get the texts."""

    verb: str
    possible: frozenset[JobStatus]
    """The statuses of jobs that it can change."""
    default: frozenset[JobStatus]
    """Of those, the statuses that filters select without --status."""
    done: str
    done_key: str
    left: str
    left_key: str


CANCEL: Final = Change(
    verb="cancel",
    possible=frozenset(JobStatus) - TERMINAL,
    default=frozenset(JobStatus) - TERMINAL,
    done="cancelled or asked to stop",
    done_key="cancelled",
    left="already ended",
    left_key="over_already",
)
REQUEUE: Final = Change(
    verb="requeue",
    possible=TERMINAL,
    default=TERMINAL - {JobStatus.SUCCEEDED},
    done="requeued",
    done_key="requeued",
    left="has not ended",
    left_key="not_over",
)

RUN_NOW: Final = Change(
    verb="run",
    possible=frozenset({JobStatus.SCHEDULED}),
    default=frozenset({JobStatus.SCHEDULED}),
    done="pending now",
    done_key="pending",
    left="was not scheduled",
    left_key="not_scheduled",
)


@selects_jobs
def cancel(
    jobs: JobIds = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    chosen: JobFilter = EVERY_JOB,
    everything: Annotated[bool, typer.Option("--all", help="Every job that has not ended.")] = False,
    note: Note = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Cancel the given JOBs, or all that match the filters. Running jobs are asked to stop.

    Many are changed batch by batch. Ctrl-C leaves what is done, and says how much that is.

    Exit codes: 0 each was cancelled, asked to stop, or had already ended; 1 a job was not found, or another
    error; 2 wrong usage; 130 interrupted.
    """
    who = user(actor)
    _change(
        CANCEL,
        (app, dsn, schema),
        jobs,
        chosen,
        one=lambda pgq, job: pgq.cancel(job, reason=note, actor=who),
        many=lambda pgq: pgq.cancel_many(chosen, all=everything, reason=note, actor=who),
        everything=everything,
        yes=yes,
        as_json=as_json,
    )


@selects_jobs
def requeue(
    jobs: JobIds = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    chosen: JobFilter = EVERY_JOB,
    everything: Annotated[bool, typer.Option("--all", help="Every job that ended without success.")] = False,
    note: Note = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make ended jobs pending again under the same ids: the given JOBs, or all that match the filters.

    Many are changed batch by batch. Ctrl-C leaves what is done, and says how much that is.

    Succeeded jobs are only requeued by id, or with --status succeeded.

    Exit codes: 0 each was requeued, or has not ended; 1 a job was not found, or another error; 2 wrong usage;
    130 interrupted.
    """
    who = user(actor)
    _change(
        REQUEUE,
        (app, dsn, schema),
        jobs,
        chosen,
        one=lambda pgq, job: pgq.requeue(job, reason=note, actor=who),
        many=lambda pgq: pgq.requeue_many(chosen, all=everything, reason=note, actor=who),
        everything=everything,
        yes=yes,
        as_json=as_json,
    )


def cancel_waiting(
    database: tuple[str | None, str | None, str],
    queue: str,
    *,
    note: str | None,
    who: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Cancel the jobs that wait in *queue*, after a question; report it."""
    chosen = JobFilter(queue=queue, statuses=CANCEL.possible - {JobStatus.RUNNING})
    _change(
        CANCEL,
        database,
        None,
        chosen,
        one=lambda pgq, job: pgq.cancel(job, reason=note, actor=who),
        many=lambda pgq: pgq.cancel_many(chosen, reason=note, actor=who),
        everything=False,
        yes=yes,
        as_json=as_json,
    )


def run_now(
    jobs: Annotated[list[UUID], typer.Argument(metavar="JOB...", help="Job ids.")],
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    note: Note = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Run scheduled JOBs now: they become pending before their time, for a first start or a retry.

    Exit codes: 0 each is pending, or was not scheduled; 1 a job was not found, or another error; 2 wrong
    usage; 130 interrupted.
    """
    who = user(actor)

    async def one(pgq: PgQueue, job: UUID) -> bool:
        try:
            return await pgq.run_now(job, reason=note, actor=who)
        except JobNotScheduledError:
            return False

    _report_each(RUN_NOW, (app, dsn, schema), jobs, one, as_json=as_json)


def describe_filter(chosen: JobFilter) -> str:
    """Return which jobs a filter matches, in words."""
    parts = []
    for field in fields(chosen):
        value = getattr(chosen, field.name)
        if value is None:
            continue
        if isinstance(value, frozenset):
            parts.append(f"status {' or '.join(status for status in JobStatus if status in value)}")
        elif isinstance(value, datetime):
            parts.append(f"{field.name.replace('_', ' ')} {moment(value)}")
        else:
            parts.append(f"{field.name} {value!r}")
    return ", ".join(parts)


def describe_count(counted: int, *, is_whole: bool) -> str:
    """Return how many jobs were counted, in words. *is_whole*: every job was counted."""
    return f"{count(counted)} job{'' if counted == 1 and is_whole else 's'}{'' if is_whole else ' or more'}"


def _change(
    change: Change,
    database: tuple[str | None, str | None, str],
    jobs: Sequence[UUID] | None,
    chosen: JobFilter,
    *,
    one: Callable[[PgQueue, UUID], Awaitable[bool]],
    many: Callable[[PgQueue], AsyncIterator[int]],
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Change *jobs*, each by *one*, or all that match *chosen*, by *many*; report it.

    *database*: the options that select it. Raises typer.BadParameter unless exactly one way of selecting
    jobs is used, and typer.Abort if the question is not answered with yes.
    """
    check_choice(jobs, is_empty=chosen.is_empty, everything=everything)
    if jobs:
        _report_each(change, database, jobs, one, as_json=as_json)
        return
    preview = _narrowed(change, chosen)
    with session(*database) as opened:
        opened.call(lambda pgq: check_filter(pgq, chosen))
        if not yes:
            _confirm(change.verb, preview, opened)
        tally = Tally()
        try:
            opened.call(partial(_change_many, many, tally))
        except KeyboardInterrupt:
            _report_interrupted(change, tally.jobs, as_json=as_json)
            raise
    if as_json:
        # Unlike a request, a command goes on until all are done.
        print_json({change.done_key: tally.jobs, "is_complete": True})
    else:
        typer.echo(f"{change.done}: {count(tally.jobs)}")


def _report_interrupted(change: Change, changed: int, *, as_json: bool) -> None:
    """Say what is done, and how to go on. The batch that was being changed may or may not be."""
    if as_json:
        print_json({change.done_key: changed, "is_complete": False})
    typer.echo(
        f"pgqueue: interrupted; {change.done}: {count(changed)}, and up to {BATCH} more. "
        "What is done stays so; run the command again for the others",
        err=True,
    )


class Changed(NamedTuple):
    """What became of the given jobs."""

    changed: list[UUID]
    left: list[UUID]
    """Those whose status could not be changed."""
    unknown: list[UUID]
    """Those that do not exist."""
    after: list[JobDocument]
    """The others, as they are now."""


async def _change_each(
    jobs: Sequence[UUID], one: Callable[[PgQueue, UUID], Awaitable[bool]], as_json: bool, pgq: PgQueue
) -> Changed:
    result = Changed([], [], [], [])
    for job in jobs:
        try:
            (result.changed if await one(pgq, job) else result.left).append(job)
            if as_json:
                result.after.append(job_document(await pgq.get(job)))
        except JobNotFoundError:
            result.unknown.append(job)
    return result


@dataclass(slots=True)
class Tally:
    """How many jobs were changed so far: a command may not come to its end."""

    jobs: int = 0


async def _change_many(many: Callable[[PgQueue], AsyncIterator[int]], tally: Tally, pgq: PgQueue) -> None:
    async for each in many(pgq):
        tally.jobs += each


def _narrowed(change: Change, chosen: JobFilter) -> JobFilter:
    """Return *chosen* without the statuses that the command does not change. Raises typer.BadParameter."""
    statuses = change.default if chosen.statuses is None else chosen.statuses & change.possible
    if not statuses:
        possible = ", ".join(sorted(change.possible))
        raise typer.BadParameter(f"--status must be one of {possible} to {change.verb} jobs")
    return replace(chosen, statuses=statuses)


def _confirm(verb: str, chosen: JobFilter, opened: Session) -> None:
    async def count_matching(pgq: PgQueue) -> tuple[int, bool]:
        total, cursor = 0, None
        for _ in range(LOOKS):
            page = await pgq.jobs(chosen, limit=PREVIEWED - total, cursor=cursor, large_results=False)
            total, cursor = total + len(page.jobs), page.cursor
            if cursor is None or total == PREVIEWED:
                break
        return total, cursor is None

    total, is_whole = opened.call(count_matching)
    confirm(
        f"{verb} {describe_count(total, is_whole=is_whole)}: {plain(describe_filter(chosen))}?", yes=False
    )


def _report_each(
    change: Change,
    database: tuple[str | None, str | None, str],
    jobs: Sequence[UUID],
    one: Callable[[PgQueue, UUID], Awaitable[bool]],
    *,
    as_json: bool,
) -> None:
    result = call(*database, partial(_change_each, jobs, one, as_json))
    if as_json:
        ids = {change.done_key: result.changed, change.left_key: result.left, "unknown": result.unknown}
        print_json({**ids, "jobs": result.after})
    else:
        typer.echo(f"{change.done}: {count(len(result.changed))}")
        for job in result.left:
            typer.echo(f"{change.left}: {job}")
    for job in result.unknown:
        typer.echo(f"pgqueue: {JobNotFoundError(job)}", err=True)
    if result.unknown:
        raise typer.Exit(1)
