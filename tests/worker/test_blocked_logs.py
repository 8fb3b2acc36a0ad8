"""What blocks beside handlers, as the reader of a log does, takes neither the lease nor the worker along."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kit.faults import renewed
from kit.processes import DEADLINE, Processes, lines_of, processes_in
from kit.waiting import eventually, is_terminal
from kit.web_client import client_of

from pgqueue import JobHandle, PgQueue
from pgqueue.background import log_writer
from pgqueue.background.log_writer import LogWriter, RawStream, StreamHandler
from pgqueue.database.resolving import resolve_apart
from pgqueue.metrics import Metrics
from pgqueue.web import status_app

pytestmark = pytest.mark.handlers


@contextmanager
def stalling_worker(
    processes: Processes, folder: Path, *arguments: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A worker that logs every job, into a pipe that nobody reads; and the end of it that could be read."""
    reads, writes = os.pipe()
    worker = subprocess.Popen(
        [sys.executable, "-P", "-m", "pgqueue", "worker", "jobs_here:pgq", "--log-jobs", *arguments],
        cwd=folder,
        env=processes.environment,
        stdout=subprocess.DEVNULL,
        stderr=writes,
        text=True,
    )
    os.close(writes)
    try:
        yield worker, reads
    finally:
        if worker.poll() is None:
            worker.kill()
        worker.wait()


@pytest.mark.contract("W20")
@pytest.mark.parametrize("reader", ["stalls", "is gone"])
async def test_a_worker_goes_on_and_stops_whoever_reads_its_log(
    pgq: PgQueue, dsn: str, tmp_path: Path, reader: str
) -> None:
    with (
        processes_in(tmp_path, dsn) as processes,
        stalling_worker(processes, tmp_path, "--lease-ttl", "6") as (worker, reads),
    ):
        held = await pgq.enqueue_by_name("hold", str(tmp_path / "sign"), str(tmp_path / "until"))
        await eventually(lambda: is_held(tmp_path / "sign"), within=DEADLINE)
        if reader == "is gone":
            os.close(reads)
        # Each is logged when it cannot be decoded; a pipe has room for 65,536 characters.
        jobs = await pgq.enqueue_many(pgq.signature("add", "x" * 2000, number) for number in range(60))
        for job in jobs:
            await eventually(lambda job=job: has_tried(pgq, job))  # type: ignore[misc]
        [stalled] = await pgq.list_workers()
        for _ in range(3):
            await renewed(pgq, stalled.lease_id)
        seen = await pgq.list_workers()
        (tmp_path / "until").touch()

        assert await held.result(timeout=DEADLINE) == "held"
        assert (await held.refresh()).losses == 0
        assert [each.is_alive for each in seen] == [True]
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, DEADLINE) == 0
        if reader == "stalls":
            os.close(reads)


async def has_tried(pgq: PgQueue, job: JobHandle[object]) -> bool:
    return bool(await pgq.attempts(job.id))


async def is_held(sign: Path) -> bool:
    return bool(lines_of(sign))


class Blocking(logging.Handler):
    """A log handler that blocks whoever logs."""

    def __init__(self) -> None:
        super().__init__()
        self.is_called, self.may_go_on = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "blocks the event loop" in record.getMessage() or record.name == "of.the.user":
            self.is_called.set()
            self.may_go_on.wait()


@pytest.mark.contract("W20")
async def test_a_log_handler_that_blocks_costs_no_lease(pgq: PgQueue, dsn: str) -> None:
    """The loop waits for the handler, and the lease is renewed beside it, by what logs as well."""
    handler = Blocking()

    @pgq.task(timeout=None)
    async def log() -> str:
        logging.getLogger("of.the.user").warning("this takes a while")
        return "logged"

    logging.getLogger().addHandler(handler)
    try:
        async with pgq.worker(lease_ttl=3):
            job = await log.enqueue()
            release = threading.Timer(7, handler.may_go_on.set)
            release.start()
            await eventually(lambda: is_terminal(job))
            ended = await job.refresh()
    finally:
        handler.may_go_on.set()
        logging.getLogger().removeHandler(handler)

    assert handler.is_called.is_set()
    assert (ended.result, ended.losses, ended.attempt) == ("logged", 0, 1)


class Stalled(logging.Handler):
    """What writes to a full pipe."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.may_go_on.wait()
        self.written.append(record.getMessage())


@pytest.mark.contract("W20")
async def test_records_that_nobody_reads_are_dropped_counted_and_told_of(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MAX_RECORDS", 5)
    target = Stalled()
    writer = LogWriter(target)
    root = logging.getLogger()
    root.addHandler(writer)
    try:
        for number in range(25):
            root.critical("record %d", number)
        metrics = Metrics(pgq)
        text = (await metrics.render()).decode()
    finally:
        root.removeHandler(writer)
        target.may_go_on.set()
    await asyncio.to_thread(writer.flush)
    writer.emit(logging.LogRecord("name", logging.INFO, "", 0, "last", None, None))
    await asyncio.to_thread(writer.flush)

    assert writer.dropped == 20
    assert "pgqueue_log_records_dropped_total 20.0" in text
    told = [line for line in target.written if "were dropped" in line]
    # In one line or in two: the thread that writes may come to it in between.
    assert {line.split(" ", 1)[1] for line in told} == {
        "log records were dropped: the reader of the log was too slow, or gone"
    }
    assert sum(int(line.split()[0]) for line in told) == 20
    assert [line for line in target.written if line not in told] == [f"record {n}" for n in range(5)] + [
        "last"
    ]


@pytest.mark.contract("W20")
def test_a_full_disk_is_no_error_of_whoever_logs() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    writer = LogWriter(StreamHandler(RawStream(full, "utf-8")))
    logger = logging.getLogger("of.a.full.disk")
    logger.addHandler(writer)
    logger.propagate = False
    try:
        logger.error("of no use")
        logger.error("%d", "cannot be formatted")
        writer.flush()
    finally:
        logger.removeHandler(writer)
        os.close(full)

    assert writer.dropped > 0


@pytest.mark.contract("W20")
async def test_host_names_are_resolved_while_handlers_fill_the_thread_pool() -> None:
    loop, release = asyncio.get_running_loop(), threading.Event()
    resolve_apart()
    try:
        filling = [loop.run_in_executor(None, release.wait) for _ in range(64)]
        addresses = await asyncio.wait_for(loop.getaddrinfo("localhost", 5432), DEADLINE)
    finally:
        release.set()
    await asyncio.gather(*filling)

    assert addresses


@pytest.mark.contract("W22")
async def test_threads_that_run_on_are_counted_until_they_end(pgq: PgQueue) -> None:
    go_on = threading.Event()

    @pgq.task(timeout=1, soft_timeout=None, max_retries=0)
    def with_a_hard_limit() -> None:
        go_on.wait()

    @pgq.task(timeout=1, soft_timeout=0.5, max_retries=0)
    def with_both() -> None:
        go_on.wait()

    async def are_listed(number: int) -> bool:
        return [each.abandoned_threads for each in await pgq.list_workers()] == [number]

    async with pgq.worker(cancel_grace=0.1, lease_ttl=6) as worker:
        jobs = [await with_a_hard_limit.enqueue(), await with_both.enqueue()]
        for job in jobs:
            await eventually(lambda job=job: is_terminal(job))  # type: ignore[misc]
        assert worker.abandoned_threads == 2
        assert "pgqueue_worker_abandoned_threads 2.0" in (await Metrics(pgq).render()).decode()
        await eventually(lambda: are_listed(2))
        async with client_of(status_app(pgq, local_reading=True)) as client:
            [shown] = (await client.get("/workers")).json()["workers"]
            page = (await client.get("/dashboard/workers")).text
        assert shown["abandoned_threads"] == 2
        assert 'Abandoned threads</dt><dd class="warn">2:' in page
        go_on.set()

        async def none_is_left() -> bool:
            return worker.abandoned_threads == 0

        await eventually(none_is_left)
        await eventually(lambda: are_listed(0))
