"""`pgqueue demo`: one job per file of a folder, on a PostgreSQL server of its own.

Read it as an example: a PgQueue, a task, a worker, and jobs, in one process.
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
from pgqueue.model.jobs import JobStatus
from pgqueue.processes.supervisor import on_signals
from pgqueue.tasks.task import Task

BLOCK = 1024 * 1024
"""Bytes that are read at a time."""
AHEAD = 2
"""How many jobs are enqueued ahead of the worker, as a multiple of its concurrency."""
LISTED = 50
"""How many failures, and files passed over, are named."""
INTERRUPTED = 130


@dataclass
class FileFacts:
    """What the demo's task finds out about a file."""

    size: int = 0
    lines: int = 0
    words: int = 0
    sha256: str = ""


def read_file(path: bytes) -> FileFacts:
    """Read one file. It is the demo's task: a plain function, so each call runs in a thread."""
    facts, digest, in_word = FileFacts(), hashlib.sha256(), False
    with open(os.fsdecode(path), "rb") as file:  # noqa: PTH123  # a path of bytes: any name a file can have
        while block := file.read(BLOCK):
            digest.update(block)
            facts.size += len(block)
            facts.lines += block.count(b"\n")
            # A word that goes on from the block before has been counted there.
            facts.words += len(block.split()) - (in_word and not block[:1].isspace())
            in_word = not block[-1:].isspace()
    facts.sha256 = digest.hexdigest()
    return facts


async def read_folder(dsn: str, files: Sequence[bytes], *, concurrency: int, screen: Screen) -> Report:
    """Read *files*, each in a job of its own, and report how it went."""
    pgq = PgQueue(dsn)
    # A queue of its own for each run: with --data, jobs of an earlier run may be left in the database.
    queue = f"files {datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"
    # A file that cannot be read now cannot be read later: no retries.
    read = pgq.task(queue=queue, max_retries=0)(read_file)
    tally = Tally(queue, screen.advance)
    pgq.observe(tally.observe)

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
        # To the worker's very end: the second signal, which is to hurry it, comes when it is stopping.
        with on_signals(reading.cancel, worker.release):
            with reading:
                await enqueue_files(pgq, read, files, tally, ahead=AHEAD * concurrency, worker=worker)
                await tally.wait_open(0, worker)
            seconds = time.monotonic() - started_at
            worker.stop()
            await worker.wait_stopped()
        return Report(
            enqueued=len(tally.paths),
            succeeded=tally.succeeded,
            failed=len(tally.failed),
            seconds=seconds,
            waits=sorted(tally.waits),
            failures=[await describe(pgq, tally, job_id) for job_id in tally.failed[:LISTED]],
        )


async def enqueue_files(
    pgq: PgQueue,
    read: Task[[bytes], FileFacts],
    files: Sequence[bytes],
    tally: Tally,
    *,
    ahead: int,
    worker: Worker,
) -> None:
    """Enqueue a job per file, *ahead* of the worker by so many at most.

    One call of `enqueue_many` with all of them would do; but then the pick-up times would tell the length
    of the queue, and not how soon a free worker picks a job up.
    """
    size = max(1, ahead // 2)
    for start in range(0, len(files), size):
        await tally.wait_open(ahead - size, worker)
        paths = files[start : start + size]
        # An interruption waits for the answer: what was enqueued is to be counted.
        with anyio.CancelScope(shield=True):
            handles = await pgq.enqueue_many([read.s(path) for path in paths])
        tally.paths.update(zip((handle.id for handle in handles), paths, strict=True))


class Tally:
    """Counts what becomes of the jobs of one queue: an observer of events."""

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
        """Count."""
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
        """Wait until at most *limit* jobs are not over yet."""
        while worker.is_alive and len(self.paths) - self.succeeded - len(self.failed) > limit:
            self._changed = anyio.Event()
            with anyio.move_on_after(1):
                await self._changed.wait()
        if not worker.is_alive:
            # Raises what ended it.
            await worker.wait_stopped()


@dataclass(frozen=True)
class Report:
    """How the demo went."""

    enqueued: int
    succeeded: int
    failed: int
    seconds: float
    waits: Sequence[float] = field(repr=False)
    """Ascending, in seconds."""
    failures: Sequence[str] = field(repr=False)

    def as_json(self) -> str:
        """Return one JSON object. Times to pick up are null if no job was claimed."""
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
        counts = f"{self.enqueued:,} jobs, {self.succeeded:,} succeeded, {self.failed:,} failed"
        lines = [f"{counts}, in {self.seconds:.2f} s: {self.jobs_per_s:,.0f} jobs/s"]
        if self.waits:
            lines.append(f"pick-up: p50 {self.pickup_ms(0.50)} ms, p95 {self.pickup_ms(0.95)} ms")
        return "\n".join([*lines, *named("failed", self.failures, self.failed)])

    @property
    def is_complete(self) -> bool:
        """Whether every job is over."""
        return self.succeeded + self.failed == self.enqueued

    @property
    def jobs_per_s(self) -> float:
        """Jobs that ended, per second."""
        return (self.succeeded + self.failed) / self.seconds if self.seconds else 0.0

    def pickup_ms(self, share: float) -> float | None:
        """Return the milliseconds within which this *share* of the jobs was picked up."""
        if not self.waits:
            return None
        return round(1000 * self.waits[math.ceil(share * len(self.waits)) - 1], 2)


async def describe(pgq: PgQueue, tally: Tally, job_id: UUID) -> str:
    """Say which file a failed job was about, and what went wrong."""
    job = await pgq.get(job_id)
    what = f"{job.error.type}: {job.error.message}" if job.error else job.reason
    return plain(f"{os.fsdecode(tally.paths[job_id])}: {what}")


@asynccontextmanager
async def serve_status(pgq: PgQueue) -> AsyncIterator[str]:
    """Serve the status app on a free port of this machine; yield its address."""
    from pgqueue.cli.running.http_server import serving
    from pgqueue.web import status_app

    async with serving(status_app(pgq), listen("127.0.0.1", 0)) as address:
        yield address


@dataclass
class Found:
    """What is below a folder."""

    files: list[bytes] = field(default_factory=list)
    """Regular files, and links to such: absolute, as bytes, because a name need not be valid text."""
    passed_over: list[str] = field(default_factory=list)
    """Everything else that is not a folder, and why."""


def find_files(folder: Path, *, without: Path | None = None) -> Found:
    """Find the regular files below *folder*, but for those below *without*.

    Links to folders are not followed: they may lead round in circles.
    """
    found = Found()

    def pass_over(path: bytes | str, why: str) -> None:
        found.passed_over.append(f"{plain(os.fsdecode(path))}: {why}")

    def unreadable(error: OSError) -> None:
        pass_over(error.filename, str(error.strerror))

    excluded = None if without is None else os.fsencode(without.resolve())
    for where, folders, names in os.walk(os.fsencode(folder.resolve()), onerror=unreadable):
        for name in list(folders):
            path = os.path.join(where, name)  # noqa: PTH118  # bytes
            if os.path.islink(path):  # noqa: PTH114
                pass_over(path, "a link to a folder")
            elif path == excluded:
                folders.remove(name)
                pass_over(path, "the demo's own database")
        for name in names:
            path = os.path.join(where, name)  # noqa: PTH118
            try:
                mode = os.stat(path).st_mode  # noqa: PTH116
            except OSError as error:
                pass_over(path, str(error.strerror))
                continue
            if stat.S_ISREG(mode):
                found.files.append(path)
            else:
                pass_over(path, "not a regular file")
    return found


def named(what: str, which: Sequence[str], count: int) -> list[str]:
    """Return lines that name *which* of *count*, as far as there is room."""
    if not count:
        return []
    lines = [f"{what}: {count:,}", *(f"  {each}" for each in which[:LISTED])]
    return lines if count <= LISTED else [*lines, f"  ... and {count - LISTED:,} more"]


class Screen:
    """What a reader sees while the demo runs. Quiet: a line or two on stderr."""

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
        """Say where the status is served."""
        self._console.print(f"dashboard while it runs: {address}/dashboard/")

    def advance(self, count: int) -> None:
        """Move the bar on."""
        self._progress.advance(self._bar, count)


def demo(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Its files are read, and those below it.")
    ] = Path(),
    data: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Where the database is kept. Default: a temporary folder."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of progress and summary.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Files that are read at once.")] = 10,
) -> None:
    """Read every file of a folder, each in a job of its own, on a PostgreSQL server made for it.

    Exit codes: 0 every job is over, failed ones included; 1 an error; 2 wrong usage; 130 interrupted.
    """
    # The failures are listed at the end.
    set_up_logging(Level.CRITICAL)
    found = find_files(folder, without=data)
    for line in named("passed over", found.passed_over, len(found.passed_over)):
        typer.echo(line, err=True)
    try:
        with (
            embedded_server(None if data is None else data.resolve()) as dsn,
            Screen(len(found.files), quiet=as_json) as screen,
        ):
            report = run(partial(read_folder, dsn, found.files, concurrency=concurrency, screen=screen))
    except subprocess.SubprocessError as error:
        raise PgQueueError(f"the embedded PostgreSQL could not be started: {error}") from error
    is_complete = report.is_complete and report.enqueued == len(found.files)
    if not is_complete:
        typer.echo(f"interrupted: {len(found.files):,} files were to be read", err=True)
    typer.echo(report.as_json() if as_json else report.as_text())
    leave(0 if is_complete else INTERRUPTED)
