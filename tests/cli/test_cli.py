"""The command line, through real processes."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import asyncpg
import pytest
from kit.processes import DEADLINE, Processes, has_logged, processes_in, wrote_pid
from kit.servers import CrashableServer, crashable_server
from kit.waiting import eventually

from pgqueue import Job, JobStatus, PgQueue, __version__
from pgqueue.cli.running.lifecycle import COLLECT_AFTER, tune_collector
from pgqueue.database.sql import load_migrations
from pgqueue.model.measures import Count
from pgqueue.options.declared import CallOptions
from pgqueue.processes.supervisor import Supervisor
from pgqueue.testing.databases import with_database


async def touched(path: Path) -> None:
    async def exists() -> bool:
        return await asyncio.to_thread(path.exists)

    await eventually(exists, within=DEADLINE)


# The worker


@pytest.fixture
def processes(tmp_path: Path, dsn: str) -> Iterator[Processes]:
    with processes_in(tmp_path, dsn) as processes:
        yield processes


def test_a_command_that_serves_nothing_imports_no_http_server() -> None:
    listing = "import sys, pgqueue.cli; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, check=True, text=True)

    imported = set(done.stdout.split())
    assert "pgqueue.cli.commands.worker" in imported
    assert imported & {"uvicorn", "starlette", "pgqueue.web", "pgqueue.cli.running.http_server"} == set()


@pytest.mark.contract("P8.1")
@pytest.mark.parametrize(("set_by_the_program", "kept"), [(700, COLLECT_AFTER), (90_000, 90_000), (0, 0)])
def test_the_collector_runs_less_often_unless_the_program_has_set_how_often(
    set_by_the_program: int, kept: int
) -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(set_by_the_program, 10, 10)

        tune_collector()

        assert gc.get_threshold()[0] == kept
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


async def test_a_worker_runs_the_jobs_of_a_module_in_the_current_directory(
    pgq: PgQueue, processes: Processes
) -> None:
    job = await pgq.enqueue_by_name("add", 1, 2)

    process = processes.start("worker", "jobs_here:pgq", "--concurrency", "2")
    result = await job.result(timeout=DEADLINE)
    process.send_signal(signal.SIGTERM)
    code, _, _ = await processes.ended(process)

    assert result == 3
    assert code == 0


@pytest.mark.contract("P2.20")
@pytest.mark.parametrize("received", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", ["--uvloop", "--no-uvloop"])
async def test_at_the_first_signal_running_jobs_finish_and_no_others_start(
    pgq: PgQueue, processes: Processes, tmp_path: Path, received: signal.Signals, loop: str
) -> None:
    if loop == "--uvloop":
        pytest.importorskip("uvloop")
    sign, until = tmp_path / "sign", tmp_path / "until"
    running = await pgq.enqueue_by_name("hold", str(sign), str(until))
    waiting = await pgq.enqueue_by_name("add", 1, 2)
    process = processes.start("worker", "jobs_here:pgq", "--concurrency", "1", loop)
    await wrote_pid(sign)

    process.send_signal(received)
    await processes.logged(process, f"received {received.name}")
    until.touch()
    code, _, _ = await processes.ended(process)

    assert code == 0
    assert await running.result(timeout=60) == "held"
    assert (await waiting.refresh()).status is JobStatus.PENDING
    assert (await running.refresh()).attempt == 1


@pytest.mark.contract("P2.20")
async def test_jobs_that_exceed_the_grace_return_to_the_queue_without_counting_the_attempt(
    pgq: PgQueue, processes: Processes, tmp_path: Path
) -> None:
    sign = tmp_path / "sign"
    job = await pgq.enqueue_by_name("hold", str(sign), str(tmp_path / "never"))
    process = processes.start("worker", "jobs_here:pgq", "--grace", "0")
    await wrote_pid(sign)

    process.send_signal(signal.SIGTERM)
    code, _, _ = await processes.ended(process)

    assert code == 0
    assert_not_counted(await job.refresh())
    assert [attempt.reason for attempt in await pgq.attempts(job.id)] == ["released"]


@pytest.mark.contract("P2.20")
async def test_the_second_signal_returns_running_jobs_to_the_queue_now(
    pgq: PgQueue, processes: Processes, tmp_path: Path
) -> None:
    sign = tmp_path / "sign"
    job = await pgq.enqueue_by_name("hold", str(sign), str(tmp_path / "never"))
    process = processes.start("worker", "jobs_here:pgq", "--grace", "3600")
    await wrote_pid(sign)

    process.send_signal(signal.SIGTERM)
    await processes.logged(process, "received SIGTERM")
    status_after_first = await job.status()
    process.send_signal(signal.SIGINT)
    code, _, _ = await processes.ended(process)

    assert status_after_first is JobStatus.RUNNING
    assert code == 0
    assert_not_counted(await job.refresh())


@pytest.mark.contract("P2.20")
@pytest.mark.parametrize("task", ["hold_a_thread", "refuse_to_stop"])
async def test_a_handler_that_cannot_be_stopped_does_not_keep_the_process(
    pgq: PgQueue, processes: Processes, tmp_path: Path, task: str
) -> None:
    sign = tmp_path / "sign"
    job = await pgq.enqueue_by_name(task, str(sign))
    process = processes.start("worker", "jobs_here:pgq", "--grace", "0")
    await touched(sign)

    process.send_signal(signal.SIGTERM)
    code, _, _ = await processes.ended(process)

    assert code == 0
    assert_not_counted(await job.refresh())


def assert_not_counted(job: Job) -> None:
    assert (job.status, job.attempt, job.losses) == (JobStatus.PENDING, 0, 0)


async def test_a_worker_works_on_the_queues_that_it_is_given(pgq: PgQueue, processes: Processes) -> None:
    not_taken = await pgq.enqueue_by_name("add", 1, 2)
    taken = await pgq.enqueue_by_name("elsewhere", options={"queue": "other"})

    process = processes.start("worker", "jobs_here:pgq", "--queues", "third, other")
    pid = await taken.result(timeout=DEADLINE)
    process.send_signal(signal.SIGTERM)
    code, _, _ = await processes.ended(process)

    assert (code, pid) == (0, process.pid)
    assert await not_taken.status() is JobStatus.PENDING


async def test_a_worker_without_a_schema_says_which_command_makes_it(tmp_path: Path, empty_dsn: str) -> None:
    with processes_in(tmp_path, empty_dsn) as processes:
        single = await processes.run("worker", "jobs_here:pgq")
        several = await processes.run("worker", "jobs_here:pgq", "--processes", "2")

    for code, stdout, stderr in (single, several):
        assert code == 1
        assert stdout == ""
        assert stderr == "pgqueue: the database has no pgqueue schema 'pgqueue'; run `pgqueue migrate`\n"


@pytest.fixture
def crashable() -> Iterator[CrashableServer]:
    with crashable_server() as server:
        yield server


@pytest.mark.contract("BP13")
async def test_a_worker_whose_database_is_down_at_its_start_waits_and_carries_on(
    tmp_path: Path, crashable: CrashableServer
) -> None:
    await crashable.start()
    await PgQueue(crashable.dsn).migrate()
    async with PgQueue(crashable.dsn) as pgq:
        job = await pgq.enqueue_by_name("add", 1, 2)
    await crashable.crash()

    with processes_in(tmp_path, crashable.dsn) as processes:
        process = processes.start("worker", "jobs_here:pgq")
        await processes.logged(process, "waiting for the database")
        await crashable.start()
        async with PgQueue(crashable.dsn) as pgq:
            result = await pgq.handle(job.id).result(timeout=DEADLINE)
        process.send_signal(signal.SIGTERM)
        code, _, _ = await processes.ended(process)

    assert (code, result) == (0, 3)


async def test_a_worker_that_waits_for_its_database_can_be_stopped(tmp_path: Path) -> None:
    with processes_in(tmp_path, f"postgresql:///x?host={tmp_path}") as processes:
        for count in ("1", "2"):
            process = processes.start("worker", "jobs_here:pgq", "--processes", count)
            await processes.logged(process, "waiting for the database")

            process.send_signal(signal.SIGTERM)
            code, _, stderr = await processes.ended(process)

            assert code == 0
            assert "Traceback" not in stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["worker", "json"],
        ["worker", "jobs_here:"],
        ["worker", "nowhere:pgq"],
        ["worker", "jobs_here:nothing"],
        ["worker", "jobs_here:not_a_queue"],
        ["worker", "jobs_here:pgq", "--concurrency", "0"],
        ["worker", "jobs_here:pgq", "--grace", "-1"],
        ["worker", "jobs_here:pgq", "--lease-ttl", "0"],
        ["migrate"],
        ["demo", "no-such-folder"],
        ["no-such-command"],
    ],
)
async def test_wrong_usage_exits_2(processes: Processes, arguments: list[str]) -> None:
    code, stdout, stderr = await processes.run(*arguments)

    assert code == 2
    assert stdout == ""
    assert "Traceback" not in stderr


async def test_a_dsn_that_can_never_work_is_not_waited_for(tmp_path: Path) -> None:
    with processes_in(tmp_path, "mysql://localhost/app") as processes:
        code, _, stderr = await processes.run("worker", "jobs_here:pgq")

    assert code == 1
    assert stderr.count("\n") == 3
    assert "invalid DSN" in stderr


# Several processes


@pytest.fixture
async def two_processes(
    pgq: PgQueue, processes: Processes, tmp_path: Path
) -> tuple[subprocess.Popen[str], Path, list[int]]:
    """A supervisor of two processes, each of which runs one job that has written its process id."""
    sign = tmp_path / "sign"
    await pgq.enqueue_many([pgq.signature("hold", str(sign), str(tmp_path / "until")) for _ in range(2)])
    process = processes.start("worker", "jobs_here:pgq", "--processes=2", "--concurrency=1", "--grace=3600")
    return process, sign, await wrote_pid(sign, 2)


@pytest.mark.contract("P2.20")
async def test_processes_share_the_work_and_ctrl_c_is_one_signal_to_all_of_them(
    two_processes: tuple[subprocess.Popen[str], Path, list[int]],
    processes: Processes,
    pgq: PgQueue,
    tmp_path: Path,
) -> None:
    process, _, pids = two_processes

    # As a terminal does: the signal goes to the whole process group.
    os.killpg(process.pid, signal.SIGINT)
    await all_heard(processes, process, 1)
    (tmp_path / "until").touch()
    code, _, _ = await processes.ended(process)

    assert code == 0
    assert (await pgq.measure())[0].pending == Count(0)
    assert len(set(pids)) == 2
    assert process.pid not in pids
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.contract("P2.20")
async def test_a_second_signal_reaches_every_process(
    two_processes: tuple[subprocess.Popen[str], Path, list[int]], processes: Processes, pgq: PgQueue
) -> None:
    process, _, pids = two_processes

    process.send_signal(signal.SIGINT)
    await all_heard(processes, process, 1)
    process.send_signal(signal.SIGINT)
    code, _, _ = await processes.ended(process)

    [queue] = await pgq.measure()
    assert code == 0
    assert queue.pending == Count(2)
    assert not any(is_alive(pid) for pid in pids)


async def test_a_killed_process_is_restarted_and_its_job_runs_again(
    two_processes: tuple[subprocess.Popen[str], Path, list[int]], processes: Processes, tmp_path: Path
) -> None:
    process, sign, pids = two_processes

    os.kill(pids[0], signal.SIGKILL)
    *_, third = await wrote_pid(sign, 3)
    (tmp_path / "until").touch()
    process.send_signal(signal.SIGTERM)
    code, _, stderr = await processes.ended(process)

    assert third not in {*pids, process.pid}
    assert code == 0
    assert "a worker process ended with signal SIGKILL; starting another" in stderr


@pytest.mark.contract("P2.7")
async def test_a_process_that_a_handler_blocks_past_its_limit_restarts_itself(
    pgq: PgQueue, processes: Processes, tmp_path: Path
) -> None:
    sign, until = tmp_path / "sign", tmp_path / "until"
    options: CallOptions = {"queue": "other", "max_retries": 0}
    held = await pgq.enqueue_by_name("hold", str(tmp_path / "held"), str(until), options=options)
    process = processes.start("worker", "jobs_here:pgq", "--queues=other")
    await wrote_pid(tmp_path / "held", 1)
    blocking = await pgq.enqueue_by_name("block", str(sign), options={"queue": "other"})

    after = await pgq.enqueue_by_name("elsewhere", options={"queue": "other"})
    # The process id stays the same: the process executes the program anew.
    assert await after.result(timeout=DEADLINE) == process.pid
    await wrote_pid(tmp_path / "held", 2)
    until.touch()
    assert await held.result(timeout=DEADLINE) == "held"
    process.send_signal(signal.SIGTERM)
    code, _, stderr = await processes.ended(process)

    ended = await blocking.refresh()
    assert code == 0
    assert (ended.status, ended.reason, ended.attempt) == (JobStatus.FAILED, "hard_timeout", 1)
    # It ran again without having retries: the attempt was not counted.
    assert [each.reason for each in await pgq.attempts(held.id)] == ["released"]
    assert ((await held.refresh()).attempt, (await held.refresh()).losses) == (1, 0)
    assert len(await wrote_pid(sign, 1)) == 1
    assert f"job {blocking.id} (block) blocks the event loop" in stderr
    assert "in block" in stderr


@pytest.mark.contract("P2.7", "P2.20")
async def test_a_blocked_process_stops_after_a_signal(
    pgq: PgQueue, processes: Processes, tmp_path: Path
) -> None:
    sign = tmp_path / "sign"
    job = await pgq.enqueue_by_name("block", str(sign), options={"queue": "other", "timeout": 3})
    process = processes.start("worker", "jobs_here:pgq", "--queues=other")
    await wrote_pid(sign, 1)

    process.send_signal(signal.SIGTERM)
    code, _, _ = await processes.ended(process)

    assert code == 0
    assert (await job.refresh()).reason == "hard_timeout"


@pytest.mark.contract("P2.7")
async def test_a_blocked_process_of_several_is_replaced_at_once(
    pgq: PgQueue, processes: Processes, tmp_path: Path
) -> None:
    sign = tmp_path / "sign"
    job = await pgq.enqueue_by_name("block", str(sign), options={"queue": "other"})
    process = processes.start("worker", "jobs_here:pgq", "--queues=other", "--processes=2")
    [pid] = await wrote_pid(sign, 1)

    await processes.logged(process, "a worker process was blocked by a handler; starting another")
    await eventually(lambda: started(processes, process, 3))
    process.send_signal(signal.SIGTERM)
    code, _, stderr = await processes.ended(process)

    assert code == 0
    assert not is_alive(pid)
    assert (await job.refresh()).reason == "hard_timeout"
    assert "ended with" not in stderr


@pytest.mark.contract("P2.11")
async def test_processes_end_when_their_supervisor_is_killed(
    two_processes: tuple[subprocess.Popen[str], Path, list[int]], processes: Processes, tmp_path: Path
) -> None:
    process, _, pids = two_processes

    process.kill()
    await asyncio.to_thread(process.wait)
    # As by a signal: their jobs may finish.
    await eventually(lambda: has_logged(processes, process, "the supervisor has ended; stopping", 2))
    assert all(is_alive(pid) for pid in pids)
    (tmp_path / "until").touch()

    await eventually(lambda: all_gone(pids))


async def started(processes: Processes, process: subprocess.Popen[str], count: int) -> bool:
    return processes.log(process).count("started worker process") >= count


async def all_gone(pids: list[int]) -> bool:
    return not any(is_alive(pid) for pid in pids)


async def test_a_process_that_stops_with_an_error_makes_the_supervisor_fail(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    program = (
        "import pathlib, signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); "
        "pathlib.Path(sys.argv[1]).touch(); signal.pause()"
    )
    supervisor = Supervisor([sys.executable, "-c", program, str(sign)], 1)
    running = asyncio.ensure_future(supervisor.run())

    async def is_up() -> bool:
        return await asyncio.to_thread(sign.exists)

    await eventually(is_up)
    os.kill(os.getpid(), signal.SIGTERM)

    with anyio.fail_after(DEADLINE):
        assert await running is False


async def all_heard(processes: Processes, process: subprocess.Popen[str], signals: int) -> None:
    """Wait until a supervisor and both of its processes have received so many signals."""

    async def have_heard() -> bool:
        return processes.log(process).count("received SIG") >= 3 * signals

    await eventually(have_heard, within=DEADLINE)


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


# The other commands


async def test_migrate_makes_the_schema_and_does_nothing_the_second_time(
    tmp_path: Path, empty_dsn: str
) -> None:
    with processes_in(tmp_path, empty_dsn) as processes:
        first = await processes.run("migrate", "--dsn", empty_dsn, "--schema", "jobs")
        second = await processes.run("migrate", "--dsn", empty_dsn, "--schema", "jobs")

    applied = [f"applied {each.version:04} {each.name}\n" for each in load_migrations("pgqueue")]
    assert first == (0, "".join(applied), "")
    assert second == (0, "schema 'jobs' is up to date\n", "")
    async with PgQueue(empty_dsn, schema="jobs") as pgq:
        await pgq.check()


async def test_a_dry_run_prints_the_sql_and_changes_nothing(tmp_path: Path, empty_dsn: str) -> None:
    with processes_in(tmp_path, empty_dsn) as processes:
        processes.environment["PGQUEUE_DSN"] = empty_dsn
        code, stdout, _ = await processes.run("migrate", "--dry-run", "--schema", "jobs")

    connection = await asyncpg.connect(empty_dsn)
    schema = await connection.fetchval("select to_regnamespace('jobs')")
    await connection.close()
    assert code == 0
    assert "-- 0001 initial" in stdout
    assert "create table jobs.job (" in stdout
    assert schema is None


async def test_an_error_of_the_database_is_one_line(processes: Processes, dsn: str) -> None:
    missing = await processes.run("migrate", "--dsn", with_database(dsn, "no_such_database"))
    bad_name = await processes.run("migrate", "--dsn", dsn, "--schema", "no; such")

    assert 'database "no_such_database" does not exist' in missing[2]
    for code, stdout, stderr in (missing, bad_name):
        assert (code, stdout) == (1, "")
        assert stderr.startswith("pgqueue: ")
        assert stderr.count("\n") == 1


async def test_the_version_can_be_asked_for_in_both_ways(processes: Processes) -> None:
    assert await processes.run("version") == (0, f"pgqueue {__version__}\n", "")
    assert await processes.run("--version") == (0, f"pgqueue {__version__}\n", "")


def test_the_version_loads_no_web_library(tmp_path: Path) -> None:
    listing = (
        "import sys; sys.argv = ['pgqueue', '--version']\n"
        "from pgqueue.__main__ import main\n"
        "try: main()\nfinally: print(*sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, check=True, text=True)

    version, modules = done.stdout.splitlines()
    assert version == f"pgqueue {__version__}"
    assert not {"uvicorn", "starlette", "jinja2", "sse_starlette", "h11", "watchfiles"} & {*modules.split()}


async def test_the_help_documents_the_exit_codes(processes: Processes) -> None:
    code, stdout, _ = await processes.run("worker", "--help")

    assert code == 0
    assert "Exit codes: 0 stopped by a signal" in stdout
