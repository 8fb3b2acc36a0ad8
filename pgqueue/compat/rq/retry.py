"""`Retry`: how often a job is tried again, and when."""

from __future__ import annotations

from collections.abc import Iterable

from pgqueue.compat import not_there


class Retry:
    """At most *max* retries, *interval* seconds apart: one number, or one for each retry, the last repeating.

    Pass it to `enqueue`, or return it from a job to have that run again. Raises ValueError.
    """

    def __init__(self, max: int, interval: int | Iterable[int] = 0, enqueue_at_front: bool = False) -> None:  # noqa: A002  # RQ's name
        if enqueue_at_front:
            raise not_there(
                "Retry(enqueue_at_front=)", "a retried job keeps its priority; enqueue it with at_front=True"
            )
        self.max = max
        self.intervals = [interval] if isinstance(interval, int | float) else list(interval)
        if max < 1:
            raise ValueError(f"Retry: max must be 1 or more, got {max}")
        if any(each < 0 for each in self.intervals):
            raise ValueError(f"Retry: interval must not be negative, got {interval!r}")

    def interval_of(self, retries: int) -> float:
        """Return the seconds before the next retry of a job that was retried so often."""
        return self.intervals[min(retries, len(self.intervals) - 1)] if self.intervals else 0

    def __repr__(self) -> str:
        return f"Retry(max={self.max}, interval={self.intervals})"
