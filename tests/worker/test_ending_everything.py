"""A handler that cancels or stops all that it finds has failed; the worker and others' jobs go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kit import ending_tasks
from kit.ending_tasks import IN_A_CHILD, WAYS, all_but
from kit.faults import attempt_reasons
from kit.processes import DEADLINE, Processes, lines_of, processes_in
from kit.waiting import eventually, over

from pgqueue import JobStatus, PgQueue

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = [pytest.mark.handlers, pytest.mark.contract("W15")]

BYSTANDERS = ["stands_by", "stands_by_in_a_thread", "stands_by_in_a_child"]
NAMES = [way.__name__ for way in WAYS] + [f"{way.__name__}_in_a_child" for way in IN_A_CHILD]


@pytest.fixture
def processes(tmp_path: Path, dsn: str) -> Iterator[Processes]:
    with processes_in(tmp_path, dsn) as processes:
        processes.environment["PYTHONPATH"] = os.pathsep.join(
            (str(Path(ending_tasks.__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
        )
        yield processes


async def test_a_worker_process_outlives_handlers_that_end_everything(
    pgq: PgQueue, db: Connection, processes: Processes, tmp_path: Path
) -> None:
    worker = processes.start("worker", "kit.ending_tasks:pgq", "--concurrency", "30", "--metrics-port", "0")
    bystanders = [await pgq.enqueue_by_name(name, str(tmp_path)) for name in BYSTANDERS]

    async def stand_by() -> bool:
        return len(lines_of(tmp_path / "signs")) >= len(BYSTANDERS)

    await eventually(stand_by, within=DEADLINE)
    leases = await db.fetch("select id from pgqueue.lease")
    ended = {}
    for name in NAMES:
        ended[name] = await over(await pgq.enqueue_by_name(name))
        assert await (await pgq.enqueue_by_name("next_one")).result(timeout=DEADLINE) == "ran", name
        assert worker.poll() is None, processes.log(worker)
    (tmp_path / "until").touch()
    for job in bystanders:
        assert await job.result(timeout=DEADLINE) == "done"

    assert {name: job.status for name, job in ended.items()} == dict.fromkeys(NAMES, JobStatus.FAILED)
    assert {job.attempt for job in ended.values()} == {1}
    for job in bystanders:
        state = await job.refresh()
        assert (state.attempt, state.losses) == (1, 0)
        # All were hit at least once, and none was charged for it.
        assert set(await attempt_reasons(pgq, job.id)) == {"released"}
    assert await db.fetch("select id from pgqueue.lease") == leases
    worker.terminate()
    assert (await processes.ended(worker))[0] == 0


async def test_a_worker_inside_a_program_outlives_who_cancels_all_but_the_program(dsn: str) -> None:
    theirs = asyncio.all_tasks()
    hit: list[str] = []

    async def cancel_all(_letter: object) -> None:
        hit.append("by a hook")
        all_but(theirs)

    async with PgQueue(dsn, max_retries=0) as pgq:
        pgq.on_dead(cancel_all)

        @pgq.task
        async def cancels_all() -> None:
            hit.append("by a handler")
            all_but(theirs)
            await asyncio.sleep(3600)

        @pgq.task
        async def next_one() -> str:
            return "ran"

        async with pgq.worker() as worker:
            for _ in range(3):
                job = await over(await cancels_all.enqueue())
                assert job.reason == "exception"
                assert await (await next_one.enqueue()).result(timeout=60) == "ran"
            assert worker.is_alive
            await pgq.check()

    assert {"by a handler", "by a hook"} == set(hit)


async def test_the_program_can_cancel_what_it_runs(pgq: PgQueue) -> None:
    """Its own asyncio task, and all: that is no handler, and the worker returns what it holds."""
    begun = asyncio.Event()

    @pgq.task
    async def waits() -> None:
        begun.set()
        await asyncio.sleep(3600)

    async def run() -> None:
        async with pgq.worker(grace=0):
            await asyncio.sleep(3600)

    job = await waits.enqueue()
    running = asyncio.create_task(run())
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (await job.refresh()).status is JobStatus.PENDING
    assert await attempt_reasons(pgq, job.id) == ["released"]
