"""The parts of a batch that belong to one queue, with the times of a few members in place of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Final, NamedTuple, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

SAMPLE: Final = 8
"""Durations that are looked at in a batch: counting by queue must not cost something per job."""


class Share(NamedTuple):
    """The part of a batch that belongs to one queue."""

    size: int
    seconds: Sequence[float]
    """How long some of its members took: a sample."""


def shares(
    batch: Sequence[T], key: Callable[[T], K], seconds: Callable[[T], float], *, keys: Sequence[K] = ()
) -> dict[K, Share]:
    """Return the share of *batch* for each key, with the *seconds* of at most SAMPLE members, evenly picked.

    *keys*: the possible ones, if they are known. If there is only one, no member is asked for its key.
    """
    # From the middle of each stretch, so that neither the first nor the last is favoured.
    stride = -(-len(batch) // SAMPLE) or 1
    picked = batch[(stride - 1) // 2 :: stride]
    if len(keys) == 1 and batch:
        return {keys[0]: Share(len(batch), list(map(seconds, picked)))}
    counts = Counter(map(key, batch))
    sample: dict[K, list[float]] = {each: [] for each in counts}
    for member in picked:
        sample[key(member)].append(seconds(member))
    return {each: Share(count, sample[each]) for each, count in counts.items()}


TaskAndQueue = tuple[str, str]
