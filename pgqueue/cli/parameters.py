"""What many commands are told in the same words: which database, which jobs, who and why."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer

from pgqueue import JobFilter, JobStatus, PgQueue
from pgqueue.cli.target import load

T = TypeVar("T")

App = Annotated[
    str | None, typer.Option("--app", metavar="MODULE:PGQ", help="The PgQueue, e.g. app.jobs:pgq.")
]
Dsn = Annotated[str | None, typer.Option(envvar="PGQUEUE_DSN", help="The database, where no --app is given.")]
Schema = Annotated[str, typer.Option(help="The schema that holds the queues.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Actor = Annotated[str | None, typer.Option("--actor", help="Who, for the jobs' history. Default: the user.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for the history.")]
Limit = Annotated[int, typer.Option(help="At most so many.")]
Cursor = Annotated[str | None, typer.Option(help="Go on where the last page ended.")]
JobIds = Annotated[list[UUID] | None, typer.Argument(metavar="[JOB]...", help="Jobs, by their ids.")]
OneJob = Annotated[UUID, typer.Argument(metavar="JOB", help="The job, by its id.")]

OfStatus = Annotated[
    list[JobStatus] | None, typer.Option("--status", help="With this status; may be given more than once.")
]
OfTask = Annotated[str | None, typer.Option("--task", help="Of this task.")]
OfQueue = Annotated[str | None, typer.Option("--queue", help="Of this queue.")]
OfTag = Annotated[str | None, typer.Option("--tag", help="With this tag.")]
OfKey = Annotated[str | None, typer.Option("--key", help="With this key.")]
CreatedAfter = Annotated[
    datetime | None, typer.Option("--created-after", help="Enqueued then (UTC) or later.")
]
CreatedBefore = Annotated[
    datetime | None, typer.Option("--created-before", help="Enqueued before then (UTC).")
]


class Session:
    """An open PgQueue for a command that is no coroutine: between two uses its event loop stands still."""

    def __init__(self, pgq: PgQueue, runner: asyncio.Runner) -> None:
        self._pgq = pgq
        self._runner = runner

    def call(self, use: Callable[[PgQueue], Awaitable[T]]) -> T:
        """Return what *use* makes of the PgQueue."""

        async def use_it() -> T:
            return await use(self._pgq)

        return self._runner.run(use_it())


@contextmanager
def session(app: str | None, dsn: str | None, schema: str) -> Iterator[Session]:
    """Open the PgQueue that the command is about."""
    if app is not None:
        pgq = load(app)
    elif dsn is not None:
        pgq = PgQueue(dsn, schema=schema)
    else:
        raise typer.BadParameter("say which database: --dsn (or PGQUEUE_DSN), or --app")
    with asyncio.Runner() as runner:
        runner.run(pgq.open())
        try:
            yield Session(pgq, runner)
        finally:
            runner.run(pgq.close())


def call(app: str | None, dsn: str | None, schema: str, use: Callable[[PgQueue], Awaitable[T]]) -> T:
    """Open the PgQueue that the command is about, and return what *use* makes of it."""
    with session(app, dsn, schema) as opened:
        return opened.call(use)


def in_utc(given: datetime | None) -> datetime | None:
    """Return a time of the command line, which is in UTC."""
    return given and given.replace(tzinfo=UTC)


def job_filter(
    statuses: Sequence[JobStatus] | None,
    task: str | None,
    queue: str | None,
    tag: str | None,
    key: str | None,
    created_after: datetime | None,
    created_before: datetime | None,
) -> JobFilter:
    """Return the filter that options say. Raises InvalidFilterError."""
    return JobFilter(
        frozenset(statuses) if statuses else None,
        task,
        queue,
        tag,
        key,
        in_utc(created_after),
        in_utc(created_before),
    )


def check_choice(jobs: Sequence[UUID] | None, *, is_empty: bool, everything: bool) -> None:
    """Refuse what does not say in exactly one way which jobs are meant."""
    if [bool(jobs), not is_empty, everything].count(True) != 1:
        raise typer.BadParameter("name jobs, or say which by options such as --task, or --all: one of these")


def read_json(name: str, given: str) -> Any:
    """Return the value of JSON on the command line."""
    try:
        return json.loads(given)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{name}: {error}") from error


def user(actor: str | None) -> str:
    """Return who does it."""
    return actor or getpass.getuser()


def confirm(question: str, *, yes: bool) -> None:
    """Ask on stderr, unless *yes* was said before. Raises typer.Abort."""
    if yes:
        return
    try:
        typer.confirm(question, abort=True, err=True)
    except typer.Abort:
        if not sys.stdin.isatty():
            typer.echo("nothing is changed; where nobody can answer, say --yes", err=True)
        raise
