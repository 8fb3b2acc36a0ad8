"""`pgqueue cancel` and `pgqueue requeue`: jobs by id, or all jobs that match filters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import typer

from pgqueue import JobFilter, JobNotFoundError, JobStatus, PgQueue
from pgqueue.cli.filters import EVERY_JOB, selects_jobs
from pgqueue.cli.output import plain, print_json
from pgqueue.cli.parameters import (
    Actor,
    App,
    AsJson,
    Dsn,
    JobIds,
    Reason,
    Schema,
    Session,
    Yes,
    call,
    check_choice,
    confirm,
    session,
    user,
)
from pgqueue.model.figures import count, moment
from pgqueue.model.jobs import TERMINAL

ALL_LIVE = frozenset(JobStatus) - TERMINAL
REQUEUED_UNASKED = TERMINAL - {JobStatus.SUCCEEDED}
PREVIEWED = 1000
"""Jobs that are counted, at most, for the question."""
LOOKS = 10
"""Pages that are read, at most, to count them."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How a command reports: the text for a reader, and the keys of its JSON, which programs rely on."""

    done: str
    done_key: str
    left: str
    left_key: str


CANCELLED: Final = Wording("cancelled or asked to stop", "cancelled", "already ended", "over_already")
REQUEUED: Final = Wording("requeued", "requeued", "has not ended", "not_over")


@selects_jobs
def cancel(
    jobs: JobIds = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    chosen: JobFilter = EVERY_JOB,
    everything: Annotated[bool, typer.Option("--all", help="Every job that has not ended.")] = False,
    reason: Reason = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Cancel the given JOBs, or all that match the filters. Running jobs are asked to stop.

    Exit codes: 0 each was cancelled, asked to stop, or had already ended; 1 a job was not found, or another
    error; 2 wrong usage; 130 interrupted.
    """
    check_choice(jobs, is_empty=chosen.is_empty, everything=everything)
    who = user(actor)
    if jobs:
        changed, left, unknown = call(
            app, dsn, schema, _each(jobs, lambda pgq, job: pgq.cancel(job, reason=reason, actor=who))
        )
        _report_each(CANCELLED, changed, left, unknown, as_json=as_json)
        return
    preview = _narrowed("cancel", chosen, ALL_LIVE, ALL_LIVE)
    with session(app, dsn, schema) as opened:
        if not yes:
            _confirm("cancel", preview, opened)
        changed_jobs = opened.call(
            lambda pgq: _sum(pgq.cancel_many(chosen, all=everything, reason=reason, actor=who))
        )
    _report_many(CANCELLED, changed_jobs, as_json=as_json)


@selects_jobs
def requeue(
    jobs: JobIds = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    chosen: JobFilter = EVERY_JOB,
    everything: Annotated[bool, typer.Option("--all", help="Every job that ended without success.")] = False,
    reason: Reason = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make ended jobs pending again under the same ids: the given JOBs, or all that match the filters.

    Succeeded jobs are only requeued by id, or with --status succeeded.

    Exit codes: 0 each was requeued, or has not ended; 1 a job was not found, or another error; 2 wrong usage;
    130 interrupted.
    """
    check_choice(jobs, is_empty=chosen.is_empty, everything=everything)
    who = user(actor)
    if jobs:
        changed, left, unknown = call(
            app, dsn, schema, _each(jobs, lambda pgq, job: pgq.requeue(job, reason=reason, actor=who))
        )
        _report_each(REQUEUED, changed, left, unknown, as_json=as_json)
        return
    preview = _narrowed("requeue", chosen, TERMINAL, REQUEUED_UNASKED)
    with session(app, dsn, schema) as opened:
        if not yes:
            _confirm("requeue", preview, opened)
        changed_jobs = opened.call(
            lambda pgq: _sum(pgq.requeue_many(chosen, all=everything, reason=reason, actor=who))
        )
    _report_many(REQUEUED, changed_jobs, as_json=as_json)


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


Changes = tuple[list[UUID], list[UUID], list[UUID]]
"""The jobs that were changed, those that were left as they are, and those that do not exist."""


def _each(
    jobs: Sequence[UUID], change: Callable[[PgQueue, UUID], Awaitable[bool]]
) -> Callable[[PgQueue], Awaitable[Changes]]:
    async def change_each(pgq: PgQueue) -> Changes:
        changed: list[UUID] = []
        left: list[UUID] = []
        unknown: list[UUID] = []
        for job in jobs:
            try:
                (changed if await change(pgq, job) else left).append(job)
            except JobNotFoundError:
                unknown.append(job)
        return changed, left, unknown

    return change_each


async def _sum(counts: AsyncIterator[int]) -> int:
    return sum([each async for each in counts])


def _narrowed(
    verb: str, chosen: JobFilter, possible: frozenset[JobStatus], unasked: frozenset[JobStatus]
) -> JobFilter:
    """Return *chosen* without the statuses that *verb* does not change. Raises typer.BadParameter."""
    statuses = unasked if chosen.statuses is None else chosen.statuses & possible
    if not statuses:
        raise typer.BadParameter(f"--status must be one of {', '.join(sorted(possible))} to {verb} jobs")
    return replace(chosen, statuses=statuses)


def _confirm(verb: str, chosen: JobFilter, opened: Session) -> None:
    async def count_matching(pgq: PgQueue) -> tuple[int, bool]:
        total, cursor = 0, None
        for _ in range(LOOKS):
            page = await pgq.jobs(chosen, limit=PREVIEWED - total, cursor=cursor)
            total, cursor = total + len(page.jobs), page.cursor
            if cursor is None or total == PREVIEWED:
                break
        return total, cursor is None

    total, is_whole = opened.call(count_matching)
    confirm(
        f"{verb} {describe_count(total, is_whole=is_whole)}: {plain(describe_filter(chosen))}?", yes=False
    )


def _report_each(
    wording: Wording,
    changed: Sequence[UUID],
    left: Sequence[UUID],
    unknown: Sequence[UUID],
    *,
    as_json: bool,
) -> None:
    if as_json:
        print_json({wording.done_key: changed, wording.left_key: left, "unknown": unknown})
    else:
        typer.echo(f"{wording.done}: {count(len(changed))}")
        for job in left:
            typer.echo(f"{wording.left}: {job}")
    for job in unknown:
        typer.echo(f"pgqueue: {JobNotFoundError(job)}", err=True)
    if unknown:
        raise typer.Exit(1)


def _report_many(wording: Wording, changed: int, *, as_json: bool) -> None:
    if as_json:
        print_json({wording.done_key: changed})
    else:
        typer.echo(f"{wording.done}: {count(changed)}")
