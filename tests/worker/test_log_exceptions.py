"""The record of a failure carries the exception, for handlers of logs that collect errors."""

from __future__ import annotations

import asyncio
import importlib
import logging
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from kit import isolated_tasks
from kit.records import kept_records
from kit.waiting import eventually
from pydantic import SecretStr

from pgqueue import InvalidOptionError, JobContext, PgQueue
from pgqueue.events import AttemptEnded
from pgqueue.logs import JsonFormatter
from pgqueue.model.ids import new_id
from pgqueue.model.job_error import JobError, describe
from pgqueue.model.jobs import JobStatus
from pgqueue.model.raised import stand_in
from pgqueue.tasks.shown_errors import shown_exception

SECRET = "4111 1111 1111 1111"
NAME = __name__


class CardError(Exception):
    """What the tasks here raise."""


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[list[Any]]:
    """The records of attempts that failed."""
    quiet = {"job.enqueued", "job.started", "job.promoted"}
    with kept_records(caplog, leaving_out=quiet) as found:
        yield found


async def has_logged(records: list[Any], count: int) -> bool:
    return len(records) >= count


def charge(card: str) -> None:
    try:
        int(card)
    except ValueError as error:
        raise CardError("declined") from error


def raised_by(function: Any, *args: Any) -> BaseException:
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError


def functions_of(record: Any) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(record.exc_info[2])]


@pytest.mark.contract("BP7")
@pytest.mark.parametrize("way", ["coroutine", "thread", "retry"])
async def test_a_failure_carries_the_exception_from_the_handler_down(
    pgq: PgQueue, records: list[Any], way: str
) -> None:
    async def coroutine(card: str) -> None:
        await asyncio.sleep(0)
        charge(card)

    def thread(card: str) -> None:
        charge(card)

    async def retry(ctx: JobContext, card: str) -> None:
        try:
            charge(card)
        except CardError as error:
            raise ctx.retry() from error

    handler: Any = {"coroutine": coroutine, "thread": thread, "retry": retry}[way]
    task: Any = pgq.task(name="work", max_retries=0)(handler)

    await task.enqueue(SECRET)
    async with pgq.worker():
        await eventually(lambda: has_logged(records, 1))

    [record] = records
    assert record.exc_info[0] is CardError
    assert functions_of(record) == [way, "charge"]
    assert type(record.exc_info[1].__cause__) is ValueError
    assert "Traceback" not in record.getMessage()
    assert record.exc_text in logging.Formatter().format(record)
    assert "CardError: declined" in JsonFormatter().format(record)


@pytest.mark.contract("BP7")
@pytest.mark.parametrize(
    ("option", "carrying"),
    [("failures", [False, True]), ("all", [True, True]), ("none", [False, False])],
)
async def test_which_records_carry_it_is_an_option(
    pgq: PgQueue, records: list[Any], option: Any, carrying: list[bool]
) -> None:
    @pgq.task(max_retries=1, default_retry_delay=0, log_tracebacks=option)
    async def work() -> None:
        charge(SECRET)

    await work.enqueue()
    async with pgq.worker():
        await eventually(lambda: has_logged(records, 2))

    assert [record.exc_info is not None for record in records] == carrying
    with pytest.raises(InvalidOptionError, match="one of 'all', 'failures', 'none'"):
        pgq.task(name="other", log_tracebacks="some")(charge)  # type: ignore[call-overload]  # that is the test


@pytest.mark.contract("BP7")
@pytest.mark.parametrize("way", ["paths", "secret"])
async def test_where_arguments_are_redacted_the_places_stay_and_the_values_go(
    pgq: PgQueue, records: list[Any], way: str
) -> None:
    def by_path(card: str) -> None:
        charge(card)

    def secret(card: SecretStr) -> None:
        charge(card.get_secret_value())

    task: Any = pgq.task(max_retries=0, redact=["card"] if way == "paths" else [])(
        by_path if way == "paths" else secret
    )

    await task.enqueue(SECRET)
    async with pgq.worker():
        await eventually(lambda: has_logged(records, 1))

    [record] = records
    assert functions_of(record)[-1] == "charge"
    assert (record.exc_info[0].__name__, record.exc_info[0].__module__) == ("CardError", NAME)
    assert type(record.exc_info[1].__cause__).__name__ == "ValueError"
    for shown in (
        record.exc_text,
        JsonFormatter().format(record),
        *traceback.format_exception(*record.exc_info),
    ):
        assert SECRET not in shown
    assert "in charge" in record.exc_text
    assert "ValueError: [redacted]" in record.exc_text


@pytest.mark.contract("BP7", "P2.8")
async def test_an_error_of_a_child_process_has_its_places_too(
    dsn: str, monkeypatch: pytest.MonkeyPatch, records: list[Any]
) -> None:
    monkeypatch.setenv(isolated_tasks.DSN, dsn)
    module: Any = importlib.reload(isolated_tasks)
    async with module.pgq:
        await module.fail.enqueue("no such account")
        async with module.pgq.worker(concurrency=1):
            await eventually(lambda: has_logged(records, 2))

    record = records[-1]
    assert functions_of(record) == ["fail"]
    assert record.exc_info[0].__name__ == record.error_type


@pytest.mark.contract("BP7")
@pytest.mark.parametrize("has_cause", [True, False])
def test_what_a_message_says_is_never_taken_for_a_place_where_arguments_are_redacted(has_cause: bool) -> None:
    def hostile() -> None:
        place = f'  File "{SECRET}", line 7, in {SECRET.replace(" ", "")}'
        said = f"x\nTraceback (most recent call last):\n{place}\n{place}"
        raise CardError(said) from ValueError(said) if has_cause else None

    error = describe(raised_by(hostile))
    ended = AttemptEnded(new_id(), "work", "q", 1, JobStatus.FAILED, "exception", 0.1, error=error)

    raised = shown_exception(ended, redacts=True)

    assert raised is not None
    if not has_cause:
        assert "hostile" in [frame.name for frame in traceback.extract_tb(raised.traceback)]
    assert SECRET not in "".join(traceback.format_tb(raised.traceback))


@pytest.mark.contract("BP7")
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("HardTimeout", None),
        ("", 'Traceback (most recent call last):\n  File "x", line 0, in f\n'),
        ("a.B.<locals>.C", 'Traceback (most recent call last):\n  File "x", line 999999999, in f\nC: no'),
        ("int", "no traceback"),
        ("BaseExceptionGroup", 'Traceback (most recent call last):\n  File "", line 1, in f'),
        ("C", "Traceback (most recent call last):\n" + '  File "x", line 3, in <lambda>\n' * 5000),
        ("\ud800\0", 'Traceback (most recent call last):\n  File "\ud800\0", line 3, in f\n'),
    ],
)
def test_any_stored_error_comes_to_an_exception(kind: str, text: str | None) -> None:
    raised = stand_in(JobError(kind, "said", text))

    assert str(raised.error) == "said"
    assert "said" in "".join(traceback.format_exception(*raised))
