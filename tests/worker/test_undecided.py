"""What is asked while an outcome is decided is the user's, and may raise or exit: its own job has failed."""

import asyncio
import sys
from collections.abc import Callable
from typing import Annotated, Any

import httpx
import pytest
from kit import inside
from kit.waiting import over
from kit.web_server import serving
from pydantic import AfterValidator, BeforeValidator, PlainSerializer, ValidationInfo

from pgqueue import CodecError, InvalidArgumentsError, Job, JobContext, JobStatus, PgQueue, events
from pgqueue.web import status_app

TOKEN = "correct-horse-battery"

pytestmark = [pytest.mark.handlers, pytest.mark.contract("W21")]


def give_up(*_: object, **__: object) -> Any:
    raise SystemExit(3)


def interrupt(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


def fail(*_: object, **__: object) -> Any:
    raise RuntimeError("asked")


def cancel(*_: object, **__: object) -> Any:
    raise asyncio.CancelledError


def close(*_: object, **__: object) -> Any:
    raise GeneratorExit


ENDS = [give_up, interrupt, fail, cancel, close]


def family(end: Callable[..., Any]) -> Any:
    """Return a class of errors that does not let itself be asked who belongs to it."""

    class Meta(type):
        __instancecheck__ = end
        __subclasscheck__ = end

    return Meta("Family", (Exception,), {})


def lying(end: Callable[..., Any]) -> Exception:
    kind = type("LyingError", (Exception,), {"__class__": property(end), "__getattr__": end, "__str__": end})
    error: Exception = kind()
    return error


class Value:
    """A result that nobody can look at."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(3)


async def runs_on(pgq: PgQueue, task: Any, *args: Any, sender: PgQueue | None = None) -> Job:
    """Return how a job of *task* ended, after another has run in the same slot."""
    job = await (sender or pgq).enqueue_by_name(task.name, *args)

    @pgq.task(name=f"after {task.name}")
    async def next_one() -> str:
        return "ran"

    async with pgq.worker(concurrency=1) as worker:
        ended = await over(job)
        assert await (await next_one.enqueue()).result(timeout=60) == "ran"
        assert worker.is_alive
    return ended


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("option", ["throws", "dont_autoretry_for"])
async def test_a_class_that_cannot_be_asked_fails_the_job_with_a_reason_that_says_so(
    pgq: PgQueue, end: Callable[..., Any], option: str
) -> None:
    async def work() -> None:
        raise ValueError("the error of the handler")

    options: dict[str, Any] = {"max_retries": 1, "default_retry_delay": 0.001, option: (family(end),)}
    task = pgq.task(**options)(work)

    ended = await runs_on(pgq, task)

    assert (ended.status, ended.reason) == (JobStatus.FAILED, "undecided")
    assert ended.error is not None
    assert "ValueError: the error of the handler" in ended.error.message
    assert "deciding what follows" in ended.error.message
    assert ended.error.traceback is not None
    assert "raise ValueError" in ended.error.traceback


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_an_error_that_lies_about_itself_ends_its_own_attempt(
    pgq: PgQueue, end: Callable[..., Any], is_async: bool
) -> None:
    async def work() -> None:
        raise lying(end)

    def work_in_a_thread() -> None:
        raise ExceptionGroup("both", [lying(end), lying(end)])

    options = {"name": "work", "throws": (KeyError,), "max_retries": 0}
    task = pgq.task(**options)(work if is_async else work_in_a_thread)  # type: ignore[call-overload]

    assert (await runs_on(pgq, task)).status is JobStatus.FAILED


@pytest.mark.parametrize("end", ENDS)
async def test_retry_when_that_ends_is_no_answer(pgq: PgQueue, end: Callable[..., Any]) -> None:
    @pgq.task(max_retries=1, default_retry_delay=0.001, retry_backoff=False, retry_when=end)
    async def work() -> None:
        raise ValueError

    ended = await runs_on(pgq, work)

    assert (ended.status, ended.reason, ended.attempt) == (JobStatus.FAILED, "exception", 2)


@pytest.mark.parametrize("end", [give_up, interrupt, fail])
async def test_an_answer_of_retry_when_that_cannot_be_shown_is_no_answer(
    pgq: PgQueue, end: Callable[..., Any]
) -> None:
    answer = type("Answer", (), {"__repr__": end, "__class__": property(end)})

    @pgq.task(max_retries=0, retry_when=lambda *_: answer())
    async def work() -> None:
        raise ValueError

    assert (await runs_on(pgq, work)).reason == "exception"


@pytest.mark.parametrize("end", ENDS)
async def test_a_validator_that_ends_fails_its_own_job(
    pgq: PgQueue, dsn: str, end: Callable[..., Any]
) -> None:
    @pgq.task(max_retries=0)
    async def work(value: Annotated[int, AfterValidator(lambda value: value if value < 5 else end())]) -> int:
        return value

    inside.end_grace(pgq)
    async with PgQueue(dsn) as stranger:
        # It knows the task's name alone, and checks nothing.
        ended = await runs_on(pgq, work, 7, sender=stranger)

    assert (ended.status, ended.reason) == (JobStatus.FAILED, "undecodable")


@pytest.mark.parametrize("end", ENDS)
async def test_a_call_whose_validators_end_is_refused_and_changes_nothing(
    pgq: PgQueue, end: Callable[..., Any]
) -> None:
    """What Ctrl-C or a cancellation raises is not about the call, and passes."""

    @pgq.task(name="work")
    async def work(value: Annotated[int, AfterValidator(lambda _: end())]) -> None: ...

    passes = {interrupt: KeyboardInterrupt, cancel: asyncio.CancelledError}.get(end)
    with pytest.raises(passes or InvalidArgumentsError) as caught:
        await pgq.enqueue_by_name("work", 1)

    if passes is None:
        assert isinstance(caught.value.__cause__, SystemExit | RuntimeError | GeneratorExit)
        assert "asked" not in str(caught.value)
    assert (await pgq.jobs()).jobs == []


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("when", ["python", "json"])
async def test_a_call_over_http_whose_validators_end_is_invalid_and_the_server_lives(
    pgq: PgQueue, end: Callable[..., Any], when: str
) -> None:
    def check(value: Any, info: ValidationInfo) -> int:
        # Read back, a value is validated once more.
        return int(value) if value < 5 or info.mode != when else end()

    @pgq.task(name="work", max_retries=0)
    async def work(value: Annotated[int, BeforeValidator(check)]) -> None: ...

    async with (
        serving(status_app(pgq, token=TOKEN)) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        headers = {"authorization": f"Bearer {TOKEN}"}
        first, second = [
            await client.post("/jobs", json={"task": "work", "arguments": {"value": value}}, headers=headers)
            for value in (7, 1)
        ]

    assert (first.status_code, second.status_code) == (422 if when == "json" else 202, 202)
    assert "asked" not in first.text


@pytest.mark.parametrize("end", ENDS)
async def test_a_result_whose_validators_end_cannot_be_read(pgq: PgQueue, end: Callable[..., Any]) -> None:
    may_end: list[bool] = []

    @pgq.task(name="work")
    async def work() -> Annotated[int, AfterValidator(lambda value: end() if may_end else value)]:
        return 1

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == 1
    may_end.append(True)

    passes = {interrupt: KeyboardInterrupt, cancel: asyncio.CancelledError}.get(end)
    with pytest.raises(passes or CodecError):
        await job.result(timeout=60)


@pytest.mark.parametrize("end", [give_up, fail])
async def test_a_hook_of_the_app_that_ends_ends_no_server(pgq: PgQueue, end: Callable[..., Any]) -> None:
    @pgq.task(name="work")
    async def work() -> None: ...

    app = status_app(pgq, authorize=lambda _, action, __: action == "enqueue" or end(), job_headers=end)
    async with serving(app) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        refused = await client.get("/jobs")
        failed = await client.post("/jobs", json={"task": "work"})
        after = await client.get("/livez")

    assert (refused.status_code, failed.status_code, after.status_code) == (403, 500, 200)


class Talkative:
    """What says why it is refused, at length."""

    @staticmethod
    def refuse(_value: object) -> None:
        raise ValueError("no " * 1_000_000)


TOO_MUCH: dict[str, tuple[Any, Any]] = {
    "a list": (list[int], ["x"] * 100_000),
    "a mapping": (dict[str, int], {str(number): "x" for number in range(50_000)}),
    "lists in lists": (list[list[int]], [["x"] * 1000] * 100),
    "a message": (Annotated[list[str], AfterValidator(Talkative.refuse)], ["x" * 9] * 1000),
}


@pytest.mark.parametrize("kind", TOO_MUCH)
async def test_what_is_said_of_arguments_is_bounded_however_many_are_wrong(
    pgq: PgQueue, dsn: str, kind: str
) -> None:
    annotation, value = TOO_MUCH[kind]

    async def work(values: object) -> None: ...

    work.__annotations__["values"] = annotation
    task = pgq.task(work)
    with pytest.raises(InvalidArgumentsError) as caught:
        await pgq.enqueue_by_name(task.name, value)
    inside.end_grace(pgq)
    async with PgQueue(dsn) as stranger:
        ended = await runs_on(pgq, task, value, sender=stranger)

    assert caught.value.argument == "values"
    assert len(str(caught.value)) < 1000
    assert len(caught.value.errors) <= 1
    assert (ended.status, ended.reason) == (JobStatus.FAILED, "undecodable")
    assert ended.error is not None
    assert len(ended.error.message) < 1000


@pytest.mark.parametrize("end", ENDS)
async def test_a_result_that_cannot_be_stored_fails_its_own_job(
    pgq: PgQueue, end: Callable[..., Any]
) -> None:
    @pgq.task(max_retries=0)
    async def work() -> Annotated[int, PlainSerializer(lambda value: end() or value, when_used="json")]:
        return 1

    assert (await runs_on(pgq, work)).reason == "unstorable_result"


@pytest.mark.parametrize("ignore_result", [True, False])
async def test_a_result_that_cannot_be_looked_at_ends_its_own_job(pgq: PgQueue, ignore_result: bool) -> None:
    @pgq.task(max_retries=0, ignore_result=ignore_result)
    async def work() -> Any:
        return Value()

    assert (await runs_on(pgq, work)).is_terminal


@pytest.mark.parametrize("end", ENDS)
async def test_arguments_of_a_retry_that_cannot_be_stored_fail_the_job(
    pgq: PgQueue, end: Callable[..., Any]
) -> None:
    inside.end_grace(pgq)
    calls = 0

    def check(value: int) -> int:
        nonlocal calls
        calls += value == 2
        # Checked by ctx.retry; stored afterwards.
        return end() if calls > 1 else value

    @pgq.task(max_retries=3)
    async def work(context: JobContext, value: Annotated[int, AfterValidator(check)]) -> None:
        context.retry(args=[value + 1])

    assert (await runs_on(pgq, work, 1)).status is JobStatus.FAILED


@pytest.mark.parametrize("end", ENDS)
async def test_an_observer_or_a_hook_that_ends_ends_nothing_else(
    pgq: PgQueue, end: Callable[..., Any]
) -> None:
    heard: list[Any] = []
    pgq.observe(end)
    pgq.observe(heard.append, events.DeadLettersEntered)

    @pgq.on_dead
    async def hook(letter: Any) -> None:
        runner = asyncio.current_task()
        assert runner is not None
        runner.cancel()
        end()

    @pgq.on_dead
    def in_a_thread(letter: Any) -> None:
        end()

    told = asyncio.Event()

    @pgq.on_dead
    async def last(letter: Any) -> None:
        told.set()

    @pgq.task(max_retries=0)
    async def work() -> None:
        sys.exit(1)

    ended = await runs_on(pgq, work)

    assert (ended.status, ended.reason) == (JobStatus.FAILED, "exception")
    await asyncio.wait_for(told.wait(), 60)
    assert heard
