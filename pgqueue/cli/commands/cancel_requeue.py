"""`pgqueue cancel` and `pgqueue requeue`: jobs by their ids, or all that options take in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from pgqueue import JobFilter, JobNotFoundError, JobStatus, PgQueue
from pgqueue.cli.output import moment, plain, print_json
from pgqueue.cli.parameters import (
    Actor,
    App,
    AsJson,
    CreatedAfter,
    CreatedBefore,
    Dsn,
    JobIds,
    OfKey,
    OfQueue,
    OfStatus,
    OfTag,
    OfTask,
    Reason,
    Schema,
    Session,
    Yes,
    call,
    check_choice,
    confirm,
    job_filter,
    session,
    user,
)
from pgqueue.model.jobs import TERMINAL

ALL_LIVE = frozenset(JobStatus) - TERMINAL
REQUEUED_UNASKED = TERMINAL - {JobStatus.SUCCEEDED}
PREVIEWED = 1000
"""Jobs that are counted before the question."""
LOOKS = 10
"""Pages that are looked at for them."""


def cancel(
    jobs: JobIds = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    status: OfStatus = None,
    task: OfTask = None,
    queue: OfQueue = None,
    tag: OfTag = None,
    key: OfKey = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    everything: Annotated[bool, typer.Option("--all", help="Every job that is not over.")] = False,
    reason: Reason = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Cancel the JOBs, or all that the options take in. Running ones are asked to stop.

    Exit codes: 0 none of them runs on, 1 there is no such job, or another error; 2 wrong usage.
    """
    chosen = job_filter(status, task, queue, tag, key, created_after, created_before)
    check_choice(jobs, is_empty=chosen.is_empty, everything=everything)
    who = user(actor)
    if jobs:
        changed, left, unknown = call(
            app, dsn, schema, _each(jobs, lambda pgq, job: pgq.cancel(job, reason=reason, actor=who))
        )
        _report_each("cancelled", "over already", changed, left, unknown, as_json=as_json)
        return
    preview = _narrowed("cancel", chosen, ALL_LIVE, ALL_LIVE)
    with session(app, dsn, schema) as opened:
        if not yes:
            _confirm("cancel", preview, opened)
        count = opened.call(
            lambda pgq: _sum(pgq.cancel_many(chosen, all=everything, reason=reason, actor=who))
        )
    _report_many("cancelled", count, as_json=as_json)


def requeue(
    jobs: JobIds = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    status: OfStatus = None,
    task: OfTask = None,
    queue: OfQueue = None,
    tag: OfTag = None,
    key: OfKey = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every job that is over and has not succeeded.")
    ] = False,
    reason: Reason = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make the JOBs, or all that the options take in and that are over, pending again, under their ids.

    Those that have succeeded are left alone unless they are named, or --status says succeeded.

    Exit codes: 0 it is done, 1 there is no such job, or another error; 2 wrong usage.
    """
    chosen = job_filter(status, task, queue, tag, key, created_after, created_before)
    check_choice(jobs, is_empty=chosen.is_empty, everything=everything)
    who = user(actor)
    if jobs:
        changed, left, unknown = call(
            app, dsn, schema, _each(jobs, lambda pgq, job: pgq.requeue(job, reason=reason, actor=who))
        )
        _report_each("requeued", "not over", changed, left, unknown, as_json=as_json)
        return
    preview = _narrowed("requeue", chosen, TERMINAL, REQUEUED_UNASKED)
    with session(app, dsn, schema) as opened:
        if not yes:
            _confirm("requeue", preview, opened)
        count = opened.call(
            lambda pgq: _sum(pgq.requeue_many(chosen, all=everything, reason=reason, actor=who))
        )
    _report_many("requeued", count, as_json=as_json)


def describe_filter(chosen: JobFilter) -> str:
    """Return which jobs a filter takes in, in words."""
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


def describe_count(count: int, *, is_whole: bool) -> str:
    """Return how many jobs were counted. *is_whole*: that there are no more."""
    return f"{count:,} job{'' if count == 1 and is_whole else 's'}{'' if is_whole else ' or more'}"


Outcome = tuple[list[UUID], list[UUID], list[UUID]]
"""The jobs that were changed, those that were left as they are, and those that do not exist."""


def _each(
    jobs: Sequence[UUID], change: Callable[[PgQueue, UUID], Awaitable[bool]]
) -> Callable[[PgQueue], Awaitable[Outcome]]:
    async def change_each(pgq: PgQueue) -> Outcome:
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
    return sum([count async for count in counts])


def _narrowed(
    verb: str, chosen: JobFilter, possible: frozenset[JobStatus], unasked: frozenset[JobStatus]
) -> JobFilter:
    """Return the filter of what will really be changed."""
    statuses = unasked if chosen.statuses is None else chosen.statuses & possible
    if not statuses:
        raise typer.BadParameter(f"--status: {verb} is for jobs that are {', '.join(sorted(possible))}")
    return replace(chosen, statuses=statuses)


def _confirm(verb: str, chosen: JobFilter, opened: Session) -> None:
    async def count(pgq: PgQueue) -> tuple[int, bool]:
        total, cursor = 0, None
        for _ in range(LOOKS):
            page = await pgq.jobs(
                status=chosen.statuses,
                task=chosen.task,
                queue=chosen.queue,
                tag=chosen.tag,
                key=chosen.key,
                created_after=chosen.created_after,
                created_before=chosen.created_before,
                limit=PREVIEWED - total,
                cursor=cursor,
            )
            total, cursor = total + len(page.jobs), page.cursor
            if cursor is None or total == PREVIEWED:
                break
        return total, cursor is None

    total, is_whole = opened.call(count)
    confirm(
        f"{verb} {describe_count(total, is_whole=is_whole)}: {plain(describe_filter(chosen))}?", yes=False
    )


def _report_each(
    done: str,
    not_done: str,
    changed: Sequence[UUID],
    left: Sequence[UUID],
    unknown: Sequence[UUID],
    *,
    as_json: bool,
) -> None:
    if as_json:
        print_json({done: changed, not_done.replace(" ", "_"): left, "unknown": unknown})
    else:
        typer.echo(f"{done}: {len(changed)}")
        for job in left:
            typer.echo(f"{not_done}: {job}")
    for job in unknown:
        typer.echo(f"pgqueue: {JobNotFoundError(job)}", err=True)
    if unknown:
        raise typer.Exit(1)


def _report_many(done: str, count: int, *, as_json: bool) -> None:
    if as_json:
        print_json({done: count})
    else:
        typer.echo(f"{done}: {count:,}")
