"""When and whether a failed attempt is tried again. Pure functions of values; no clock, no I/O."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Literal

from pgqueue.errors import PERMANENT_ERRORS
from pgqueue.model.job_info import JobInfo
from pgqueue.retry.delays import asked_delay, read_delay

logger = logging.getLogger("pgqueue.worker")

Jitter = Literal["full", "equal", "none"]

RetryWhen = Callable[[int, BaseException, Any], bool | float | timedelta | datetime | None]
"""Asked after a failure, with the attempt's number, the exception and the job (a JobContext): True, False, or
when to retry (seconds, a timedelta or an aware time); None leaves it to the other options."""

Answer = bool | float | datetime | None
"""What `retry_when` said, its times in seconds; None: nothing."""


@dataclass(frozen=True, slots=True)
class Again:
    """Tried again: after `delay` seconds, and at `not_before` at the earliest."""

    delay: float
    not_before: datetime | None = None


class GiveUp(Enum):
    """Why a failed attempt was the last."""

    EXPECTED = "expected"
    """The task says that this error is a way for it to end."""
    PERMANENT = "permanent"
    """It is not an error that is retried."""
    EXHAUSTED = "exhausted"
    """There were enough attempts, or they took long enough."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a job is tried again, after what, and how long it waits before. Durations are in seconds."""

    max_retries: int | None
    """Retries after the first attempt: 3 means at most 4 executions. None: without limit."""
    backoff: float | None
    """The factor of exponential backoff; None: always `default_delay`."""
    default_delay: float
    backoff_max: float
    jitter: Jitter
    delay_min: float
    intervals: tuple[float, ...] = ()
    """The delay before each retry, instead of a backoff; the last one repeats."""
    max_duration: float | None = None
    """No retry later than this after the first attempt's start. None: without limit."""
    autoretry_for: tuple[type[BaseException], ...] = (BaseException,)
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    throws: tuple[type[BaseException], ...] = ()
    retry_when: RetryWhen | None = None
    policies: Mapping[type[BaseException], Mapping[str, Any]] = field(default_factory=dict)
    """What is different after certain errors: values of this class's fields."""
    fixed: frozenset[str] = frozenset()
    """The fields that the job's own call has set: they hold after every error."""

    def may_retry(self, retries: int, age: float = 0.0) -> bool:
        """Whether a job may be retried once more that was retried *retries* times in *age* seconds."""
        if self.max_duration is not None and age >= self.max_duration:
            return False
        return self.max_retries is None or retries < self.max_retries

    def delay(self, retries: int, rng: random.Random) -> float:
        """Seconds to wait before the next attempt of a job that was retried *retries* times.

        Exponential: min(max, factor * 2^retries), then jitter: "full" draws from 0 to the delay, "equal"
        from half of it (names and formulas: AWS Architecture Blog, "Exponential Backoff And Jitter").
        A fixed delay has no jitter: it is what was asked for.
        """
        if self.intervals:
            return max(self.intervals[min(retries, len(self.intervals) - 1)], self.delay_min)
        if self.backoff is None:
            return max(self.default_delay, self.delay_min)
        # The exponent is bounded: 2.0 ** 1024 overflows.
        delay = min(self.backoff_max, self.backoff * 2.0 ** min(retries, 64))
        if self.jitter == "full":
            delay = rng.uniform(0, delay)
        elif self.jitter == "equal":
            delay = rng.uniform(delay / 2, delay)
        return max(delay, self.delay_min)

    def after(self, error: BaseException | None) -> RetryPolicy:
        """Return this policy as it is after *error*: what is said of the nearest of its classes holds."""
        if error is not None and self.policies:
            for kind in type(error).__mro__:
                if kind in self.policies:
                    changes = self.policies[kind].items()
                    return replace(self, **{name: value for name, value in changes if name not in self.fixed})
        return self

    def with_limit(self, max_retries: int | None) -> RetryPolicy:
        """Return this policy with a limit that the job itself has."""
        return replace(self, max_retries=max_retries, fixed=self.fixed | {"max_retries"})

    def retries_after(self, error: BaseException) -> bool:
        """Whether *error* is one that is retried by itself."""
        if isinstance(error, PERMANENT_ERRORS):
            # Only where it is named itself: a wide class of errors does not mean these.
            named = (*self.autoretry_for, *self.policies)
            return any(issubclass(kind, PERMANENT_ERRORS) and isinstance(error, kind) for kind in named)
        return isinstance(error, (*self.autoretry_for, *self.policies))


def decide(
    policy: RetryPolicy,
    error: BaseException,
    answer: Answer,
    *,
    retries: int,
    age: float,
    rng: random.Random,
) -> Again | GiveUp:
    """Decide what follows an attempt that *error* ended.

    *answer* is what `retry_when` said of it, *retries* how often the job was retried, *age* the seconds since
    its first start.
    """
    if isinstance(error, policy.throws):
        return GiveUp.EXPECTED
    if isinstance(error, policy.dont_autoretry_for) or answer is False:
        return GiveUp.PERMANENT
    if answer is None and not policy.retries_after(error):
        return GiveUp.PERMANENT
    wanted = None if isinstance(answer, bool) else answer
    return again_after(policy, error, wanted, retries=retries, age=age, rng=rng)


def again_after(
    policy: RetryPolicy,
    error: BaseException | None,
    wanted: float | datetime | None,
    *,
    retries: int,
    age: float,
    rng: random.Random,
) -> Again | Literal[GiveUp.EXHAUSTED]:
    """Decide when a job is retried that is to be: as *wanted* if that is said, else by the policy.

    The policy's delay is no shorter than what *error* asks for.
    """
    policy = policy.after(error)
    if not policy.may_retry(retries, age):
        return GiveUp.EXHAUSTED
    if isinstance(wanted, datetime):
        return Again(policy.delay_min, wanted)
    if wanted is not None:
        return Again(max(wanted, policy.delay_min))
    delay, asked = policy.delay(retries, rng), None if error is None else asked_delay(error)
    if isinstance(asked, datetime):
        return Again(delay, asked)
    return Again(max(delay, asked or 0.0))


def ask(policy: RetryPolicy, attempt: int, error: BaseException, job: JobInfo) -> Answer:
    """Ask `retry_when` of *policy* about *error*. What it raises, or says that is no answer, is logged."""
    if policy.retry_when is None:
        return None
    try:
        answer = policy.retry_when(attempt, error, job)
        if answer is None or isinstance(answer, bool):
            return answer
        delay = read_delay(answer)
    except BaseException:
        # BaseException: SystemExit would end the worker's loop.
        logger.exception("job %s, attempt %d: retry_when failed; it counts as no answer", job.job_id, attempt)
        return None
    if delay is None:
        logger.error(
            "job %s, attempt %d: retry_when said %r: neither a bool nor a delay; it counts as no answer",
            job.job_id,
            attempt,
            answer,
        )
    return delay
