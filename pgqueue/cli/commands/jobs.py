"""`pgqueue jobs` and `pgqueue job`: list jobs, and show one in detail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from pgqueue import Action, Attempt, Job, JobError, JobFilter, JobStatus, Page, PgQueue, Wait
from pgqueue.cli.filters import EVERY_JOB, selects_jobs
from pgqueue.cli.known_names import check_filter
from pgqueue.cli.output import as_text, known, plain, print_json, print_lines, print_table, table
from pgqueue.cli.parameters import (
    App,
    AsJson,
    Cursor,
    Dsn,
    Limit,
    OneJob,
    Schema,
    ShowArguments,
    call,
)
from pgqueue.model.documents import job_details_document, job_document
from pgqueue.model.figures import amount, duration, moment
from pgqueue.model.progress import Progress
from pgqueue.model.waits import wait_document


@selects_jobs
def list_jobs(
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    chosen: JobFilter = EVERY_JOB,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""

    async def look(pgq: PgQueue) -> Page:
        await check_filter(pgq, chosen)
        return await pgq.jobs(chosen, limit=limit, cursor=cursor, large_results=False)

    page = call(app, dsn, schema, look)
    if as_json:
        jobs = [job_document(job) for job in page.jobs]
        print_json({"jobs": jobs, "cursor": page.cursor, "is_cut_short": page.is_cut_short})
        return
    print_table(
        table(
            ["job", "status", "task", "queue", "attempt", "created", "took", "details"],
            [job_row(job) for job in page.jobs],
            numbers=["attempt", "took"],
            prose="details",
        )
    )
    if page.cursor is not None:
        why = "the search of this page was cut short; " if page.is_cut_short else ""
        typer.echo(f"{why}next page: --cursor {page.cursor}")


def show_job(
    job: OneJob,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Follow the job until it ends; with --json, one line per change."),
    ] = False,
    show_arguments: ShowArguments = False,
    as_json: AsJson = False,
) -> None:
    """Show everything known about one job.

    With --app, arguments that its redact option names are redacted; with --dsn, all of them.

    Exit codes: 0 succeeded or not ended yet; 1 failed, cancelled or expired, or an error, which is a line on
    stderr; 2 wrong usage; 130 interrupted.
    """

    async def look(pgq: PgQueue) -> tuple[Job, Wait | None, Sequence[Attempt], Sequence[Action]]:
        if watch:
            async for changed in pgq.watch(job):
                if as_json:
                    print_json(job_document(changed), on_one_line=True)
                else:
                    typer.echo(describe_change(changed))
        read = await pgq.get(job)
        shown = replace(read, arguments=pgq.shown_arguments(read))
        return shown, await pgq.explain_wait(job), await pgq.attempts(job), await pgq.actions(job)

    found, waits, attempts, actions = call(app, dsn, schema, look, show_arguments=show_arguments)
    if not as_json:
        print_lines(describe_job(found, attempts, actions, waits))
    elif not watch:
        document = job_details_document(
            found, arguments=found.arguments, attempts=attempts, actions=actions, show_tracebacks=True
        )
        print_json({**document, "waits": None if waits is None else wait_document(waits)})
    if found.is_terminal and found.status is not JobStatus.SUCCEEDED:
        raise typer.Exit(1)


def job_row(job: Job) -> list[str]:
    """Return a job's row in the list."""
    return [
        str(job.id),
        job.status,
        job.task,
        job.queue,
        str(job.attempt),
        moment(job.created_at),
        known(duration, job.took),
        describe_state(job),
    ]


def describe_state(job: Job) -> str:
    """Return the details that matter in the job's present status, in a line."""
    undecodable = f"cannot be decoded here: {', '.join(sorted(job.undecodable))}" if job.undecodable else ""
    return "; ".join(filter(None, [_describe_status(job), undecodable]))


def _describe_status(job: Job) -> str:
    match job.status:
        case JobStatus.SCHEDULED:
            why = f" after {job.last_reason}" if job.last_reason and job.attempt else ""
            return f"runs at {known(moment, job.next_run_at)}{why}"
        case JobStatus.BLOCKED if job.waits_for_limit:
            return f"waits for limit {job.waits_for_limit}"
        case JobStatus.RUNNING:
            return "" if job.progress is None else describe_progress(job.progress)
        case JobStatus.FAILED:
            return job.reason or "" if job.error is None else describe_error(job.error)
        case JobStatus.CANCELLED | JobStatus.EXPIRED:
            return job.reason or ""
        case _:
            return ""


def describe_change(job: Job) -> str:
    """Return the line for a change of a watched job."""
    parts = [job.status.value]
    if job.attempt:
        parts.append(f"attempt {job.attempt}")
    if job.status is JobStatus.RUNNING and job.worker:
        parts.append(f"on {job.worker}")
    if details := describe_state(job):
        parts.append(details)
    return plain(", ".join(parts))


def _priority(job: Job) -> str | None:
    if job.raised_to is not None:
        return f"{job.priority}, raised to {job.raised_to} because it has waited"
    return str(job.priority) if job.priority else None


def describe_job(
    job: Job, attempts: Sequence[Attempt], actions: Sequence[Action], waits: Wait | None = None
) -> list[str]:
    """Return everything known about a job, as lines."""
    facts = {
        "job": str(job.id),
        "status": job.status.value,
        "task": job.task,
        "queue": job.queue,
        "priority": _priority(job),
        "created": moment(job.created_at),
        "run at": known(moment, job.run_at),
        "next run": known(moment, job.next_run_at) if job.status is JobStatus.SCHEDULED else None,
        "waits": None if waits is None else waits.text,
        "expires": known(moment, job.expires_at),
        "started": known(moment, job.started_at),
        "completed": known(moment, job.completed_at),
        "took": known(duration, job.took),
        "attempts": f"{job.attempt}{'' if job.max_attempts is None else f' of {job.max_attempts}'}",
        "losses": str(job.losses) if job.losses else None,
        "worker": job.worker,
        "key": job.key,
        "tags": ", ".join(job.tags),
        "headers": as_text(dict(job.shown_headers)) if job.headers else None,
        "progress": None if job.progress is None else describe_progress(job.progress),
        "reason": job.reason,
        "arguments": as_text(job.arguments),
        "result": as_text(job.shown_result) if job.status is JobStatus.SUCCEEDED and job.has_result else None,
        "undecoded": "; ".join(f"{name}: {problem}" for name, problem in job.undecodable.items()),
        "error": None if job.error is None else describe_error(job.error),
    }
    lines = [f"{name + ':':<11}{plain(value)}" for name, value in facts.items() if value]
    if attempts:
        lines += ["", "unsuccessful attempts:"]
    for past in attempts:
        error = "" if past.error is None else f": {describe_error(past.error)}"
        worker = f" on {past.worker}" if past.worker else ""
        version = f" ({past.version})" if past.version else ""
        times = f"{known(moment, past.started_at)} to {moment(past.ended_at)}"
        lines.append(plain(f"  {past.attempt}  {times}{worker}{version}  {past.reason}{error}"))
    lines += describe_actions(actions)
    if job.error is not None and job.error.traceback:
        lines += ["", plain(job.error.traceback.rstrip(), keep_lines=True)]
    return lines


def describe_actions(actions: Sequence[Action]) -> list[str]:
    """Return what operators did, as lines."""
    lines = ["", "operator actions:"] if actions else []
    for action in actions:
        why = f": {action.reason}" if action.reason else ""
        lines.append(plain(f"  {moment(action.at)}  {action.action} by {action.actor}{why}"))
    return lines


def describe_progress(progress: Progress) -> str:
    """Return a job's progress, in a line."""
    total = "" if progress.total is None else f" of {amount(progress.total)}"
    meta = "" if progress.meta is None else f" {json.dumps(progress.meta, ensure_ascii=False)}"
    return f"{amount(progress.current)}{total}{meta}"


def describe_error(error: JobError) -> str:
    """Return an error in a line."""
    return f"{error.type}: {error.message}"
