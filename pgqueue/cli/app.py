"""The commands, and how an error leaves the program.

Exit codes: 0 success, 1 an error, 2 wrong usage, 130 interrupted. Errors are one line on stderr.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer
from typer.core import TyperGroup
from typer.models import CommandInfo

from pgqueue import __version__
from pgqueue.cli import settings
from pgqueue.cli.commands.cancel_requeue import cancel, requeue, run_now
from pgqueue.cli.commands.dead import dead
from pgqueue.cli.commands.demo import INTERRUPTED, demo
from pgqueue.cli.commands.enqueue import enqueue
from pgqueue.cli.commands.jobs import list_jobs, show_job
from pgqueue.cli.commands.limits import limits
from pgqueue.cli.commands.monitoring import monitoring
from pgqueue.cli.commands.ordered import ordered
from pgqueue.cli.commands.queues import pause, queues, resume
from pgqueue.cli.commands.roles import roles
from pgqueue.cli.commands.schedules import schedules
from pgqueue.cli.commands.signal import signal
from pgqueue.cli.commands.status import status
from pgqueue.cli.commands.top import top
from pgqueue.cli.commands.web import web
from pgqueue.cli.commands.worker import work
from pgqueue.cli.commands.workers import workers
from pgqueue.cli.commands.workflow import workflow
from pgqueue.cli.output import plain
from pgqueue.cli.parameters import App, Dsn, Schema, find_pgqueue
from pgqueue.cli.settings import Command, defaults, project_of
from pgqueue.errors import PgQueueError


class Commands(TyperGroup):
    """Prints errors that are meant for the user in one line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the given command."""
        # Any: newer versions of typer bring a click of their own.
        try:
            with project_of(Path.cwd()) as project:
                ctx.default_map = defaults(self, project.values)
                return super().invoke(ctx)
        except (PgQueueError, asyncpg.PostgresError) as error:
            typer.echo(f"pgqueue: {plain(str(error))}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    help="Background jobs for asyncio programs, with PostgreSQL as the only server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Boxes cut the names of options where a terminal is narrow.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Background jobs for asyncio programs, with PostgreSQL as the only server."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"pgqueue {__version__}")


@app.command()
def migrate(
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the SQL without changing anything.")
    ] = False,
    lock_limit: Annotated[
        float, typer.Option(help="Seconds to wait for a lock of another session; 0: no limit.", min=0)
    ] = 60.0,
) -> None:
    """Bring the database's schema up to date. Several processes may run this at once."""
    given = settings.given()
    if given.is_on_command_line("dsn") and not given.is_on_command_line("app"):
        # The app would add nothing, and its code need not be here.
        app = None
    pgq = find_pgqueue(app, dsn, schema, include=())
    if dry_run:
        typer.echo(asyncio.run(pgq.pending_migrations()), nl=False)
        return
    applied = asyncio.run(pgq.migrate(lock_limit=lock_limit or None))
    for migration in applied:
        typer.echo(f"applied {migration.version:04} {migration.name}")
    if not applied:
        typer.echo(f"schema {pgq.schema!r} is up to date")


app.command()(roles)
app.command(name="worker")(work)
app.command()(enqueue)
app.command(name="jobs")(list_jobs)
app.command(name="job")(show_job)
app.command()(cancel)
app.command()(requeue)
app.command()(run_now)
app.command()(signal)
app.add_typer(queues, name="queues")
app.command()(pause)
app.command()(resume)
app.command()(workers)
app.command()(status)
app.command()(top)
app.add_typer(dead, name="dead")
app.add_typer(workflow, name="workflow")
app.add_typer(schedules, name="schedules")
app.add_typer(limits, name="limits")
app.add_typer(ordered, name="ordered")
app.add_typer(monitoring, name="monitoring")
app.command()(web)
app.command()(demo)


def _commands_of(group: typer.Typer) -> Iterator[CommandInfo]:
    yield from group.registered_commands
    for below in group.registered_groups:
        assert below.typer_instance is not None
        yield from _commands_of(below.typer_instance)


for each in _commands_of(app):
    each.cls = Command
