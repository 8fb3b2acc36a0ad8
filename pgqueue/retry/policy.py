"""How often a job is retried, after which errors, and how long it waits before. `decision` applies it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from pgqueue.errors import PERMANENT_ERRORS, JobDidNotSucceed
from pgqueue.model.error_groups import leaves

Jitter = Literal["full", "equal", "none"]

RetryWhen = Callable[[int, BaseException, Any], bool | float | timedelta | datetime | None]
"""Called after a failure with the attempt's number, the exception and the job (a JobContext). Returns True,
False, or when to retry (seconds, a timedelta or a time zone-aware datetime); None leaves it to the other
options."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a job is retried, after which errors, and how long it waits. Durations are in seconds."""

    max_retries: int | None
    """Retries after the first attempt: 3 means at most 4 executions. None: no limit."""
    backoff: float | None
    """The factor of exponential backoff; None: always `default_delay`."""
    default_delay: float
    backoff_max: float
    jitter: Jitter
    delay_min: float
    intervals: tuple[float, ...] = ()
    """The delay before each retry, instead of a backoff; the last one repeats."""
    max_duration: float | None = None
    """No retry later than this after the start of the first attempt. None: no limit."""
    autoretry_for: tuple[type[BaseException], ...] = (BaseException,)
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    throws: tuple[type[BaseException], ...] = ()
    retry_when: RetryWhen | None = None
    policies: Mapping[type[BaseException], Mapping[str, Any]] = field(default_factory=dict)
    """What differs after certain errors: values of this class's fields, by the class of the error."""
    fixed: frozenset[str] = frozenset()
    """The fields that the job's own call has set: they apply after every error."""

    def may_retry(self, retries: int, age: float = 0.0) -> bool:
        """Whether a job that was retried *retries* times in *age* seconds may be retried once more."""
        if self.max_duration is not None and age >= self.max_duration:
            return False
        return self.max_retries is None or retries < self.max_retries

    def delay(self, retries: int, rng: random.Random) -> float:
        """Seconds to wait before the next attempt of a job that was retried *retries* times.

        Exponential: min(max, factor * 2^retries), then jitter: "full" draws from 0 to the delay, "equal"
        from half of it (names and formulas: AWS Architecture Blog, "Exponential Backoff And Jitter").
        A fixed delay has no jitter: it is used as it was set.
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
        """Return this policy as it is after *error*: `policies` for the nearest of its classes apply.

        After a group, those of its errors, if they are the same for each.
        """
        if error is not None and self.policies:
            kinds = {
                next((kind for kind in type(each).__mro__ if kind in self.policies), None)
                for each in leaves(error)
            }
            kind = kinds.pop()
            if kind is not None and not kinds:
                changes = self.policies[kind].items()
                return replace(self, **{name: value for name, value in changes if name not in self.fixed})
        return self

    def with_limit(self, max_retries: int | None) -> RetryPolicy:
        """Return this policy with a limit that was set for the job itself."""
        return replace(self, max_retries=max_retries, fixed=self.fixed | {"max_retries"})

    def retries_after(self, error: BaseException) -> bool:
        """Whether *error* is retried without being asked for."""
        is_stored = isinstance(error, JobDidNotSucceed) and error.is_stored
        if is_stored or isinstance(error, PERMANENT_ERRORS):
            # Only where such a class is named itself: a broad class of errors does not include these.
            permanent = (*PERMANENT_ERRORS, JobDidNotSucceed)
            named = (*self.autoretry_for, *self.policies)
            return any(issubclass(kind, permanent) and isinstance(error, kind) for kind in named)
        return isinstance(error, (*self.autoretry_for, *self.policies))
