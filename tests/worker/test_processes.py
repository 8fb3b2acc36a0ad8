"""Handlers in child processes: run, interrupted, killed, and dying by themselves."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import isolated_tasks
from kit.faults import attempt_reasons, ghost
from kit.waiting import eventually, has_status, over

from pgqueue import InvalidTaskError, JobError, JobFailed, JobStatus, PgQueue, chain
from pgqueue.model.outcomes import Ended, Outcome, Released, Retried, Succeeded
from pgqueue.worker.isolation.wire import pack, pack_outcome, unpack, unpack_outcome

if TYPE_CHECKING:
    from conftest import Connection

DSN = "postgresql://nowhere/none"

TESTS = Path(__file__).parents[1]


@pytest.fixture
async def tasks(dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """The module of tasks, with its PgQueue open on the test's database, as its children find it."""
    monkeypatch.setenv(isolated_tasks.DSN, dsn)
    module = importlib.reload(isolated_tasks)
    async with module.pgq:
        yield module


@pytest.mark.contract("W23")
async def test_what_crosses_to_a_child_and_back_comes_out_as_it_went_in(tasks: Any) -> None:
    receipt = tasks.Receipt(
        chargeId="ch_1",
        at=datetime(2026, 1, 2, tzinfo=UTC),
        password="hunter2",
        ratios=[Decimal("1.10")],
    )
    job = await tasks.echo.enqueue(receipt, b"\xff\x00")
    refused = [await tasks.untyped.enqueue(), await tasks.untyped_step.enqueue()]

    async with tasks.pgq.worker(concurrency=1):
        assert await job.result(timeout=180) == (receipt, b"\xff\x00", receipt, "hunter2")
        for each in refused:
            with pytest.raises(JobFailed, match="annotate it with its type"):
                await each.result(timeout=180)


@pytest.mark.contract("P2.8")
@pytest.mark.parametrize("name", ["add", "add_async"])
async def test_a_child_runs_one_job_after_the_other_and_is_used_again(tasks: Any, name: str) -> None:
    task = getattr(tasks, name)
    async with tasks.pgq.worker(concurrency=1):
        jobs = [await task.enqueue(number, 1) for number in range(5)]
        results = [await job.result(timeout=180) for job in jobs]

    assert [result[0] for result in results] == [1, 2, 3, 4, 5]
    assert [result[2] for result in results] == [str(job.id) for job in jobs]
    [pid] = {result[1] for result in results}
    assert pid != os.getpid()
    assert not is_alive(pid)


@pytest.mark.contract("P2.8")
async def test_as_many_children_run_at_once_as_the_worker_has_slots(tasks: Any, tmp_path: Path) -> None:
    sign, ended = tmp_path / "sign", tmp_path / "ended"
    for _ in range(3):
        await tasks.hold.enqueue(sign, ended)
    async with tasks.pgq.worker(concurrency=2, grace=0, cancel_grace=1):
        pids = await wrote_pids(sign, 2)

    assert len(set(pids)) == 2
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.handlers
@pytest.mark.contract("W15", "W17")
async def test_what_handlers_are_wrapped_in_and_do_to_themselves_is_the_same_in_a_child(tasks: Any) -> None:
    async with tasks.pgq.worker(concurrency=1):
        assert await (await tasks.add_wrapped.enqueue(1, 2)).result(timeout=180) == 3
        in_turn: Any = chain(tasks.add_wrapped.s(1, 2), tasks.add_wrapped.s(3))
        assert await (await in_turn.enqueue()).result(timeout=180) == 6
        unread = await over(await tasks.never_read.enqueue(1))
        cancelled = await over(await tasks.cancel_itself.enqueue())
        late = await tasks.leave_a_scope.enqueue()
        assert await late.result(timeout=180) == 1

    assert (unread.status, unread.reason) == (JobStatus.FAILED, "exception")
    assert (cancelled.status, cancelled.reason, cancelled.attempt) == (JobStatus.FAILED, "exception", 2)


async def test_an_error_of_a_handler_in_a_child_is_the_error_of_its_attempt(tasks: Any) -> None:
    job = await tasks.fail.enqueue("wrong")
    async with tasks.pgq.worker():
        ended = await over(job)

    assert (ended.status, ended.reason, ended.attempt) == (JobStatus.FAILED, "exception", 2)
    assert ended.error is not None
    assert (ended.error.type, ended.error.message) == ("Noisy", "wrong")
    assert "in fail" in (ended.error.traceback or "")
    assert await attempt_reasons(tasks.pgq, job.id) == ["exception", "exception"]


@pytest.mark.contract("P2.8", "P2.11")
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("exit", "exit code 3"),
        ("segfault", "signal SIGSEGV"),
        ("kill", "signal SIGKILL"),
        ("realtime", "signal 40"),
    ],
)
async def test_a_child_that_dies_is_a_failed_attempt_and_never_harms_the_worker(
    tasks: Any, how: str, message: str
) -> None:
    job = await tasks.die.options(max_retries=1, default_retry_delay=0.001).enqueue(how)
    async with tasks.pgq.worker(concurrency=1) as worker:
        ended = await over(job)
        assert (await (await tasks.add.enqueue(1, 2)).result(timeout=180))[0] == 3
        assert worker.is_alive

    assert (ended.status, ended.reason, ended.attempt) == (JobStatus.FAILED, "process_died", 2)
    assert ended.error is not None
    assert ended.error.message == f"the process that ran the handler ended with {message}"
    assert ended.losses == 0


@pytest.mark.contract("W12")
async def test_suspects_in_children_run_alone_and_one_that_dies_there_is_no_loss_of_any(
    tasks: Any,
) -> None:
    suspects = [await tasks.die.enqueue("kill"), await tasks.add.enqueue(1, 2)]
    for _ in range(2):
        # Their worker is lost, with both of them.
        async with ghost(tasks.pgq) as lost:
            await lost.claim()
            await lost.die()
        async with tasks.pgq.worker(queues=["others"]):
            for job in suspects:
                await eventually(lambda job=job: has_status(job, JobStatus.PENDING))  # type: ignore[misc]
    others = [await tasks.add.enqueue(number, 1) for number in range(3)]
    killed = await tasks.die.options(max_retries=0).enqueue("kill")
    async with tasks.pgq.worker(concurrency=4) as worker:
        dead, added, *ends = [await over(job) for job in (*suspects, *others, killed)]
        assert worker.is_alive

    assert (dead.status, dead.reason, added.status) == (JobStatus.FAILED, "process_died", JobStatus.SUCCEEDED)
    assert [end.status.value for end in ends] == ["succeeded"] * 3 + ["failed"]
    # What a child does to itself is no loss of a worker: nobody is charged for it.
    assert [end.losses for end in (dead, added, *ends)] == [2, 2, 0, 0, 0, 0]


@pytest.mark.contract("P2.8", "P2.4")
@pytest.mark.parametrize("name", ["block", "block_async"])
async def test_a_child_is_killed_at_the_hard_limit_with_all_that_it_started(
    tasks: Any, tmp_path: Path, name: str
) -> None:
    sign = tmp_path / "sign"
    job = await getattr(tasks, name).enqueue(sign)
    async with tasks.pgq.worker(concurrency=1):
        ended = await over(job)
        pids = await wrote_pids(sign, 2 if name == "block" else 1)
        await eventually(lambda: all_gone(pids))
        assert (await (await tasks.add.enqueue(1, 2)).result(timeout=180))[0] == 3

    assert (ended.status, ended.reason) == (JobStatus.FAILED, "hard_timeout")


@pytest.mark.contract("P2.8", "P2.1", "P2.2")
@pytest.mark.parametrize("name", ["rest", "rest_async"])
async def test_the_soft_limit_interrupts_a_child_even_in_a_blocking_call(tasks: Any, name: str) -> None:
    task = getattr(tasks, name)
    caught, uncaught = await task.enqueue(catches=True), await task.enqueue(catches=False)
    async with tasks.pgq.worker(concurrency=1):
        assert await caught.result(timeout=180) == "cleaned up"
        ended = await over(uncaught)
        assert (await (await tasks.add.enqueue(1, 2)).result(timeout=180))[0] == 3

    assert (ended.status, ended.reason) == (JobStatus.FAILED, "soft_timeout")


@pytest.mark.contract("P2.9", "P2.8")
async def test_the_clock_of_a_child_starts_with_its_handler(
    tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Starting a process takes longer than this.
    monkeypatch.setenv(isolated_tasks.SLOW_START, "4")
    job = await tasks.add.options(timeout=3.5, soft_timeout=3).enqueue(1, 2)
    async with tasks.pgq.worker():
        assert (await job.result(timeout=180))[0] == 3


@pytest.mark.contract("P2.20", "P2.8")
async def test_a_stopped_handler_in_a_child_returns_its_job_without_counting_the_attempt(
    tasks: Any, tmp_path: Path
) -> None:
    sign, ended = tmp_path / "sign", tmp_path / "ended"
    job = await tasks.hold.enqueue(sign, ended)
    async with tasks.pgq.worker(grace=0, cancel_grace=30):
        [pid] = await wrote_pids(sign, 1)

    after = await job.refresh()
    assert (after.status, after.attempt) == (JobStatus.PENDING, 0)
    assert ended.exists()
    assert not is_alive(pid)


async def test_a_running_job_in_a_child_can_be_cancelled(tasks: Any, tmp_path: Path) -> None:
    sign, ended = tmp_path / "sign", tmp_path / "ended"
    job = await tasks.hold.enqueue(sign, ended)
    async with tasks.pgq.worker(cancel_grace=30):
        await wrote_pids(sign, 1)
        assert await job.cancel()
        assert (await over(job)).status is JobStatus.CANCELLED

    assert ended.exists()


@pytest.mark.contract("P2.8")
async def test_a_child_reaches_the_database_by_its_context(tasks: Any, db: Connection) -> None:
    await db.execute("create table written (text text)")
    job = await tasks.write.enqueue("hello")
    async with tasks.pgq.worker(queues=["default"]):
        assert await job.result(timeout=180) == "hello"

    assert await db.fetchval("select text from written") == "hello"
    assert await db.fetchval("select count(*) from pgqueue.ready") == 1
    assert await tasks.pgq.attempts(job.id) == []


@pytest.mark.contract("P2.8")
async def test_children_end_when_their_worker_is_killed(tasks: Any, dsn: str, tmp_path: Path) -> None:
    sign, ended = tmp_path / "sign", tmp_path / "ended"
    await tasks.hold.enqueue(sign, ended)
    program = "import asyncio; from kit import isolated_tasks; asyncio.run(isolated_tasks.main())"
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        cwd=Path(__file__).parents[1],
        env={**os.environ, isolated_tasks.DSN: dsn},
    )
    [pid] = await wrote_pids(sign, 1)
    assert is_alive(pid)

    worker.send_signal(signal.SIGKILL)
    await worker.wait()

    await eventually(lambda: all_gone([pid]))
    assert not ended.exists()


def test_a_function_that_no_child_can_import_is_refused_at_its_declaration() -> None:
    pgq = PgQueue(DSN)

    with pytest.raises(InvalidTaskError, match="task 'inner': isolation='process' needs a function"):
        pgq.task(isolation="process")(isolated_tasks.make_local())
    with pytest.raises(InvalidTaskError, match="isolation must be 'thread' or 'process', got 'fork'"):
        pgq.task(isolation="fork")(isolated_tasks.note)  # type: ignore[call-overload]

    assert list(pgq.registry.names) == []


async def test_a_task_that_no_child_can_find_is_refused_when_a_worker_is_made(pgq: PgQueue) -> None:
    pgq.task(isolation="process")(isolated_tasks.note)

    with pytest.raises(InvalidTaskError, match=r"would import 'kit\.isolated_tasks' and not find the task"):
        pgq.worker()


errors = st.none() | st.builds(JobError, type=st.text(), message=st.text(), traceback=st.none() | st.text())
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Succeeded, job_id=st.uuids(), result=st.none() | st.text()),
    st.builds(
        Retried,
        job_id=st.uuids(),
        delay=st.floats(0, 1e9),
        reason=st.text(),
        error=errors,
        spent=st.booleans(),
        not_before=st.none() | st.datetimes(timezones=st.timezones()),
        options=st.none() | st.text(),
        arguments=st.none() | st.text(),
    ),
    st.builds(Ended, job_id=st.uuids(), status=st.sampled_from(JobStatus), reason=st.text(), error=errors),
    st.builds(Released, job_id=st.uuids()),
)


@given(outcomes)
def test_every_outcome_survives_the_way_from_a_child_to_its_worker(outcome: Outcome) -> None:
    line = pack({"outcome": pack_outcome(outcome)})

    assert line.count(b"\n") == 1
    assert comparable(unpack_outcome(unpack(line)["outcome"])) == comparable(outcome)


def comparable(outcome: Outcome) -> object:
    """Return *outcome* so that two compare by the time on the clock and its offset.

    As they are, a time that a clock skipped or showed twice equals nothing in another zone.
    """
    if not isinstance(outcome, Retried) or outcome.not_before is None:
        return outcome
    when = outcome.not_before
    return replace(outcome, not_before=when.replace(tzinfo=None, fold=0)), when.utcoffset()


async def wrote_pids(sign: Path, count: int) -> list[int]:
    """Wait until *count* process ids are written to *sign*, and return them."""

    async def has_lines() -> bool:
        return len(lines_of(sign)) >= count

    await eventually(has_lines)
    return [int(line) for line in lines_of(sign)]


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def is_alive(pid: int) -> bool:
    try:
        # A process that was killed and not yet waited for is as good as gone.
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def all_gone(pids: list[int]) -> bool:
    return not any(is_alive(pid) for pid in pids)
