"""What an attempt leads to, decided on values: no database, no clock."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgqueue import InvalidArgumentsError, JobStatus, Reject, Snooze
from pgqueue.model.job_error import JobError
from pgqueue.model.outcomes import Ended, Restarted, Retried, Suspended
from pgqueue.model.unset import UNSET
from pgqueue.retry import RetryPolicy, control
from pgqueue.retry.control import ControlFlow, control_flow_of
from pgqueue.retry.decision import JobSoFar, after_error, decide_after, obey

JOB = UUID(int=7)

limits = st.none() | st.integers(min_value=0, max_value=50)
retries_so_far = st.integers(min_value=0, max_value=60)
waits = st.floats(min_value=0, max_value=1e6)


def policy(max_retries: int | None = 3, **options: Any) -> RetryPolicy:
    return RetryPolicy(
        max_retries=max_retries,
        backoff=None,
        default_delay=60,
        backoff_max=600,
        jitter="none",
        delay_min=0,
        **options,
    )


def so_far(retries: int = 0, options: str | None = None, age: float = 0) -> JobSoFar:
    return JobSoFar(JOB, retries, age, options)


def encode(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    return json.dumps({"*": list(args), **kwargs})


def refuse(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    raise InvalidArgumentsError("work", "does not fit")


def break_down(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    raise RuntimeError("the key is gone")


def after(
    said: ControlFlow, by: RetryPolicy, at: JobSoFar, encode: Any = encode
) -> Retried | Ended | Suspended | Restarted:
    return obey(at, by, said, encode, random.Random(0))


@pytest.mark.contract("P2.31", "P2.33")
@given(
    limit=limits,
    other=limits | st.just(UNSET),
    retries=retries_so_far,
    countdown=st.none() | waits,
    args=st.none() | st.lists(st.integers()),
)
def test_a_retry_that_is_asked_for_is_granted_within_the_limit_that_holds(
    limit: int | None, other: Any, retries: int, countdown: float | None, args: list[int] | None
) -> None:
    said = control.Retry(ValueError("x"), countdown=countdown, max_retries=other, args=args)

    outcome = after(said, policy(limit), so_far(retries, '{"timeout": 5}'))

    holds = limit if other is UNSET else other
    if holds is not None and retries >= holds:
        assert isinstance(outcome, Ended)
        assert outcome.error is not None
        assert (outcome.status, outcome.error.type) == (JobStatus.FAILED, "ValueError")
    else:
        assert isinstance(outcome, Retried)
        assert (outcome.job_id, outcome.spent) == (JOB, True)
        assert outcome.delay == (60 if countdown is None else countdown)
        stored = None if outcome.options is None else json.loads(outcome.options)
        assert stored == (None if other is UNSET else {"timeout": 5, "max_retries": other})
        assert outcome.arguments == (None if args is None else encode(tuple(args), {}))


@pytest.mark.contract("P2.38")
@given(limit=limits, retries=retries_so_far, delay=waits, age=waits)
def test_a_snooze_is_granted_whatever_the_limits_and_spends_nothing(
    limit: int | None, retries: int, delay: float, age: float
) -> None:
    outcome = after(Snooze(delay), policy(limit, max_duration=1), so_far(retries, age=age))

    assert outcome == Retried(JOB, delay, "snoozed", None, spent=False)


@pytest.mark.contract("P2.37")
@given(limit=limits, retries=retries_so_far, reason=st.text())
def test_a_rejected_job_is_over_whatever_the_limits(limit: int | None, retries: int, reason: str) -> None:
    outcome = after(Reject(reason), policy(limit, retry_when=lambda *_: True), so_far(retries))

    assert isinstance(outcome, Ended)
    assert (outcome.status, outcome.reason) == (JobStatus.FAILED, "rejected")
    assert outcome.error is not None
    assert "\0" not in outcome.error.message


@pytest.mark.contract("P2.36")
def test_a_retry_that_is_asked_for_ends_with_the_age_of_the_job() -> None:
    old = policy(None, max_duration=3600)

    assert isinstance(after(control.Retry(), old, so_far(age=3599)), Retried)
    assert isinstance(after(control.Retry(), old, so_far(age=3600)), Ended)
    assert isinstance(after(control.Retry(max_retries=None), old, so_far(age=3600)), Ended)


@pytest.mark.contract("P2.31")
def test_a_time_is_left_to_the_database_and_an_order_without_time_to_the_policy() -> None:
    eta = datetime(2099, 1, 1, tzinfo=UTC)

    at, when = (
        after(control.Retry(eta=eta), policy(), so_far()),
        after(control.Retry(), policy(), so_far()),
    )

    assert at == Retried(JOB, 0, "retry", None, not_before=eta)
    assert when == Retried(JOB, 60, "retry", None)


@pytest.mark.parametrize(
    ("encode", "reason", "error"),
    [(refuse, "invalid_arguments", "InvalidArgumentsError"), (break_down, "exception", "RuntimeError")],
)
def test_arguments_that_cannot_be_stored_end_the_job(encode: Any, reason: str, error: str) -> None:
    outcome = after(control.Retry(args=[1]), policy(None), so_far(), encode)

    assert isinstance(outcome, Ended)
    assert outcome.error is not None
    assert (outcome.reason, outcome.error.type) == (reason, error)


def test_a_signal_of_somebodys_own_is_an_error() -> None:
    outcome = after(ControlFlow("what?"), policy(None), so_far())

    assert isinstance(outcome, Ended)
    assert outcome.reason == "exception"


@pytest.mark.contract("P2.26")
def test_a_group_is_what_the_handler_said_if_it_holds_that_alone() -> None:
    said, other = Snooze(1), ValueError()

    assert control_flow_of(said) is said
    assert control_flow_of(BaseExceptionGroup("a", [BaseExceptionGroup("b", [said])])) is said
    assert control_flow_of(BaseExceptionGroup("a", [said, other])) is None
    assert control_flow_of(other) is None


@pytest.mark.contract("P2.32")
@given(limit=limits, retries=retries_so_far)
def test_an_error_or_a_timeout_ends_the_job_when_the_retries_are_spent_and_is_kept(
    limit: int | None, retries: int
) -> None:
    rng, timeout = random.Random(0), JobError("HardTimeout", "too long")
    outcomes = [
        after_error(so_far(retries), policy(limit), ValueError("x"), None, rng),
        decide_after(so_far(retries), policy(limit, autoretry_for=()), "hard_timeout", timeout, rng),
    ]

    is_spent = limit is not None and retries >= limit
    for outcome, kind in zip(outcomes, ("ValueError", "HardTimeout"), strict=True):
        assert isinstance(outcome, Ended if is_spent else Retried)
        assert outcome.error is not None
        assert outcome.error.type == kind
