"""Backpressure: the depth of queues with a limit, as far as this process knows. Values and decisions only.

A limited queue is counted, up to its limit, at most once per interval; in between, the jobs that this process
enqueues are added to the count. So processes that enqueue at once can exceed the limit by what they enqueue
within one interval, and no enqueue waits for another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pgqueue.errors import QueueFullError
from pgqueue.model.checks import integer
from pgqueue.model.unset import Unset

BELIEVED_FOR: Final = 1.0
"""Seconds for which a count is trusted that leaves room."""
REFUSED_FOR: Final = 0.05
"""... and one that leaves none: a queue that has drained accepts jobs again soon."""
REST: Final = 20
"""A count is not repeated until this many times its own duration has passed."""
LONGEST_WAIT: Final = 60.0
"""The longest `retry_after` of a refusal, in seconds."""


def check_max_depth(where: str, max_depth: int | None) -> int | None:
    """Return *max_depth* if it is a limit. Raises ConfigurationError."""
    return None if max_depth is None else integer(f"{where}: max_depth", max_depth, least=1)


@dataclass(slots=True)
class Depth:
    """What this process knows about one queue."""

    counted: int = 0
    """Pending jobs when they were last counted."""
    counted_at: float = -math.inf
    took: float = 0.0
    """Seconds that the count took."""
    added: int = 0
    """Jobs that this process has written since then."""
    being_added: int = 0
    """Jobs that it is writing now: a count may or may not include them."""
    drain_rate: float = 0.0
    """Jobs per second that left the queue between the last two counts."""

    @property
    def depth(self) -> int:
        """How many jobs are pending, as far as is known."""
        return self.counted + self.added + self.being_added

    def must_be_counted(self, count: int, limit: int, now: float) -> bool:
        """Whether the queue must be counted again to decide about *count* more jobs."""
        believed_for = BELIEVED_FOR if self.depth + count <= limit else REFUSED_FOR
        return now - self.counted_at > max(believed_for, REST * self.took)

    def count(self, found: int, *, at: float, took: float) -> None:
        """Record a count of *found* jobs that began *at* and *took* this many seconds."""
        before, since = self.counted + self.added, at - self.counted_at
        self.drain_rate = max(0.0, (before - found) / since) if 0 < since < math.inf else 0.0
        self.counted, self.counted_at, self.took, self.added = found, at, took, 0

    def wait_for(self, count: int, limit: int) -> float:
        """Return the seconds after which there may be room for *count* more jobs: at least 1."""
        excess = self.depth + count - limit
        wait = excess / self.drain_rate if self.drain_rate > 0 else LONGEST_WAIT / 10
        return min(max(1.0, wait), LONGEST_WAIT)


class Depths:
    """The limits of queues, and what is known about those that have one.

    *default*: the limit of every queue without its own; None: no limit.
    """

    def __init__(self, default: int | None) -> None:
        self._default = default
        self._limits: dict[str, int | None] = {}
        self._known: dict[str, Depth] = {}
        self.is_limited = default is not None
        """Whether any queue has a limit: where none has, no enqueue need ask."""

    def set_limit(self, queue: str, limit: int | Unset | None) -> None:
        """Set the limit of *queue*; None: no limit; UNSET: that of every queue."""
        if isinstance(limit, Unset):
            self._limits.pop(queue, None)
        else:
            self._limits[queue] = limit
        self.is_limited = self._default is not None or any(each is not None for each in self._limits.values())

    def forget(self) -> None:
        """Forget what is known about queues: it was about another database."""
        self._known.clear()

    def limited(self, counts: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
        """Yield queue, count and limit for those of *counts*, jobs by queue, that have a limit."""
        for queue, count in counts.items():
            limit = self._limits.get(queue, self._default)
            if limit is not None:
                yield queue, count, limit

    def of(self, queue: str) -> Depth:
        """Return what is known about *queue*."""
        return self._known.setdefault(queue, Depth())

    def admit(self, counts: Mapping[str, int]) -> None:
        """Begin to add jobs, all or none; `conclude` ends it. Raises QueueFullError."""
        chosen = list(self.limited(counts))
        for queue, count, limit in chosen:
            known = self.of(queue)
            if known.depth + count > limit:
                raise QueueFullError(
                    queue,
                    depth=known.depth,
                    limit=limit,
                    count=count,
                    retry_after=known.wait_for(count, limit),
                )
        for queue, count, _ in chosen:
            self.of(queue).being_added += count

    def conclude(self, counts: Mapping[str, int], *, is_written: bool) -> None:
        """Record that admitted jobs were written, or will not be."""
        for queue, count, _ in self.limited(counts):
            known = self.of(queue)
            known.being_added -= count
            known.added += count if is_written else 0
