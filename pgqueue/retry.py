"""When and whether a failed attempt is tried again. Pure functions of values; no clock, no I/O."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal

from pgqueue.errors import PERMANENT_ERRORS

if TYPE_CHECKING:
    from pgqueue.context import JobContext

logger = logging.getLogger("pgqueue.worker")

Jitter = Literal["full", "equal", "none"]

RetryWhen = Callable[[int, BaseException, "JobContext"], "bool | float | timedelta | datetime | None"]
"""Asked after a failure, with the attempt's number, the exception and the job: True, False, or when to retry
(seconds, a timedelta or an aware time); None leaves it to the other options."""

Answer = bool | float | datetime | None
"""What `retry_when` said, its times in seconds; None: nothing."""

MAX_SECONDS: Final = 1000 * 366 * 24 * 60 * 60
"""A thousand years: a time so far ahead still is one that Python's calendar holds."""

TRANSIENT_STATUSES: Final = frozenset({408, 421, 423, 425, 429, 500, 502, 503, 504, 507, 509, 529, 599})
"""HTTP statuses of requests that can succeed when they are made again as they are."""


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


def ask(policy: RetryPolicy, attempt: int, error: BaseException, job: JobContext) -> Answer:
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


def asked_delay(error: BaseException) -> float | datetime | None:
    """Return what *error* carries as a wish when to try again: `retry_after`, or an HTTP Retry-After.

    Never raises.
    """
    try:
        asked = read_delay(getattr(error, "retry_after", None))
        return asked if asked is not None else read_delay(_header(error, "Retry-After"))
    except Exception:
        # Attributes of a stranger's exception may be code.
        return None


def read_delay(value: object) -> float | datetime | None:
    """Return *value* as seconds or an aware time: a number, timedelta, datetime, or text as in HTTP.

    None for what is none of these: naive, negative, not finite.
    """
    if isinstance(value, str):
        value = _http_delay(value.strip())
    if isinstance(value, datetime):
        return value if value.utcoffset() is not None else None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared before it is made a float: an integer may be too large for one.
    return None if not value >= 0 or value == math.inf else float(min(value, MAX_SECONDS))


def _http_delay(text: str) -> float | datetime | None:
    if text.isascii() and text.isdigit():
        return float(text[:20])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return at if at.utcoffset() is not None else at.replace(tzinfo=UTC)


def is_transient_status(status: int) -> bool:
    """Whether a request that was answered with this HTTP status is worth making again as it is."""
    return status in TRANSIENT_STATUSES


def transient_http(attempt: int, exc: BaseException, job: JobContext) -> bool | None:  # noqa: ARG001
    """Retry what an HTTP server may do another time, and fail at once what it never will: for `retry_when=`.

    Knows the exceptions of httpx, requests, aiohttp, urllib and others like them: those with a status at
    `.response.status_code`, `.response.status`, `.status_code`, `.status` or `.code`. A Retry-After header
    is honoured. Says nothing of other errors.
    """
    for holder in (getattr(exc, "response", None), exc):
        for name in ("status_code", "status", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and 400 <= status <= 599:
                return is_transient_status(status)
    return None


def _header(error: BaseException, name: str) -> object:
    for holder in (getattr(error, "response", None), error):
        headers = getattr(holder, "headers", None)
        if headers is not None and (value := headers.get(name) or headers.get(name.lower())) is not None:
            return value
    return None
