"""Children that handlers make: they end when they are told to, and the worker does not end with them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kit import forking_tasks
from kit.forking_tasks import WAYS
from kit.processes import DEADLINE, Processes, processes_in, wrote_pid
from kit.waiting import eventually

from pgqueue import JobStatus, PgQueue

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.handlers

PLACES = ["in_a_thread", "in_a_coroutine", "in_a_child", "in_a_childs_coroutine"]
WORKER = ("worker", "kit.forking_tasks:pgq", "--grace", "1")


@pytest.fixture
def processes(tmp_path: Path, dsn: str) -> Iterator[Processes]:
    with processes_in(tmp_path, dsn) as processes:
        processes.environment["PYTHONPATH"] = os.pathsep.join(
            (str(Path(forking_tasks.__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
        )
        yield processes


@pytest.mark.contract("W16")
async def test_children_end_when_told_and_the_worker_does_not(pgq: PgQueue, processes: Processes) -> None:
    worker = processes.start(*WORKER, "--concurrency", "8")
    ways = [(place, way) for way in WAYS for place in PLACES]
    jobs = await pgq.enqueue_many(pgq.signature(place, way) for place, way in ways)

    results = [await job.result(timeout=2 * DEADLINE) for job in jobs]

    assert dict(zip(ways, results, strict=True)) == {(place, way): WAYS[way][1] for place, way in ways}
    assert {(await job.refresh()).attempt for job in jobs} == {1}
    assert worker.poll() is None
    worker.terminate()
    assert (await processes.ended(worker))[0] == 0


@pytest.mark.contract("W16")
async def test_a_child_does_not_go_on_as_the_worker(
    pgq: PgQueue, processes: Processes, tmp_path: Path
) -> None:
    processes.start(*WORKER)
    job = await pgq.enqueue_by_name("fork_and_await", str(tmp_path / "sign"))

    # It has no event loop: its await raises RuntimeError.
    assert await job.result(timeout=DEADLINE) == "1"
    assert not (tmp_path / "sign").exists()


@pytest.mark.contract("W16")
async def test_a_child_keeps_no_session_of_a_dead_worker(
    pgq: PgQueue, db: Connection, processes: Processes, tmp_path: Path
) -> None:
    worker = processes.start(*WORKER, "--lease-ttl", "60")
    job = await pgq.enqueue_by_name("leave_a_child", str(tmp_path / "sign"))
    [child] = await wrote_pid(tmp_path / "sign")
    try:
        assert await locks(db) == 1
        worker.kill()

        async def is_free() -> bool:
            return await locks(db) == 0

        await eventually(is_free, within=DEADLINE)
        os.kill(child, 0)
        assert await job.status() is JobStatus.RUNNING
    finally:
        os.kill(child, signal.SIGKILL)


async def locks(db: Connection) -> int:
    return int(
        await db.fetchval(
            "select count(*) from pg_locks join pg_database on oid = database "
            "where locktype = 'advisory' and datname = current_database()"
        )
    )


@pytest.mark.contract("W16")
async def test_a_program_that_has_a_worker_hears_no_signals_of_its_children(pgq: PgQueue) -> None:
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, heard.set)
    try:

        @pgq.task
        def fork() -> int:
            child = os.fork()
            if child == 0:
                forking_tasks.wait_for_ever()
            os.kill(child, signal.SIGTERM)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        async with pgq.worker():
            assert await (await fork.enqueue()).result(timeout=DEADLINE) == -signal.SIGTERM
            # Once round: what was written to the loop has been read.
            await asyncio.sleep(0)
            await asyncio.to_thread(int)
        assert not heard.is_set()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
