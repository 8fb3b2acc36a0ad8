"""`pgqueue top`: queues, workers and running jobs, live on the whole screen."""

from __future__ import annotations

import os
import sys
import termios
import tty
from asyncio import get_running_loop
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

import anyio
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pgqueue import PgQueue
from pgqueue.cli.commands.queues import queue_table
from pgqueue.cli.commands.workers import running_table, worker_table
from pgqueue.cli.output import known, plain, print_json, print_table, table
from pgqueue.cli.parameters import App, AsJson, Dsn, Schema, call
from pgqueue.database.outages import PASSING_ERRORS
from pgqueue.model.documents import queue_document, worker_document
from pgqueue.model.figures import count, duration, rate, rate_unit, to_empty
from pgqueue.model.measures import QueueMeasure, WorkerMeasure
from pgqueue.processes.supervisor import on_signals

JOBS = 100
"""Jobs that are read for each worker, at most."""
AROUND = 10
"""Lines of the screen that do not show a queue, worker or job."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The queues and workers at one moment."""

    at: datetime
    queues: Sequence[QueueMeasure] = ()
    workers: Sequence[WorkerMeasure] = ()
    problem: str | None = None
    """Why the last refresh failed."""


def top(
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between refreshes.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print once and exit.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch queues, workers and running jobs until you press q or Ctrl-C. Without a terminal, print once."""
    if as_json or once or not sys.stdout.isatty():
        snapshot = call(app, dsn, schema, look)
        if as_json:
            print_json(
                {
                    "queues": [queue_document(each) for each in snapshot.queues],
                    "workers": [worker_document(each) for each in snapshot.workers],
                }
            )
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


async def follow(pgq: PgQueue, interval: float) -> None:
    """Refresh the screen every *interval* seconds, until q or a signal."""
    console = Console()
    snapshot = Snapshot(datetime.now(UTC))
    with (
        anyio.CancelScope() as following,
        Live(console=console, screen=True, auto_refresh=False) as screen,
        on_signals(following.cancel, following.cancel),
        on_key(b"q", following.cancel),
    ):
        while True:
            try:
                snapshot = await look(pgq)
            except PASSING_ERRORS as error:
                # Keep going: the screen is to show when the database is available again.
                snapshot = replace(snapshot, problem=str(error) or type(error).__name__)
            screen.update(view(snapshot, console.height), refresh=True)
            await anyio.sleep(interval)


@contextmanager
def on_key(key: bytes, react: Callable[[], object]) -> Iterator[None]:
    """Call *react* when *key* is pressed, if there is a keyboard."""
    if not sys.stdin.isatty():
        yield
        return
    keyboard, loop = sys.stdin.fileno(), get_running_loop()

    def read() -> None:
        pressed = os.read(keyboard, 1024)
        if not pressed:
            loop.remove_reader(keyboard)
        if key in pressed or not pressed:
            react()

    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, read)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def view(snapshot: Snapshot, height: int) -> Group:
    """Return the content of a screen of *height* lines."""
    queues, workers = snapshot.queues, snapshot.workers
    jobs = sum(len(worker.jobs) for worker in workers)
    for_queues, for_workers, for_jobs = share(height - AROUND, [len(queues), len(workers), jobs])
    running = sum(worker.running for worker in workers)
    title = (
        f"pgqueue  {snapshot.at:%H:%M:%S}Z  {count(len(queues))} queues, {count(len(workers))} workers, "
        f"{count(running)} running  (q to quit)"
    )
    shown_queues = busiest(queues, for_queues)
    shown_workers = sorted(workers, key=lambda each: (each.is_alive, -each.running))[:for_workers]
    return Group(
        Text(title, style="bold", no_wrap=True),
        Text(
            "" if snapshot.problem is None else f"not updated: {plain(snapshot.problem)}",
            style="red",
            no_wrap=True,
        ),
        _short_queue_table(shown_queues),
        _more(len(queues) - len(shown_queues), "queues"),
        worker_table(shown_workers, one_line=True),
        _more(len(workers) - len(shown_workers), "workers"),
        running_table(workers, limit=for_jobs, one_line=True),
        _more(running - min(jobs, for_jobs), "jobs"),
    )


def share(lines: int, wanted: Sequence[int]) -> list[int]:
    """Share *lines* among parts by what each wants: small parts get all of it, large ones an equal share."""
    given = [0] * len(wanted)
    left = max(lines, 0)
    for served, part in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        given[part] = min(wanted[part], left // (len(wanted) - served))
        left -= given[part]
    return given


def busiest(queues: Sequence[QueueMeasure], limit: int) -> list[QueueMeasure]:
    """Return the *limit* queues with the most pending and running jobs, in their given order."""

    def work(queue: QueueMeasure) -> int:
        return queue.pending.value + queue.running.value

    chosen = sorted(range(len(queues)), key=lambda index: -work(queues[index]))[:limit]
    return [queues[index] for index in sorted(chosen)]


def _short_queue_table(queues: Sequence[QueueMeasure]) -> Table:
    coming = rate_unit(each.enqueued_rate for each in queues)
    going = rate_unit(each.finished_rate for each in queues)
    numbers = [
        *("pending", "not ready", "running", "failed", "oldest"),
        *("enqueued", "finished", "to empty"),
    ]
    return table(
        ["queue", *numbers],
        [
            [
                f"{each.queue} (paused)" if each.is_paused else each.queue,
                count(each.pending),
                count(each.scheduled + each.retrying + each.blocked),
                count(each.running),
                count(each.failed),
                known(duration, each.oldest_age),
                rate(each.enqueued_rate, coming),
                rate(each.finished_rate, going),
                to_empty(each),
            ]
            for each in queues
        ],
        numbers=numbers,
        one_line=True,
        shorten_first=True,
    )


def _more(hidden: int, what: str) -> Text:
    return Text(f"and {count(hidden)} more {what}" if hidden > 0 else "", style="dim")
