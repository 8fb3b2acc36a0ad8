"""Parameters that many commands share: which database, which jobs, who makes the change and why."""

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

from pgqueue import PgQueue
from pgqueue.cli.target import load

T = TypeVar("T")

EVERYTHING = ("*",)
"""As `redact`: every argument."""

App = Annotated[
    str | None, typer.Option("--app", metavar="MODULE:PGQ", help="The PgQueue object, e.g. app.jobs:pgq.")
]
Dsn = Annotated[str | None, typer.Option(envvar="PGQUEUE_DSN", help="Database DSN, if --app is not given.")]
Schema = Annotated[str, typer.Option(help="Database schema that holds the queues.")]
ShowArguments = Annotated[
    bool,
    typer.Option("--show-arguments", help="With --dsn alone, show arguments: all of them, also secret ones."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Actor = Annotated[
    str | None,
    typer.Option("--actor", help="Name to record in the history (default: your user name)."),
]
Note = Annotated[str | None, typer.Option("--reason", help="Reason to record in the history.")]
Limit = Annotated[int, typer.Option(help="Maximum number of results.")]
Cursor = Annotated[
    str | None, typer.Option(help="Continue from this cursor, printed with the previous page.")
]
JobIds = Annotated[list[UUID] | None, typer.Argument(metavar="[JOB]...", help="Job ids.")]
OneJob = Annotated[UUID, typer.Argument(metavar="JOB", help="Job id.")]


class Session:
    """An open PgQueue for a command that is not a coroutine. Its event loop only runs during `call`."""

    def __init__(self, pgq: PgQueue, runner: asyncio.Runner) -> None:
        self._pgq = pgq
        self._runner = runner

    def call(self, use: Callable[[PgQueue], Awaitable[T]]) -> T:
        """Await *use*, called with the PgQueue, and return its result."""

        async def use_it() -> T:
            return await use(self._pgq)

        return self._runner.run(use_it())


def find_pgqueue(
    app: str | None, dsn: str | None, schema: str, *, named: str = "--app", show_arguments: bool = False
) -> PgQueue:
    """Return the PgQueue *app*, or a new one for *dsn*.

    *named*: how the command line calls *app*. *show_arguments*: also without *app*, which alone knows what to
    redact. Raises typer.BadParameter if neither is given.
    """
    if app is not None:
        return load(app)
    if dsn is not None:
        return PgQueue(dsn, schema=schema, redact=() if show_arguments else EVERYTHING)
    raise typer.BadParameter(f"no database given: pass --dsn, set PGQUEUE_DSN, or pass {named}")


@contextmanager
def session(
    app: str | None, dsn: str | None, schema: str, *, show_arguments: bool = False
) -> Iterator[Session]:
    """Open the PgQueue that the command line selects."""
    pgq = find_pgqueue(app, dsn, schema, show_arguments=show_arguments)
    with asyncio.Runner() as runner:
        runner.run(pgq.open())
        try:
            yield Session(pgq, runner)
        finally:
            runner.run(pgq.close())


def call(
    app: str | None,
    dsn: str | None,
    schema: str,
    use: Callable[[PgQueue], Awaitable[T]],
    *,
    show_arguments: bool = False,
) -> T:
    """Open the PgQueue that the command line selects, and return the result of *use*."""
    with session(app, dsn, schema, show_arguments=show_arguments) as opened:
        return opened.call(use)


def in_utc(given: datetime | None) -> datetime | None:
    """Return a time from the command line, which is in UTC, with its time zone."""
    return given and given.replace(tzinfo=UTC)


def check_choice(jobs: Sequence[UUID] | None, *, is_empty: bool, everything: bool) -> None:
    """Raise typer.BadParameter unless the jobs are selected in exactly one way."""
    if [bool(jobs), not is_empty, everything].count(True) != 1:
        raise typer.BadParameter(
            "select jobs in exactly one way: by id, with filters such as --task, or with --all"
        )


def read_json(name: str, given: str) -> Any:
    """Return the value of a JSON text from the command line."""
    try:
        return json.loads(given)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{name}: {error}") from error


def user(actor: str | None) -> str:
    """Return *actor*, or the name of the user who runs the command."""
    return actor or getpass.getuser()


def confirm(question: str, *, yes: bool) -> None:
    """Ask on stderr, unless *yes* is set. Raises typer.Abort if the answer is not yes."""
    if yes:
        return
    try:
        typer.confirm(question, abort=True, err=True)
    except typer.Abort:
        if not sys.stdin.isatty():
            typer.echo("nothing was changed; pass --yes when not running interactively", err=True)
        raise
