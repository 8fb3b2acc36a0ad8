"""A group of errors is decided by the errors in it, and a group of signals is the signal."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.waiting import over

from pgqueue import JobStatus, PgQueue, Reject, Retry, Snooze, SoftTimeLimitExceeded
from pgqueue.model.outcomes import Ended, Retried
from pgqueue.options.levels import Options
from pgqueue.options.policy import Policy
from pgqueue.retry import JobSoFar, decide
from pgqueue.retry.http import transient_http

pytestmark = [pytest.mark.handlers, pytest.mark.contract("W18")]

JOB = UUID(int=1)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


class DeclinedError(Exception):
    """Never to be tried again."""


class BusyError(Exception):
    def __init__(self, retry_after: Any) -> None:
        self.retry_after = retry_after


class StatusError(Exception):
    def __init__(self, status: int) -> None:
        self.status_code = status


def outcome_of(error: BaseException, **options: Any) -> Retried | Ended:
    policy = Policy.of(Options(retry_backoff=False, default_retry_delay=0.0, **options)).retry
    # What retry_when is told of the job is not asked for here.
    info: Any = None
    outcome = decide(
        JobSoFar(JOB, 0, 0.0), policy, error, info=info, encode=lambda *_: "[]", rng=random.Random(0)
    )
    assert isinstance(outcome, Retried | Ended)
    return outcome


def one_group(errors: Sequence[BaseException]) -> BaseException:
    return BaseExceptionGroup("one", errors)


def nested(errors: Sequence[BaseException]) -> BaseException:
    return BaseExceptionGroup("outer", [BaseExceptionGroup("inner", [each]) for each in errors])


def deep(errors: Sequence[BaseException]) -> BaseException:
    error = one_group(errors)
    for _ in range(50):
        error = BaseExceptionGroup("deep", [error])
    return error


GROUPS: list[Callable[[Sequence[BaseException]], BaseException]] = [one_group, nested, deep]
OPTIONS: list[tuple[Callable[[], BaseException], dict[str, Any]]] = [
    (ConnectionError, {"autoretry_for": (ConnectionError,)}),
    (ValueError, {"autoretry_for": (ConnectionError,)}),
    (KeyboardInterrupt, {}),
    (SystemExit, {"autoretry_for": (SystemExit,)}),
    (DeclinedError, {"dont_autoretry_for": (DeclinedError,)}),
    (DeclinedError, {"throws": (DeclinedError,)}),
    (partial(StatusError, 404), {"retry_when": transient_http}),
    (partial(StatusError, 503), {"retry_when": transient_http, "autoretry_for": ()}),
    (ConnectionError, {"retry_policies": {ConnectionError: {"max_retries": 0}}}),
    (ConnectionError, {"retry_policies": {OSError: {"delay_min": 77}}}),
    (partial(BusyError, 3000), {}),
    (partial(BusyError, LATER), {}),
    (partial(Snooze, 1000), {}),
    (partial(Reject, "no"), {}),
    (partial(Retry, countdown=5), {}),
    (partial(Retry, eta=LATER), {}),
    (asyncio.CancelledError, {}),
]


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize(("error", "options"), OPTIONS)
def test_a_group_of_errors_of_one_kind_leads_to_what_one_of_them_does(
    error: Callable[[], BaseException], options: dict[str, Any], number: int, group: Any
) -> None:
    alone = outcome_of(error(), **options)
    grouped = outcome_of(group([error() for _ in range(number)]), **options)

    assert type(grouped) is type(alone)
    assert grouped.reason == alone.reason
    if isinstance(alone, Retried):
        assert isinstance(grouped, Retried)
        assert (grouped.delay, grouped.not_before, grouped.spent) == (
            alone.delay,
            alone.not_before,
            alone.spent,
        )


@pytest.mark.parametrize("group", GROUPS)
@given(st.data())
def test_a_mixed_group_is_retried_if_each_of_its_errors_would_be(group: Any, data: Any) -> None:
    kinds = [ConnectionError, ValueError, DeclinedError, KeyError]
    errors = [kind() for kind in data.draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4))]
    some = st.lists(st.sampled_from(kinds), max_size=2).map(tuple)
    options = {name: data.draw(some) for name in ("autoretry_for", "dont_autoretry_for", "throws")}

    alone = [outcome_of(error, **options) for error in errors]
    grouped = outcome_of(group(errors), **options)

    assert isinstance(grouped, Retried) == all(isinstance(each, Retried) for each in alone)
    assert (grouped.reason == "expected") == all(each.reason == "expected" for each in alone)


def test_the_most_patient_error_of_a_group_says_when() -> None:
    late = outcome_of(one_group([BusyError(10), BusyError(3000), BusyError(LATER), ValueError()]))
    asked = outcome_of(one_group([ValueError(1), ValueError(20)]), retry_when=lambda _, exc, __: exc.args[0])

    assert isinstance(late, Retried)
    assert isinstance(asked, Retried)
    assert (late.delay, late.not_before) == (3000, LATER)
    assert asked.delay == 20


def test_retry_when_is_asked_about_each_error_and_never_about_the_group() -> None:
    asked: list[BaseException] = []

    def answer(attempt: int, exc: BaseException, job: Any) -> bool | None:
        asked.append(exc)
        return None if isinstance(exc, ValueError) else isinstance(exc, KeyError)

    errors = [ValueError(), KeyError()]

    assert isinstance(outcome_of(nested(errors), retry_when=answer), Retried)
    assert asked == errors
    assert isinstance(outcome_of(nested([*errors, TypeError()]), retry_when=answer), Ended)


def test_of_several_signals_the_strongest_counts_and_with_an_error_none_does() -> None:
    snoozes, retries = [Snooze(10), Snooze(1000)], [Retry(countdown=5), Retry(countdown=7)]
    rejects = [Reject("first"), Reject("second")]

    slept = outcome_of(nested(snoozes))
    again = outcome_of(nested([*snoozes, *retries]))
    never = outcome_of(nested([*snoozes, *retries, *rejects]))

    assert isinstance(slept, Retried)
    assert (slept.reason, slept.delay, slept.spent) == ("snoozed", 1000, False)
    assert isinstance(again, Retried)
    assert (again.reason, again.delay, again.spent) == ("retry", 5, True)
    assert isinstance(never, Ended)
    assert never.error is not None
    assert (never.reason, never.error.message) == ("rejected", "first")
    assert outcome_of(nested([*rejects, ConnectionError()])).reason == "exception"
    assert isinstance(outcome_of(nested([*rejects, ConnectionError(), asyncio.CancelledError()])), Retried)


async def in_a_body() -> None:
    async with asyncio.TaskGroup():
        await asyncio.sleep(3600)


async def in_a_body_with_children() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(3600))
        await asyncio.sleep(3600)


async def for_children() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(3600))


async def in_nested_bodies() -> None:
    async with asyncio.TaskGroup(), asyncio.TaskGroup(), anyio.create_task_group(), asyncio.timeout(3600):
        await asyncio.sleep(3600)


async def in_anyios_body() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 3600)
        await anyio.sleep(3600)


async def in_a_gather() -> None:
    await asyncio.gather(in_a_body(), for_children())


async def in_a_wait() -> None:
    child = asyncio.create_task(asyncio.sleep(3600))
    try:
        await asyncio.wait([child])
    finally:
        child.cancel()


async def in_a_wait_for() -> None:
    await asyncio.wait_for(in_a_body_with_children(), 3600)


PLACES = [
    *[in_a_body, in_a_body_with_children, for_children, in_nested_bodies, in_anyios_body, in_a_gather],
    *[in_a_wait, in_a_wait_for],
]


async def test_a_soft_limit_is_one_wherever_it_meets_the_handler(pgq: PgQueue) -> None:
    def declare(place: Any) -> tuple[Any, Any]:
        async def work() -> None:
            await place()

        async def catch() -> str:
            try:
                await place()
            except SoftTimeLimitExceeded:
                return "cleaned up"
            return "not told"

        declared = partial(pgq.task, soft_timeout=0.1, timeout=60, max_retries=0)
        return declared(name=f"{place.__name__}")(work), declared(name=f"catch {place.__name__}")(catch)

    tasks = [task for place in PLACES for task in declare(place)]
    async with pgq.worker(concurrency=len(tasks)):
        jobs = [await task.enqueue() for task in tasks]
        ended = [await over(job) for job in jobs]

    for limited, caught in zip(ended[::2], ended[1::2], strict=True):
        assert (limited.task, limited.status, limited.reason) == (
            limited.task,
            JobStatus.FAILED,
            "soft_timeout",
        )
        assert (caught.task, caught.status, caught.result) == (
            caught.task,
            JobStatus.SUCCEEDED,
            "cleaned up",
        )


async def test_the_standard_library_is_changed_only_while_a_worker_runs(pgq: PgQueue) -> None:
    """Nothing starts on import, and what one worker needs does not end with another."""
    untouched = asyncio.TaskGroup.__aexit__
    assert untouched.__module__ == "asyncio.taskgroups"
    assert not hasattr(untouched, "__wrapped__")

    async with pgq.worker(name="first") as first:
        await first.wait_ready()
        during = asyncio.TaskGroup.__aexit__
        async with pgq.worker(name="second") as second:
            await second.wait_ready()
        assert asyncio.TaskGroup.__aexit__ is during

    assert hasattr(during, "__wrapped__") == (sys.version_info < (3, 13))
    assert asyncio.TaskGroup.__aexit__ is untouched


HOSTILE: dict[str, tuple[BaseException, str]] = {
    "cancellations round a signal": (nested([asyncio.CancelledError(), Snooze(5)]), "snoozed"),
    "cancellations round an error": (nested([asyncio.CancelledError(), ValueError()]), "exception"),
    "cancellations alone, deep": (deep([asyncio.CancelledError()]), "exception"),
    "a signal with an error that exits": (nested([Retry(countdown=1), SystemExit()]), "exception"),
    "what ends a generator": (nested([GeneratorExit(), Reject("no")]), "exception"),
}


@pytest.mark.parametrize("shape", HOSTILE)
def test_groups_of_every_shape_have_a_rule(shape: str) -> None:
    error, reason = HOSTILE[shape]

    assert outcome_of(error, max_retries=0).reason == reason


def test_a_time_is_later_than_a_delay() -> None:
    both = outcome_of(one_group([BusyError(timedelta(seconds=9)), BusyError(LATER)]))

    assert isinstance(both, Retried)
    assert (both.delay, both.not_before) == (9, LATER)
