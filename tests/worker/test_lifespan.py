"""What a worker prepares before its first claim, and cleans up after its last attempt."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kit import isolated_tasks

from pgqueue import (
    ConfigurationError,
    ContextError,
    JobContext,
    JobStatus,
    PgQueue,
    WorkerLifespanError,
    current_job,
)

DSN = "postgresql://nowhere/none"


@dataclass
class State:
    """What handlers share."""

    seen: list[str]


@pytest.mark.contract("P8.3")
async def test_a_lifespan_is_around_all_attempts_of_a_worker_and_its_state_is_in_their_context(
    pgq: PgQueue,
) -> None:
    happened: list[str] = []

    @pgq.lifespan
    async def lifespan() -> AsyncIterator[State]:
        happened.append("began")
        # A scope that is left in another asyncio task than it was entered in is an error.
        async with asyncio.timeout(None):
            yield State([])
        happened.append("ended")

    @pgq.task
    async def work(ctx: JobContext[State]) -> None:
        ctx.state.seen.append("async")
        happened.append("ran")

    @pgq.task
    def work_in_thread() -> int:
        state: State = current_job().state
        state.seen.append("in a thread")
        return len(state.seen)

    job = await work.enqueue()
    async with pgq.worker(concurrency=1):
        before = list(happened)
        await job.result(timeout=60)
        assert await (await work_in_thread.enqueue()).result(timeout=60) == 2

    assert before[0] == "began"
    assert happened == ["began", "ran", "ended"]
    async with pgq.worker():
        pass
    assert happened == ["began", "ran", "ended", "began", "ended"]


@pytest.mark.contract("P8.3")
@pytest.mark.parametrize("error", [OSError("no broker"), SystemExit(3), None])
async def test_a_lifespan_that_fails_at_the_start_stops_it_and_nothing_was_claimed(
    pgq: PgQueue, error: BaseException | None
) -> None:
    @pgq.lifespan
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        if error is not None:
            raise error
        never: list[None] = []
        for each in never:
            yield each

    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()

    with pytest.raises(WorkerLifespanError, match="failed at the start, and nothing was claimed") as raised:
        async with pgq.worker():
            raise AssertionError("unreachable")

    assert error is None or raised.value.__cause__ is error
    assert (await job.refresh()).status is JobStatus.PENDING


@pytest.mark.contract("P8.3")
async def test_a_stop_during_the_start_cancels_it(pgq: PgQueue) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    @pgq.lifespan
    async def lifespan() -> AsyncIterator[None]:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        yield

    worker = pgq.worker()
    worker.start()
    await began.wait()

    worker.stop()
    await worker.wait_stopped()

    assert cancelled.is_set()


@pytest.mark.contract("P8.3")
@pytest.mark.parametrize("how", ["release", "cancel", "error"])
async def test_however_abruptly_a_worker_is_stopped_its_lifespan_ends_after_its_attempts(
    pgq: PgQueue, how: str
) -> None:
    happened: list[str] = []
    started = asyncio.Event()

    @pgq.lifespan
    async def lifespan() -> AsyncIterator[list[str]]:
        try:
            yield happened
        finally:
            await asyncio.sleep(0)
            happened.append("ended")

    @pgq.task
    async def work(ctx: JobContext[list[str]]) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ctx.state.append("stopped")

    async def serve() -> None:
        async with pgq.worker(grace=0 if how == "error" else 30) as worker:
            await work.enqueue()
            await started.wait()
            if how == "release":
                worker.release()
            elif how == "error":
                raise LookupError
            else:
                asyncio.current_task().cancel()  # type: ignore[union-attr]
            await worker.wait_stopped()

    serving = asyncio.create_task(serve())
    await asyncio.wait((serving,))

    assert happened == ["stopped", "ended"]


@pytest.mark.contract("P8.3")
async def test_a_lifespan_that_ends_by_itself_stops_the_worker_and_its_jobs_return(pgq: PgQueue) -> None:
    started, broken = asyncio.Event(), asyncio.Event()

    @pgq.lifespan
    async def lifespan() -> AsyncIterator[None]:
        async def break_down() -> None:
            await broken.wait()
            raise OSError("the connection of the state is gone")

        async with asyncio.TaskGroup() as group:
            group.create_task(break_down())
            yield

    @pgq.task
    async def work() -> None:
        started.set()
        await asyncio.Event().wait()

    job = await work.enqueue()
    worker = pgq.worker()
    worker.start()
    await started.wait()
    broken.set()

    with pytest.raises(WorkerLifespanError, match="ended while the worker was running"):
        await worker.wait_stopped()

    assert (await job.refresh()).status is JobStatus.PENDING


@pytest.mark.contract("P8.3")
async def test_a_lifespan_that_fails_or_hangs_at_its_end_is_told(
    pgq: PgQueue, caplog: pytest.LogCaptureFixture
) -> None:
    hangs = False

    @pgq.lifespan
    async def lifespan() -> AsyncIterator[None]:
        yield
        if hangs:
            await asyncio.Event().wait()
        raise OSError("not flushed")

    with pytest.raises(
        WorkerLifespanError, match="failed at the end; no job is concerned: OSError: not flushed"
    ):
        async with pgq.worker():
            pass
    hangs = True
    async with pgq.worker(cancel_grace=0.05):
        pass

    assert "did not end within 0.05 s" in caplog.text


@pytest.mark.contract("P8.3")
async def test_where_no_state_is_declared_asking_for_it_is_a_typed_error(pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    async def work(ctx: JobContext) -> None:
        with pytest.raises(ContextError, match=r"declare it with .*@pgq\.lifespan"):
            _ = ctx.state

    async with pgq.worker():
        await (await work.enqueue()).result(timeout=60)


@pytest.mark.contract("P8.3", "W23")
async def test_a_child_process_has_a_lifespan_of_its_own(
    dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(isolated_tasks.DSN, dsn)
    monkeypatch.setenv(isolated_tasks.SIGNS, str(tmp_path))
    module = importlib.reload(isolated_tasks)
    async with module.pgq, module.pgq.worker(concurrency=1):
        first = await (await module.stateful.enqueue()).result(timeout=60)
        second = await (await module.stateful.enqueue()).result(timeout=60)

    # One state for both, made in that process, and cleaned up when it ended; the worker has one of its own.
    assert (first[0], second[0], first[1]) == (1, 2, second[1])
    signs = Counter(name.split()[0] for name in os.listdir(tmp_path))  # noqa: PTH208  # the names alone
    assert signs == {"began": 2, "ended": 2}


def sync_generator() -> Iterator[None]:
    yield


async def coroutine() -> None: ...


async def with_argument(app: object) -> AsyncIterator[None]:
    yield


@pytest.mark.contract("P8.3")
@pytest.mark.parametrize("function", [7, sync_generator, coroutine, with_argument])
def test_what_cannot_be_a_lifespan_is_refused_when_it_is_declared(function: Any) -> None:
    with pytest.raises(ConfigurationError, match="lifespan"):
        PgQueue(DSN).lifespan(function)


@pytest.mark.contract("P8.3")
def test_there_is_one_lifespan() -> None:
    pgq = PgQueue(DSN)

    @pgq.lifespan
    async def first() -> AsyncIterator[None]:
        yield

    with pytest.raises(ConfigurationError, match="one is declared already"):
        pgq.lifespan(first)
