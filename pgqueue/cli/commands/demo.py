"""`pgqueue demo`: reads every file in a folder, in a job each, on a temporary PostgreSQL server.

With `--keep` a made-up shop is open beside it until Ctrl-C (`pgqueue/cli/running/shop.py`), so that the
dashboard has something of everything.

It also serves as an example: a PgQueue, a task, a worker and jobs in one process.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Self
from uuid import UUID

import anyio
import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from pgqueue import PgQueue, Worker
from pgqueue.cli.logging_setup import Level, set_up_logging
from pgqueue.cli.output import plain
from pgqueue.cli.running.found_files import LISTED, find_files, listed, sample_files
from pgqueue.cli.running.lifecycle import leave, run
from pgqueue.cli.running.shop import QUEUES, Shop
from pgqueue.cli.running.sockets import listen
from pgqueue.embedded import embedded_server
from pgqueue.errors import PgQueueError
from pgqueue.events.attempts import AttemptsEnded, JobsClaimed
from pgqueue.events.kinds import Event
from pgqueue.model.figures import count, duration, short
from pgqueue.model.jobs import JobStatus
from pgqueue.processes.supervisor import on_signals
from pgqueue.tasks.task import Task

BLOCK = 1024 * 1024
"""Bytes that are read at a time."""
AHEAD = 2
"""Jobs that are enqueued ahead of the worker, as a multiple of its concurrency."""
INTERRUPTED = 130


@dataclass
class FileFacts:
    """The result of the demo's task for one file."""

    size: int = 0
    lines: int = 0
    words: int = 0
    sha256: str = ""


def read_file(path: bytes) -> FileFacts:
    """Read one file. This is the demo's task: a plain function, so each call runs in a thread."""
    facts, digest, in_word = FileFacts(), hashlib.sha256(), False
    with open(os.fsdecode(path), "rb") as file:  # noqa: PTH123  # a path of bytes: any name a file can have
        while block := file.read(BLOCK):
            digest.update(block)
            facts.size += len(block)
            facts.lines += block.count(b"\n")
            # A word that continues from the previous block was counted there.
            facts.words += len(block.split()) - (in_word and not block[:1].isspace())
            in_word = not block[-1:].isspace()
    facts.sha256 = digest.hexdigest()
    return facts


async def read_folder(
    dsn: str, files: Sequence[bytes], *, concurrency: int, screen: Screen, keep: bool = False
) -> Report:
    """Read *files*, each in a job of its own, and return the report.

    *keep*: keep a shop open meanwhile, and afterwards until a signal comes.
    """
    pgq = PgQueue(dsn)
    # Each run has its own queue: with --data, the database may still hold jobs of an earlier run.
    queue = f"files {datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"
    # No retries: a file that cannot be read now cannot be read later.
    read = pgq.task(queue=queue, max_retries=0)(read_file)
    counts = JobCounts(queue, screen.advance)
    pgq.observe(counts.observe)
    shop = Shop(pgq) if keep else None

    await pgq.migrate()
    async with (
        pgq,
        serve_status(pgq) as address,
        pgq.worker(
            queues=[queue, *(QUEUES if keep else ())], concurrency=concurrency, grace=1 if keep else 5
        ) as worker,
    ):
        await worker.wait_ready()
        screen.show_address(address)
        started_at = time.monotonic()
        reading = anyio.CancelScope()
        seconds: float | None = None
        # Until the worker has stopped: the second signal, which hurries it, arrives while it is stopping.
        with on_signals(reading.cancel, worker.release):
            with reading:
                async with anyio.create_task_group() as group:
                    if shop is not None:
                        group.start_soon(shop.stay_open)
                    await enqueue_files(pgq, read, files, counts, ahead=AHEAD * concurrency, worker=worker)
                    await counts.wait_open(0, worker)
                    seconds = time.monotonic() - started_at
                    if shop is not None:
                        screen.say_kept(report_of(counts, seconds, []).as_text(), address)
            if seconds is None:
                seconds = time.monotonic() - started_at
            worker.stop()
            await worker.wait_stopped()
        failures = [await describe(pgq, counts, job_id) for job_id in counts.failed[:LISTED]]
        return report_of(counts, seconds, failures)


def report_of(counts: JobCounts, seconds: float, failures: Sequence[str]) -> Report:
    """Return the report of what was counted."""
    return Report(
        enqueued=len(counts.paths),
        succeeded=counts.succeeded,
        failed=len(counts.failed),
        seconds=seconds,
        waits=sorted(counts.waits),
        failures=failures,
    )


async def enqueue_files(
    pgq: PgQueue,
    read: Task[[bytes], FileFacts],
    files: Sequence[bytes],
    counts: JobCounts,
    *,
    ahead: int,
    worker: Worker,
) -> None:
    """Enqueue a job per file, with at most *ahead* jobs that have not ended.

    One call of `enqueue_many` with all files would work too. Pick-up times would then measure the length of
    the queue, and not how soon a free worker claims a job.
    """
    size = max(1, ahead // 2)
    for start in range(0, len(files), size):
        await counts.wait_open(ahead - size, worker)
        paths = files[start : start + size]
        # Shielded: an interrupted call may have enqueued jobs that would not be counted.
        with anyio.CancelScope(shield=True):
            handles = await pgq.enqueue_many([read.s(path) for path in paths])
        counts.paths.update(zip((handle.id for handle in handles), paths, strict=True))


class JobCounts:
    """Counts the jobs of one queue by how they end: an observer of events."""

    def __init__(self, queue: str, on_ended: Callable[[int], None]) -> None:
        self._queue = queue
        self._on_ended = on_ended
        self._changed = anyio.Event()
        self.paths: dict[UUID, bytes] = {}
        self.succeeded = 0
        self.failed: list[UUID] = []
        self.waits: list[float] = []
        """Seconds from ready to claimed."""

    def observe(self, event: Event) -> None:
        """Count *event*."""
        match event:
            case JobsClaimed():
                self.waits += event.waited
            case AttemptsEnded():
                ended = [
                    each for each in event.attempts if each.queue == self._queue and each.status.is_terminal
                ]
                failed = [each.job_id for each in ended if each.status is not JobStatus.SUCCEEDED]
                self.failed += failed
                self.succeeded += len(ended) - len(failed)
                self._on_ended(len(ended))
                self._changed.set()
            case _:
                pass

    async def wait_open(self, limit: int, worker: Worker) -> None:
        """Wait until at most *limit* jobs have not ended."""
        while worker.is_alive and len(self.paths) - self.succeeded - len(self.failed) > limit:
            self._changed = anyio.Event()
            with anyio.move_on_after(1):
                await self._changed.wait()
        if not worker.is_alive:
            # Raises the error that stopped it.
            await worker.wait_stopped()


@dataclass(frozen=True)
class Report:
    """The counts and times of a run."""

    enqueued: int
    succeeded: int
    failed: int
    seconds: float
    waits: Sequence[float] = field(repr=False)
    """Seconds from ready to claimed, ascending."""
    failures: Sequence[str] = field(repr=False)

    def as_json(self) -> str:
        """Return one JSON object. Pick-up times are null if no job was claimed."""
        document = {
            "enqueued": self.enqueued,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "jobs_per_s": round(self.jobs_per_s, 1),
            "pickup_ms_p50": self.pickup_ms(0.50),
            "pickup_ms_p95": self.pickup_ms(0.95),
        }
        return json.dumps(document)

    def as_text(self) -> str:
        """Return the summary for a reader."""
        counts = (
            f"{count(self.enqueued)} jobs, {count(self.succeeded)} succeeded, {count(self.failed)} failed"
        )
        lines = [f"{counts}, in {duration(self.seconds)}: {short(self.jobs_per_s)} jobs/s"]
        if self.waits:
            median, slow = self.pickup_seconds(0.50), self.pickup_seconds(0.95)
            lines.append(f"pick-up: p50 {duration(median)}, p95 {duration(slow)}")
        return "\n".join([*lines, *listed("failed", self.failures, self.failed)])

    @property
    def is_complete(self) -> bool:
        """Whether every job has ended."""
        return self.succeeded + self.failed == self.enqueued

    @property
    def jobs_per_s(self) -> float:
        """Jobs that ended, per second."""
        return (self.succeeded + self.failed) / self.seconds if self.seconds else 0.0

    def pickup_ms(self, share: float) -> float | None:
        """Return the milliseconds within which this *share* of the jobs was picked up; None without jobs."""
        return round(1000 * self.pickup_seconds(share), 2) if self.waits else None

    def pickup_seconds(self, share: float) -> float:
        """Return the seconds within which this *share* of the jobs was picked up: by nearest rank."""
        return self.waits[math.ceil(share * len(self.waits)) - 1]


async def describe(pgq: PgQueue, counts: JobCounts, job_id: UUID) -> str:
    """Return the file of a failed job, and its error, in a line."""
    job = await pgq.get(job_id)
    what = f"{job.error.type}: {job.error.message}" if job.error else job.reason
    return plain(f"{os.fsdecode(counts.paths[job_id])}: {what}")


@asynccontextmanager
async def serve_status(pgq: PgQueue) -> AsyncIterator[str]:
    """Serve the status app on a free port of this machine; yield its address."""
    from pgqueue.cli.running.http_server import serving
    from pgqueue.web import status_app

    async with serving(status_app(pgq, local_reading=True), listen("127.0.0.1", 0)) as address:
        yield address


class Screen:
    """The output while the demo runs. *quiet*: no progress bar, and the address on stderr."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._console = Console(stderr=quiet, markup=False, highlight=False, emoji=False)
        columns = (*Progress.get_default_columns(), MofNCompleteColumn())
        self._progress = Progress(*columns, console=self._console, disable=quiet)
        self._bar = self._progress.add_task("reading", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show_address(self, address: str) -> None:
        """Print the address of the dashboard."""
        self._console.print(f"dashboard while it runs: {address}/dashboard/")

    def say_kept(self, report: str, address: str) -> None:
        """Say how reading went, and what goes on."""
        self._progress.stop()
        self._console.print(report)
        self._console.print(
            "\nA shop is open now: orders with retries and failures, imports that report their progress,\n"
            f"workflows and a schedule. Look at {address}/dashboard/\nPress Ctrl-C to end.",
            soft_wrap=True,
        )

    def advance(self, steps: int) -> None:
        """Advance the progress bar."""
        self._progress.advance(self._bar, steps)


def demo(
    folder: Annotated[
        Path,
        typer.Argument(exists=True, file_okay=False, help="Folder to read, including subfolders."),
    ] = Path(),
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Stay until Ctrl-C, and show queues, failures, retries, progress, workflows and a schedule.",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder for the database (default: a temporary folder)."),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object instead of a progress bar and a summary."),
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Maximum number of files read at once.")] = 10,
) -> None:
    """Read every file in a folder, each in a job of its own, on a temporary PostgreSQL server.

    A folder without files is read as if it had 200. Exit codes: 0 every file was read, or could not be; 1 an
    error; 2 wrong usage; 130 interrupted before that.
    """
    if keep and as_json:
        raise typer.BadParameter("--json prints one object at the end; leave out --keep", param_hint="--json")
    # Failures are listed at the end, so they are not logged.
    set_up_logging(Level.CRITICAL)
    logging.getLogger("pgqueue.jobs").setLevel(logging.CRITICAL)
    found = find_files(folder, without=data)
    for line in listed("skipped", found.skipped, len(found.skipped)):
        typer.echo(line, err=True)
    with ExitStack() as stack:
        if not found.files:
            typer.echo("there are no files here; reading files that are made for this", err=True)
            found = stack.enter_context(sample_files())
        typer.echo("starting an embedded PostgreSQL server ...", err=True)
        try:
            dsn = stack.enter_context(embedded_server(None if data is None else data.resolve()))
        except subprocess.SubprocessError as error:
            raise PgQueueError(f"the embedded PostgreSQL server could not be started: {error}") from error
        typer.echo(f"reading {count(len(found.files))} files, each in a job of its own", err=True)
        screen = stack.enter_context(Screen(len(found.files), quiet=as_json))
        read = partial(read_folder, dsn, found.files, concurrency=concurrency, screen=screen, keep=keep)
        report = run(read)
    is_complete = report.is_complete and report.enqueued == len(found.files)
    if not is_complete:
        typer.echo(f"interrupted: {count(len(found.files))} files had been found", err=True)
    if not (keep and is_complete):
        typer.echo(report.as_json() if as_json else report.as_text())
    leave(0 if is_complete else INTERRUPTED)
