"""`pgqueue demo`: reads every file in a folder, in a job each, on a temporary PostgreSQL server.

It also serves as an example: a PgQueue, a task, a worker and jobs in one process.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
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
from pgqueue.cli.running.lifecycle import leave, run
from pgqueue.cli.running.sockets import listen
from pgqueue.embedded import embedded_server
from pgqueue.errors import PgQueueError
from pgqueue.events.kinds import AttemptsEnded, Event, JobsClaimed
from pgqueue.model.figures import count, duration, short
from pgqueue.model.jobs import JobStatus
from pgqueue.processes.supervisor import on_signals
from pgqueue.tasks.task import Task

BLOCK = 1024 * 1024
"""Bytes that are read at a time."""
AHEAD = 2
"""Jobs that are enqueued ahead of the worker, as a multiple of its concurrency."""
LISTED = 50
"""Failures and skipped files that are listed, at most."""
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


async def read_folder(dsn: str, files: Sequence[bytes], *, concurrency: int, screen: Screen) -> Report:
    """Read *files*, each in a job of its own, and return the report."""
    pgq = PgQueue(dsn)
    # Each run has its own queue: with --data, the database may still hold jobs of an earlier run.
    queue = f"files {datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"
    # No retries: a file that cannot be read now cannot be read later.
    read = pgq.task(queue=queue, max_retries=0)(read_file)
    counts = JobCounts(queue, screen.advance)
    pgq.observe(counts.observe)

    await pgq.migrate()
    async with (
        pgq,
        serve_status(pgq) as address,
        pgq.worker(queues=[queue], concurrency=concurrency, grace=5) as worker,
    ):
        await worker.wait_ready()
        screen.show_address(address)
        started_at = time.monotonic()
        reading = anyio.CancelScope()
        # Until the worker has stopped: the second signal, which hurries it, arrives while it is stopping.
        with on_signals(reading.cancel, worker.release):
            with reading:
                await enqueue_files(pgq, read, files, counts, ahead=AHEAD * concurrency, worker=worker)
                await counts.wait_open(0, worker)
            seconds = time.monotonic() - started_at
            worker.stop()
            await worker.wait_stopped()
        return Report(
            enqueued=len(counts.paths),
            succeeded=counts.succeeded,
            failed=len(counts.failed),
            seconds=seconds,
            waits=sorted(counts.waits),
            failures=[await describe(pgq, counts, job_id) for job_id in counts.failed[:LISTED]],
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


@dataclass
class Found:
    """The content of a folder and its subfolders."""

    files: list[bytes] = field(default_factory=list)
    """Regular files and links to them: absolute paths as bytes, because a name need not be valid text."""
    skipped: list[str] = field(default_factory=list)
    """Everything else that is not a folder, with the reason."""


def find_files(folder: Path, *, without: Path | None = None) -> Found:
    """Find the regular files in *folder* and its subfolders, except those in *without*.

    Links to folders are not followed, because they may form a circle.
    """
    found = Found()

    def skip(path: bytes | str, why: str) -> None:
        found.skipped.append(f"{plain(os.fsdecode(path))}: {why}")

    def skip_unreadable(error: OSError) -> None:
        skip(error.filename, str(error.strerror))

    excluded = None if without is None else os.fsencode(without.resolve())
    for where, folders, names in os.walk(os.fsencode(folder.resolve()), onerror=skip_unreadable):
        for name in list(folders):
            path = os.path.join(where, name)  # noqa: PTH118  # bytes
            if os.path.islink(path):  # noqa: PTH114
                skip(path, "a link to a folder")
            elif path == excluded:
                folders.remove(name)
                skip(path, "the demo's own database")
        for name in names:
            path = os.path.join(where, name)  # noqa: PTH118
            try:
                mode = os.stat(path).st_mode  # noqa: PTH116
            except OSError as error:
                skip(path, str(error.strerror))
                continue
            if stat.S_ISREG(mode):
                found.files.append(path)
            else:
                skip(path, "not a regular file")
    return found


def listed(heading: str, entries: Sequence[str], total: int) -> list[str]:
    """Return lines: *heading* with *total*, and the first LISTED of *entries*."""
    if not total:
        return []
    lines = [f"{heading}: {count(total)}", *(f"  {each}" for each in entries[:LISTED])]
    return lines if total <= LISTED else [*lines, f"  ... and {count(total - LISTED)} more"]


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

    def advance(self, steps: int) -> None:
        """Advance the progress bar."""
        self._progress.advance(self._bar, steps)


def demo(
    folder: Annotated[
        Path,
        typer.Argument(exists=True, file_okay=False, help="Folder to read, including subfolders."),
    ] = Path(),
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

    Exit codes: 0 every job has ended, including failed ones; 1 an error; 2 wrong usage; 130 interrupted.
    """
    # Failures are listed at the end, so they are not logged.
    set_up_logging(Level.CRITICAL)
    found = find_files(folder, without=data)
    for line in listed("skipped", found.skipped, len(found.skipped)):
        typer.echo(line, err=True)
    try:
        with (
            embedded_server(None if data is None else data.resolve()) as dsn,
            Screen(len(found.files), quiet=as_json) as screen,
        ):
            report = run(partial(read_folder, dsn, found.files, concurrency=concurrency, screen=screen))
    except subprocess.SubprocessError as error:
        raise PgQueueError(f"the embedded PostgreSQL server could not be started: {error}") from error
    is_complete = report.is_complete and report.enqueued == len(found.files)
    if not is_complete:
        typer.echo(f"interrupted: {count(len(found.files))} files had been found", err=True)
    typer.echo(report.as_json() if as_json else report.as_text())
    leave(0 if is_complete else INTERRUPTED)
