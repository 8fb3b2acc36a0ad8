"""`pgqueue web`: serves the status app and its dashboard."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import anyio
import typer

from pgqueue import PgQueue
from pgqueue.cli.logging_setup import Level, set_up_logging
from pgqueue.cli.output import announce
from pgqueue.cli.parameters import App, Dsn, Schema, ShowArguments, Target, find_pgqueue, one_target
from pgqueue.cli.running.lifecycle import leave, leave_if_stuck, run
from pgqueue.cli.running.sockets import is_loopback, listen
from pgqueue.cli.running.worker_process import open_when_up
from pgqueue.model.token import MAKE_TOKEN, SHORTEST_TOKEN
from pgqueue.processes.supervisor import on_signals

GRACE: Final = 5
"""Seconds for running requests to finish after a signal."""


def web(
    target: Target = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    host: Annotated[str, typer.Option(envvar="PGQUEUE_WEB_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            envvar="PGQUEUE_WEB_PORT", min=0, max=65_535, help="Port to listen on; 0 selects a free port."
        ),
    ] = 8080,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="PGQUEUE_TOKEN",
            help="Token that grants full access. Other users of this machine can see command lines: set "
            "PGQUEUE_TOKEN instead.",
            show_envvar=True,
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File that contains the token.")
    ] = None,
    open_reading: Annotated[
        bool, typer.Option("--open-reading", help="Allow reading without the token.")
    ] = False,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Change nothing, even with the token.")
    ] = False,
    show_tracebacks: Annotated[
        bool, typer.Option("--show-tracebacks", help="Show the tracebacks of failed jobs.")
    ] = False,
    show_arguments: ShowArguments = False,
    name: Annotated[
        str, typer.Option(envvar="PGQUEUE_WEB_NAME", help="Name of this instance, shown on every page.")
    ] = "pgqueue",
    colour: Annotated[
        str | None, typer.Option(envvar="PGQUEUE_WEB_COLOUR", help="Colour of this instance, as #rrggbb.")
    ] = None,
    trace_url: Annotated[
        str | None,
        typer.Option(
            envvar="PGQUEUE_WEB_TRACE_URL", help="Where traces are seen, as https://HOST/trace/{trace_id}."
        ),
    ] = None,
    log_level: Annotated[
        Level, typer.Option(envvar="PGQUEUE_LOG_LEVEL", help="Lowest level to log.")
    ] = Level.INFO,
) -> None:
    """Serve the status app and its dashboard until SIGTERM or SIGINT.

    Without a token it makes one for this start, and prints the address to open.

    Exit codes: 0 stopped by a signal; 1 an error; 2 wrong usage.
    """
    token = _read_token(token, token_file)
    if token is None and not is_loopback(host):
        raise typer.BadParameter(
            f"without a token, whoever reaches {host} could see every job: set PGQUEUE_TOKEN, or pass "
            f"--token-file. `{MAKE_TOKEN}` makes a token",
            param_hint="--host",
        )
    pgq = find_pgqueue(one_target(target, app), dsn, schema, show_arguments=show_arguments)
    set_up_logging(log_level)
    from pgqueue.web import status_app

    # For this start alone, and shown only to who started it.
    made = secrets.token_urlsafe(32) if token is None else None
    served = status_app(
        pgq,
        token=token or made,
        open_reading=open_reading,
        read_only=read_only,
        show_tracebacks=show_tracebacks,
        name=name,
        colour=colour,
        trace_url=trace_url,
    )
    leave(run(partial(_serve, pgq, served, host, port, made)))


def _read_token(given: str | None, file: Path | None) -> str | None:
    """Return the token, or None if none is set. Raises typer.BadParameter if it is too short, or empty."""
    if file is not None:
        given = file.read_text(encoding="utf-8", errors="replace").strip()
    if given is not None and len(given) < SHORTEST_TOKEN:
        raise typer.BadParameter(
            f"the token must have at least {SHORTEST_TOKEN} characters, got {len(given)}. "
            f"`{MAKE_TOKEN}` makes one",
            param_hint="--token-file" if file is not None else "--token",
        )
    return given


async def _serve(
    pgq: PgQueue, app: Callable[..., Awaitable[None]], host: str, port: int, token: str | None
) -> int:
    """Serve *app* until a signal; return the exit code. *token*: to print with the address."""
    from pgqueue.cli.running.http_server import serving

    opening, stopped = anyio.CancelScope(), anyio.Event()

    def stop() -> None:
        opening.cancel()
        stopped.set()

    with on_signals(stop, stop):
        with opening:
            await open_when_up(pgq)
        if opening.cancelled_caught:
            return 0
        try:
            async with serving(app, listen(host, port), grace=GRACE) as address:
                announce(f"dashboard: {address}/dashboard/")
                if token is not None:
                    announce(f"open it with this start's token: {address}/?token={token}")
                await stopped.wait()
        finally:
            await pgq.close()
        await leave_if_stuck(0)
    return 0
