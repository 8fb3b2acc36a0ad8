"""`pgqueue schedules`: list, show, make, change, pause, resume, run and delete schedules."""

from __future__ import annotations

from typing import Annotated, Any, cast
from uuid import UUID

import typer

from pgqueue import PgQueue, Schedule, ScheduleNotFoundError, Tick
from pgqueue.cli.commands.enqueue import call_of, read_arguments
from pgqueue.cli.commands.schedule_options import (
    At,
    CatchUp,
    Cron,
    EndsAt,
    Every,
    Jitter,
    Name,
    NewArguments,
    NewTask,
    OnMisfire,
    OnOverlap,
    Priority,
    Queue,
    StartsAt,
    TickArgument,
    Zone,
)
from pgqueue.cli.commands.schedule_output import describe, report, say_next
from pgqueue.cli.known_names import check_new
from pgqueue.cli.output import known, plain, print_json, print_lines, print_table, say, table
from pgqueue.cli.parameters import (
    Actor,
    App,
    AsJson,
    Dsn,
    Force,
    Limit,
    Note,
    Schema,
    Yes,
    call,
    confirm,
    in_utc,
    user,
)
from pgqueue.model.figures import moment
from pgqueue.model.schedule_documents import schedule_document, tick_document
from pgqueue.options.declared import CallOptions

schedules = typer.Typer(no_args_is_help=True, help="List, show and change schedules.")


@schedules.command("list")
def list_schedules(
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    after: Annotated[str, typer.Option(help="Continue after this name.")] = "",
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List schedules by name. An orphaned one is declared by no worker any more."""
    found = call(app, dsn, schema, lambda pgq: pgq.schedules.list(after=after, limit=limit))
    if as_json:
        print_json({"schedules": [schedule_document(each) for each in found]})
        return
    print_table(
        table(
            ["schedule", "state", "when", "task", "queue", "next", "last", "missed"],
            [
                [
                    each.name,
                    ", ".join(each.states),
                    each.words,
                    each.task,
                    each.queue,
                    known(moment, each.next_at),
                    known(moment, each.last_at),
                    str(each.missed),
                ]
                for each in found
            ],
            numbers=["missed"],
        )
    )
    if len(found) == limit:
        typer.echo(plain(f"next page: --after {found[-1].name}"))


@schedules.command("show")
def show_schedule(
    name: Name,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    limit: Limit = 10,
    as_json: AsJson = False,
) -> None:
    """Show a schedule, its next times, and its latest ticks."""

    async def look(pgq: PgQueue) -> tuple[Schedule, tuple[Tick, ...]]:
        return await pgq.schedules.get(name), await pgq.schedules.history(name, limit=limit)

    found, ticks = call(app, dsn, schema, look)
    if as_json:
        print_json({**schedule_document(found), "ticks": [tick_document(each) for each in ticks]})
        return
    print_lines(plain(line) for line in describe(found))
    if ticks:
        typer.echo()
        print_table(
            table(
                ["tick", "outcome", "job"],
                [[moment(each.at), each.outcome, known(str, each.job_id)] for each in ticks],
            )
        )


@schedules.command()
def create(
    name: Name,
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
    cron: Cron = None,
    every: Every = None,
    at: At = None,
    timezone: Zone = None,
    misfire: OnMisfire = None,
    overlap: OnOverlap = None,
    catch_up: CatchUp = None,
    jitter: Jitter = None,
    starts_at: StartsAt = None,
    ends_at: EndsAt = None,
    tick_argument: TickArgument = None,
    queue: Queue = None,
    priority: Priority = None,
    note: Note = None,
    actor: Actor = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make a schedule that enqueues a call of TASK. Pass one of --cron, --every and --at."""
    given = read_arguments(arguments)
    options = cast(CallOptions, _given(queue=queue, priority=priority))
    timing = _given(
        cron=cron,
        every=every,
        at=in_utc(at),
        timezone=timezone,
        misfire=misfire,
        overlap=overlap,
        catch_up=catch_up,
        jitter=jitter,
        starts_at=in_utc(starts_at),
        ends_at=in_utc(ends_at),
        tick_argument=tick_argument,
    )

    async def make(pgq: PgQueue) -> Schedule:
        if not force:
            await check_new(pgq, task=task, queue=queue)
        what = call_of(pgq, task, given, options)
        return await pgq.schedules.create(name, what, actor=user(actor), reason=note, **timing)

    say_next(call(app, dsn, schema, make), as_json=as_json)


@schedules.command()
def edit(
    name: Name,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    cron: Cron = None,
    every: Every = None,
    at: At = None,
    timezone: Zone = None,
    misfire: OnMisfire = None,
    overlap: OnOverlap = None,
    catch_up: CatchUp = None,
    jitter: Jitter = None,
    starts_at: StartsAt = None,
    ends_at: EndsAt = None,
    task: NewTask = None,
    arguments: NewArguments = None,
    queue: Queue = None,
    priority: Priority = None,
    tick_argument: TickArgument = None,
    note: Note = None,
    actor: Actor = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Change what is given of a schedule. From then on deploys do not change it.

    With --task the whole call is replaced: what is left out of --arguments, --queue and --priority becomes
    the task's own. An empty --tick-argument takes that parameter away.
    """
    options = cast(CallOptions, _given(queue=queue, priority=priority))
    if task is None and (options or arguments is not None or tick_argument is not None):
        raise typer.BadParameter(
            "--arguments, --queue, --priority and --tick-argument change with the call: give --task as well"
        )
    given = read_arguments("[]" if arguments is None else arguments)
    changes = _given(
        cron=cron,
        every=every,
        at=in_utc(at),
        timezone=timezone,
        misfire=misfire,
        overlap=overlap,
        catch_up=catch_up,
        jitter=jitter,
        starts_at=in_utc(starts_at),
        ends_at=in_utc(ends_at),
    )
    if tick_argument is not None:
        changes["tick_argument"] = tick_argument or None
    if not changes and task is None:
        raise typer.BadParameter("give what to change, such as --cron")

    async def change(pgq: PgQueue) -> Schedule:
        if not force:
            await check_new(pgq, task=task, queue=queue)
        what = None if task is None else call_of(pgq, task, given, options)
        return await pgq.schedules.edit(name, call=what, actor=user(actor), reason=note, **changes)

    say_next(call(app, dsn, schema, change), as_json=as_json)


@schedules.command()
def pause(
    name: Name,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    note: Note = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Pause a schedule: it does not tick until it is resumed."""

    async def change(pgq: PgQueue) -> tuple[bool, Schedule]:
        changed = await pgq.schedules.pause(name, actor=user(actor), reason=note)
        return changed, await pgq.schedules.get(name)

    changed, now = call(app, dsn, schema, change)
    report(name, "paused" if changed else "already paused", changed, now, as_json=as_json)


@schedules.command()
def resume(
    name: Name,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    note: Note = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Resume a schedule at its next tick; what the pause skipped is not made up for."""

    async def change(pgq: PgQueue) -> tuple[bool, Schedule]:
        changed = await pgq.schedules.resume(name, actor=user(actor), reason=note)
        return changed, await pgq.schedules.get(name)

    changed, now = call(app, dsn, schema, change)
    report(name, "resumed" if changed else "was not paused", changed, now, as_json=as_json)


@schedules.command()
def run(
    name: Name,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    note: Note = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Have a schedule tick now as well, paused or not, and print the job's id."""

    async def run_it(pgq: PgQueue) -> UUID | None:
        return await pgq.schedules.run_now(name, actor=user(actor), reason=note)

    job_id = call(app, dsn, schema, run_it)
    text = "no job: the one before has not ended" if job_id is None else str(job_id)
    say(as_json, {"schedule": name, "job_id": known(str, job_id) or None}, text)


@schedules.command()
def delete(
    name: Name,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    yes: Yes = False,
    note: Note = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Remove a schedule and its history; its jobs stay. What code declares comes back: pause it instead."""
    confirm(plain(f"delete schedule {name!r} and its history?"), yes=yes)

    async def delete_it(pgq: PgQueue) -> None:
        if not await pgq.schedules.delete(name, actor=user(actor), reason=note):
            raise ScheduleNotFoundError(name)

    call(app, dsn, schema, delete_it)
    report(name, "deleted", True, as_json=as_json)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
