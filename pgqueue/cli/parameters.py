"""Parameters that many commands share: which database, which jobs, who makes the change and why."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer

from pgqueue import LimitNotFoundError, PgQueue, ScheduleNotFoundError
from pgqueue.cli import settings
from pgqueue.cli.known_names import with_names
from pgqueue.cli.target import load, split_includes
from pgqueue.database.dsn import read_dsn

T = TypeVar("T")

EVERYTHING = ("*",)
"""As `redact`: every argument."""

App = Annotated[
    str | None,
    typer.Option(
        "--app", metavar="MODULE:PGQ", envvar="PGQUEUE_APP", help="The PgQueue object, e.g. app.jobs:pgq."
    ),
]
Target = Annotated[
    str | None,
    typer.Argument(metavar="[MODULE:PGQ]", help="The PgQueue object, e.g. app.jobs:pgq: the same as --app."),
]
Dsn = Annotated[
    str | None,
    typer.Option(
        envvar="PGQUEUE_DSN",
        help="Database DSN. On the command line it replaces the one that the PgQueue object has.",
    ),
]
Schema = Annotated[str, typer.Option(envvar="PGQUEUE_SCHEMA", help="Database schema that holds the queues.")]
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE",
        envvar="PGQUEUE_INCLUDE",
        help="Import this module too, or this package with all its submodules, for the tasks that they "
        "declare; may be given more than once, or with commas.",
    ),
]
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
Force = Annotated[bool, typer.Option("--force", help="Take a name that nothing knows.")]
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
            try:
                return await use(self._pgq)
            except (LimitNotFoundError, ScheduleNotFoundError) as error:
                raise await with_names(self._pgq, error) from None

        return self._runner.run(use_it())


def find_pgqueue(
    app: str | None,
    dsn: str | None,
    schema: str,
    *,
    include: Sequence[str] | None = None,
    show_arguments: bool = False,
    dsn_is_told: bool = False,
) -> PgQueue:
    """Return the PgQueue *app*, or a new one for *dsn*.

    A DSN on the command line replaces the app's own, and any DSN serves an app that has none. *include*: what
    to import beside it, by default what the project includes. *show_arguments*: also without *app*, which
    alone knows what to redact. *dsn_is_told*: by a supervisor, in the environment. Raises typer.BadParameter
    if neither is given.
    """
    if app is None:
        if dsn is None:
            raise typer.BadParameter(
                "no database given: pass --dsn or --app, set PGQUEUE_DSN or PGQUEUE_APP, or set dsn or app "
                "in [tool.pgqueue] of pyproject.toml"
            )
        return PgQueue(dsn, schema=schema, redact=() if show_arguments else EVERYTHING)
    pgq = load(app, split_includes(_project_includes() if include is None else include))
    given = settings.given()
    if dsn is not None and (pgq.dsn is None or read_dsn(dsn) != read_dsn(pgq.dsn)):
        if pgq.dsn is None or dsn_is_told or given.is_on_command_line("dsn"):
            pgq.dsn = dsn
        else:
            _tell(
                f"the DSN of {app} is used, and not that of {given.where('dsn')}, which is another one; pass "
                "--dsn to use it"
            )
    if given.sources.get("schema") not in (None, "DEFAULT") and schema != pgq.schema:
        problem = f"{given.where('schema')} is {schema!r}, and the schema of {app} is {pgq.schema!r}"
        if given.is_on_command_line("schema"):
            raise typer.BadParameter(f"{problem}: leave --schema out, or --app")
        _tell(f"{problem}, which is used")
    if pgq.dsn is None:
        raise typer.BadParameter(
            f"no database given: {app} has no DSN of its own; pass --dsn, or set PGQUEUE_DSN, or dsn of "
            "[tool.pgqueue] in pyproject.toml"
        )
    return pgq


def one_target(target: str | None, app: str | None) -> str | None:
    """Return the app that a command was given as its argument or as --app, which must agree."""
    given = settings.given()
    if target is not None and app is not None and target != app and given.is_on_command_line("app"):
        raise typer.BadParameter(f"MODULE:PGQ is {target} and --app is {app}; pass one of them")
    return app if target is None else target


def _project_includes() -> Sequence[str]:
    in_environment = os.environ.get("PGQUEUE_INCLUDE")
    if in_environment:
        return in_environment.split()
    included: Sequence[str] = settings.project().values.get("include", ())
    return included


def _tell(line: str) -> None:
    typer.echo(f"pgqueue: {line}", err=True)


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
