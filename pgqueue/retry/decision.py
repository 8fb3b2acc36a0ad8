"""What an attempt that did not return leads to. Decides on values: reads no clock and writes nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never
from uuid import UUID

from pgqueue.errors import InvalidArgumentsError
from pgqueue.model.job_error import MAX_MESSAGE, JobError, clean, describe
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, Retry
from pgqueue.model.unset import UNSET
from pgqueue.retry import control
from pgqueue.retry.policy import Again, Answer, GiveUp, RetryPolicy, again_after, decide

Encode = Callable[[tuple[Any, ...], Mapping[str, Any]], str]
"""Turns a call of the task into the arguments that are stored. Raises InvalidArgumentsError, or what a codec
raises."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands as its attempt ends."""

    job_id: UUID
    retries: int
    age: float
    """Seconds since its first start."""
    options: str | None = None
    """Those stored with it, as JSON."""


def after_error(
    standing: Standing, policy: RetryPolicy, error: BaseException, answer: Answer, rng: random.Random
) -> Retry | Ended:
    """Decide what follows an error of the handler, of which `retry_when` said *answer*."""
    described = describe(error)
    decision = decide(policy, error, answer, retries=standing.retries, age=standing.age, rng=rng)
    if decision is GiveUp.EXPECTED:
        return _failed(standing, "expected", described)
    return _follow(standing, decision, "exception", described)


def after_timeout(
    standing: Standing, policy: RetryPolicy, reason: str, error: JobError, rng: random.Random
) -> Retry | Ended:
    """Decide what follows an attempt that was ended for *reason*, by no error of the handler's own."""
    decision = again_after(policy, None, None, retries=standing.retries, age=standing.age, rng=rng)
    return _follow(standing, decision, reason, error)


def after_control_flow(
    standing: Standing, policy: RetryPolicy, said: control.ControlFlow, encode: Encode, rng: random.Random
) -> Retry | Ended:
    """Do what the handler said."""
    match said:
        case control.Retry():
            return _after_retry(standing, policy, said, encode, rng)
        case control.Snooze():
            return Retry(standing.job_id, said.delay, "snoozed", None, spent=False)
        case control.Reject():
            return _failed(standing, "rejected", JobError("Reject", clean(said.reason)[:MAX_MESSAGE]))
        case _:
            # A subclass of somebody's own, of the base itself.
            return _failed(standing, "exception", describe(said))


def _after_retry(
    standing: Standing, policy: RetryPolicy, said: control.Retry, encode: Encode, rng: random.Random
) -> Retry | Ended:
    described = None if said.exc is None else describe(said.exc)
    options = None
    if said.max_retries is not UNSET:
        policy = policy.with_limit(said.max_retries)
        options = json.dumps({**json.loads(standing.options or "{}"), "max_retries": said.max_retries})
    wanted = said.countdown if said.eta is None else said.eta
    decision = again_after(policy, said.exc, wanted, retries=standing.retries, age=standing.age, rng=rng)
    if not isinstance(decision, Again):
        if described is not None:
            return _failed(standing, "exception", described)
        message = f"the handler asked for a retry more; the job was retried {standing.retries} times"
        return _failed(standing, "max_retries_exceeded", JobError("MaxRetriesExceeded", message))
    arguments = None
    if said.call is not None:
        try:
            arguments = encode(*said.call)
        except Exception as error:
            # The codec is the user's: it may raise anything.
            reason = "invalid_arguments" if isinstance(error, InvalidArgumentsError) else "exception"
            return _failed(standing, reason, describe(error))
    return Retry(
        standing.job_id,
        decision.delay,
        "retry" if described is None else "exception",
        described,
        not_before=decision.not_before,
        options=options,
        arguments=arguments,
    )


def _follow(standing: Standing, decision: Again | GiveUp, reason: str, error: JobError) -> Retry | Ended:
    match decision:
        case Again():
            return Retry(standing.job_id, decision.delay, reason, error, not_before=decision.not_before)
        case GiveUp():
            return _failed(standing, reason, error)
        case _:
            assert_never(decision)


def _failed(standing: Standing, reason: str, error: JobError) -> Ended:
    return Ended(standing.job_id, JobStatus.FAILED, reason, error)
