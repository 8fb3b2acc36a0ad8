"""Computes from counts the percentiles of durations, and the time until a queue is empty. Values only."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from math import inf, sqrt
from statistics import fmean, median, stdev
from typing import Final

from pgqueue.model.measures import Bucket, Drain, Percentiles

BOUNDS: Final = (
    *(step * scale for scale in (0.001, 0.01, 0.1, 1.0, 10.0, 100.0) for step in (1, 2, 5)),
    *(1000.0, 3600.0, 14_400.0, 43_200.0, 86_400.0),
)
"""Upper bounds of the buckets, in seconds; one more bucket takes longer durations. Stored counts use them."""
BUCKETS: Final = len(BOUNDS) + 1


def count_into(counts: list[int], seconds: Iterable[float], times: int) -> None:
    """Count *times* durations, of which *seconds* is a sample, into the buckets *counts*."""
    sample = list(seconds)
    if not sample:
        return
    each, rest = divmod(times, len(sample))
    for place, value in enumerate(sample):
        # The remainder of the division goes to the first ones.
        counts[bisect_left(BOUNDS, value)] += each + (place < rest)


def percentiles(counts: Sequence[int], first: float | None = None) -> Percentiles | None:
    """Return the percentiles of durations that are counted in buckets, or None if there are none.

    *first*: one of them, if it is known. Of a single duration all percentiles are that duration; where it is
    not known, the middle of its bucket.

    Durations are assumed to be spread evenly over their bucket. In the last bucket, which has no upper bound,
    they are assumed to equal the lower bound.
    """
    total = sum(counts)
    if total <= 0:
        return None
    if total == 1:
        return Percentiles(*[_middle(counts) if first is None else first] * 3)
    upto = list(accumulate(counts))
    return Percentiles(*(_at_rank(counts, upto, share * total) for share in (0.50, 0.95, 0.99)))


def _middle(counts: Sequence[int]) -> float:
    bucket = counts.index(1)
    low = BOUNDS[bucket - 1] if bucket else 0.0
    return low if bucket == len(BOUNDS) else (low + BOUNDS[bucket]) / 2


def buckets(counts: Sequence[int]) -> tuple[Bucket, ...]:
    """Return all buckets with their counts, or no buckets if there are no durations."""
    if not any(counts):
        return ()
    ends = pairwise((0.0, *BOUNDS, inf))
    return tuple(Bucket(above, upto, count) for (above, upto), count in zip(ends, counts, strict=True))


def _at_rank(counts: Sequence[int], upto: Sequence[int], rank: float) -> float:
    bucket = bisect_left(upto, rank)
    low = BOUNDS[bucket - 1] if bucket else 0.0
    if bucket == len(BOUNDS):
        return low
    high, below = BOUNDS[bucket], upto[bucket] - counts[bucket]
    # At the end of a bucket the sum may be rounded up, past its bound: 0.005 would be in the next one.
    return min(high, low + (high - low) * (rank - below) / counts[bucket])


def estimate_drain(pending: int, finished: Sequence[float], enqueued: Sequence[float]) -> Drain | None:
    """Return the estimated time in seconds until *pending* jobs are done, at recent rates.

    *finished* and *enqueued* are the rates in periods of equal length, in jobs per second. Returns None if no
    job is pending, or none was finished. The likely estimate is pending / (mean finished - median
    enqueued): the median, because a burst that has ended is already counted in `pending` and does not come
    again. The low and the high estimate take the mean of the finished rates one standard error higher and
    lower, and the lower and the higher one of the mean and the median of the enqueued rates. An infinite
    estimate means that the number of pending jobs does not decrease.
    """
    if pending <= 0 or not any(rate > 0 for rate in finished):
        return None
    out = fmean(finished)
    doubt = stdev(finished) / sqrt(len(finished)) if len(finished) > 1 else 0.0
    into = median(enqueued) if enqueued else 0.0
    also_into = fmean(enqueued) if enqueued else 0.0
    return Drain(
        low=_seconds(pending, out + doubt - min(into, also_into)),
        likely=_seconds(pending, out - into),
        high=_seconds(pending, out - doubt - max(into, also_into)),
    )


def _seconds(count: int, rate: float) -> float:
    return count / rate if rate > 0 else inf
