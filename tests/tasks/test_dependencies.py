"""Parameters that are no arguments of the job: functions give them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import pytest
from kit.waiting import eventually, is_over

from pgqueue import Depends, InvalidArgumentsError, JobContext, JobFailed, JobStatus, PgQueue, current_job

DSN = "postgresql://nowhere/none"


class Session:
    """Something that is opened and closed for each attempt."""

    def __init__(self, log: list[str]) -> None:
        self.log = log


LOG: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


async def open_session(ctx: JobContext) -> AsyncIterator[Session]:
    """Open one; roll back what fails."""
    LOG.append(f"open for attempt {ctx.attempt}")
    try:
        yield Session(LOG)
    except BaseException as error:
        LOG.append(f"roll back: {type(error).__name__}")
        raise
    else:
        LOG.append("commit")
    finally:
        LOG.append("close")


def user_of(ctx: JobContext, session: Session = Depends(open_session)) -> str:
    """Return somebody, in a thread."""
    assert current_job() is ctx
    session.log.append("main" if threading.current_thread() is threading.main_thread() else "thread")
    return "ada"


@pytest.mark.contract("P8.3")
async def test_dependencies_are_made_once_per_attempt_and_closed_behind_it(pgq: PgQueue) -> None:
    @pgq.task
    async def greet(
        greeting: str, user: str = Depends(user_of), session: Session = Depends(open_session)
    ) -> str:
        session.log.append("run")
        return f"{greeting} {user}"

    @pgq.task
    def greet_in_thread(
        session: Annotated[Session, Depends(open_session)], greeting: str, *, user: str = Depends(user_of)
    ) -> str:
        session.log.append("run")
        return f"{greeting} {user}"

    in_thread: Any = greet_in_thread
    async with pgq.worker():
        assert await (await greet.enqueue("hello")).result(timeout=60) == "hello ada"
        once = list(LOG)
        assert await (await in_thread.enqueue("hello")).result(timeout=60) == "hello ada"

    assert once == ["open for attempt 1", "thread", "run", "commit", "close"]
    assert once * 2 == LOG


@pytest.mark.contract("P8.3")
@pytest.mark.parametrize("is_async", [True, False])
async def test_what_the_handler_raises_reaches_its_dependencies(pgq: PgQueue, *, is_async: bool) -> None:
    async def swallow(session: Session = Depends(open_session)) -> AsyncIterator[None]:
        # It keeps the error to itself, and with it a retry that the handler asked for.
        try:
            yield
        except BaseException as error:
            session.log.append(f"swallowed {type(error).__name__}")

    def fail(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            raise ctx.retry(countdown=0)
        raise ValueError("no")

    if is_async:

        @pgq.task(max_retries=1)
        async def work(ctx: JobContext, _: None = Depends(swallow)) -> None:
            fail(ctx)

    else:

        @pgq.task(name="work", max_retries=1)
        def work_in_thread(ctx: JobContext, _: None = Depends(swallow)) -> None:
            fail(ctx)

    job = await pgq.enqueue_by_name("work")
    async with pgq.worker():
        with pytest.raises(JobFailed) as raised:
            await job.result(timeout=60)

    assert (raised.value.error_type, raised.value.error_message) == ("ValueError", "no")
    assert LOG == [
        "open for attempt 1", "swallowed Retry", "commit", "close",
        "open for attempt 2", "swallowed ValueError", "commit", "close",
    ]  # fmt: skip


@pytest.mark.contract("P8.3")
@pytest.mark.parametrize("is_async", [True, False])
async def test_limits_and_cancellations_reach_through_dependencies(pgq: PgQueue, *, is_async: bool) -> None:
    started, closed = threading.Event(), threading.Event()

    @contextmanager
    def blocking() -> Iterator[threading.Event]:
        try:
            yield threading.Event()
        finally:
            closed.set()

    @asynccontextmanager
    async def waiting(inner: threading.Event = Depends(blocking)) -> AsyncIterator[threading.Event]:
        yield inner

    if is_async:

        @pgq.task(name="work", soft_timeout=1, retry_on_timeout=False)
        async def work(_: threading.Event = Depends(waiting)) -> None:
            started.set()
            await asyncio.Event().wait()

    else:

        @pgq.task(name="work", soft_timeout=1, retry_on_timeout=False)
        def work_in_thread(event: threading.Event = Depends(waiting)) -> None:
            started.set()
            while not event.wait(0.01):
                pass

    job = await pgq.enqueue_by_name("work")
    async with pgq.worker():
        with pytest.raises(JobFailed) as raised:
            await job.result(timeout=60)

    assert (raised.value.reason, started.is_set(), closed.is_set()) == ("soft_timeout", True, True)


@pytest.mark.contract("P8.3")
async def test_a_dependency_that_fails_fails_the_attempt(pgq: PgQueue) -> None:
    async def broken() -> int:
        raise OSError("no connection")

    async def breaks_at_the_end() -> AsyncIterator[int]:
        yield 1
        raise OSError("no commit")

    @pgq.task(max_retries=1, retry_backoff=0.001)
    async def never_runs(value: int = Depends(broken)) -> None:
        LOG.append("ran")

    @pgq.task(max_retries=0)
    async def runs(value: int = Depends(breaks_at_the_end)) -> None: ...

    first, second = await never_runs.enqueue(), await runs.enqueue()
    async with pgq.worker():
        await eventually(lambda: is_over(pgq, first.id))
        await eventually(lambda: is_over(pgq, second.id))

    one, other = await first.refresh(), await second.refresh()
    assert (one.status, one.attempt, LOG) == (JobStatus.FAILED, 2, [])
    assert one.error is not None
    assert other.error is not None
    assert (one.error.message, other.error.message) == ("no connection", "no commit")


@pytest.mark.contract("P8.3")
async def test_a_dependency_is_no_argument_by_any_door(pgq: PgQueue) -> None:
    @pgq.task
    async def greet(name: str, user: str = Depends(user_of)) -> None: ...

    definition = greet.definition
    assert set(definition.arguments.names) == {"name"}
    for call in (
        lambda: greet.enqueue("x", user="eve"),
        lambda: greet.enqueue("x", "eve"),
        lambda: pgq.enqueue_by_name("greet", "x", user="eve"),
    ):
        with pytest.raises(InvalidArgumentsError):
            await call()


@pytest.mark.contract("P8.3")
async def test_a_direct_call_is_given_its_dependencies() -> None:
    @PgQueue(DSN).task
    async def greet(name: str, user: str = Depends(user_of)) -> str:
        return f"{name} {user}"

    assert await greet("hello", user="eve") == "hello eve"
    with pytest.raises(TypeError, match="pass user="):
        await greet("hello")
