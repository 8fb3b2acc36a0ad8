"""`pgqueue workers`: show live and lost workers, and the jobs they are running."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from pgqueue.cli.commands.jobs import describe_progress
from pgqueue.cli.output import known, print_json, print_table, table
from pgqueue.cli.parameters import App, AsJson, Dsn, Schema, call
from pgqueue.cli.tables import Table
from pgqueue.model.documents import worker_document
from pgqueue.model.figures import count, duration, moment
from pgqueue.model.measures import WorkerMeasure

JOBS = 10
"""Jobs that are shown for each worker, at most."""


def workers(
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    jobs: Annotated[
        bool, typer.Option("--jobs", help="Also show the longest-running jobs of each worker.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show all workers that hold a lease, on any machine."""
    found = call(app, dsn, schema, lambda pgq: pgq.list_workers(jobs=JOBS if jobs else 0))
    if as_json:
        print_json({"workers": [worker_document(each) for each in found]})
        return
    print_table(worker_table(found))
    if jobs:
        typer.echo()
        print_table(running_table(found))


def worker_table(found: Sequence[WorkerMeasure]) -> Table:
    """Return workers, a row each."""
    numbers = ["running", "claimed", "abandoned", "loop lag", "renewed", "lease"]
    return table(
        ["worker", *numbers, "version", "since", "host", "pid", "queues"],
        [
            [
                each.name,
                running_of(each),
                count(each.prefetched),
                known(count, each.abandoned_threads),
                known(duration, each.loop_lag),
                f"{duration(each.lease_age)} ago",
                duration(each.lease_left) if each.is_alive else "lost",
                each.version or "",
                moment(each.started_at),
                each.host or "",
                known(str, each.pid),
                ", ".join(each.queues),
            ]
            for each in found
        ],
        numbers=numbers,
    )


def running_of(worker: WorkerMeasure) -> str:
    """Return how many attempts are under way, of how many slots: "3 of 10"."""
    return count(worker.running) if worker.slots is None else f"{count(worker.running)} of {worker.slots:,}"


def running_table(found: Sequence[WorkerMeasure]) -> Table:
    """Return the jobs that workers are running, a row each, the longest-running first."""
    running = sorted(
        ((job, worker) for worker in found for job in worker.jobs), key=lambda each: -each[0].seconds
    )
    return table(
        ["job", "running for", "task", "queue", "attempt", "worker", "progress"],
        [
            [
                str(job.job_id),
                duration(job.seconds),
                job.task,
                job.queue,
                str(job.attempt),
                worker.name,
                "" if job.progress is None else describe_progress(job.progress),
            ]
            for job, worker in running
        ],
        numbers=["running for", "attempt"],
    )
