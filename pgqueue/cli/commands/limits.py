"""`pgqueue limits`: list and show limits, change them, and return them to what code declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from pgqueue import LimitJobs, LimitKey, LimitKeyPage, LimitNotFoundError, LimitUse, PgQueue, Rate
from pgqueue.cli.known_names import check_limit, check_queue
from pgqueue.cli.output import known, plain, print_json, print_lines, print_table, say, table
from pgqueue.cli.parameters import Actor, App, AsJson, Cursor, Dsn, Force, Limit, Note, Schema, call, user
from pgqueue.flow.limits import FAIR, queue_of_window
from pgqueue.model.figures import capped, count, duration, moment
from pgqueue.model.limit_documents import limit_document, limit_key_document
from pgqueue.model.limiters import limiter_document
from pgqueue.model.limits import MOST_OF_KEY
from pgqueue.model.measures import Count

Name = Annotated[str, typer.Argument(metavar="LIMIT", help="Limit name; that of a queue is queue/NAME.")]

limits = typer.Typer(no_args_is_help=True, help="List, show and change limits.")


@limits.command("list")
def list_limits(
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    after: Annotated[str, typer.Option(help="Continue after this name.")] = "",
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List limits by name: what each lets through, what waits for it, and how long the first has waited.

    `~` marks an estimate. Jobs in paused queues are counted, but do not make a limit hold back.
    """

    async def look(pgq: PgQueue) -> tuple[list[LimitUse], datetime]:
        return await pgq.limits(after=after, limit=limit), await pgq.now()

    found, now = call(app, dsn, schema, look)
    cursor = found[-1].name if len(found) == limit else None
    if as_json:
        print_json({"limits": [limit_document(each) for each in found], "cursor": cursor})
        return
    print_table(
        table(
            ["limit", "allows", "in use", "waiting", "first waits", "state"],
            [
                [
                    each.name,
                    each.allows,
                    count(Count(each.in_use, each.is_exact)),
                    count(Count(each.waiting, each.is_exact)),
                    _waits(each.waits_since, now),
                    ", ".join(each.states),
                ]
                for each in found
            ],
            numbers=["in use", "waiting", "first waits"],
        )
    )
    if cursor is not None:
        typer.echo(plain(f"next page: --after {cursor}"))


@limits.command("show")
def show_limit(
    name: Name,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    key: Annotated[str | None, typer.Option(help="Show this key alone, with its jobs.")] = None,
    limit: Limit = 25,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """Show a limit and the keys that most jobs wait for; then all keys, by page.

    Of more than a thousand keys, some are looked at for those that most jobs wait for.
    """

    async def look(
        pgq: PgQueue,
    ) -> tuple[LimitUse, Sequence[LimitKey], LimitKeyPage, LimitJobs | None, dict[str, float], datetime]:
        found = await pgq.get_limit(name)
        return (
            found,
            await pgq.busy_limit_keys(name) if key is None and cursor is None else (),
            await pgq.limit_keys(name, key=key, limit=limit, cursor=cursor),
            None if key is None else await pgq.limit_jobs(name, key, limit=min(limit, 25)),
            await pgq.weights(queue_of_window(name)) if name.startswith(FAIR) else {},
            await pgq.now(),
        )

    found, busy, page, jobs, weights, now = call(app, dsn, schema, look)
    if as_json:
        print_json(
            {
                **limit_document(found),
                "busy": [limit_key_document(each) for each in busy],
                "keys": [limit_key_document(each) for each in page.keys],
                "weights": weights,
                "holders": None if jobs is None else list(map(str, jobs.holders)),
                "first_waiting": None if jobs is None else list(map(str, jobs.waiting)),
                "cursor": page.cursor,
            }
        )
        return
    print_lines(plain(line) for line in describe(found))
    print_lines(plain(f"{'weight:':<13}{weight:g} of key {of}") for of, weight in weights.items())
    _print_keys("most jobs wait for:", busy, now)
    _print_keys("keys:" if key is None else "", page.keys, now)
    if jobs is not None:
        print_lines(_list_jobs(jobs))
    if page.cursor is not None:
        typer.echo(f"next page: --cursor {page.cursor}")


@limits.command("set")
def set_limit(
    name: Name,
    slots: Annotated[
        str | None,
        typer.Argument(metavar="[SLOTS]", help="How many jobs of each key run at once; `any`: any number."),
    ] = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    rate: Annotated[
        float | None, typer.Option(help="Instead of SLOTS: how many jobs of each key start per --per.")
    ] = None,
    per: Annotated[float, typer.Option(help="Seconds of --rate.")] = 1.0,
    burst: Annotated[
        int | None, typer.Option(help="How many may start at once after a rest (default: by the rate).")
    ] = None,
    note: Note = None,
    actor: Actor = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Change what a limit lets through. It stays so, whatever code declares, until reset."""
    if (slots is None) == (rate is None):
        raise typer.BadParameter("give either SLOTS or --rate, and not both")
    number = _read_slots(slots)

    async def change(pgq: PgQueue) -> LimitUse:
        if not force:
            await check_limit(pgq, name)
        if rate is not None:
            pace = Rate(rate, per=per, burst=burst)
            await pgq.set_limit(name, rate=pace, actor=user(actor), reason=note)
        else:
            await pgq.set_limit(name, slots=number, actor=user(actor), reason=note)
        return await pgq.get_limit(name)

    changed = call(app, dsn, schema, change)
    say(as_json, limit_document(changed), f"limit {name!r}: {changed.allows}")


@limits.command()
def reset(
    name: Name,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    note: Note = None,
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Return a limit to what code declared first. One that no code has declared is removed."""
    changed = call(app, dsn, schema, lambda pgq: pgq.reset_limit(name, actor=user(actor), reason=note))
    what = "returned to what code declared" if changed else "was as code declared it"
    say(as_json, {"limit": name, "changed": changed}, f"{what}: limit {name!r}")


@limits.command("weight")
def set_weight(
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="A queue that keys share fairly.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key, as `limits show fair/QUEUE` has it.")],
    weight: Annotated[
        str, typer.Argument(metavar="WEIGHT", help="From 0.01 to 1000; `default`: 1, as all have.")
    ],
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    actor: Actor = None,
    as_json: AsJson = False,
) -> None:
    """Change the share of a key of a fair queue: 2 for twice the jobs of others."""
    number = _read_weight(weight)

    async def change(pgq: PgQueue) -> Mapping[str, Any]:
        await check_queue(pgq, queue)
        await pgq.set_weight(queue, key, number, actor=user(actor))
        try:
            return limit_document(await pgq.get_limit(f"{FAIR}{queue}"))
        except LimitNotFoundError:
            # No job has waited for its share yet.
            return {}

    window = call(app, dsn, schema, change)
    words = "1, as all have" if number is None else f"{number:g}"
    document = {**window, "queue": queue, "key": key, "weight": number}
    say(as_json, document, plain(f"weight of key {key!r} in queue {queue!r}: {words}"))


@limits.command("limiters")
def list_limiters(
    app: App = None, dsn: Dsn = None, schema: Schema = "pgqueue", limit: Limit = 100, as_json: AsJson = False
) -> None:
    """List the mutexes, slots, buckets and windows that running jobs hold or wait for, and these jobs."""
    found = call(app, dsn, schema, lambda pgq: pgq.limiters(limit=limit))
    if as_json:
        print_json({"limiters": [limiter_document(each) for each in found]})
        return
    columns = ["limiter", "kind", "held", "waiting", "held by"]
    rows = [
        [
            each.name,
            each.kind,
            count(Count(each.held, each.is_exact)),
            count(Count(each.waiting, each.is_exact)),
            ", ".join(map(str, each.holders[:3])),
        ]
        for each in found
    ]
    print_table(table(columns, rows, numbers=["held", "waiting"]))


def describe(limit: LimitUse) -> Iterator[str]:
    """Yield the lines that show a limit, except those that say nothing."""
    shown = {
        "limit": limit.name,
        "state": ", ".join(limit.states),
        "allows": f"{limit.allows}, of each key",
        "declared": (limit.declared_words or "by no code") if limit.edited_at is not None else None,
        "when full": {"drop": "cancels the job", "replace": "cancels those that wait"}.get(limit.when_full),
        "in use": count(Count(limit.in_use, limit.is_exact)),
        "waiting": count(Count(limit.waiting, limit.is_exact)),
        "waits since": known(moment, limit.waits_since),
        "changed by": limit.actor,
        "reason": limit.reason,
    }
    return (f"{what + ':':<13}{value}" for what, value in shown.items() if value)


def _print_keys(title: str, keys: Sequence[LimitKey], now: datetime) -> None:
    if not keys:
        return
    typer.echo(f"\n{title}" if title else "")
    print_table(
        table(
            ["key", "in use", "waiting", "first waits"],
            [
                [
                    # Empty: it has one key for all.
                    each.key or "(all)",
                    capped(each.in_use, MOST_OF_KEY),
                    capped(each.waiting, MOST_OF_KEY),
                    _waits(each.waits_since, now),
                ]
                for each in keys
            ],
            numbers=["in use", "waiting", "first waits"],
        )
    )


def _list_jobs(jobs: LimitJobs) -> Iterator[str]:
    for title, ids in (("let through, not ended:", jobs.holders), ("first to wait:", jobs.waiting)):
        if ids:
            yield ""
            yield title
            yield from (f"  {each}" for each in ids)


def _waits(since: datetime | None, now: datetime) -> str:
    return "" if since is None else duration(max(0.0, (now - since).total_seconds()))


def _read_weight(given: str) -> float | None:
    try:
        return None if given == "default" else float(given)
    except ValueError:
        raise typer.BadParameter(f"WEIGHT must be a number or 'default', got {given!r}") from None


def _read_slots(given: str | None) -> int | None:
    if given is None or given == "any":
        return None
    try:
        return int(given)
    except ValueError:
        raise typer.BadParameter(f"SLOTS must be a whole number or 'any', got {given!r}") from None
