"""What a failed attempt had in its local variables is gone with it, without Python's collector."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from types import TracebackType

import pytest
from kit import failing_tasks
from kit.failing_tasks import WAYS, Large, alive
from kit.waiting import eventually, holds

from pgqueue import JobHandle, JobStatus, PgQueue
from pgqueue.events import AttemptsEnded
from pgqueue.worker.attempt.frames import MAX_ERRORS, clear_frames

pytestmark = pytest.mark.handlers

NAMES = [way.__name__ for way in WAYS]
TIMES = 5


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


async def has_ended(job: JobHandle[object]) -> bool:
    status = await job.status()
    return status.is_terminal or status is JobStatus.SCHEDULED


@pytest.mark.contract("W19")
@pytest.mark.usefixtures("no_collector")
async def test_nothing_is_left_of_an_attempt_that_failed(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    # A handler that keeps records keeps their tracebacks, and those the frames.
    caplog.set_level(logging.CRITICAL)
    left: dict[str, int] = {}
    async with PgQueue(dsn, max_retries=0) as pgq:
        for way in WAYS:
            pgq.task(**failing_tasks.options_of(way.__name__))(way)
        async with pgq.worker(concurrency=TIMES, cancel_grace=1):
            for name in NAMES:
                jobs = await pgq.enqueue_many(pgq.signature(name) for _ in range(TIMES))
                if name == "is_cancelled":
                    await eventually(lambda: are_alive(TIMES))
                    for job in jobs:
                        await job.cancel()
                for job in jobs:
                    await eventually(lambda job=job: has_ended(job))  # type: ignore[misc]
                # asyncio closes half-read generators, and runs callbacks, in turns of its own; and a thread
                # tells of its end before it has ended. The collector would never come.
                with suppress(TimeoutError):
                    await eventually(lambda: holds(not alive), within=10)
                left[name] = len(alive)
                alive.clear()

    assert left == dict.fromkeys(NAMES, 0)


@pytest.mark.contract("W19", "BP7")
@pytest.mark.usefixtures("no_collector")
async def test_an_error_is_let_go_of_once_it_was_told_of(
    pgq: PgQueue, caplog: pytest.LogCaptureFixture
) -> None:
    """Until then the attempt keeps it, and it the frames, which lead back to the attempt."""
    caplog.set_level(logging.CRITICAL)
    errors: list[weakref.ref[BaseException]] = []
    told = asyncio.Event()

    class OwnError(Exception):
        pass

    @pgq.task(max_retries=0)
    async def fail() -> None:
        await asyncio.sleep(0)
        error = OwnError()
        errors.append(weakref.ref(error))
        raise error

    pgq.observe(lambda event: told.set() if not event.is_success else None, AttemptsEnded)  # type: ignore[union-attr]

    async with pgq.worker():
        await fail.enqueue()
        await asyncio.wait_for(told.wait(), 60)
        with suppress(TimeoutError):
            await eventually(lambda: holds(errors[0]() is None), within=10)

        assert [error() for error in errors] == [None]


async def are_alive(count: int) -> bool:
    return len(alive) >= count


@pytest.mark.contract("W19")
def test_frames_that_go_on_are_left_alone() -> None:
    """One that caught the error, and is suspended: closing it would end somebody else's work."""
    failed = ValueError()

    def running() -> Iterator[BaseException]:
        large = Large()
        while large.content:
            try:
                raise failed
            except ValueError as error:
                yield error

    reader = running()
    try:
        raise next(reader)
    except ValueError as error:
        clear_frames(error)

    assert next(reader) is failed


@pytest.mark.contract("W19")
async def test_coroutines_that_go_on_are_left_alone() -> None:
    shared: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    go_on = asyncio.Event()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ConnectionError

    async def read() -> str:
        try:
            await fail()
        except ConnectionError as error:
            shared.set_exception(error)
        await go_on.wait()
        return "went on"

    async def numbers() -> AsyncIterator[BaseException]:
        try:
            await fail()
        except ConnectionError as error:
            yield error
        yield KeyError()

    reader = asyncio.create_task(read())
    try:
        await shared
    except ConnectionError as error:
        clear_frames(error)
    generator = numbers()
    clear_frames(await anext(generator))
    go_on.set()

    assert await reader == "went on"
    assert type(await anext(generator)) is KeyError


@pytest.mark.contract("W19")
def test_errors_in_a_circle_and_without_end_are_cleared_in_bounds() -> None:
    class Odd(Exception):  # noqa: N818
        @property
        def __traceback__(self) -> TracebackType:  # type: ignore[override]
            raise AssertionError

    first, second = Odd(), ValueError()
    first.__context__, second.__context__ = second, first
    wide = ExceptionGroup("wide", [ExceptionGroup("inner", [first] * 10) for _ in range(3 * MAX_ERRORS)])

    clear_frames(first)
    clear_frames(wide)


@pytest.mark.contract("W19")
async def test_who_decides_sees_the_frames(pgq: PgQueue) -> None:
    seen: list[object] = []

    def look(_attempt: int, error: BaseException, _job: object) -> bool:
        trace = error.__traceback__
        while trace is not None:
            seen.append(trace.tb_frame.f_locals.get("large"))
            trace = trace.tb_next
        return False

    @pgq.task(retry_when=look)
    async def fail() -> None:
        large = "large"
        raise ValueError(large)

    async with pgq.worker():
        job = await fail.enqueue()
        await eventually(lambda: has_ended(job))

    assert "large" in seen


@pytest.mark.contract("W19")
async def test_nothing_is_left_of_it_in_a_child_either(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGQUEUE_TEST_DSN", dsn)
    pgq = importlib.reload(failing_tasks).pgq
    names = [name for name in NAMES if "hard_limit" not in name and name != "is_cancelled"]
    async with pgq, pgq.worker(concurrency=1):
        jobs = [await pgq.enqueue_by_name(f"{name}_in_a_child") for name in names]
        counted = await pgq.enqueue_by_name("count_alive")
        assert await counted.result(timeout=60) == 0
        assert {await job.status() for job in jobs} <= {JobStatus.FAILED, JobStatus.SCHEDULED}
