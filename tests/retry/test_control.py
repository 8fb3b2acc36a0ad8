"""What a handler says instead of returning, and which errors are retried."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from kit.waiting import eventually, over
from pydantic import TypeAdapter

from pgqueue import (
    InvalidArgumentsError,
    InvalidOptionError,
    JobContext,
    JobFailed,
    JobHandle,
    JobStatus,
    PgQueue,
    Reject,
    Retry,
    Snooze,
    current_job,
)

if TYPE_CHECKING:
    from conftest import Connection


class CardError(Exception):
    """The base of what a payment provider says."""


class DeclinedError(CardError):
    """The card is declined: for ever."""


class BusyError(CardError):
    """The provider is busy and says until when."""

    def __init__(self, retry_after: Any) -> None:
        self.retry_after = retry_after
        super().__init__("busy")


class BadError(BaseException):
    """Somebody's own, and no Exception."""


# ctx.retry


@pytest.mark.contract("P2.31")
async def test_a_countdown_of_2_to_the_retries_minutes_waits_60_120_and_240_seconds(
    pgq: PgQueue, db: Connection
) -> None:
    after: list[str] = []

    @pgq.task(max_retries=3)
    async def charge(ctx: JobContext) -> str:
        try:
            ask_provider()
        except ConnectionError as error:
            raise ctx.retry(exc=error, countdown=2**ctx.retries * 60) from error
        finally:
            after.append("finally")
        after.append("after")
        return "charged"

    def ask_provider() -> None:
        raise ConnectionError("busy")

    job = await charge.enqueue()
    waits = []
    async with pgq.worker(poll_interval=0.05):
        for attempt in range(1, 4):
            await eventually(lambda attempt=attempt: waits_after(job, attempt))  # type: ignore[misc]
            waits.append(await waits_for(pgq, job))
            await make_due(db, job)
        with pytest.raises(JobFailed, match=r"\(exception\): ConnectionError: busy"):
            await job.result(timeout=60)

    assert waits == [60, 120, 240]
    assert after == ["finally"] * 4
    assert [each.attempt for each in await pgq.attempts(job.id)] == [1, 2, 3, 4]


@pytest.mark.contract("P2.31")
async def test_a_retry_at_a_time_waits_for_that_time(pgq: PgQueue) -> None:
    eta = datetime.now(UTC) + timedelta(days=3)

    @pgq.task
    async def work(ctx: JobContext) -> None:
        ctx.retry(eta=eta)

    job = await work.enqueue()
    async with pgq.worker():
        await eventually(lambda: waits_after(job, 1))

    read = await job.refresh()
    assert (read.next_run_at, read.last_reason, read.last_error) == (eta, "retry", None)


@pytest.mark.contract("P2.31", "P2.39")
async def test_a_retry_with_other_arguments_runs_with_those_and_keeps_only_those(
    pgq: PgQueue, db: Connection
) -> None:
    seen: list[tuple[int, str]] = []

    @pgq.task
    async def work(ctx: JobContext, number: int, text: str = "none") -> str:
        seen.append((number, text))
        if number < 3:
            raise ctx.retry(countdown=0, args=[number + 1], kwargs={"text": "x" * (3 - number)})
        return "done"

    job = await work.enqueue(1)
    by_name = await pgq.enqueue_by_name("work", 2)
    by_sql = pgq.handle(await db.fetchval("select pgqueue.enqueue('work', '[2, \"sql\"]')"))
    async with pgq.worker(concurrency=1):
        results = [await each.result(timeout=60) for each in (job, by_name, by_sql)]

    assert results == ["done"] * 3
    assert sorted(seen) == [(1, "none"), (2, "none"), (2, "sql"), (2, "xx"), (3, "x"), (3, "x"), (3, "x")]
    assert (await job.refresh()).arguments == {"number": 3, "text": "x"}


@pytest.mark.contract("P2.31")
async def test_arguments_of_a_retry_that_do_not_fit_are_refused_where_they_are_given(pgq: PgQueue) -> None:
    found: list[Exception] = []

    @pgq.task
    async def work(ctx: JobContext, number: int) -> None:
        try:
            ctx.retry(args=["not a number"])
        except InvalidArgumentsError as error:
            found.append(error)
            raise

    job = await work.enqueue(1)
    async with pgq.worker():
        with pytest.raises(JobFailed, match="InvalidArgumentsError"):
            await job.result(timeout=60)

    assert "task 'work': argument 'number'" in str(found[0])
    read = await job.refresh()
    assert (read.attempt, read.arguments) == (1, {"number": 1})


async def test_arguments_of_a_raised_retry_are_looked_at_by_the_worker(dsn: str) -> None:
    async with PgQueue(dsn, payload_limit=100) as pgq:

        @pgq.task
        async def work(text: str) -> None:
            raise Retry(kwargs={"text": "x" * 200})

        job = await work.enqueue("short")
        async with pgq.worker():
            with pytest.raises(JobFailed, match=r"\(invalid_arguments\): PayloadTooLargeError"):
                await job.result(timeout=60)


@pytest.mark.contract("P2.31", "P2.26")
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_nothing_runs_after_a_retry_and_nothing_swallows_it(pgq: PgQueue, is_async: bool) -> None:
    ran: list[str] = []

    def deep_down() -> None:
        try:
            current_job().retry(countdown=0)
        except Exception:
            ran.append("swallowed")
        ran.append("after")

    @pgq.task(autoretry_for=(), name="work")
    async def work() -> str:
        if current_job().attempt == 1:
            deep_down()
        return "second"

    @pgq.task(autoretry_for=(), name="sync")
    def work_in_thread() -> str:
        if current_job().attempt == 1:
            deep_down()
        return "second"

    job: JobHandle[str] = await (work if is_async else work_in_thread).enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == "second"

    assert ran == []
    assert [each.reason for each in await pgq.attempts(job.id)] == ["retry"]


@pytest.mark.contract("P2.31")
async def test_task_groups_let_what_a_handler_says_through(pgq: PgQueue) -> None:
    @pgq.task(max_retries=5)
    async def work(ctx: JobContext) -> str:
        if ctx.attempt == 1:
            async with asyncio.TaskGroup():
                ctx.retry(countdown=0)
        if ctx.attempt == 2:
            async with asyncio.TaskGroup() as group:
                group.create_task(again(ctx))
                await asyncio.sleep(3600)
        if ctx.attempt == 3:
            async with anyio.create_task_group() as outer, anyio.create_task_group():
                outer.start_soon(anyio.sleep, 3600)
                ctx.retry(countdown=0)
        return "fourth"

    async def again(ctx: JobContext) -> None:
        ctx.retry(countdown=0)

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == "fourth"

    assert [each.reason for each in await pgq.attempts(job.id)] == ["retry"] * 3


async def test_a_group_that_holds_other_errors_too_is_an_error(pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    async def work() -> None:
        raise BaseExceptionGroup("both", [Snooze(1), ValueError("lost")])

    job = await work.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed, match=r"\(exception\): BaseExceptionGroup: both"):
            await job.result(timeout=60)


@pytest.mark.contract("P2.32")
async def test_exhausted_retries_record_the_exception_given_or_handled_or_say_so(pgq: PgQueue) -> None:
    @pgq.task(max_retries=1)
    async def work(ctx: JobContext, how: str) -> None:
        if how == "given":
            ctx.retry(exc=ValueError("given"), countdown=0)
        if how == "handled":
            try:
                dict[str, str]()["handled"]
            except KeyError:
                ctx.retry(countdown=0)
        ctx.retry(countdown=0)

    jobs = await pgq.enqueue_many(work.s(how) for how in ("given", "handled", "neither"))
    async with pgq.worker():
        ended = [await over(job) for job in jobs]

    assert {(job.status, job.attempt) for job in ended} == {(JobStatus.FAILED, 2)}
    errors = [(job.error.type, job.error.message) for job in ended if job.error]
    assert errors[:2] == [("ValueError", "given"), ("KeyError", "'handled'")]
    assert errors[2][0] == "MaxRetriesExceeded"
    assert [job.reason for job in ended] == ["exception", "exception", "max_retries_exceeded"]


@pytest.mark.contract("P2.33")
async def test_a_limit_given_to_a_retry_holds_for_later_attempts_and_none_is_no_limit(
    pgq: PgQueue, db: Connection
) -> None:
    @pgq.task(max_retries=0, default_retry_delay=0)
    async def work(ctx: JobContext, limit: int | None) -> int:
        if ctx.attempt == 1:
            ctx.retry(max_retries=limit)
        if ctx.attempt < 7:
            raise ValueError("as any other failure")
        return ctx.attempt

    unlimited, limited = await work.options(max_losses=7).enqueue(None), await work.enqueue(2)
    async with pgq.worker():
        assert await unlimited.result(timeout=60) == 7
        with pytest.raises(JobFailed, match="as any other failure"):
            await limited.result(timeout=60)

    assert (await limited.refresh()).attempt == 3
    stored = await db.fetchval("select options::text from pgqueue.job where id = $1", unlimited.id)
    assert json.loads(stored) == {"max_losses": 7, "max_retries": None}


@pytest.mark.contract("P2.33")
async def test_without_a_limit_of_its_own_a_retry_has_that_of_its_task(pgq: PgQueue) -> None:
    @pgq.task(max_retries=2)
    async def work(ctx: JobContext) -> None:
        ctx.retry(countdown=0)

    job = await work.enqueue()
    async with pgq.worker():
        ended = await over(job)

    assert (ended.attempt, ended.reason) == (3, "max_retries_exceeded")


@pytest.mark.contract("P2.28")
async def test_a_retry_that_says_no_time_waits_the_default_delay(pgq: PgQueue) -> None:
    @pgq.task(retry_backoff=False)
    async def work(ctx: JobContext) -> None:
        ctx.retry()

    job = await work.enqueue()
    async with pgq.worker():
        await eventually(lambda: waits_after(job, 1))

    assert await waits_for(pgq, job) == 60


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"countdown": -1}, "retry: 'countdown' must be 0 or more, got -1"),
        ({"countdown": float("nan")}, "finite"),
        ({"countdown": "60"}, "must be a number of seconds or a timedelta"),
        ({"eta": datetime(2030, 1, 1)}, "has no time zone"),  # noqa: DTZ001
        ({"countdown": 1, "eta": datetime(2030, 1, 1, tzinfo=UTC)}, "pass one of them"),
        ({"max_retries": -1}, "whole number"),
        ({"max_retries": 1.5}, "whole number"),
        ({"exc": "text"}, "must be an exception"),
    ],
)
def test_a_retry_that_makes_no_sense_is_refused(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidOptionError, match=match):
        Retry(**wrong)


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), None, "60"])
def test_a_snooze_that_makes_no_sense_is_refused(delay: Any) -> None:
    with pytest.raises(InvalidOptionError, match="snooze: the delay"):
        Snooze(delay)


# Snooze and Reject


@pytest.mark.contract("P2.38")
async def test_a_snoozed_job_runs_later_and_spends_no_attempt(pgq: PgQueue, db: Connection) -> None:
    numbers: list[int] = []

    @pgq.task(max_retries=0)
    async def work(ctx: JobContext) -> str:
        numbers.append(ctx.attempt)
        if len(numbers) == 1:
            ctx.snooze(timedelta(hours=2))
        if len(numbers) == 2:
            raise Snooze(0)
        return "at last"

    job = await work.enqueue()
    async with pgq.worker(poll_interval=0.05):
        await eventually(lambda: is_snoozed(job))
        read, waited = await job.refresh(), await waits_for(pgq, job)
        await make_due(db, job)
        assert await job.result(timeout=60) == "at last"

    assert (read.attempt, read.last_reason, waited) == (0, "snoozed", 7200)
    assert numbers == [1, 1, 1]
    assert [each.reason for each in await pgq.attempts(job.id)] == ["snoozed", "snoozed"]


@pytest.mark.contract("P2.37")
async def test_a_rejected_job_has_failed_for_good_with_the_reason_given(pgq: PgQueue) -> None:
    @pgq.task(max_retries=None)
    async def work() -> None:
        raise Reject("no such account")

    job = await work.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed, match=r"\(rejected\): Reject: no such account"):
            await job.result(timeout=60)

    assert (await job.refresh()).attempt == 1


@pytest.mark.contract("P2.37")
async def test_an_error_that_the_task_throws_is_not_retried_and_a_returned_answer_is_success(
    pgq: PgQueue,
) -> None:
    @pgq.task(throws=DeclinedError, retry_when=lambda *_: True)
    async def charge(how: str) -> dict[str, str]:
        if how == "raise":
            raise DeclinedError("expired card")
        return {"status": "declined"}

    raised, returned = await pgq.enqueue_many([charge.s("raise"), charge.s("return")])
    async with pgq.worker():
        with pytest.raises(JobFailed, match=r"\(expected\): DeclinedError"):
            await raised.result(timeout=60)
        assert await returned.result(timeout=60) == {"status": "declined"}

    assert (await raised.refresh()).attempt == 1
    assert await returned.status() is JobStatus.SUCCEEDED


# Which errors


@pytest.mark.contract("P2.26", "BP9")
@pytest.mark.parametrize(
    ("options", "error", "executions"),
    [
        ({}, ValueError, 2),
        ({}, asyncio.CancelledError, 2),
        ({}, SystemExit, 1),
        ({}, BadError, 1),
        ({"autoretry_for": CardError}, DeclinedError, 2),
        ({"autoretry_for": (CardError, OSError)}, ConnectionError, 2),
        ({"autoretry_for": (CardError,)}, ValueError, 1),
        ({"autoretry_for": (CardError,)}, asyncio.CancelledError, 1),
        ({"autoretry_for": ()}, ValueError, 1),
        ({"autoretry_for": BaseException}, BadError, 2),
        ({"autoretry_for": CardError, "dont_autoretry_for": DeclinedError}, DeclinedError, 1),
        ({"dont_autoretry_for": CardError, "retry_when": lambda *_: True}, DeclinedError, 1),
        ({"dont_autoretry_for": CardError, "retry_policies": {DeclinedError: {}}}, DeclinedError, 1),
        ({"autoretry_for": (), "retry_when": lambda *_: True}, BadError, 2),
        ({"retry_when": lambda *_: False}, ValueError, 1),
        ({"autoretry_for": (), "retry_policies": {ValueError: {"max_retries": 1}}}, UnicodeError, 2),
    ],
)
async def test_an_error_is_retried_if_it_is_of_a_kind_that_is(
    pgq: PgQueue, options: Any, error: type[BaseException], executions: int
) -> None:
    @pgq.task(max_retries=1, default_retry_delay=0, **options)
    async def work() -> None:
        raise error

    job = await work.enqueue()
    async with pgq.worker() as worker:
        ended = await over(job)
        assert worker.is_alive

    assert (ended.status, ended.attempt) == (JobStatus.FAILED, executions)


@pytest.mark.contract("BP9")
async def test_calls_and_values_that_are_not_valid_are_not_tried_again_unless_they_are_named(
    pgq: PgQueue,
) -> None:
    @pgq.task(max_retries=1, default_retry_delay=0)
    async def validate() -> None:
        TypeAdapter(int).validate_python("not a number")

    @pgq.task(max_retries=1, default_retry_delay=0, autoretry_for=ValueError)
    async def validate_as_wide_as_that() -> None:
        TypeAdapter(int).validate_python("not a number")

    @pgq.task(max_retries=1, default_retry_delay=0, autoretry_for=InvalidArgumentsError)
    async def call(ctx: JobContext) -> None:
        await pgq.enqueue(validate.s(1))  # type: ignore[call-arg]  # what this test is about

    @pgq.task(max_retries=1, default_retry_delay=0)
    async def call_wrongly(ctx: JobContext) -> None:
        await pgq.enqueue(validate.s(1))  # type: ignore[call-arg]  # what this test is about

    tasks = (validate, validate_as_wide_as_that, call_wrongly, call)
    jobs = await pgq.enqueue_many(task.s() for task in tasks)
    async with pgq.worker():
        ended = [await over(job) for job in jobs]

    assert [job.attempt for job in ended] == [1, 1, 1, 2]


@pytest.mark.contract("P2.26")
async def test_a_worker_that_stops_counts_no_failure(pgq: PgQueue) -> None:
    started = asyncio.Event()

    @pgq.task(max_retries=0, autoretry_for=(), dont_autoretry_for=BaseException)
    async def work() -> None:
        started.set()
        await asyncio.sleep(3600)

    job = await work.enqueue()
    async with pgq.worker() as worker:
        await started.wait()
        worker.release()

    read = await job.refresh()
    assert (read.status, read.attempt, read.last_reason) == (JobStatus.PENDING, 0, "released")


@pytest.mark.contract("P2.27")
@pytest.mark.parametrize(
    ("answer", "seconds"),
    [(True, 300), (None, 300), (5, 5), (timedelta(minutes=1), 60), (-1, 300), ("soon", 300)],
)
async def test_retry_when_is_asked_with_attempt_error_and_job_and_says_whether_and_when(
    pgq: PgQueue, answer: Any, seconds: int
) -> None:
    asked: list[tuple[int, BaseException, JobContext]] = []

    def when(attempt: int, exc: BaseException, job: JobContext) -> Any:
        asked.append((attempt, exc, job))
        return answer

    @pgq.task(default_retry_delay=300, retry_when=when)
    async def work() -> None:
        raise ValueError("what for")

    job = await work.enqueue()
    async with pgq.worker():
        await eventually(lambda: waits_after(job, 1))

    assert await waits_for(pgq, job) == seconds
    [(attempt, exc, context)] = asked
    assert (attempt, str(exc), context.job_id, context.task) == (1, "what for", job.id, "work")


@pytest.mark.contract("P2.27")
async def test_a_retry_when_that_fails_is_logged_and_counts_as_no_answer(
    pgq: PgQueue, caplog: pytest.LogCaptureFixture
) -> None:
    def when(attempt: int, exc: BaseException, job: JobContext) -> bool:
        raise SystemExit("no opinion")

    @pgq.task(default_retry_delay=300, retry_when=when)
    async def work() -> None:
        raise ValueError

    job = await work.enqueue()
    async with pgq.worker() as worker:
        await eventually(lambda: waits_after(job, 1))
        assert worker.is_alive

    assert await waits_for(pgq, job) == 300
    assert "retry_when raised an error; ignoring it" in caplog.text


@pytest.mark.contract("P2.27")
async def test_the_nearest_class_of_an_error_gives_its_policy_and_the_call_stands_above_it(
    pgq: PgQueue,
) -> None:
    @pgq.task(
        default_retry_delay=10,
        retry_policies={
            Exception: {"default_retry_delay": 1000},
            CardError: {"default_retry_delay": 2000, "max_retries": 0},
            BusyError: {"retry_intervals": [3000]},
        },
    )
    async def work(number: int) -> None:
        raise [ValueError(), BusyError(None), DeclinedError(), DeclinedError()][number]

    jobs = await pgq.enqueue_many(
        [work.s(0), work.s(1), work.s(2), work.options(max_retries=1).s(3)],
    )
    async with pgq.worker():
        for job in (jobs[0], jobs[1], jobs[3]):
            await eventually(lambda job=job: waits_after(job, 1))  # type: ignore[misc]
        ended = await over(jobs[2])

    assert [await waits_for(pgq, job) for job in (jobs[0], jobs[1], jobs[3])] == [1000, 3000, 2000]
    assert (ended.status, ended.attempt) == (JobStatus.FAILED, 1)


@pytest.mark.contract("P2.27")
async def test_intervals_come_in_order_and_the_last_one_repeats(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(max_retries=5, retry_intervals=[timedelta(minutes=1), 3600])
    async def work() -> None:
        raise ValueError

    job = await work.enqueue()
    waits = []
    async with pgq.worker(poll_interval=0.05):
        for attempt in range(1, 5):
            await eventually(lambda attempt=attempt: waits_after(job, attempt))  # type: ignore[misc]
            waits.append(await waits_for(pgq, job))
            await make_due(db, job)

    assert waits == [60, 3600, 3600, 3600]


@pytest.mark.contract("P2.27")
async def test_what_the_error_asks_for_is_the_least_delay(pgq: PgQueue) -> None:
    at = datetime.now(UTC) + timedelta(days=2)

    @pgq.task(default_retry_delay=100)
    async def work(ctx: JobContext, number: int) -> None:
        error = [
            BusyError(500),
            BusyError(5),
            BusyError(at),
            BusyError(timedelta(hours=1)),
            BusyError("700"),
        ][number]
        if number == 3:
            ctx.retry(exc=error)
        raise error

    jobs = await pgq.enqueue_many(work.s(number) for number in range(5))
    async with pgq.worker():
        for job in jobs:
            await eventually(lambda job=job: waits_after(job, 1))  # type: ignore[misc]

    waits = [await waits_for(pgq, job) for job in jobs]
    assert [waits[0], waits[1], waits[3], waits[4]] == [500, 100, 3600, 700]
    assert (await jobs[2].refresh()).next_run_at == at


@pytest.mark.contract("P2.36")
@pytest.mark.parametrize("is_manual", [False, True], ids=["automatic", "manual"])
async def test_a_job_older_than_its_retry_duration_is_not_retried(
    pgq: PgQueue, db: Connection, is_manual: bool
) -> None:
    @pgq.task(max_retries=None, max_retry_duration=3600, default_retry_delay=10_000)
    async def work(ctx: JobContext) -> None:
        if is_manual:
            ctx.retry(exc=ValueError("young or old"))
        raise ValueError("young or old")

    job = await work.enqueue()
    async with pgq.worker(poll_interval=0.05):
        await eventually(lambda: waits_after(job, 1))
        await make_older(db, job, timedelta(minutes=50))
        await make_due(db, job)
        await eventually(lambda: waits_after(job, 2))
        await make_older(db, job, timedelta(minutes=20))
        await make_due(db, job)
        with pytest.raises(JobFailed, match="ValueError: young or old"):
            await job.result(timeout=60)

    assert (await job.refresh()).attempt == 3


@pytest.mark.contract("P2.36")
async def test_attempts_end_a_job_that_is_younger_than_its_retry_duration(pgq: PgQueue) -> None:
    @pgq.task(max_retries=2, max_retry_duration=3600, default_retry_delay=0)
    async def work() -> None:
        raise ValueError

    job = await work.enqueue()
    async with pgq.worker():
        ended = await over(job)

    assert ended.attempt == 3


async def waits_after(job: JobHandle[Any], attempt: int) -> bool:
    read = await job.refresh()
    return (read.status, read.attempt) == (JobStatus.SCHEDULED, attempt)


async def is_snoozed(job: JobHandle[Any]) -> bool:
    return (await job.refresh()).last_reason == "snoozed"


async def waits_for(pgq: PgQueue, job: JobHandle[Any]) -> float:
    """Return the seconds between the end of a job's last attempt and its next."""
    attempts = await pgq.attempts(job.id)
    next_run_at = (await job.refresh()).next_run_at
    assert next_run_at is not None
    return (next_run_at - attempts[-1].ended_at).total_seconds()


async def make_due(db: Connection, job: JobHandle[Any]) -> None:
    """Let the time that a job waits for have come."""
    await move(db, "update pgqueue.scheduled set scheduled_at = now() where job_id = $1", job.id)


async def make_older(db: Connection, job: JobHandle[Any], by: timedelta) -> None:
    """Let a job's first start be longer ago."""
    await move(db, "update pgqueue.job set started_at = started_at - $2::interval where id = $1", job.id, by)


async def move(db: Connection, statement: str, *values: Any) -> None:
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute(statement, *values)
