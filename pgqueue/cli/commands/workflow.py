"""`pgqueue workflow`: list, show, draw, cancel, retry, pause and resume workflows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, TypeVar
from uuid import UUID

import typer

from pgqueue import Action, JobStatus, PgQueue
from pgqueue.cli.commands.jobs import describe_actions
from pgqueue.cli.output import known, plain, print_json, print_lines, print_table, say, table
from pgqueue.cli.parameters import Actor, App, AsJson, Cursor, Dsn, Limit, Note, Schema, call, in_utc, user
from pgqueue.model.documents import action_document
from pgqueue.model.figures import duration, moment
from pgqueue.model.filters import read_statuses
from pgqueue.model.workflow_documents import member_document, workflow_document
from pgqueue.model.workflows import MemberPage, Standstill, WorkflowDetails, WorkflowFilter, WorkflowMember
from pgqueue.workflows.export import GraphFormat

T = TypeVar("T")

workflow = typer.Typer(no_args_is_help=True, help="List, show, draw and operate workflows.")

OneWorkflow = Annotated[UUID, typer.Argument(metavar="WORKFLOW", help="Workflow id.")]


@workflow.command("list")
def list_workflows(
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    status: Annotated[
        list[JobStatus] | None,
        typer.Option("--status", help="Only workflows with this status; may be given more than once."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Only workflows with this name.")] = None,
    created_after: Annotated[
        datetime | None, typer.Option("--created-after", help="Enqueued at or after this time (UTC).")
    ] = None,
    created_before: Annotated[
        datetime | None, typer.Option("--created-before", help="Enqueued before this time (UTC).")
    ] = None,
    limit: Limit = 25,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List workflows, newest first. The status is that of the last job; blocked while a group goes on."""
    chosen = WorkflowFilter(
        read_statuses(status or None), name, in_utc(created_after), in_utc(created_before)
    )
    page = call(app, dsn, schema, lambda pgq: pgq.workflows(chosen, limit=limit, cursor=cursor))
    if as_json:
        found = [workflow_document(each) for each in page.workflows]
        print_json({"workflows": found, "cursor": page.cursor, "is_cut_short": page.is_cut_short})
        return
    print_table(
        table(
            ["workflow", "status", "name", "jobs", "created", "duration"],
            [
                [
                    str(each.id),
                    describe_status(each),
                    each.name or "",
                    "more than 10,000" if each.counts is None else describe_counts(each),
                    moment(each.created_at),
                    known(duration, _seconds(each.created_at, each.completed_at)),
                ]
                for each in page.workflows
            ],
            numbers=["duration"],
        )
    )
    if page.cursor is not None:
        why = "the search of this page was cut short; " if page.is_cut_short else ""
        typer.echo(f"{why}next page: --cursor {page.cursor}")


@workflow.command("show")
def show_workflow(
    workflow_id: OneWorkflow,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    status: Annotated[
        JobStatus | None, typer.Option("--status", help="Only its jobs with this status.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """Show a workflow and its jobs: those that failed first.

    Exit codes: 0 succeeded or not ended yet; 1 failed, cancelled or expired, or an error, which is a line on
    stderr; 2 wrong usage; 130 interrupted.
    """

    async def look(pgq: PgQueue) -> tuple[WorkflowDetails, MemberPage, Standstill | None, list[Action]]:
        details = await pgq.workflow_details(workflow_id)
        page = await pgq.workflow_jobs(workflow_id, status=status, limit=limit, cursor=cursor)
        still = None if details.is_terminal else await pgq.find_standstill(workflow_id)
        return details, page, still, await pgq.workflow_actions(workflow_id)

    found, page, still, actions = call(app, dsn, schema, look)
    if as_json:
        jobs = [member_document(job) for job in page.jobs]
        done = [action_document(each) for each in actions]
        print_json({**workflow_document(found), "jobs": jobs, "cursor": page.cursor, "actions": done})
    else:
        print_lines(describe_workflow(found, still))
        print_table(
            table(
                ["job", "status", "task", "attempt", "took", "details"],
                [_row(job) for job in page.jobs],
                numbers=["attempt", "took"],
                prose="details",
            )
        )
        if page.cursor is not None:
            typer.echo(f"next page: --cursor {page.cursor}")
        print_lines(describe_actions(actions))
    if found.is_terminal and found.status is not JobStatus.SUCCEEDED:
        raise typer.Exit(1)


@workflow.command("graph")
def draw(
    workflow_id: OneWorkflow,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    form: Annotated[str, typer.Option("--format", help="mermaid, dot or json.")] = "mermaid",
) -> None:
    """Print the graph of a workflow: its jobs, and who waits for whom."""
    if form not in ("mermaid", "dot", "json"):
        raise typer.BadParameter(f"--format must be mermaid, dot or json, got {form!r}")
    chosen: GraphFormat = form  # type: ignore[assignment]  # one of them
    text = call(app, dsn, schema, lambda pgq: pgq.draw_workflow(workflow_id, chosen))
    typer.echo(plain(text, keep_lines=True) if form != "json" else text, nl=False)


@workflow.command("cancel")
def cancel(
    workflow_id: OneWorkflow,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    note: Note = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Cancel the jobs of a workflow that have not ended. Running ones are asked to stop."""
    count, now = _change(app, dsn, schema, workflow_id, PgQueue.cancel_workflow, note, actor)
    document = {"cancelled": count, "changed": count, "workflow": workflow_document(now)}
    say(as_json, document, f"{count:,} {_jobs(count)} cancelled or asked to stop")


@workflow.command("retry")
def retry(
    workflow_id: OneWorkflow,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    note: Note = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Redrive the failed jobs of a workflow. What was cancelled because of them waits again."""
    count, now = _change(app, dsn, schema, workflow_id, PgQueue.retry_workflow, note, actor)
    document = {"redriven": count, "changed": count, "workflow": workflow_document(now)}
    say(as_json, document, f"{count:,} {_jobs(count)} redriven")


@workflow.command("pause")
def pause(
    workflow_id: OneWorkflow,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    note: Note = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Pause a workflow: of what waits in it for other jobs, nothing becomes ready."""
    _, now = _change(app, dsn, schema, workflow_id, PgQueue.pause_workflow, note, actor)
    say(as_json, workflow_document(now), "paused")


@workflow.command("resume")
def resume(
    workflow_id: OneWorkflow,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    note: Note = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Let a paused workflow go on."""
    _, now = _change(app, dsn, schema, workflow_id, PgQueue.resume_workflow, note, actor)
    say(as_json, workflow_document(now), "resumed")


def _change(
    app: str | None,
    dsn: str | None,
    schema: str,
    workflow_id: UUID,
    change: Callable[..., Awaitable[T]],
    note: str | None,
    actor: str | None,
) -> tuple[T, WorkflowDetails]:
    """Return what *change*, a method of PgQueue, returns, and the workflow then.

    Raises WorkflowNotFoundError.
    """

    async def look_and_change(pgq: PgQueue) -> tuple[T, WorkflowDetails]:
        await pgq.workflow_details(workflow_id)
        changed = await change(pgq, workflow_id, reason=note, actor=user(actor))
        return changed, await pgq.workflow_details(workflow_id)

    return call(app, dsn, schema, look_and_change)


def describe_workflow(found: WorkflowDetails, still: Standstill | None = None) -> list[str]:
    """Return what is known about a workflow as a whole, as lines."""
    facts = {
        "workflow": str(found.id),
        "name": found.name,
        "status": describe_status(found),
        "jobs": describe_counts(found),
        "created": moment(found.created_at),
        "paused": known(moment, found.paused_at),
        "still": None if still is None else f"nothing moves. {still}",
        "completed": known(moment, found.completed_at),
        "duration": known(duration, _seconds(found.created_at, found.completed_at)),
        "last job": None if found.is_group else str(found.root),
        "part of": None if found.parent_job is None else f"job {found.parent_job}",
    }
    return [*(f"{name + ':':<11}{plain(value)}" for name, value in facts.items() if value), ""]


def describe_counts(found: WorkflowDetails) -> str:
    """Return a workflow's jobs by status, in a line."""
    counts = found.counts or {}
    return ", ".join(f"{counts[each]:,} {each}" for each in JobStatus if counts.get(each)) or "none"


def describe_status(found: WorkflowDetails) -> str:
    """Return a workflow's status in a word or two."""
    return f"{found.status}, paused" if found.paused_at and not found.is_terminal else found.status.value


def _row(job: WorkflowMember) -> list[str]:
    error = "" if job.error is None else f"{job.error.type}: {job.error.message}"
    return [
        str(job.id),
        job.status,
        job.task,
        known(str, job.attempt),
        known(duration, job.took),
        error or job.reason or "",
    ]


def _jobs(count: int) -> str:
    return "job" if count == 1 else "jobs"


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()
