"""`pgqueue queues`, `pause`, `resume`: show, purge and remove queues; pause or resume queues and tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pgqueue import PgQueue, Setting, UnknownQueueError
from pgqueue.cli.commands.cancel_requeue import cancel_waiting
from pgqueue.cli.known_names import check_queue, check_task, instead
from pgqueue.cli.output import known, plain, print_json, print_lines, print_table, say, table
from pgqueue.cli.parameters import Actor, App, AsJson, Dsn, Note, Schema, Yes, call, user
from pgqueue.cli.tables import Table
from pgqueue.model.documents import SettingDocument, queue_document, setting_document, task_document
from pgqueue.model.figures import count, duration, moment, rate, rate_unit, to_empty
from pgqueue.model.measures import Percentiles, QueueMeasure

OneQueue = Annotated[str | None, typer.Argument(metavar="[QUEUE]", help="Queue name.")]
OneTask = Annotated[str | None, typer.Option("--task", help="Task name, instead of QUEUE.")]


class ListOr(TyperGroup):
    """Lists where no command is named: `pgqueue queues mail` is `pgqueue queues list mail`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the command before *args* if it is left out."""
        # Any: newer versions of typer bring a click of their own.
        first = next((place for place, each in enumerate(args) if not each.startswith("-")), None)
        if first is not None and args[first] in self.commands:
            # Options may stand before it, as `--json`.
            args = [args[first], *args[:first], *args[first + 1 :]]
        elif not set(args) & set(ctx.help_option_names):
            args = ["list", *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


queues = typer.Typer(
    cls=ListOr, help="List queues (the default), purge one, or remove one that nobody uses any more."
)


@queues.command("list")
def list_queues(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[QUEUE]...", help="Queue names (default: all).")
    ] = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    as_json: AsJson = False,
) -> None:
    """Show what each queue holds, its rates, and what is paused.

    `~` marks an estimate. Rates and percentiles cover the last five minutes.
    """

    async def look(pgq: PgQueue) -> tuple[list[QueueMeasure], list[Setting]]:
        return await pgq.measure(), await pgq.settings()

    found, settings = call(app, dsn, schema, look)
    if names:
        for name in names:
            _check_known(name, [each.queue for each in found])
        found = [each for each in found if each.queue in names]
        settings = [each for each in settings if each.kind == "queue" and each.name in names]
    if as_json:
        known = {each.name: each for each in settings if each.kind == "queue"}
        print_json(
            {
                "queues": [
                    {**setting_document(known.get(each.queue)), **queue_document(each)} for each in found
                ]
            }
        )
        return
    print_table(queue_table(found))
    print_lines(describe_setting(setting) for setting in settings)


@queues.command()
def remove(
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="Queue name.")],
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    as_json: AsJson = False,
) -> None:
    """Remove QUEUE and its pause, if no job that has not ended is there. Its ended jobs stay.

    The queue comes back with the next job that is enqueued to it. Exit codes: 0 it is gone, 1 it has jobs.
    """

    async def remove_it(pgq: PgQueue) -> bool:
        changed = await pgq.remove_queue(queue)
        if not changed:
            await check_queue(pgq, queue)
        return changed

    changed = call(app, dsn, schema, remove_it)
    _report(queue, None, "removed" if changed else "there was nothing to remove", changed, as_json=as_json)


@queues.command()
def purge(
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="Queue name.")],
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    note: Note = None,
    actor: Actor = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Cancel the jobs that wait in QUEUE: pending, scheduled and blocked ones. Running jobs finish.

    It first says how many there are, and asks. The jobs stay, as cancelled ones, and can be requeued.
    Exit codes: 0 done; 1 there is no such queue, or another error; 2 wrong usage; 130 interrupted.
    """
    cancel_waiting((app, dsn, schema), queue, note=note, who=user(actor), yes=yes, as_json=as_json)


def pause(
    queue: OneQueue = None,
    task: OneTask = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    note: Note = None,
    actor: Actor = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Pause it even if it is not declared and has never had a job."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pause QUEUE, or a task: no new jobs start until it is resumed; running jobs finish."""
    _check_one(queue, task)

    async def pause_it(pgq: PgQueue) -> tuple[bool, SettingDocument]:
        if queue is not None and not force:
            await _check_exists(pgq, queue, "use --force to pause it anyway")
        elif task is not None and not force:
            await check_task(pgq, task, "use --force to pause it anyway")
        changed = await pgq.pause(queue=queue, task=task, actor=user(actor), reason=note)
        return changed, await _setting_of(pgq, queue, task)

    changed, setting = call(app, dsn, schema, pause_it)
    _report(queue, task, "paused" if changed else "already paused", changed, setting, as_json=as_json)


def resume(
    queue: OneQueue = None,
    task: OneTask = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    note: Note = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Resume QUEUE, or a task: its jobs start again."""
    _check_one(queue, task)

    async def resume_it(pgq: PgQueue) -> tuple[bool, SettingDocument]:
        changed = await pgq.resume(queue=queue, task=task, actor=user(actor), reason=note)
        if queue is not None and not changed:
            await _check_exists(pgq, queue)
        elif task is not None and not changed:
            await check_task(pgq, task)
        return changed, await _setting_of(pgq, queue, task)

    changed, setting = call(app, dsn, schema, resume_it)
    _report(queue, task, "resumed" if changed else "was not paused", changed, setting, as_json=as_json)


def queue_table(found: Sequence[QueueMeasure]) -> Table:
    """Return all figures of the queues, a row each."""
    numbers = [
        *("pending", "claimed", "scheduled", "retrying", "blocked", "running", "failed"),
        *("oldest", "enqueued", "finished"),
    ]
    coming = rate_unit(each.enqueued_rate for each in found)
    going = rate_unit(each.finished_rate for each in found)
    return table(
        ["queue", "state", *numbers, "wait p50, p95", "run p50, p95", "time to empty"],
        [
            [
                each.queue,
                "paused" if each.is_paused else "",
                count(each.pending),
                count(each.claimed),
                count(each.scheduled),
                count(each.retrying),
                count(each.blocked),
                count(each.running),
                count(each.failed),
                known(duration, each.oldest_age),
                rate(each.enqueued_rate, coming),
                rate(each.finished_rate, going),
                known(describe_percentiles, each.wait),
                known(describe_percentiles, each.run),
                to_empty(each),
            ]
            for each in found
        ],
        numbers=numbers,
    )


def describe_percentiles(durations: Percentiles) -> str:
    """Return the median and the 95th percentile."""
    return f"{duration(durations.p50)}, {duration(durations.p95)}"


def describe_setting(setting: Setting) -> str:
    """Return the settings that an operator has changed, in a line."""
    what = [] if setting.paused_at is None else [f"paused since {moment(setting.paused_at)}"]
    what += [f"{name} = {value}" for name, value in setting.options.items()]
    why = f": {setting.reason}" if setting.reason else ""
    who = f" by {setting.actor}" if setting.actor else ""
    return plain(f"{setting.kind} {setting.name!r}: {', '.join(what)}{who}{why}")


def _check_one(queue: str | None, task: str | None) -> None:
    if (queue is None) == (task is None):
        raise typer.BadParameter("give either QUEUE or --task, and not both")


async def _check_exists(pgq: PgQueue, queue: str, advice: str = "") -> None:
    if queue not in pgq.registry.queues:
        _check_known(queue, [each.queue for each in await pgq.measure()], advice)


def _check_known(queue: str, known: Sequence[str], advice: str = "") -> None:
    if queue not in known:
        raise UnknownQueueError(f"unknown queue {queue!r}{instead(queue, known, advice)}")


async def _setting_of(pgq: PgQueue, queue: str | None, task: str | None) -> SettingDocument:
    """Return what the API shows of a queue or a task after a change of its setting."""
    kind = "task" if queue is None else "queue"
    found = {each.name: each for each in await pgq.settings() if each.kind == kind}
    if task is None:
        return setting_document(found.get(queue or ""))
    declared = pgq.registry.get(task)
    own = None if declared is None else pgq.registry.queue_of(declared)
    return task_document(task, own, found.get(task))


def _report(
    queue: str | None,
    task: str | None,
    what: str,
    changed: bool,
    setting: Mapping[str, Any] | None = None,
    *,
    as_json: bool,
) -> None:
    kind, name = ("task", task) if queue is None else ("queue", queue)
    say(as_json, {kind: name, **(setting or {}), "changed": changed}, f"{what}: {kind} {name!r}")
