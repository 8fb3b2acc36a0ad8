"""When and whether a failed attempt is tried again. Pure functions of values."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Jitter = Literal["full", "equal", "none"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a job is tried again and how long it waits before. Delays are in seconds."""

    max_retries: int | None
    """Retries after the first attempt: 3 means at most 4 executions. None: without limit."""
    backoff: float | None
    """The factor of exponential backoff; None: always `default_delay`."""
    default_delay: float
    backoff_max: float
    jitter: Jitter
    delay_min: float

    def may_retry(self, retries: int) -> bool:
        """Whether a job that was retried *retries* times may be retried once more."""
        return self.max_retries is None or retries < self.max_retries

    def delay(self, retries: int, rng: random.Random) -> float:
        """Seconds to wait before the next attempt of a job that was retried *retries* times.

        Exponential: min(max, factor * 2^retries), then jitter: "full" draws from 0 to the delay, "equal"
        from half of it (names and formulas: AWS Architecture Blog, "Exponential Backoff And Jitter").
        A fixed delay has no jitter: it is what was asked for.
        """
        if self.backoff is None:
            return max(self.default_delay, self.delay_min)
        # The exponent is bounded: 2.0 ** 1024 overflows.
        delay = min(self.backoff_max, self.backoff * 2.0 ** min(retries, 64))
        if self.jitter == "full":
            delay = rng.uniform(0, delay)
        elif self.jitter == "equal":
            delay = rng.uniform(delay / 2, delay)
        return max(delay, self.delay_min)
