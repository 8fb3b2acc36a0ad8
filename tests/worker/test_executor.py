"""Whatever a handler does, it ends its attempt and never the worker."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from kit import inside
from kit.waiting import eventually, has_status, over

from pgqueue import JobFailed, JobHandle, JobStatus, PgQueue, current_job
from pgqueue.store import Claimed, Lane
from pgqueue.worker.attempt.attempt import RunningAttempt, Stop

if TYPE_CHECKING:
    from conftest import Connection


class UnprintableError(Exception):
    """Cannot be turned into text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class StubbornError(Exception):
    """Ends the program of whoever wants its text."""

    def __str__(self) -> str:
        raise SystemExit(3)


ERRORS: list[tuple[BaseException, str, str]] = [
    (ValueError("wrong"), "ValueError", "wrong"),
    (SystemExit(1), "SystemExit", "1"),
    (KeyboardInterrupt(), "KeyboardInterrupt", ""),
    (asyncio.CancelledError("mine"), "CancelledError", "mine"),
    (GeneratorExit(), "GeneratorExit", ""),
    (
        BaseExceptionGroup("both", [SystemExit(1), ValueError("x")]),
        "BaseExceptionGroup",
        "both (2 sub-exceptions)",
    ),
    (UnprintableError(), "UnprintableError", "<the message could not be read: RuntimeError>"),
    (StubbornError(), "StubbornError", "<the message could not be read: SystemExit>"),
    (ValueError("a\0b"), "ValueError", "a\\0b"),
    (ValueError("a\ud800b"), "ValueError", "a\\ud800b"),
    (ValueError("x" * 100_000), "ValueError", "x" * 10_000),
]


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_whatever_a_handler_raises_ends_its_attempt_and_never_the_worker(
    pgq: PgQueue, is_async: bool
) -> None:
    if is_async:

        @pgq.task(max_retries=0)
        async def fail(number: int) -> None:
            raise ERRORS[number][0]
    else:

        @pgq.task(max_retries=0)
        def fail(number: int) -> None:
            raise ERRORS[number][0]

    jobs = await pgq.enqueue_many(fail.s(number) for number in range(len(ERRORS)))
    async with pgq.worker() as worker:
        ended = [await over(job) for job in jobs]
        assert worker.is_alive
        assert worker.running == 0

    assert {job.status for job in ended} == {JobStatus.FAILED}
    assert {job.reason for job in ended} == {"exception"}
    described = [(job.error.type, job.error.message) for job in ended if job.error is not None]
    assert described == [(kind, message) for _, kind, message in ERRORS]


async def test_the_error_of_an_attempt_is_kept_with_its_traceback(pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    async def fail() -> None:
        raise LookupError("the cause") from OSError("behind it")

    job = await fail.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed, match=r"\(exception\): LookupError: the cause") as raised:
            await job.result(timeout=60)

    error = (await job.refresh()).error
    assert (raised.value.reason, raised.value.error_type) == ("exception", "LookupError")
    assert error is not None
    assert error.traceback is not None
    assert "behind it" in error.traceback
    assert "in fail" in error.traceback


async def test_a_sync_handler_runs_in_a_thread_and_knows_its_job(pgq: PgQueue) -> None:
    threads: list[int] = []

    @pgq.task
    def work(number: int) -> tuple[str, int]:
        threads.append(threading.get_ident())
        return str(current_job().job_id), number

    job = await work.enqueue(7)
    async with pgq.worker():
        result = await job.result(timeout=60)

    assert tuple(result) == (str(job.id), 7)
    assert threads != [threading.get_ident()]


async def test_sync_handlers_run_as_many_at_once_as_the_worker_has_slots(pgq: PgQueue) -> None:
    together = threading.Barrier(50, timeout=60)

    @pgq.task(max_retries=0)
    def meet() -> None:
        together.wait()

    jobs = await pgq.enqueue_many(meet.s() for _ in range(50))
    async with pgq.worker(concurrency=50):
        ended = [await over(job) for job in jobs]

    assert {job.status for job in ended} == {JobStatus.SUCCEEDED}


async def test_neighbours_do_not_see_each_others_job(pgq: PgQueue) -> None:
    together = asyncio.Barrier(10)

    @pgq.task
    async def who() -> str:
        await together.wait()
        return str(current_job().job_id)

    jobs = await pgq.enqueue_many(who.s() for _ in range(10))
    async with pgq.worker():
        results = [await job.result(timeout=60) for job in jobs]

    assert results == [str(job.id) for job in jobs]
    with pytest.raises(RuntimeError, match="no job is running here"):
        current_job()


async def suppress_cancellation() -> str:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(3600)
    return "too late"


async def sleep() -> None:
    await asyncio.sleep(3600)


async def suppress_exceptions() -> None:
    with contextlib.suppress(Exception):
        await asyncio.sleep(3600)


async def raise_instead() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        raise ValueError("while cleaning up")


@pytest.mark.parametrize("handler", [sleep, suppress_exceptions, raise_instead, suppress_cancellation])
async def test_an_attempt_that_takes_too_long_is_cut_off(pgq: PgQueue, handler: Callable[[], Any]) -> None:
    task = pgq.task(name="slow", timeout=0.05, max_retries=0)(handler)

    job = await task.enqueue()
    async with pgq.worker() as worker:
        ended = await over(job)
        assert worker.running == 0

    [attempt] = await pgq.attempts(job.id)
    assert (ended.status, ended.reason, attempt.reason) == (JobStatus.FAILED, "hard_timeout", "hard_timeout")
    assert ended.error is not None
    assert ended.error.type == "HardTimeout"
    assert "0.05 s" in ended.error.message


async def test_a_thread_that_takes_too_long_is_abandoned_and_its_slot_is_free(pgq: PgQueue) -> None:
    go_on = threading.Event()

    @pgq.task(timeout=0.05, max_retries=0)
    def stuck() -> str:
        go_on.wait(30)
        return "too late"

    @pgq.task
    def quick() -> str:
        return "done"

    job = await stuck.enqueue()
    try:
        async with pgq.worker(concurrency=1):
            ended = await over(job)
            neighbour = await (await quick.enqueue()).result(timeout=60)
    finally:
        go_on.set()

    assert (ended.reason, neighbour) == ("hard_timeout", "done")
    assert await job.status() is JobStatus.FAILED


async def test_a_timeout_follows_the_retry_policy(pgq: PgQueue) -> None:
    @pgq.task(timeout=0.02, max_retries=1, default_retry_delay=0.001)
    async def slow() -> None:
        await asyncio.sleep(3600)

    job = await slow.enqueue()
    async with pgq.worker():
        ended = await over(job)

    assert ended.attempt == 2
    assert [each.reason for each in await pgq.attempts(job.id)] == ["hard_timeout", "hard_timeout"]


async def test_the_clock_of_an_attempt_starts_with_its_handler(pgq: PgQueue) -> None:
    @pgq.task(timeout=4)
    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    @pgq.task
    async def block() -> None:
        time.sleep(4.1)  # noqa: ASYNC251  # what this test is about

    # Claimed together: the one waits for the loop while the other has it.
    jobs = await pgq.enqueue_many([block.s(), work.s()])
    async with pgq.worker():
        assert await jobs[1].result(timeout=60) == "done"


@pytest.mark.parametrize(
    "arguments", ["[]", '{"number": "NaN"}', '{"nubmer": 1}', "5", "null", '"x"', "[1, 2]"]
)
async def test_arguments_that_cannot_be_decoded_fail_their_job_and_never_the_worker(
    pgq: PgQueue, db: Connection, arguments: str
) -> None:
    runs: list[int] = []
    inside.end_grace(pgq)

    @pgq.task
    async def work(number: int) -> int:
        runs.append(number)
        return number

    broken = (await work.enqueue(1)).id
    await db.execute(
        f"""
        begin; set local pgqueue.writer to 'on';
        update pgqueue.job set arguments = '{arguments}' where id = '{broken}'; commit
        """
    )
    fine = await work.enqueue(2)
    async with pgq.worker() as worker:
        ended = await over(pgq.handle(broken))
        assert await fine.result(timeout=60) == 2
        assert worker.is_alive

    assert (ended.status, ended.reason, ended.attempt) == (JobStatus.FAILED, "undecodable", 1)
    assert ended.error is not None
    assert "do not match the task" in ended.error.message
    assert runs == [2]


@pytest.mark.parametrize("options", ["[]", '"x"', '{"timeout": -1}', '{"max_retries": "many"}'])
async def test_options_that_cannot_be_read_fail_the_job_and_never_the_worker(
    pgq: PgQueue, db: Connection, options: str
) -> None:
    inside.end_grace(pgq)

    @pgq.task
    async def work() -> int:
        return 1

    broken = await work.enqueue()
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute("update pgqueue.job set options = $1 where id = $2", options, broken.id)
    fine = await work.enqueue()
    async with pgq.worker() as worker:
        ended = await over(broken)
        assert await fine.result(timeout=60) == 1
        assert worker.is_alive

    assert (ended.status, ended.reason) == (JobStatus.FAILED, "undecodable")


async def test_a_codec_that_raises_fails_the_job_and_never_the_worker(dsn: str) -> None:
    class Codec:
        def encode(self, document: str) -> str:
            return document

        def decode(self, stored: str) -> str:
            if "bad" in stored:
                raise RuntimeError("wrong key\0")
            return stored

    async with PgQueue(dsn, codec=Codec()) as pgq:

        @pgq.task
        async def echo(text: str) -> str:
            return text

        bad, good = await pgq.enqueue_many([echo.s("bad"), echo.s("good")])
        async with pgq.worker():
            assert await good.result(timeout=60) == "good"
            await eventually(lambda: has_attempts(pgq, bad))
            [attempt] = await pgq.attempts(bad.id)

    assert attempt.reason == "undecodable"
    assert attempt.error is not None
    assert "wrong key" in attempt.error.message


async def test_a_result_that_cannot_be_stored_fails_the_job_with_a_reason(pgq: PgQueue) -> None:
    values: list[Any] = [object(), "a\0b", "\ud800", "x" * 2_000_000]

    @pgq.task
    async def give(number: int) -> Any:
        return values[number]

    jobs = await pgq.enqueue_many(give.s(number) for number in range(len(values)))
    async with pgq.worker():
        ended = [await over(job) for job in jobs]

    assert {(job.status, job.reason, job.attempt) for job in ended} == {
        (JobStatus.FAILED, "unstorable_result", 1)
    }


@pytest.mark.parametrize(
    ("stop", "status"), [(Stop.RELEASE, JobStatus.PENDING), (Stop.CANCEL, JobStatus.CANCELLED)]
)
async def test_an_attempt_stopped_before_its_first_step_has_an_outcome_and_frees_its_slot(
    pgq: PgQueue, db: Connection, stop: Stop, status: JobStatus
) -> None:
    runs: list[str] = []

    @pgq.task
    async def work() -> None:
        runs.append("ran")

    def start_later(loop: asyncio.AbstractEventLoop, coroutine: Any, **named: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coroutine, loop=loop, **named)

    # A program's own: with it, no Python starts a task at once.
    asyncio.get_running_loop().set_task_factory(start_later)
    job = await work.enqueue()
    async with pgq.worker(grace=60, queues=["none"]) as worker:
        await worker.wait_ready()
        lease_id = inside.lease_of(worker)
        assert lease_id is not None
        # From here on this test claims for it.
        inside.claimer_of(worker).stop()
        await inside.claimer_of(worker).wait_ended()
        inside.claimer_of(worker).book.learn([Lane(1, "default", 0, "")])
        async with inside.database(pgq).acquire() as connection:
            claimed = await inside.store(pgq).claim(connection, lease_id, 1, [(1, 0)])
        inside.slots_of(worker).start(lease_id, claimed)
        [attempt] = inside.slots_of(worker).attempts
        attempt.stop(stop)
        await eventually(lambda: has_status(job, status))
        assert worker.running == 0

    assert runs == []


def test_the_first_reason_to_stop_counts() -> None:
    async def hang() -> None:
        await asyncio.sleep(3600)

    async def check() -> None:
        claimed = Claimed(*[None] * 13)  # type: ignore[arg-type]  # nothing of it is asked for
        attempt = RunningAttempt(claimed, None, None, Lane(1, "default", 0, ""), None, "worker", None)  # type: ignore[arg-type]
        attempt.runner = asyncio.ensure_future(hang())
        attempt.started = 1.0

        attempt.stop(Stop.TIMEOUT)
        attempt.stop(Stop.RELEASE)

        assert attempt.stop_reason is Stop.TIMEOUT
        await asyncio.wait([attempt.runner])
        assert attempt.runner.cancelled()

    asyncio.run(check())


async def has_attempts(pgq: PgQueue, job: JobHandle[Any]) -> bool:
    return bool(await pgq.attempts(job.id))
