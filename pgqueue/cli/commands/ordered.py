"""`pgqueue ordered`: list ordered groups and the keys that stand still, and have these go on."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import typer

from pgqueue import OrderedGroup, PgQueue, StoppedKey
from pgqueue.cli.known_names import FORCE, check_ordered
from pgqueue.cli.output import plain, print_json, print_table, say, table
from pgqueue.cli.parameters import Actor, App, AsJson, Dsn, Force, Limit, Note, Schema, call, user
from pgqueue.model.figures import capped, count, moment
from pgqueue.model.limits import MOST_OF_KEY
from pgqueue.model.measures import Count
from pgqueue.model.ordered_documents import ordered_document, stopped_document

Group = Annotated[str, typer.Argument(metavar="GROUP", help="Name of the ordered group.")]

ordered = typer.Typer(no_args_is_help=True, help="List ordered groups, and have keys go on that stand still.")


@ordered.command("list")
def list_groups(
    app: App = None, dsn: Dsn = None, schema: Schema = "pgqueue", as_json: AsJson = False
) -> None:
    """List ordered groups by name: how many jobs wait, and how many keys stand still.

    `~` marks numbers that were too large to count.
    """
    found = call(app, dsn, schema, lambda pgq: pgq.ordered_groups())
    if as_json:
        print_json({"groups": [ordered_document(each) for each in found]})
        return
    numbers = ["waiting", "stopped", "halted"]
    print_table(
        table(
            ["group", "on dead", *numbers],
            [
                [
                    each.name,
                    each.on_dead,
                    *(
                        count(Count(number, each.is_exact))
                        for number in (each.waiting, each.stopped, each.halted)
                    ),
                ]
                for each in found
            ],
            numbers=numbers,
        )
    )


@ordered.command("stopped")
def list_stopped(
    group: Annotated[str | None, typer.Argument(metavar="[GROUP]", help="Only this group.")] = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List keys that stand still, each with the job that stops it."""

    async def look(pgq: PgQueue) -> list[StoppedKey]:
        found = await pgq.stopped_keys(group, limit=limit)
        if group is not None and not found:
            await check_ordered(pgq, group)
        return found

    found = call(app, dsn, schema, look)
    if as_json:
        print_json({"keys": [stopped_document(each) for each in found]})
        return
    print_table(
        table(
            ["job", "group", "key", "status", "reason", "stopped", "waiting", "goes on"],
            [
                [
                    str(each.job_id),
                    each.name,
                    each.key or "(all)",
                    each.status or "deleted",
                    each.reason or "",
                    moment(each.stopped_at),
                    capped(each.waiting, MOST_OF_KEY),
                    "when resumed" if each.is_halted else "after redrive or discard",
                ]
                for each in found
            ],
            numbers=["waiting"],
        )
    )
    if len(found) == limit:
        typer.echo("there may be more: raise --limit")


@ordered.command()
def resume(
    group: Group,
    key: Annotated[
        str, typer.Argument(metavar="[KEY]", help="The key, as `stopped` lists it; none: the only line.")
    ] = "",
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    note: Note = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Let a key go on past the jobs that stop it. These stay as they are."""

    async def resume_it(pgq: PgQueue) -> bool:
        changed = await pgq.resume_key(group, key, reason=note, actor=user(actor))
        if not changed:
            await check_ordered(pgq, group)
        return changed

    changed = call(app, dsn, schema, resume_it)
    what = "goes on" if changed else "does not stand still"
    document = {"name": group, "group": group, "key": key, "changed": changed}
    say(as_json, document, plain(f"{what}: key {key!r} of ordered group {group!r}"))


@ordered.command("set")
def set_on_dead(
    group: Group,
    on_dead: Annotated[str, typer.Argument(metavar="ON_DEAD", help="block, skip or halt.")],
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    actor: Actor = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Change what becomes of the jobs behind one that fails or expires from now on."""
    wanted = cast(Literal["block", "skip", "halt"], on_dead)

    async def change(pgq: PgQueue) -> OrderedGroup:
        if not force:
            await check_ordered(pgq, group, FORCE)
        await pgq.set_ordered(group, on_dead=wanted, actor=user(actor))
        return next(each for each in await pgq.ordered_groups() if each.name == group)

    document = {**ordered_document(call(app, dsn, schema, change)), "group": group}
    say(as_json, document, plain(f"ordered group {group!r}: {on_dead}"))
