"""`pgqueue top`: queues, workers and running jobs, live on the whole screen."""

from __future__ import annotations

import os
import signal
import sys
from asyncio import get_running_loop
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Final

import anyio
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pgqueue import PgQueue, Setting
from pgqueue.cli.commands.queues import queue_table
from pgqueue.cli.commands.status import system_document
from pgqueue.cli.commands.top_view import Looks, Snapshot, press, view
from pgqueue.cli.commands.workers import running_table, worker_table
from pgqueue.cli.output import print_json, print_table
from pgqueue.cli.parameters import App, AsJson, Dsn, Schema, call
from pgqueue.cli.running.keyboard import END_OF_INPUT, on_keys
from pgqueue.database.outages import PASSING_ERRORS
from pgqueue.processes.supervisor import on_signals

JOBS: Final = 100
"""Jobs that are read for each worker, at most."""
ENDING: Final = frozenset({"q", "Q", "escape", "\x03", END_OF_INPUT})
"""Keys that end it."""


def top(
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between refreshes.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print once and exit.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch queues, workers and running jobs until q, Esc or Ctrl-C. Without a terminal, print once.

    Keys: d, o, r, n and f sort the queues by depth, oldest job, rate, name or failures; the same key again
    reverses them. Tab chooses queues, workers or jobs; the arrows, PgUp, PgDn, Home and End scroll it.
    """
    if as_json or once or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        snapshot, settings = call(app, dsn, schema, look_once)
        if as_json:
            print_json(system_document(snapshot.queues, settings, snapshot.workers))
            return
        for each in (
            queue_table(snapshot.queues),
            worker_table(snapshot.workers),
            running_table(snapshot.workers),
        ):
            print_table(each)
            typer.echo()
        return
    call(app, dsn, schema, lambda pgq: follow(pgq, interval))


async def look(pgq: PgQueue) -> Snapshot:
    """Return the present queues and workers."""
    return Snapshot(datetime.now(UTC), await pgq.measure(), await pgq.list_workers(jobs=JOBS))


async def look_once(pgq: PgQueue) -> tuple[Snapshot, Sequence[Setting]]:
    """Return the same, and what operators have set."""
    return await look(pgq), await pgq.settings()


async def follow(pgq: PgQueue, interval: float) -> None:
    """Refresh the screen every *interval* seconds, at each key and when its size changes, until it ends."""
    with (
        anyio.CancelScope() as following,
        Live(console=Console(), screen=True, auto_refresh=False) as live,
    ):
        screen = Screen(live, following.cancel)
        with on_signals(following.cancel, following.cancel), on_resize(screen.draw), on_keys(screen.press):
            while True:
                screen.show(await look_again(pgq, screen.snapshot))
                await anyio.sleep(interval)


async def look_again(pgq: PgQueue, before: Snapshot) -> Snapshot:
    """Return the present queues and workers, or those *before* with the reason why they are not newer."""
    try:
        return await look(pgq)
    except PASSING_ERRORS as error:
        # Keep going: the screen is to show when the database is available again.
        return replace(before, problem=str(error) or type(error).__name__)


class Screen:
    """Shows a snapshot on the whole terminal, as its reader wants it."""

    def __init__(self, live: Live, end: Callable[[], object]) -> None:
        self.snapshot = Snapshot(datetime.now(UTC))
        self._live = live
        self._end = end
        self._looks = Looks()

    def show(self, snapshot: Snapshot) -> None:
        """Show a newer snapshot."""
        self.snapshot = snapshot
        self.draw()

    def press(self, key: str) -> None:
        """Do what a key stands for."""
        if key in ENDING:
            self._end()
            return
        self._looks = press(self._looks, key, self.snapshot, self._live.console.height)
        self.draw()

    def draw(self) -> None:
        """Fill the terminal as it is now."""
        width, height = self._live.console.size
        lines = view(self.snapshot, self._looks, width, height)
        self._live.update(
            Group(*(Text(line.text, style=line.style, no_wrap=True, end="\n") for line in lines)),
            refresh=True,
        )


@contextmanager
def on_resize(react: Callable[[], object]) -> Iterator[None]:
    """Call *react* when the window has another size."""
    loop = get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, react)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
