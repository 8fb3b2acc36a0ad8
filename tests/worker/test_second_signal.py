"""A second Ctrl-C ends the grace of a worker that is stopping, in a program of any kind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from kit.processes import DEADLINE, wrote_pid
from kit.waiting import eventually

from pgqueue import JobStatus, PgQueue
from pgqueue.worker.second_signal import forget_signals, hurried_by_signals

PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
from pgqueue import PgQueue

pgq = PgQueue()

@pgq.task
async def hold(sign: Path) -> None:
    with sign.open("a") as file:
        print(os.getpid(), file=file)
    await asyncio.sleep(3600)

async def tell(sign: Path) -> None:
    # The worker is told to stop in this turn of the loop, and begins in one of the next.
    for _ in range(100):
        await asyncio.sleep(0)
    sign.touch()

async def main() -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    if sys.argv[1] == "loop":
        loop.add_signal_handler(signal.SIGINT, told.set)
    if sys.argv[1] == "signal":
        signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(told.set))
    async with pgq, pgq.worker(grace=600):
        try:
            await told.wait()
        finally:
            telling = asyncio.ensure_future(tell(Path(sys.argv[2])))

try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(3)
"""


@pytest.mark.contract("W11")
@pytest.mark.parametrize("way", ["asyncio.run", "loop", "signal"])
async def test_a_second_ctrl_c_returns_the_jobs_of_a_worker_inside_a_program(
    pgq: PgQueue, dsn: str, tmp_path: Path, way: str
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    sign, stopping = tmp_path / "sign", tmp_path / "stopping"
    jobs = [await pgq.enqueue_by_name("hold", str(sign)) for _ in range(2)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "program.py", way, str(stopping), cwd=tmp_path, env={**os.environ, "PGQUEUE_DSN": dsn}
    )

    async def is_stopping() -> bool:
        return await asyncio.to_thread(stopping.exists)

    try:
        await wrote_pid(sign, 2)
        process.send_signal(signal.SIGINT)
        await eventually(is_stopping, within=DEADLINE)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(DEADLINE):
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert code == (3 if way == "asyncio.run" else 0)
    assert [await job.status() for job in jobs] == [JobStatus.PENDING] * 2
    # Neither of them counts as an attempt.
    assert {each.reason for job in jobs for each in await pgq.attempts(job.id)} <= {"released"}


@pytest.mark.contract("W11")
async def test_a_program_that_cancels_everything_at_its_end_charges_no_job(pgq: PgQueue) -> None:
    started = asyncio.Semaphore(0)

    @pgq.task
    async def hold() -> None:
        started.release()
        await asyncio.sleep(3600)

    before = asyncio.all_tasks()
    jobs = await pgq.enqueue_many(hold.s() for _ in range(3))
    worker = pgq.worker(grace=600)
    worker.start()
    for _ in jobs:
        await started.acquire()
    # As asyncio.run does.
    swept = asyncio.all_tasks() - before
    for task in swept:
        task.cancel()
    await asyncio.wait(swept)

    assert [await job.status() for job in jobs] == [JobStatus.PENDING] * 3
    assert {each.reason for job in jobs for each in await pgq.attempts(job.id)} <= {"released"}
    assert [(await job.refresh()).attempt for job in jobs] == [0] * 3


async def test_the_handlers_of_the_program_are_called_and_put_back() -> None:
    heard: list[str] = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append("program"))
    mine = signal.getsignal(signal.SIGINT)
    try:
        with hurried_by_signals(lambda: heard.append("one")):
            with hurried_by_signals(lambda: heard.append("two")):
                signal.raise_signal(signal.SIGINT)
                await asyncio.sleep(0)
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(0)
        forget_signals()
        put_back = signal.getsignal(signal.SIGINT)
        with hurried_by_signals(lambda: None):
            # It sets another one meanwhile: that one stays.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        kept = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)

    assert heard == ["program", "one", "two", "program", "one"]
    assert put_back is mine
    assert kept is signal.SIG_IGN
