"""The worker as a program: what it finds, what it says, and when a process of it is replaced."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit.processes import DEADLINE, Processes, lines_of, processes_in
from kit.waiting import eventually

from pgqueue import JobStatus, PgQueue

PACKAGE = """
import os
from pathlib import Path
from shop.app import pgq


@pgq.task(queue="mail")
async def pid(sign: Path) -> int:
    with sign.open("a") as file:
        print(os.getpid(), file=file)
    return os.getpid()


@pgq.task(queue="mail")
async def grow(mib: int) -> int:
    HELD.append(b"x" * mib * 2**20)
    return os.getpid()


@pgq.task(queue="mail")
async def again(times: int) -> None:
    if times:
        await again.enqueue(times - 1)


HELD: list[bytes] = []
"""


@pytest.fixture
def processes(tmp_path: Path, dsn: str) -> Iterator[Processes]:
    for folder in ("shop", "shop/mail"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "shop/app.py").write_text("from pgqueue import PgQueue\npgq = PgQueue()\n")
    (tmp_path / "shop/mail/tasks.py").write_text(PACKAGE)
    (tmp_path / "shop/mail/__main__.py").write_text("raise SystemExit('a program was run')\n")
    (tmp_path / "pyproject.toml").write_text('[tool.pgqueue]\napp = "shop.app:pgq"\nqueues = {mail = 1}\n')
    with processes_in(tmp_path, dsn) as processes:
        processes.environment["PGQUEUE_DSN"] = dsn
        yield processes


async def test_a_package_is_imported_with_all_its_submodules_and_oddities_are_told(
    pgq: PgQueue, processes: Processes, tmp_path: Path
) -> None:
    queues = "--queues=mail:2,reports"
    # In the environment it holds for all commands: the queue of a task is known where it is enqueued.
    processes.environment["PGQUEUE_INCLUDE"] = "shop"
    worker = processes.start("worker", queues, "--weights=mail:2", "--log-format=text")
    code, stdout, stderr = await processes.run("enqueue", "pid", json.dumps([str(tmp_path / "sign")]))
    result = await pgq.handle(stdout.strip()).result(timeout=DEADLINE)
    worker.terminate()
    await asyncio.to_thread(worker.wait, DEADLINE)

    assert (code, stderr) == (0, "")
    assert result == worker.pid
    log = processes.log(worker)
    assert "started on queues mail (2 slots), reports, concurrency 12" in log
    assert "no task names queue 'reports', which this worker serves" in log
    assert "declares no task" not in log


async def test_no_task_and_queues_that_nobody_serves_are_told(pgq: PgQueue, processes: Processes) -> None:
    none = processes.start("worker", "--queues=default", "--log-format=text")
    await processes.logged(none, "this PgQueue declares no task")
    nobody = processes.start("worker", "--include=shop.mail,shop.app", "--queues=mial", "--log-format=text")
    await processes.logged(
        nobody, "no task names queue 'mial', which this worker serves; did you mean 'mail'?"
    )
    await processes.logged(nobody, "no worker serves queue 'mail' now")
    await processes.logged(nobody, "--include shop.app declares no task of this PgQueue")


@pytest.mark.contract("BP14")
async def test_a_process_is_replaced_after_its_jobs_without_a_gap_and_none_is_lost(
    pgq: PgQueue, processes: Processes, tmp_path: Path
) -> None:
    sign = tmp_path / "sign"
    worker = processes.start("worker", "--include=shop", "--max-jobs=10", "--log-format=text")
    jobs = await pgq.enqueue_many(
        pgq.signature("pid", str(sign), options={"queue": "mail"}) for _ in range(35)
    )
    pids = [await job.result(timeout=DEADLINE) for job in jobs]
    ended = [await job.refresh() for job in jobs]
    worker.terminate()

    assert await asyncio.to_thread(worker.wait, DEADLINE) == 0
    assert worker.pid not in pids
    assert len(set(pids)) >= 2
    assert [job.attempt for job in ended] == [1] * 35
    assert len(lines_of(sign)) == 35
    log = processes.log(worker)
    assert "retires; starting another" in log
    assert "ended with" not in log
    # The other one is started before the first has ended.
    first = re.search(r"started worker process (\d+)", log)
    assert first is not None
    assert log.index(f"worker process {first[1]} retires") < log.index("started worker process", first.end())


@pytest.mark.contract("BP14")
async def test_a_process_is_replaced_when_it_has_too_much_memory(pgq: PgQueue, processes: Processes) -> None:
    worker = processes.start("worker", "--include=shop", "--max-rss=300", "--log-format=text")
    first = await (await pgq.enqueue_by_name("grow", 400, options={"queue": "mail"})).result(timeout=DEADLINE)
    await processes.logged(worker, "--max-rss=300; it retires")

    async def is_another() -> bool:
        job = await pgq.enqueue_by_name("grow", 0, options={"queue": "mail"})
        return bool(await job.result(timeout=DEADLINE) != first)

    await eventually(is_another, within=DEADLINE)
    worker.terminate()
    assert await asyncio.to_thread(worker.wait, DEADLINE) == 0


async def test_a_change_of_a_file_restarts_the_worker_and_an_error_in_it_is_waited_out(
    pgq: PgQueue, processes: Processes, tmp_path: Path
) -> None:
    tasks, sign = tmp_path / "shop/mail/tasks.py", tmp_path / "sign"
    worker = processes.start("worker", "--include=shop", "--reload", "--log-format=text")

    async def answer() -> object:
        job = await pgq.enqueue_by_name("pid", str(sign), options={"queue": "mail"})
        return await job.result(timeout=DEADLINE)

    first = await answer()
    await processes.logged(worker, "watching")
    tasks.write_text("def f(:\n")
    await processes.logged(worker, "waiting for a change")
    assert "SyntaxError" in processes.log(worker)
    tasks.write_text(PACKAGE.replace("return os.getpid()", "return -1"))

    assert isinstance(first, int)
    assert await answer() == -1
    worker.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(worker.wait, DEADLINE) == 0


@pytest.mark.contract("P8.2")
@pytest.mark.parametrize("processes_of_it", [1, 2])
async def test_a_burst_works_until_nothing_is_left_and_ends(
    pgq: PgQueue, processes: Processes, tmp_path: Path, processes_of_it: int
) -> None:
    sign = tmp_path / "sign"
    jobs = await pgq.enqueue_many(
        [pgq.signature("again", 5, options={"queue": "mail"})]
        + [pgq.signature("pid", str(sign), options={"queue": "mail"}) for _ in range(5)]
        + [pgq.signature("pid", str(sign), options={"queue": "mail", "delay": 3600})]
    )
    code, _, stderr = await processes.run(
        "worker", "--include=shop", "--burst", f"--processes={processes_of_it}", "--log-format=text"
    )

    assert code == 0, stderr
    assert "nothing is left to do in mail" in stderr
    ended = [await job.refresh() for job in jobs]
    assert [job.status for job in ended] == [JobStatus.SUCCEEDED] * 6 + [JobStatus.SCHEDULED]
    every = (await pgq.jobs()).jobs
    assert [job.status for job in every].count(JobStatus.SUCCEEDED) == 11
