"""Where a retry is decided: what becomes of a job whose attempt did not return a result.

`decide` takes what the handler raised, `decide_after` an end that is no error of the handler's own (a time
limit, a dead child process). Both return the outcome that the worker then writes: `Retried` or `Ended`.

The first of these that applies decides:

1. what the handler says itself: `Retry`, `Snooze` or `Reject` (retry/control.py);
2. `throws` and `dont_autoretry_for`, after which the job has failed;
3. `retry_when`, if it answers;
4. `autoretry_for`, and the classes that `retry_policies` names;
5. the limits on retries and on the job's age, which 1 (but for a snooze), 3 and 4 have to keep.

When the next attempt comes is, in this order: the time that the handler or `retry_when` gives, or else the
delay of the policy (retry/policy.py), which is no shorter than what the error itself asks for
(retry/delays.py).

A group of errors is seen through: it is expected if each of its errors is, and retried if each would be, as
late as the most patient of them asks for. `retry_when` is asked about each of them; it never gets a group.
What a group that also holds signals or cancellations leads to is decided by its other errors.

Pure functions of values: no clock, no database. Times stay times, because only the database's clock counts: a
delay and a time go to the server side by side, and it takes the later of the two.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from pgqueue.errors import InvalidArgumentsError
from pgqueue.model.error_groups import leaves
from pgqueue.model.job_error import JobError, describe, name_of
from pgqueue.model.job_info import JobInfo
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, Restarted, Retried, Suspended
from pgqueue.model.unset import UNSET
from pgqueue.retry.control import (
    ControlFlow,
    RateLimited,
    Reject,
    Restart,
    Retry,
    Snooze,
    Suspend,
    control_flow_of,
)
from pgqueue.retry.delays import asked_delay, latest, read_delay
from pgqueue.retry.policy import RetryPolicy

logger = logging.getLogger("pgqueue.worker")

_NO_ERRORS = (ControlFlow, asyncio.CancelledError)
"""What a group may hold beside its errors."""

EncodeCall = Callable[[tuple[Any, ...], Mapping[str, Any]], str]
"""Turns a call of the task into the arguments that are stored. Raises InvalidArgumentsError, or what a codec
raises."""

Answer = bool | float | datetime | None
"""What `retry_when` returned, its times in seconds; None: it leaves the decision to the other options."""


@dataclass(frozen=True, slots=True)
class JobSoFar:
    """What a decision needs to know of a job whose attempt is ending."""

    job_id: UUID
    retries: int
    """How often it was retried."""
    age: float
    """Seconds since its first start."""
    options: str | None = None
    """Those stored with it, as JSON."""


def decide(
    job: JobSoFar,
    policy: RetryPolicy,
    error: BaseException,
    *,
    info: JobInfo,
    encode: EncodeCall,
    rng: random.Random,
) -> Retried | Ended | Suspended | Restarted:
    """Decide what follows *error*, which the handler raised. *info* is what `retry_when` is given."""
    said = control_flow_of(error)
    if said is not None:
        return obey(job, policy, said, encode, rng)
    answers = [ask(policy, job.retries + 1, each, info) for each in _errors_in(error)]
    return after_error(job, policy, error, answers, rng)


def decide_after(
    job: JobSoFar, policy: RetryPolicy, reason: str, error: JobError, rng: random.Random
) -> Retried | Ended:
    """Decide what follows an attempt that was ended for *reason*, and by no error of the handler's own."""
    return retried(job, policy, reason, error, rng=rng) or failed(job, reason, error)


def released_too_often(job: JobSoFar, policy: RetryPolicy | None, times: int) -> Retried | Ended:
    """Decide what follows when a worker stopped during an attempt, as in the *times* attempts before."""
    message = (
        f"the worker stopped while it ran this job, after {times} such attempts in a row, which did not count"
    )
    error = JobError("ReleasedTooOften", message)
    if policy is None:
        return failed(job, "released_too_often", error)
    return decide_after(job, policy, "released_too_often", error, random.Random())


def after_error(
    job: JobSoFar,
    policy: RetryPolicy,
    error: BaseException,
    answer: Answer | list[Answer],
    rng: random.Random,
) -> Retried | Ended:
    """Decide what follows an error of the handler, to which `retry_when` gave *answer*.

    Of a group, a list: the answers to each of its errors.
    """
    described = describe(error)
    errors = _errors_in(error)
    answers = answer if isinstance(answer, list) else [answer] * len(errors)
    if all(isinstance(each, policy.throws) for each in errors):
        # The task declares this error as one of its ways to end.
        return failed(job, "expected", described)
    is_permanent = any(
        answer is False
        or isinstance(each, (*policy.throws, *policy.dont_autoretry_for))
        or (answer is None and not policy.retries_after(each))
        for each, answer in zip(errors, answers, strict=True)
    )
    if is_permanent:
        return failed(job, "exception", described)
    wanted = latest(None if isinstance(answer, bool) else answer for answer in answers)
    outcome = retried(job, policy, "exception", described, cause=error, wanted=wanted, rng=rng)
    return outcome or failed(job, "exception", described)


def _errors_in(error: BaseException) -> list[BaseException]:
    errors = leaves(error)
    if len(errors) == 1:
        return errors
    return [each for each in errors if not issubclass(type(each), _NO_ERRORS)] or errors


def obey(
    job: JobSoFar, policy: RetryPolicy, said: ControlFlow, encode: EncodeCall, rng: random.Random
) -> Retried | Ended | Suspended | Restarted:
    """Do what the handler said."""
    match said:
        case Retry():
            return _obey_retry(job, policy, said, encode, rng)
        case Snooze():
            slows = isinstance(said, RateLimited)
            reason = "rate_limited" if slows else "snoozed"
            return Retried(
                job.job_id, said.delay, reason, None, spent=False, not_before=said.until, slows=slows
            )
        case Suspend():
            return said.wait
        case Restart():
            arguments = _encoded(job, said.call, encode)
            return arguments if isinstance(arguments, Ended) else Restarted(job.job_id, arguments)
        case Reject():
            return failed(job, "rejected", JobError("Reject", said.reason))
        case _:
            # A subclass that the application made of the base itself.
            return failed(job, "exception", describe(said))


def _obey_retry(
    job: JobSoFar, policy: RetryPolicy, said: Retry, encode: EncodeCall, rng: random.Random
) -> Retried | Ended:
    described = None if said.exc is None else describe(said.exc)
    options = None
    if said.max_retries is not UNSET:
        policy = policy.with_limit(said.max_retries)
        options = json.dumps({**json.loads(job.options or "{}"), "max_retries": said.max_retries})
    outcome = retried(
        job,
        policy,
        "retry" if described is None else "exception",
        described,
        cause=said.exc,
        wanted=(said.countdown, said.eta),
        options=options,
        rng=rng,
    )
    if outcome is None:
        if described is not None:
            return failed(job, "exception", described)
        message = (
            f"the handler asked for another retry, but the job has already been retried {job.retries} times"
        )
        return failed(job, "max_retries_exceeded", JobError("MaxRetriesExceeded", message))
    if said.call is None:
        return outcome
    # Not before the limits are known to allow it: encoding may call the user's codec.
    arguments = _encoded(job, said.call, encode)
    return arguments if isinstance(arguments, Ended) else replace(outcome, arguments=arguments)


def _encoded(job: JobSoFar, call: tuple[tuple[Any, ...], dict[str, Any]], encode: EncodeCall) -> str | Ended:
    """Return the stored form of another call of the job's task, or the end of a job that cannot have it."""
    try:
        return encode(*call)
    except BaseException as error:
        # Codec and serializers are the user's: they may raise anything, even SystemExit.
        reason = "invalid_arguments" if issubclass(type(error), InvalidArgumentsError) else "exception"
        return failed(job, reason, describe(error))


def retried(
    job: JobSoFar,
    policy: RetryPolicy,
    reason: str,
    error: JobError | None,
    *,
    cause: BaseException | None = None,
    wanted: tuple[float | None, datetime | None] = (None, None),
    options: str | None = None,
    rng: random.Random,
) -> Retried | None:
    """Return the retry of a job that is to have one, or None if its policy allows no more.

    It comes when *wanted*, a delay and a time, if one is given, or else as the policy has it after *cause*,
    and no earlier than *cause* itself asks for.
    """
    policy = policy.after(cause)
    if not policy.may_retry(job.retries, job.age):
        return None
    delay, not_before = wanted
    if delay is None and not_before is None:
        asked, not_before = latest(map(asked_delay, [] if cause is None else [cause, *leaves(cause)]))
        delay = max(policy.delay(job.retries, rng), asked or 0.0)
    delay = max(delay or 0.0, policy.delay_min)
    return Retried(job.job_id, delay, reason, error, not_before=not_before, options=options)


def failed(job: JobSoFar, reason: str, error: JobError) -> Ended:
    """Return the end of a job that has failed permanently."""
    return Ended(job.job_id, JobStatus.FAILED, reason, error)


def ask(policy: RetryPolicy, attempt: int, error: BaseException, job: JobInfo) -> Answer:
    """Ask `retry_when` of *policy* about *error*. Its errors and bad answers are logged."""
    if policy.retry_when is None:
        return None
    try:
        answer = policy.retry_when(attempt, error, job)
        if answer is None or isinstance(answer, bool):
            return answer
        delay = read_delay(answer)
    except BaseException as broken:
        # BaseException: SystemExit would end the worker's loop.
        logger.error(
            "job %s, attempt %d: retry_when raised an error; ignoring it\n%s",
            job.job_id,
            attempt,
            describe(broken).traceback,
        )
        return None
    if delay is None:
        logger.error(
            "job %s, attempt %d: retry_when returned a %s, which is neither a bool nor a delay; ignoring it",
            job.job_id,
            attempt,
            name_of(type(answer)),
        )
    return delay
