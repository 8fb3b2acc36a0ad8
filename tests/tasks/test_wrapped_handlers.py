"""A handler runs, in whatever it is wrapped; or it is refused where it is declared."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

import pytest
from kit.waiting import over

from pgqueue import InvalidTaskError, JobContext, JobStatus, PgQueue, SoftTimeLimitExceeded, current_job

pytestmark = [pytest.mark.handlers, pytest.mark.contract("W17")]

DSN = "postgresql://nowhere/none"
ran: list[int] = []


async def plain(x: int) -> int:
    ran.append(x)
    await asyncio.sleep(0)
    return x + 1


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap as decorators of tracing do: a plain function by every sign."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def unnamed(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(x: int) -> Any:
        return function(x)

    return wrapper


def forgot_to_await(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def runs_a_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap as `async_to_sync` does: it wants a thread without a loop."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return wrapper


class Lazy:
    """An awaitable that is no coroutine."""

    def __init__(self, x: int) -> None:
        self._x = x

    def __await__(self) -> Generator[Any, None, int]:
        return plain(self._x).__await__()


class Mailer:
    # Names that a task has, too.
    def __init__(self) -> None:
        self.options, self.enqueue, self.definition, self._queue = "mine", 1, 2, 3

    async def __call__(self, x: int) -> int:
        return await plain(x)

    async def send(self, x: int) -> int:
        return await plain(x)

    def start(self, x: int) -> Awaitable[int]:
        return plain(x)

    @staticmethod
    async def static(x: int) -> int:
        return await plain(x)

    @classmethod
    async def of_class(cls, x: int) -> int:
        return await plain(x)


class PlainCall:
    def __call__(self, x: int) -> int:
        ran.append(x)
        return x + 1


class FromC:
    """As extension modules make functions: what is known of it are its attributes."""

    __name__ = "from_c"
    __qualname__ = "from_c"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)


def lazy(x: int) -> Lazy:
    return Lazy(x)


lazy.__annotations__.pop("return")


def promised(x: int) -> Awaitable[int]:
    return plain(x)


WRAPPED: dict[str, Callable[..., Any]] = {
    "decorated": traced(plain),
    "decorated twice": traced(traced(plain)),
    "decorated without a trace": unnamed(plain),
    "not awaited by its decorator": forgot_to_await(plain),
    "in a loop of its own": runs_a_loop(plain),
    "lambda": lambda x: plain(x),  # noqa: PLW0108  # what is tested
    "awaitable": lazy,
    "annotated as awaitable": promised,
    "partial": functools.partial(plain),
    "partial by name": functools.partial(plain, x=7),
    "partial of a partial": functools.partial(functools.partial(plain)),
    "partial of a decorated one": functools.partial(traced(plain)),
    "callable": Mailer(),
    "plain callable": PlainCall(),
    "decorated callable": traced(Mailer()),
    "partial callable": functools.partial(Mailer()),
    "method": Mailer().send,
    "plain method": Mailer().start,
    "partial method": functools.partial(Mailer().send),
    "static method": Mailer.static,
    "static method of the class body": Mailer.__dict__["static"],
    "class method": Mailer.of_class,
    "from C": FromC(),
}


@pytest.mark.parametrize("ignore_result", [False, True], ids=["kept", "ignored"])
async def test_a_wrapped_handler_has_run_when_its_job_has_succeeded(
    pgq: PgQueue, ignore_result: bool
) -> None:
    ran.clear()
    tasks = [
        pgq.task(name=name, max_retries=0, ignore_result=ignore_result)(handler)
        for name, handler in WRAPPED.items()
    ]
    async with pgq.worker(concurrency=1):
        for task in tasks:
            ran.clear()
            job = await task.enqueue(x=1)
            ended = await over(job)
            assert (task.name, ended.status, ended.error, ran) == (task.name, JobStatus.SUCCEEDED, None, [1])
            if not ignore_result:
                assert await job.result() == 2


async def test_a_task_of_a_task_runs_under_both_names(pgq: PgQueue) -> None:
    ran.clear()
    old = pgq.task(name="old", ignore_result=True)(plain)
    new = pgq.task(name="new")(old)
    between = pgq.task(name="between", ignore_result=True)(traced(old))

    async with pgq.worker(concurrency=1):
        for number, task in enumerate((old, new, between)):
            assert (await over(await task.enqueue(number))).status is JobStatus.SUCCEEDED

    assert (old.name, new.name, between.name) == ("old", "new", "between")
    assert ran == [0, 1, 2]
    assert await new(1) == 2


async def test_what_a_decorated_handler_awaits_has_its_context_and_its_soft_limit(pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    @traced
    async def who(context: JobContext) -> list[str]:
        await context.step("one", plain, 1)
        return [str(context.job_id), str(current_job().job_id), threading.current_thread().name]

    @pgq.task(soft_timeout=0.2, timeout=30, max_retries=0)
    @traced
    async def cleans_up() -> str:
        try:
            await asyncio.sleep(3600)
        except SoftTimeLimitExceeded:
            return "cleaned up"
        return "not told"

    async with pgq.worker():
        job = await who.enqueue()
        assert await job.result(timeout=60) == [str(job.id)] * 2 + [threading.current_thread().name]
        assert await (await cleans_up.enqueue()).result(timeout=60) == "cleaned up"


async def agen(x: int) -> AsyncGenerator[int]:
    ran.append(x)
    yield x


def gen(x: int) -> Generator[int]:
    ran.append(x)
    yield x


class AsyncGenCall:
    async def __call__(self, x: int) -> AsyncGenerator[int]:
        yield x


class GenCall:
    def __call__(self, x: int) -> Generator[int]:
        yield x


@pytest.mark.parametrize(
    "handler",
    [
        *[agen, gen, functools.partial(agen, 1), functools.partial(gen, 1), AsyncGenCall(), GenCall()],
        *[
            Mailer,
            functools.partial(Mailer),
            int,
            property(plain),
            Mailer.__dict__["of_class"],
            7,
            None,
            "plain",
            max,
        ],
    ],
)
def test_what_cannot_run_is_refused_where_it_is_declared(handler: Any) -> None:
    queue = PgQueue(DSN)

    with pytest.raises(InvalidTaskError):
        queue.task(name="refused")(handler)

    assert not list(queue.registry.names)


def test_a_handler_without_a_name_wants_one() -> None:
    queue = PgQueue(DSN)

    for handler in (functools.partial(plain, 7), Mailer()):
        with pytest.raises(InvalidTaskError, match="pass name="):
            queue.task(handler)
        assert queue.task(name=f"named {type(handler).__name__}")(handler).name.startswith("named ")


@pytest.mark.parametrize("ignore_result", [False, True], ids=["kept", "ignored"])
@pytest.mark.parametrize(
    "handler",
    [traced(agen), unnamed(agen), forgot_to_await(agen), traced(traced(agen))],
    ids=["decorated", "unnamed", "async", "twice"],
)
async def test_a_generator_that_nothing_reads_has_not_succeeded(
    pgq: PgQueue, handler: Callable[..., Any], ignore_result: bool
) -> None:
    ran.clear()
    handler.__annotations__ = {"x": int}
    task = pgq.task(name="never read", max_retries=0, ignore_result=ignore_result)(handler)

    async with pgq.worker():
        ended = await over(await task.enqueue(1))

    assert (ended.status, ran) == (JobStatus.FAILED, [])
    assert ended.error is not None
    assert "generator" in ended.error.message


async def test_a_plain_generator_whose_result_is_ignored_has_not_succeeded(pgq: PgQueue) -> None:
    ran.clear()
    task = pgq.task(name="ignored", max_retries=0, ignore_result=True)(unnamed(gen))

    async with pgq.worker():
        ended = await over(await task.enqueue(1))

    assert (ended.status, ran) == (JobStatus.FAILED, [])
