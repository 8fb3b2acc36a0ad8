"""`pgqueue status`: what all queues hold and how many workers there are, in one line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import typer

from pgqueue import PgQueue, Setting
from pgqueue.cli.commands.workers import JOBS
from pgqueue.cli.output import print_json
from pgqueue.cli.parameters import App, AsJson, Dsn, Schema, call
from pgqueue.model.documents import (
    QueueDocument,
    WorkerDocument,
    queue_and_setting_document,
    worker_document,
)
from pgqueue.model.figures import count
from pgqueue.model.measures import Count, QueueMeasure, WorkerMeasure


def status(app: App = None, dsn: Dsn = None, schema: Schema = "pgqueue", as_json: AsJson = False) -> None:
    """Print one line: how many jobs are queued, running and failed, and how many workers are live.

    What waits for its time, for a limit or for another job is not ready. With --json, the documents of all
    queues and workers.
    """

    async def look(
        pgq: PgQueue,
    ) -> tuple[Sequence[QueueMeasure], Sequence[Setting], Sequence[WorkerMeasure]]:
        return await pgq.measure(), await pgq.settings(), await pgq.list_workers(jobs=JOBS if as_json else 0)

    queues, settings, workers = call(app, dsn, schema, look)
    if as_json:
        print_json(system_document(queues, settings, workers))
    else:
        typer.echo(describe(queues, workers))


def describe(queues: Sequence[QueueMeasure], workers: Sequence[WorkerMeasure]) -> str:
    """Return the line."""
    live = sum(worker.is_alive for worker in workers)
    lost = len(workers) - live
    paused = sum(queue.is_paused for queue in queues)
    later = _sum(queue.scheduled + queue.retrying + queue.blocked for queue in queues)
    parts = [
        f"{count(_sum(queue.pending for queue in queues))} queued",
        f"{count(_sum(queue.running for queue in queues))} running",
        f"{count(_sum(queue.failed for queue in queues))} failed",
        _many(live, "worker"),
        f"{count(later)} not ready" if later else "",
        f"{_many(lost, 'worker')} lost" if lost else "",
        f"{_many(paused, 'queue')} paused" if paused else "",
    ]
    return ", ".join(filter(None, parts))


def system_document(
    queues: Iterable[QueueMeasure], settings: Iterable[Setting], workers: Iterable[WorkerMeasure]
) -> dict[str, list[QueueDocument] | list[WorkerDocument]]:
    """Return what the API shows of all queues and of all workers."""
    known = {each.name: each for each in settings if each.kind == "queue"}
    return {
        "queues": [queue_and_setting_document(each, known.get(each.queue)) for each in queues],
        "workers": [worker_document(each) for each in workers],
    }


def _sum(counts: Iterable[Count]) -> Count:
    return sum(counts, Count(0))


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
